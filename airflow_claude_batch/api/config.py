"""How to reach the API, as plain values: what an Airflow connection comes down to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from airflow_claude_batch.api.base_url import check_base_url
from airflow_claude_batch.api.credentials import Credentials
from airflow_claude_batch.api.limits import DEFAULT_API_VERSION, DEFAULT_BASE_URL
from airflow_claude_batch.exceptions import ConfigurationError

LONGEST_TIMEOUT: Final = 86_400  # seconds: a day. Sockets cannot take much more

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

HASTY_SECONDS: Final = 20.0

# Ours to set. Two different values of one of them would mean that one is silently dropped.
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
    """Everything a client needs to know. Hashable, so that equal configurations can share one client.

    :param credentials: an ApiKey, BearerToken or WorkloadIdentity.
    :param base_url: https, or http on loopback; may have a path.
    :param api_version: the ``anthropic-version`` header.
    :param betas: values for the ``anthropic-beta`` header.
    :param workspace_id: only for a credential that can act in several workspaces.
    :param user_profile_id: to whom the requests of a batch are attributed.
    :param extra_headers: added to every call, for gateways.
    :param proxy: URL of the proxy; None leaves it to the environment (``HTTPS_PROXY``, ``NO_PROXY``).
    :param verify: True for the usual certificate authorities, a path for a CA file or folder, False for no check.
    :param connect_timeout: seconds.
    :param read_timeout: seconds to wait for the next bytes of an answer; a large create takes a while to answer.
    :param write_timeout: seconds to wait until the next bytes of a body have left, and then until the other side's
        kernel has confirmed them.
    :param max_retries: how often a call is sent again when that can neither do nor bill anything twice.
    :raises ConfigurationError: a value cannot be used.
    """

    credentials: Credentials
    base_url: str = DEFAULT_BASE_URL
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

    def __post_init__(self) -> None:
        check_base_url(self.base_url)
        if self.workspace_id and self.credentials.names_workspace:
            raise ConfigurationError(
                "a workload identity's token belongs to one workspace: name it in the identity's own workspace_id"
            )
        timeouts = (self.connect_timeout, self.read_timeout, self.write_timeout)
        if min(timeouts) <= 0 or max(timeouts) > LONGEST_TIMEOUT or self.max_retries < 0:
            raise ConfigurationError(
                f"timeouts must be above 0 and not above {LONGEST_TIMEOUT:,} seconds, and max_retries not below 0"
            )
        profile = {"anthropic-user-profile-id": self.user_profile_id or ""}
        for name, value in (self.fixed_headers() | profile).items():
            if not _HEADER_NAME.fullmatch(name):
                raise ConfigurationError(f"{name!r} cannot be the name of a header")
            if not (value.isascii() and value.isprintable()):
                raise ConfigurationError(f"the value for the header {name} has a character that no header has")
        for name in self.extra_headers:
            if name.lower() in _OUR_HEADERS | {self.credentials.header_name}:
                raise ConfigurationError(f"the header {name} is set by the client: use the setting made for it")

    def for_estimates(self) -> ClientConfig:
        """The same for calls whose answers are no reason to wait: each is tried once, for seconds."""
        return replace(
            self,
            connect_timeout=min(self.connect_timeout, HASTY_SECONDS),
            read_timeout=min(self.read_timeout, HASTY_SECONDS),
            write_timeout=min(self.write_timeout, HASTY_SECONDS),
            max_retries=0,
        )

    def fixed_headers(self) -> dict[str, str]:
        """Give the headers that every call carries, but for the credential."""
        headers = dict(self.extra_headers)
        headers["anthropic-version"] = self.api_version
        betas = dict.fromkeys((*self.credentials.betas, *self.betas))
        if betas:
            headers["anthropic-beta"] = ",".join(betas)
        if self.workspace_id:
            headers["anthropic-workspace-id"] = self.workspace_id
        return headers
