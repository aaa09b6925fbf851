"""Recognize an API key that was put where nothing reads it, without ever showing it.

Airflow shows login, host, schema and most of the extra in its UI, and hosts appear in logs. So a key in one of them is
named, and never used from there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from airflow_claude_batch.exceptions import ConfigurationError
from airflow_claude_batch.provider_info import CONNECTION_FIELDS

#: Keys of Anthropic's. A variable AIRFLOW_CONN_… that is only a key loses its first letter, and becomes the schema.
_KEY: Final = re.compile(r"s?k-ant-[\w-]{4,}", re.IGNORECASE)
#: Names under which other tools keep a key. The connection keeps it in its password.
_KEY_NAMES: Final = frozenset(
    {
        "accesstoken",
        "anthropicapikey",
        "anthropicauthtoken",
        "apikey",
        "apitoken",
        "bearertoken",
        "claudeapikey",
        "password",
        "token",
        "xapikey",
    }
)
#: Fields of the extra that may hold a secret, and those that are a credential.
_SECRET_FIELDS: Final = frozenset({"auth_token", "headers", "identity_token", "keyfile_dict", "proxy"})
_CREDENTIALS: Final = ("auth_token", "federation_rule_id")
#: The nested settings of Apache's `anthropic` connections, and their fields that may hold a secret.
_NESTED: Final[Mapping[str, frozenset[str]]] = {
    "anthropic_client_kwargs": frozenset({"api_key", "default_headers"}),
    "workload_identity": _SECRET_FIELDS,
}
#: The beginnings of other services' keys. None of Anthropic's begins like that.
_OTHER_KEYS: Final = re.compile(
    r"(?P<OpenAI>sk-(?:proj|svcacct|admin)-)|(?P<OpenRouter>sk-or-)|(?P<Google>AIza)|(?P<AWS>A[KS]IA[A-Z0-9]{16}$)"
    r"|(?P<GitHub>gh[pousr]_|github_pat_)|(?P<xAI>xai-)|(?P<Groq>gsk_)|(?P<Slack>xox[abp]-)"
)
_NEW_KEY: Final = "Others may have seen it there: if so, make a new key."


def looks_like_key(text: str | None) -> bool:
    """Tell whether an API key of Anthropic's is in a text."""
    return bool(text and _KEY.search(text))


def check_fields(login: str | None, host: str | None, port: object, schema: str | None, *, has_password: bool) -> None:
    """Raise if an API key is in a field that is not for it. A login is not checked if there is a password.

    :raises ConfigurationError: names the field.
    """
    found = {"login": login, "host": host, "port": str(port), "schema": schema}
    for name, text in found.items():
        if looks_like_key(text) and not (name == "login" and has_password):
            raise ConfigurationError(
                f"an API key is in {name}, where nothing reads it.",
                f"Move it to password, and leave {name} empty. In a URI it stands after a colon: claude://:KEY@",
                _NEW_KEY,
            )


def check_extra(text: str | None, *, has_password: bool) -> None:
    """Raise if an API key is in a field of the extra that is not for it.

    Beside a credential where it belongs, keys under unknown names are left where they are: they are warned of.

    :raises ConfigurationError: names the field.
    """
    extra = _extra_of(text)
    has_credential = has_password or any(extra.get(name) for name in _CREDENTIALS) or _has_nested_credential(extra)
    for name, value, is_known in _strings(extra):
        is_key = looks_like_key(value)
        if (is_key and is_known) or (not has_credential and (is_key or _is_key_name(name))):
            raise ConfigurationError(
                f"{'an API key' if is_key else 'a credential'} is in {name[:40]} of its extra, where nothing reads it.",
                f"Move it to password, and remove {name[:40]}.",
                _NEW_KEY,
            )


def check_own_key(key: str) -> None:
    """Raise if a key for Anthropic's own host is one of another service, which must not be sent there.

    :raises ConfigurationError: names the service.
    """
    if found := _OTHER_KEYS.match(key):
        raise ConfigurationError(
            f"the API key (its password) looks like one of {found.lastgroup}, not of Anthropic.",
            "It is not sent to Anthropic's host. Put a key of the Claude Console into password: sk-ant-...",
        )


def _has_nested_credential(extra: Mapping[str, Any]) -> bool:
    nested = [value for name in _NESTED if isinstance(value := extra.get(name), dict)]
    return any(value.get(name) for value in nested for name in ("api_key", "federation_rule_id"))


def _is_key_name(name: str) -> bool:
    return re.sub(r"[\W_]", "", name.rpartition("__")[2].lower()) in _KEY_NAMES


def _extra_of(text: str | None) -> Mapping[str, Any]:
    try:
        extra = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}  # read_extra says what is wrong
    return extra if isinstance(extra, dict) else {}


def _strings(extra: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Yield the name and the text of fields that hold no secret, and whether the name is one of ours."""
    for name, value in extra.items():
        if name in _NESTED and isinstance(value, dict):
            inner = {each: text for each, text in value.items() if each not in _NESTED[name]}
            yield from ((f"{name}.{each}", text, True) for each, text in inner.items() if isinstance(text, str))
        elif name not in _SECRET_FIELDS and isinstance(value, str) and value.strip():
            yield name, value, name in CONNECTION_FIELDS
