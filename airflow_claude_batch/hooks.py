"""The hook: it reads an Airflow connection and returns clients of the API."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from airflow_claude_batch._airflow.compat import AirflowNotFoundException, BaseHook, mask_secret
from airflow_claude_batch._airflow.supervisor import supervisor_call
from airflow_claude_batch.exceptions import ClaudeBatchError

if TYPE_CHECKING:
    from airflow_claude_batch.api.check_access import Access
    from airflow_claude_batch.api.client import AsyncClaudeClient, ClaudeClient, ClientConfig
    from airflow_claude_batch.connection.settings import ConnectionSettings, ConnectionValues

DEFAULT_MODEL: Final = "claude-opus-5-5"  # the documentation recommends to start with it; models/overview, 2026-10


class ClaudeHook(BaseHook):
    """Read an Airflow connection and return clients of Claude's Message Batches API.

    The connection has the type ``claude``, or ``anthropic`` (Apache's provider). Its password is the API key, its host
    the base URL, and its extra has the other settings; see the connection's form. If the connection has no credential,
    Anthropic's environment variables are used, such as ``ANTHROPIC_API_KEY``, unless the connection names a host, a
    proxy or certificates. The default connection need not exist.

    :param claude_conn_id: the id of the connection.

    .. code-block:: python

        @task
        def show_recent_batches():
            client = ClaudeHook("claude_default").get_conn()
            for batch in client.list_batches(limit=5).data:
                print(batch.id, batch.processing_status, batch.request_counts.total)
    """

    conn_name_attr = "claude_conn_id"
    default_conn_name = "claude_default"
    conn_type = "claude"
    hook_name = "Claude"

    def __init__(self, claude_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.claude_conn_id = claude_conn_id
        self._settings: ConnectionSettings | None = None
        self._client: ClaudeClient | None = None

    def get_conn(self) -> ClaudeClient:
        """Return the hook's client. Every call returns the same one, and it need not be closed.

        :raises ConfigurationError: the connection is missing or cannot be used.

        .. code-block:: python

            batch = ClaudeHook().get_conn().retrieve_batch("msgbatch_01AbCd")
        """
        if self._client is None:
            from airflow_claude_batch.api.client import ClaudeClient

            self._client = ClaudeClient(self.get_config())
        return self._client

    def get_estimate_client(self) -> ClaudeClient:
        """Return a new client for optional calls: token counts and the model catalogue. The caller closes it.

        It sends each call once, with short timeouts.

        :raises ConfigurationError: the connection is missing or cannot be used.

        .. code-block:: python

            with ClaudeHook().get_estimate_client() as client:
                models = client.list_models()
        """
        from airflow_claude_batch.api.client import ClaudeClient

        return ClaudeClient(self.get_config().for_estimates())

    async def get_async_client(self) -> AsyncClaudeClient:
        """Return a new client for the running event loop. The caller closes it.

        It has the calls that waiting needs: retrieve, list and cancel.

        :raises ConfigurationError: the connection is missing or cannot be used.

        .. code-block:: python

            async with await ClaudeHook().get_async_client() as client:
                batch = await client.retrieve_batch("msgbatch_01AbCd")
        """
        from airflow_claude_batch.api.client import AsyncClaudeClient

        return AsyncClaudeClient(await self.get_async_config())

    def get_config(self) -> ClientConfig:
        """Return the client's configuration. The hook reads the connection once.

        Do not call this on an event loop; see :meth:`get_async_config`.

        :raises ConfigurationError: the connection is missing or cannot be used.
        """
        return self._get_settings().config

    def read_config_again(self) -> ClientConfig:
        """Read the connection again, and return the client's configuration: a key may have been rotated.

        :raises ConfigurationError: the connection is missing or cannot be used.
        """
        self._settings = None
        return self.get_config()

    async def get_async_config(self) -> ClientConfig:
        """Return the client's configuration, from an event loop; see :meth:`get_config`."""
        return (await supervisor_call(self._get_settings)).config

    def get_connection_model(self) -> str | None:
        """Return the model that the connection names, None if it names none.

        :raises ConfigurationError: the connection is missing or cannot be used.
        """
        return self._get_settings().model

    def get_default_model(self) -> str:
        """Return the connection's default model, or this package's default if the connection names none.

        :raises ConfigurationError: the connection is missing or cannot be used.
        """
        return self._get_settings().model or DEFAULT_MODEL

    def test_connection(self) -> tuple[bool, str]:
        """Test the connection: list one message batch and one model, free of charge.

        The Test button of Airflow's UI and ``airflow connections test`` call this. Both need
        ``AIRFLOW__CORE__TEST_CONNECTION=Enabled``. The button of Airflow 3.3 sends ``port: 0`` and fails for stored
        connections without a port. The command works:

        .. code-block:: bash

            AIRFLOW__CORE__TEST_CONNECTION=Enabled airflow connections test claude_default

        :return: whether message batches can be used, and a message with the reason or with host and workspace.
        """
        from airflow_claude_batch.api.check_access import check_access

        try:
            config = self.get_config()
            access = check_access(config)
        except ClaudeBatchError as error:
            return False, "\n".join([str(error), *self._remarks()])
        return True, "\n".join([_describe_access(config, access), *self._remarks()])

    def _remarks(self) -> list[str]:
        """Return what was found and assumed while the connection was read, for the Test. Empty if it could not be."""
        settings = self._settings
        return [_sentence(text) for text in (*settings.warnings, *settings.notes)] if settings else []

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's fields for Airflow 3.0 and 3.1. Later versions read them from the provider info."""
        from wtforms import BooleanField, IntegerField, PasswordField, StringField
        from wtforms.validators import any_of

        from airflow_claude_batch.provider_info import CONNECTION_FIELDS

        field_classes = {"boolean": BooleanField, "integer": IntegerField}
        widgets = {}
        for name, described in CONNECTION_FIELDS.items():
            schema = described["schema"]
            text_class = PasswordField if schema.get("format") == "password" else StringField
            widgets[name] = field_classes.get(schema["type"][0], text_class)(
                described["label"],
                validators=[any_of(schema["enum"])] if "enum" in schema else [],
                description=described["description"],
                default=schema.get("default"),
            )
        return widgets

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return labels and placeholders of the form's standard fields, for Airflow 3.0 and 3.1."""
        from airflow_claude_batch.provider_info import UI_FIELD_BEHAVIOUR

        return {name.replace("-", "_"): value for name, value in UI_FIELD_BEHAVIOUR.items()}

    def _get_settings(self) -> ConnectionSettings:
        """Look up the connection, read it and mask its secrets, all in the caller's thread."""
        if self._settings is None:
            from airflow_claude_batch._airflow.aws_connection import open_aws_connection
            from airflow_claude_batch._airflow.google_connection import open_google_connection
            from airflow_claude_batch._airflow.settings import allow_connection_token_files
            from airflow_claude_batch.connection.settings import config_from_connection

            settings = config_from_connection(
                self._look_up(),
                os.environ,
                allow_token_files=allow_connection_token_files(),
                open_aws_connection=open_aws_connection,
                open_google_connection=open_google_connection,
            )
            for secret in settings.secrets:
                mask_secret(secret)
            for warning in settings.warnings:
                self.log.warning("Connection %r: %s.", self.claude_conn_id, warning)
            for note in settings.notes:
                self.log.info("Connection %r: %s", self.claude_conn_id, note)
            self._settings = settings
        return self._settings

    def _look_up(self) -> ConnectionValues:
        from airflow_claude_batch.connection.settings import ConnectionValues, no_connection_error
        from airflow_claude_batch.connection.variable import unreadable_variable_error

        variable = f"AIRFLOW_CONN_{self.claude_conn_id.upper()}"
        try:
            connection = self.get_connection(self.claude_conn_id)
        except AirflowNotFoundException:
            if text := os.environ.get(variable, "").strip():
                raise unreadable_variable_error(self.claude_conn_id, variable, text) from None
            if self.claude_conn_id != self.default_conn_name:
                raise no_connection_error(self.claude_conn_id) from None
            self.log.info(
                "There is no connection %r. The credential is read from the environment.", self.claude_conn_id
            )
            return ConnectionValues(conn_id=self.claude_conn_id, exists=False)
        return ConnectionValues(
            conn_id=self.claude_conn_id,
            conn_type=connection.conn_type,
            login=connection.login,
            host=connection.host,
            port=connection.port,
            schema=connection.schema,
            password=connection.password,
            extra=connection.extra,
        )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}."


def _describe_access(config: ClientConfig, access: Access) -> str:
    workspace = access.workspace_id or config.workspace_id
    places = [
        f"at {config.base_url}",
        f"(Claude Platform on AWS, region {config.region})" if config.platform == "aws" else "",
        "(Google Cloud)" if config.platform == "google" else "",
        f"in workspace {workspace}" if workspace else "",
        f"of organization {access.organization_id}" if access.organization_id else "",
    ]
    models = "" if access.can_list_models else " The model catalogue cannot be read with this credential."
    return f"Message batches can be used {' '.join(filter(None, places))}.{models}"
