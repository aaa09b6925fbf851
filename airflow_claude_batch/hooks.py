"""The hook: from an Airflow connection to a client of the API."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from airflow_claude_batch._airflow.compat import AirflowNotFoundException, BaseHook, mask_secret
from airflow_claude_batch._airflow.supervisor import supervisor_call
from airflow_claude_batch.exceptions import ClaudeBatchError, ConfigurationError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import AsyncClaudeClient, ClaudeClient, ClientConfig
    from airflow_claude_batch.connection.settings import ConnectionSettings, ConnectionValues

DEFAULT_MODEL: Final = "claude-opus-5-5"  # where the vendor's documentation says to start; models/overview, 2026-10


class ClaudeHook(BaseHook):
    """Reach Claude's Message Batches API with what an Airflow connection says.

    The connection is of type ``claude``, or an ``anthropic`` one of Apache's provider: password is the API key, host
    the base URL, extra the rest (see the connection's form). Without any credential in it, and for the default
    connection even without the connection, the vendor's environment variables are used.

    :param claude_conn_id: the connection.
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
        """Give a client, the same one every time. It needs no closing before the process ends.

        :raises ConfigurationError: the connection is missing or cannot be used.
        """
        if self._client is None:
            from airflow_claude_batch.api.client import ClaudeClient

            self._client = ClaudeClient(self.get_config())
        return self._client

    def get_estimate_client(self) -> ClaudeClient:
        """Give a client for what is good to know but worth no waiting: token counts, the model catalogue.

        It asks once, for seconds. To be closed by the caller.

        :raises ConfigurationError: the connection is missing or cannot be used.
        """
        from airflow_claude_batch.api.client import ClaudeClient

        return ClaudeClient(self.get_config().for_estimates())

    async def get_async_client(self) -> AsyncClaudeClient:
        """Give a new client for the running event loop, to be closed by the caller.

        :raises ConfigurationError: the connection is missing or cannot be used.
        """
        from airflow_claude_batch.api.client import AsyncClaudeClient

        return AsyncClaudeClient(await self.get_async_config())

    def get_config(self) -> ClientConfig:
        """Read the connection, once per hook. Not for event loops: see :meth:`get_async_config`.

        :raises ConfigurationError: the connection is missing or cannot be used.
        """
        return self._get_settings().config

    async def get_async_config(self) -> ClientConfig:
        """Read the connection from an event loop, once per hook."""
        return (await supervisor_call(self._get_settings)).config

    def get_default_model(self) -> str:
        """Give the connection's default model, or the package's."""
        return self._get_settings().model or DEFAULT_MODEL

    def test_connection(self) -> tuple[bool, str]:
        """List one message batch and one model, and say what came of it: the UI's Test button."""
        from airflow_claude_batch.api.check_access import check_access

        try:
            config = self.get_config()
            access = check_access(config)
        except ClaudeBatchError as error:
            return False, str(error)
        workspace = access.workspace_id or config.workspace_id
        where = [
            f"at {config.base_url}",
            f"in workspace {workspace}" if workspace else "",
            f"of organization {access.organization_id}" if access.organization_id else "",
        ]
        models = "" if access.models else " The model catalogue cannot be read with this credential."
        return True, f"Message batches can be used {' '.join(filter(None, where))}.{models}"

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's own fields, for Airflow 3.0 and 3.1; later versions take them from the provider info."""
        from wtforms import BooleanField, IntegerField, PasswordField, StringField
        from wtforms.validators import any_of

        from airflow_claude_batch.provider_info import CONNECTION_FIELDS

        kinds = {"boolean": BooleanField, "integer": IntegerField}
        widgets = {}
        for name, described in CONNECTION_FIELDS.items():
            schema = described["schema"]
            text = PasswordField if schema.get("format") == "password" else StringField
            widgets[name] = kinds.get(schema["type"][0], text)(
                described["label"],
                validators=[any_of(schema["enum"])] if "enum" in schema else [],
                description=described["description"],
                default=schema.get("default"),
            )
        return widgets

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the form shows the standard fields, for Airflow 3.0 and 3.1."""
        from airflow_claude_batch.provider_info import UI_FIELD_BEHAVIOUR

        return {name.replace("-", "_"): value for name, value in UI_FIELD_BEHAVIOUR.items()}

    def _get_settings(self) -> ConnectionSettings:
        """Look the connection up, read it and mask its secrets, all in the caller's thread."""
        if self._settings is None:
            from airflow_claude_batch.connection.settings import config_from_connection

            settings = config_from_connection(self._look_up(), os.environ)
            for secret in settings.secrets:
                mask_secret(secret)
            for remark in settings.remarks:
                self.log.warning("Connection %r: %s.", self.claude_conn_id, remark)
            self._settings = settings
        return self._settings

    def _look_up(self) -> ConnectionValues:
        from airflow_claude_batch.connection.settings import ConnectionValues, no_connection

        try:
            connection = self.get_connection(self.claude_conn_id)
        except AirflowNotFoundException:
            if self.claude_conn_id != self.default_conn_name:
                raise ConfigurationError(no_connection(self.claude_conn_id)) from None
            self.log.info("There is no connection %r; the environment is asked for a credential.", self.claude_conn_id)
            return ConnectionValues(conn_id=self.claude_conn_id, exists=False)
        return ConnectionValues(
            conn_id=self.claude_conn_id,
            host=connection.host,
            port=connection.port,
            schema=connection.schema,
            password=connection.password,
            extra=connection.extra,
        )
