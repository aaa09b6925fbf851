"""Where a connection sends a credential, and whom it trusts: what it may choose with a credential of its own only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from airflow_claude_batch.api.base_url import is_plain_http
from airflow_claude_batch.connection.platform import Platform
from airflow_claude_batch.exceptions import ConfigurationError


@dataclass(frozen=True, slots=True)
class Choice:
    """A field of a connection that chooses where a call goes or whom it trusts.

    :param choice: what the connection does, after "it".
    :param setting: the deployment's way to choose the same, empty if there is none.
    """

    field: str
    choice: str
    setting: str


_PROXY: Final = Choice("proxy", "names a proxy", "HTTPS_PROXY")
_NO_VERIFICATION: Final = Choice("verify", "turns the check of certificates off", "SSL_CERT_FILE")
_CA_FILE: Final = Choice("ca_file", "names certificates to trust", "SSL_CERT_FILE")
_PLAIN_HTTP: Final = Choice("allow_http", "allows plain http", "")
_HEADERS: Final = Choice("headers", "adds headers, which may tell a gateway where to go,", "")


def needs_own_credential(chosen: Sequence[Choice]) -> tuple[str, str]:
    """Say why the environment's credential is not used, and what to do."""
    return (
        "The environment's credential is not sent to a host that a connection names, nor through a proxy or past "
        "certificates that it chooses, nor to a gateway with headers of a connection, nor over http without TLS.",
        "Put the key into password (any text if the host needs none).\nTo use the environment's credential, remove "
        f"{fields_of(chosen)}{settings_of(chosen)}.",
    )


def only_credential(fields: Mapping[str, str | None], auth: str | None) -> str | None:
    """Return the field that holds the connection's credential, None if there is none.

    :param auth: the header of an API key, as the connection names it.
    :raises ConfigurationError: there are several, or a header for a key that is not there.
    """
    present = [name for name, value in fields.items() if value]
    if len(present) > 1:
        raise ConfigurationError(f"it holds more than one credential ({', '.join(present)}).", "Keep one of them.")
    if auth == "x-api-key" and present not in ([], ["password"]):
        raise ConfigurationError(
            "auth is x-api-key, but no API key is in password.", "Remove auth, or put the API key into password."
        )
    return present[0] if present else None


def fields_of(chosen: Sequence[Choice]) -> str:
    """Name the fields that choose."""
    return " and ".join(each.field for each in chosen)


def settings_of(chosen: Sequence[Choice]) -> str:
    """Say how the deployment makes the same choices, after "remove …"."""
    names = " and ".join(dict.fromkeys(each.setting for each in chosen if each.setting))
    return f", and set {names} in the environment of workers and triggerers" if names else ""


def chosen_by_connection(
    base_url: str, extra: Mapping[str, Any], environ: Mapping[str, str], platform: Platform
) -> Iterator[Choice]:
    """Yield what decides where the credential goes, or who can read it, and is not the deployment's choice."""
    if base_url not in (platform.default_url, environ.get(platform.url_variable, "").rstrip("/")):
        yield Choice("host", "names a host", platform.url_variable)
    elif is_plain_http(base_url):
        yield _PLAIN_HTTP
    elif base_url != platform.default_url and extra.get("headers"):
        yield _HEADERS
    if extra.get("proxy"):
        yield _PROXY
    if not extra.get("verify", True):
        yield _NO_VERIFICATION
    if extra.get("ca_file"):
        yield _CA_FILE
