"""Find the mistake in a variable ``AIRFLOW_CONN_…``. Airflow itself only says that the connection is not defined."""

from __future__ import annotations

import json
from difflib import get_close_matches
from typing import Any, Final
from urllib.parse import urlsplit

from airflow_claude_batch.api.redaction import shorten
from airflow_claude_batch.connection.misplaced import looks_like_key
from airflow_claude_batch.exceptions import ConfigurationError

_FIELDS: Final = ("conn_type", "description", "extra", "host", "login", "password", "port", "schema", "uri")
_TEXTS: Final = ("conn_type", "host", "login", "password", "schema")
_EXAMPLE: Final = '{"conn_type": "claude", "password": "sk-ant-..."}'


def unreadable_variable_error(conn_id: str, variable: str, text: str) -> ConfigurationError:
    """Build the error for a variable that is set, but cannot be read as a connection. Its content is not shown.

    :param text: the value of the variable.
    """
    return ConfigurationError(
        f"Connection {conn_id!r}: Airflow cannot read it from {variable}: {_problem(text)}.",
        "Nothing was sent now. Batches that were sent before are not affected.",
        f"Correct the variable, as in {variable}='{_EXAMPLE}'. Or use a URI: claude://:KEY@",
    )


def _problem(text: str) -> str:
    if not text.lstrip().startswith("{"):
        return "the port in its URI is not a number" if _has_bad_port(text) else "it is neither JSON nor a URI"
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        place = f" (character {error.pos + 1})" if isinstance(error, json.JSONDecodeError) else ""
        return f"it begins with {{ but is not JSON{place}"
    return _wrong_field(fields)


def _wrong_field(fields: dict[str, Any]) -> str:
    for name in fields:
        if name not in _FIELDS:
            close = get_close_matches(name, _FIELDS, n=1)
            shown = repr(shorten(name, 40))
            return f"a connection has no {shown}{f' (did you mean {close[0]}?)' if close else ''}"
    port = str(fields.get("port") or 0)
    if not port.isdigit():
        return "an API key is in its port" if looks_like_key(port) else "its port is not a number"
    if not isinstance(fields.get("extra") or {}, dict):
        return "its extra is not a JSON object"
    not_text = [name for name in _TEXTS if not isinstance(fields.get(name), str | None)]
    return f"its {not_text[0]} is not a text" if not_text else "it has a value that a connection cannot have"


def _has_bad_port(text: str) -> bool:
    try:
        urlsplit(text).port  # noqa: B018  (reading it is what checks it)
    except ValueError:
        return True
    return False
