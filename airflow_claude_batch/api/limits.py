"""The API's numbers and patterns, each with its unit and where it is written down.

"batch-processing" and the like are pages of platform.claude.com/docs, read in October 2026; "SDK" is Anthropic's
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

# Bytes of one create call's body. The page says 256 MB and not which MB, nor whether a proxy on the way counts
# headers in; 250 decimal megabytes are below every reading of it.
MAX_BATCH_BYTES: Final = 250_000_000

MAX_CUSTOM_ID_LENGTH: Final = 64  # characters; batch-processing
CUSTOM_ID_PATTERN: Final = re.compile(r"^[a-zA-Z0-9_-]{1,64}\Z")  # the API's own pattern; batch-processing

EXPIRES_AFTER: Final = timedelta(hours=24)  # from created_at; what is unfinished then ends as `expired`
RESULTS_KEPT: Final = timedelta(days=29)  # from created_at, not from ended_at; batch-processing

LIST_LIMIT: Final = 1000  # most objects of one page of a listing; SDK, batch_list_params.py
DEFAULT_LIST_LIMIT: Final = 20  # what the API gives when not asked; same

MAX_IDENTITY_TOKEN_BYTES: Final = 16 * 1024  # the OIDC token of a token exchange; manage-claude/wif-reference
MAX_TOKEN_RESPONSE_BYTES: Final = 1024 * 1024  # a token exchange's answer; SDK, lib/credentials/_workload.py

# What a count_tokens call takes of a request's params; SDK, message_count_tokens_params.py.
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

# Ids look like msgbatch_01AbCd…, and "the format may change" (SDK, message_batch.py): so any URL-safe word.
BATCH_ID_PATTERN: Final = r"^[A-Za-z0-9_-]{1,128}\Z"
_BATCH_ID: Final = re.compile(BATCH_ID_PATTERN)


def check_batch_id(value: object) -> str:
    """Give back a message batch's id that is safe to put into a URL's path; ids that came through XCom may not be.

    :raises InputError: names the value, cut short.
    """
    if isinstance(value, str) and _BATCH_ID.match(value):
        return value
    shown = repr(value)
    if len(shown) > 60:
        shown = shown[:57] + "..."
    raise InputError(f"{shown} is not the id of a message batch; ids look like 'msgbatch_01AbCdEf...'")
