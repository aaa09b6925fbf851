"""Read the extra of a connection: JSON written by people, checked field by field.

``provider_info.CONNECTION_FIELDS`` defines the fields and their types, for this module and for the connection's form.
A connection given as a URI has strings only, and forms leave empty ones. So "5" is read as a number, and "" as unset.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from airflow_claude_batch.api.redaction import shorten
from airflow_claude_batch.connection.platform import read_platform_name
from airflow_claude_batch.exceptions import ConfigurationError
from airflow_claude_batch.provider_info import CONNECTION_FIELDS

# Keys of "anthropic_client_kwargs" in Apache's `anthropic` connections, and our fields for them.
_CLIENT_KWARGS: Final[Mapping[str, tuple[str, ...]]] = {
    "api_key": ("password",),
    "base_url": ("host",),
    "default_headers": ("headers",),
    "max_retries": ("max_retries",),
    "timeout": ("connect_timeout", "read_timeout", "write_timeout"),
    "workspace_id": ("workspace_id",),
}
# More keys of theirs, ignored without a warning: settings of platforms without batches, and a field that is never sent.
_IGNORED: Final = frozenset({"resource", "scope"})
# Their names of fields that are ours too.
_THEIR_NAMES: Final = {"aws_region": "region"}
# Fields of theirs that are ours on one platform. On others they are ignored without a warning, whatever they hold.
_PLATFORM_OF: Final = {"project_id": "google", "region": "aws"}

# Names that other tools have for our fields.
_OTHER_NAMES: Final = {
    "anthropic_beta": "betas",
    "anthropic_version": "api_version",
    "api_key": "password",
    "base_url": "host, a field of the connection",
    "beta": "betas",
    "ca_bundle": "ca_file",
    "cert": "ca_file",
    "default_headers": "headers",
    "default_model": "model",
    "endpoint": "host, a field of the connection",
    "extra_headers": "headers",
    "google_cloud_conn_id": "gcp_conn_id",
    "http_proxy": "proxy",
    "https_proxy": "proxy",
    "model_id": "model",
    "model_name": "model",
    "organization": "organization_id",
    "project": "project_id",
    "proxies": "proxy",
    "request_timeout": "read_timeout",
    "retries": "max_retries",
    "ssl_verify": "verify",
    "timeout": "read_timeout",
    "token": "auth_token",
    "url": "host, a field of the connection",
    "verify_ssl": "verify",
    "version": "api_version",
    "workspace": "workspace_id",
}

_MISPLACED: Final = {name: f"{name} (the connection has a field for it)" for name in ("host", "password")}

_MAY_BE_SECRET: Final = frozenset({"headers", "host", "keyfile_dict", "password", "proxy"})


def read_extra(text: str | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the fields that are set, converted to their types, and the names of the keys that nothing reads.

    The fields are those of the form, and perhaps ``host`` and ``password``: an ``anthropic`` connection can have them
    in its extra.

    :raises ConfigurationError: a value is wrong. The message names the field, the allowed values and, unless it may be
        secret, the value.
    """
    found = {name: value for name, value in _flat(_object("extra", text or {})).items() if value not in (None, "")}
    fields = {name: _typed(name, value) for name, value in found.items() if name in _SCHEMAS}
    return fields, tuple(sorted(found.keys() - fields.keys() - _IGNORED))


def describe_unknown(names: Sequence[str]) -> str:
    """Name keys of the extra that nothing reads, each with the field that may be meant."""
    return ", ".join(
        f"{shorten(name, 60)} (did you mean {meant}?)" if (meant := _meant(name)) else shorten(name, 60)
        for name in names
    )


def _meant(name: str) -> str | None:
    plain = name.rpartition("__")[2].rpartition(".")[2].strip().lower().replace("-", "_")
    if plain in CONNECTION_FIELDS:
        return plain
    close = get_close_matches(plain, [*_OTHER_NAMES, *CONNECTION_FIELDS], n=1, cutoff=0.8)
    return _OTHER_NAMES.get(close[0], close[0]) if close else None


def _flat(extra: dict[str, Any]) -> dict[str, Any]:
    """Rename the nested settings of an ``anthropic`` connection to our fields. A field of our own name wins."""
    if extra.get("platform"):
        extra["platform"] = read_platform_name(extra["platform"])
    identity = _object("workload_identity", extra.pop("workload_identity", None) or {})
    kwargs = _object("anthropic_client_kwargs", extra.pop("anthropic_client_kwargs", None) or {})
    renamed = {
        target: value
        for name, value in kwargs.items()
        for target in _CLIENT_KWARGS.get(name, (f"anthropic_client_kwargs.{name}",))
    }
    renamed |= {ours: extra.pop(name) for name, ours in _THEIR_NAMES.items() if name in extra}
    own = {_MISPLACED.get(name, name): value for name, value in extra.items()}
    platform = extra.get("platform")
    merged = {**renamed, **identity, **own}
    return {name: value for name, value in merged.items() if _PLATFORM_OF.get(name, platform) == platform}


def _typed(name: str, value: Any) -> Any:
    schema = _SCHEMAS[name]
    try:
        return _READERS[name if name in _READERS else schema["type"][0]](value, schema)
    except ValueError as error:
        is_secret = name in _MAY_BE_SECRET or schema.get("format") == "password"
        shown = f"a value of type {type(value).__name__}" if is_secret else shorten(repr(value), 60)
        raise ConfigurationError(f"{name} in its extra must be {error}, not {shown}.") from None


def _text(value: Any, schema: Mapping[str, Any]) -> str:
    choices = schema.get("enum")
    if choices and value not in choices:
        raise ValueError(" or ".join(choices))
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a string")
    return value.strip()


def _flag(value: Any, schema: Mapping[str, Any]) -> bool:
    flag = {"true": True, "false": False}.get(str(value).lower())
    if flag is None:
        raise ValueError("true or false")
    return flag


def _number(value: Any, schema: Mapping[str, Any]) -> float:
    number = math.nan if isinstance(value, bool) else _as_float(value)
    if not (math.isfinite(number) and number > schema["exclusiveMinimum"]):
        raise ValueError(f"a number of seconds above {schema['exclusiveMinimum']}")
    return number


def _whole_number(value: Any, schema: Mapping[str, Any]) -> int:
    number = math.nan if isinstance(value, bool) else _as_float(value)
    if not (number.is_integer() and number >= schema["minimum"]):
        raise ValueError(f"a whole number of at least {schema['minimum']}")
    return int(number)


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _headers(value: Any, schema: Mapping[str, Any]) -> dict[str, str]:
    try:
        headers = _object("headers", value)
    except ConfigurationError:
        headers = {"": None}
    if not all(name and isinstance(text, str) for name, text in headers.items()):
        raise ValueError('a JSON object of strings, such as {"X-Team": "data"}')
    return headers


def _key_file(value: Any, schema: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return _object("keyfile_dict", value)
    except ConfigurationError:
        raise ValueError("the JSON object of a service account's key file") from None


def _names(value: Any, schema: Mapping[str, Any]) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("a list of names, or names separated by commas")
    return tuple(name.strip() for name in names if name.strip())


def _object(name: str, value: Any) -> dict[str, Any]:
    """Return a JSON object, decoded first if it is a string."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, dict):
        raise ConfigurationError(f"{name} must be a JSON object.")
    return dict(value)


_SCHEMAS: Final[Mapping[str, Mapping[str, Any]]] = {
    "host": {"type": ["string"]},
    "password": {"type": ["string"]},
    **{name: described["schema"] for name, described in CONNECTION_FIELDS.items()},
}
# By field, or else by type.
_READERS: Final[Mapping[str, Callable[[Any, Mapping[str, Any]], Any]]] = {
    "betas": _names,
    "keyfile_dict": _key_file,
    "string": _text,
    "boolean": _flag,
    "number": _number,
    "integer": _whole_number,
    "object": _headers,
}
