"""Configuration of an API client. An Airflow connection is read into one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from airflow_claude_batch.api.base_url import check_base_url
from airflow_claude_batch.api.credentials import Credentials
from airflow_claude_batch.api.limits import DEFAULT_API_VERSION, DEFAULT_BASE_URL, MAX_BATCH_BYTES, MAX_REQUESTS
from airflow_claude_batch.exceptions import ConfigurationError

#: The lowest limit of a create call's body that leaves room for a request.
MIN_BATCH_BYTES: Final = 4096
LONGEST_TIMEOUT_SECONDS: Final = 86_400  # a day; socket options cannot hold much more

#: The longest timeout of calls that somebody waits for: a connection test, token counts, the model catalogue.
SHORT_TIMEOUT_SECONDS: Final = 20.0

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

# The client sets these. A second value for one of them would be dropped silently.
_OUR_HEADERS: Final = frozenset(
    {
        "accept",
        "anthropic-beta",
        "anthropic-user-profile-id",
        "anthropic-version",
        "anthropic-workspace-id",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "transfer-encoding",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Configuration of a client. It is hashable, so equal configurations can share one client.

    :param credentials: an ApiKey, a BearerToken, a WorkloadIdentity, an AwsSigV4 or a GoogleToken.
    :param base_url: an https URL, or an http URL on loopback, or any http URL with ``allow_http``. It may have a path.
    :param platform: who serves the API: ``anthropic``, ``aws`` for Claude Platform on AWS, ``google`` for Google Cloud.
    :param region: the region of that platform.
    :param api_version: the ``anthropic-version`` header.
    :param betas: values of the ``anthropic-beta`` header.
    :param workspace_id: only for a credential that can act in several workspaces.
    :param user_profile_id: the end user to whom the requests of a batch are attributed.
    :param extra_headers: headers to add to every call, for gateways.
    :param proxy: the URL of the proxy. None uses the environment's (``HTTPS_PROXY``, ``NO_PROXY``).
    :param verify: True checks certificates with the usual authorities, a path names a CA file or folder, False checks
        nothing.
    :param connect_timeout: seconds to wait for a connection.
    :param read_timeout: seconds to wait for the next bytes of a response. The response to a large create call takes
        minutes.
    :param write_timeout: seconds to wait until the next bytes of a body are sent, and then until the other side's
        kernel has confirmed them.
    :param max_retries: how often a call is sent again, if that cannot do or bill anything twice.
    :param max_batch_bytes: the largest body of a create call, for callers that split requests into batches.
    :param max_batch_requests: how many requests one batch may have, for the same callers.
    :param allow_unknown_parameters: for callers that check requests: send what they do not know.
    :param allow_http: consent to a credential that is sent unencrypted, except to Anthropic's own hosts.
    :raises ConfigurationError: a value cannot be used.

    .. code-block:: python

        config = ClientConfig(credentials=ApiKey("sk-ant-..."), read_timeout=300)
        with ClaudeClient(config) as client:
            print(client.retrieve_batch("msgbatch_01AbCd").request_counts)
    """

    credentials: Credentials
    base_url: str = DEFAULT_BASE_URL
    platform: str = "anthropic"
    region: str | None = None
    api_version: str = DEFAULT_API_VERSION
    betas: tuple[str, ...] = ()
    workspace_id: str | None = None
    user_profile_id: str | None = None
    extra_headers: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    proxy: str | None = field(default=None, repr=False)
    verify: bool | str = True
    connect_timeout: float = 10.0
    read_timeout: float = 600.0
    write_timeout: float = 30.0
    max_retries: int = 4
    max_batch_bytes: int = MAX_BATCH_BYTES
    max_batch_requests: int = MAX_REQUESTS
    allow_http: bool = False
    allow_unknown_parameters: bool = False

    def __post_init__(self) -> None:
        check_base_url(self.base_url, allow_http=self.allow_http)
        if self.workspace_id and self.credentials.names_workspace:
            raise ConfigurationError(
                "A workload identity's token belongs to one workspace.",
                "Set workspace_id of the WorkloadIdentity instead of the configuration's.",
            )
        self._check_numbers()
        self._check_headers()

    def with_short_timeouts(self) -> ClientConfig:
        """Return the same configuration with timeouts of at most ``SHORT_TIMEOUT_SECONDS``."""
        return replace(
            self,
            connect_timeout=min(self.connect_timeout, SHORT_TIMEOUT_SECONDS),
            read_timeout=min(self.read_timeout, SHORT_TIMEOUT_SECONDS),
            write_timeout=min(self.write_timeout, SHORT_TIMEOUT_SECONDS),
        )

    def for_estimates(self) -> ClientConfig:
        """Return the configuration for calls that are optional: one attempt each, with short timeouts."""
        return replace(self.with_short_timeouts(), max_retries=0)

    def fixed_headers(self) -> dict[str, str]:
        """Return the headers of every call, without the credential's."""
        headers = dict(self.extra_headers)
        headers["anthropic-version"] = self.api_version
        betas = dict.fromkeys((*self.credentials.betas, *self.betas))
        if betas:
            headers["anthropic-beta"] = ",".join(betas)
        if self.workspace_id:
            headers["anthropic-workspace-id"] = self.workspace_id
        return headers

    def _check_numbers(self) -> None:
        timeouts = (self.connect_timeout, self.read_timeout, self.write_timeout)
        if min(timeouts) <= 0 or max(timeouts) > LONGEST_TIMEOUT_SECONDS:
            raise ConfigurationError(f"The timeouts must be above 0 and at most {LONGEST_TIMEOUT_SECONDS:,} seconds.")
        if self.max_retries < 0:
            raise ConfigurationError("max_retries must be 0 or more.")
        if self.max_batch_bytes < MIN_BATCH_BYTES or self.max_batch_requests < 1:
            raise ConfigurationError(
                f"max_batch_bytes must be at least {MIN_BATCH_BYTES:,}, and max_batch_requests at least 1."
            )

    def _check_headers(self) -> None:
        profile = {"anthropic-user-profile-id": self.user_profile_id or ""}
        for name, value in (self.fixed_headers() | profile).items():
            if not _HEADER_NAME.fullmatch(name):
                raise ConfigurationError(f"{name!r} cannot be the name of a header.")
            if not (value.isascii() and value.isprintable()):
                raise ConfigurationError(f"The value of the header {name} has a character that no header can have.")
        for name in self.extra_headers:
            if name.lower() in _OUR_HEADERS.union(self.credentials.header_names):
                raise ConfigurationError(
                    f"The header {name} cannot be an extra header: the client sets it.",
                    "Remove it, and use the setting for it.",
                )
