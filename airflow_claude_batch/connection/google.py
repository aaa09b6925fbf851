"""Choose the Google credential of a connection: what it holds, what it names, or the machine's account.

Access tokens are bearer tokens: whoever receives one can use it. So only what the connection itself holds goes to a
host, a proxy or past certificates that it chooses. Another connection's account and the machine's go to Google only, or
where the deployment says.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from airflow_claude_batch.api.base_url import check_base_url
from airflow_claude_batch.api.credentials import BearerToken, Credentials
from airflow_claude_batch.api.google_auth import INSTALL_REMEDY, MachineAccount, ServiceAccount
from airflow_claude_batch.api.google_token import GoogleToken, TokenSource
from airflow_claude_batch.connection.choices import Choice, fields_of, only_credential, settings_of
from airflow_claude_batch.exceptions import ConfigurationError

_FOREIGN: Final = ("password", "federation_rule_id", "identity_token", "identity_token_file", "aws_conn_id")


@dataclass(frozen=True, slots=True)
class GoogleConnection:
    """An Airflow connection of type ``google_cloud_platform``.

    :param project: the project that it names.
    """

    source: TokenSource
    project: str | None


@dataclass(frozen=True, slots=True)
class GoogleBearerToken(BearerToken):
    """An access token of Google's that the connection holds. Nothing renews it."""

    remedy: ClassVar[str] = "Check auth_token: an access token of Google's ends after an hour, and nothing renews it."


#: Reads an Airflow connection to Google, by its id. Nothing is asked of Google then.
OpenGoogleConnection = Callable[[str], GoogleConnection]


def no_google_connections(gcp_conn_id: str) -> GoogleConnection:
    """Refuse a connection to Google, where no Airflow can be asked for it.

    :raises ConfigurationError: always.
    """
    raise ConfigurationError(f"gcp_conn_id names {gcp_conn_id!r}, but no connections can be read here.")


def google_credentials(
    extra: Mapping[str, Any], named: GoogleConnection | None, password: str | None, chosen: Sequence[Choice]
) -> Credentials:
    """Return the credential.

    :param named: what ``gcp_conn_id`` names.
    :param chosen: what the connection chooses about where calls go and whom they trust.
    :raises ConfigurationError: there are several, one of another service, or none that may be used here.
    """
    fields = {"password": password, **extra}
    if foreign := [name for name in _FOREIGN if fields.get(name)]:
        raise ConfigurationError(
            f"platform is google, which takes no {' and no '.join(foreign)}.",
            "Remove it. Use gcp_conn_id, a service account's key in keyfile_dict, or the account of the workers.",
        )
    only_credential({name: extra.get(name) for name in ("auth_token", "keyfile_dict", "gcp_conn_id")}, None)
    if extra.get("auth_token"):
        return GoogleBearerToken(extra["auth_token"])
    if key := extra.get("keyfile_dict"):
        return _token(ServiceAccount(_checked_key(key)))
    if chosen:
        raise _not_its_own(chosen, extra.get("gcp_conn_id"))
    return _token(named.source if named else MachineAccount())


def _token(source: TokenSource) -> GoogleToken:
    if not _is_installed("google.auth"):
        raise ConfigurationError("platform is google, but the package google-auth is not installed.", INSTALL_REMEDY)
    return GoogleToken(source=source)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it is in
        return False


def _checked_key(key: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a service account's key. Other kinds of files could have a worker read its own files.

    :raises ConfigurationError: it is of another kind, or it would be proven to an unencrypted host.
    """
    if key.get("type") != "service_account":
        raise ConfigurationError(
            "keyfile_dict is no key of a service account.",
            'Put the content of the key\'s JSON file there, with "type": "service_account". For other kinds set '
            "GOOGLE_APPLICATION_CREDENTIALS in the environment of workers and triggerers, or use gcp_conn_id.",
        )
    try:
        check_base_url(str(key.get("token_uri")))
    except ConfigurationError:
        raise ConfigurationError(
            "token_uri in keyfile_dict is no https URL.", "Copy the JSON file of the key as it is."
        ) from None
    return key


def _not_its_own(chosen: Sequence[Choice], gcp_conn_id: str | None) -> ConfigurationError:
    owner = f"the account of {gcp_conn_id!r}" if gcp_conn_id else "the account of the machine"
    return ConfigurationError(
        f"it {chosen[0].choice} but holds no credential of its own.",
        f"A token of {owner} is not sent to a host that a connection names, nor through a proxy or past certificates "
        "that it chooses.",
        "Put a service account's key into keyfile_dict. To use that account, remove "
        f"{fields_of(chosen)}{settings_of(chosen)}.",
    )
