"""Limits and defaults of the API, each with its unit and its source.

"batch-processing" and the like are pages of platform.claude.com/docs, read in October 2026. "SDK" is Anthropic's
Python package, version 2.12.0.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from airflow_claude_batch.exceptions import InputError

DEFAULT_BASE_URL: Final = "https://api.anthropic.com"  # SDK, _client.py
DEFAULT_API_VERSION: Final = "2026-10-21"  # the `anthropic-version` header; api/versioning

MAX_REQUESTS: Final = 100_000  # requests per message batch; batch-processing

# Bytes of a create call's body. The page says 256 MB, without defining MB, and a proxy may count the headers too.
# 250 decimal megabytes are below every reading of it.
MAX_BATCH_BYTES: Final = 250_000_000

#: From a batch's ``created_at``. Requests without an answer then end as `expired`; batch-processing, 2026-10-08.
BATCH_LIFETIME: Final = timedelta(hours=24)

LIST_LIMIT: Final = 1000  # the largest page of a listing, in objects; SDK, batch_list_params.py
DEFAULT_LIST_LIMIT: Final = 20  # the page size if a call names none; same file

MAX_IDENTITY_TOKEN_BYTES: Final = 16 * 1024  # the OIDC token of a token exchange; manage-claude/wif-reference
MAX_TOKEN_RESPONSE_BYTES: Final = 1024 * 1024  # a token exchange's response; SDK, lib/credentials/_workload.py

# The params of a request that a count_tokens call accepts; SDK, message_count_tokens_params.py.
COUNT_TOKENS_FIELDS: Final = frozenset(
    {
        "cache_control",
        "messages",
        "model",
        "output_config",
        "speed",
        "system",
        "thinking",
        "tool_choice",
        "tools",
    }
)

# Ids look like msgbatch_01AbCd…, and "the format may change" (SDK, message_batch.py). So any URL-safe word passes. Ids
# of gateways pass too: longer words of a URL's path with "=", ":", "/", "." or "+", but without "." or ".." between
# slashes. Those name another path, as a short word with a slash may do.
_GATEWAY_ID: Final = (
    r"(?=[^=:/.+]*[=:/.+])(?=.{8,256}\Z)(?!(?:.*/)?\.{1,2}(?:/|\Z))[A-Za-z0-9_.:=+-]+(?:/[A-Za-z0-9_.:=+-]+)*"
)
BATCH_ID_PATTERN: Final = rf"^(?:[A-Za-z0-9_-]{{1,128}}|{_GATEWAY_ID})\Z"
_BATCH_ID: Final = re.compile(BATCH_ID_PATTERN)


def is_batch_id(value: str) -> bool:
    """Return True if a text is a message batch's id that can be part of a URL."""
    return _BATCH_ID.match(value) is not None


def check_batch_id(value: object) -> str:
    """Return the value if it is a message batch's id that can be part of a URL. Ids from XCom may not be.

    :raises InputError: it is not. The message shows its beginning.
    """
    if isinstance(value, str) and is_batch_id(value):
        return value
    shown = repr(value)
    if len(shown) > 60:
        shown = shown[:57] + "..."
    raise InputError(f"{shown} is not the id of a message batch.", "Pass an id like 'msgbatch_01AbCdEf...'.")
