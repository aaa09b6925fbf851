"""Read the error of an errored result, and decide whether the same request would meet it again."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from airflow_claude_batch.api import wire
from airflow_claude_batch.exceptions import MalformedResponseError

#: Error types that the same request would meet again, unless their words say otherwise.
PERMANENT_TYPES: Final = frozenset({"invalid_request_error", "not_found_error"})

#: Words of errors of those types that end without a change of the request: the account is paid, a limit is raised, a
#: month begins, a server of files is there again. A row that says so may be sent again. Sending it costs nothing as
#: long as it is refused. A request that names a file that never comes is refused again in each repair round.
TEMPORARY_WORDS: Final = (
    # "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase
    # credits."; bespokelabsai/curator#296 (rows of a batch), anthropics/claude-code#1145
    r"credit balance",
    r"\bbilling\b",
    r"\bcredits?\b.{0,40}\b(exhausted|insufficient|purchase|required|used up)",
    r"\b(insufficient|purchase|not enough|out of)\b.{0,40}\b(credits?|funds|balance)\b",
    r"\bpayment\b",
    r"\badd (more )?funds\b",
    r"\blow balance\b|\bbalance is (too )?low\b",
    # "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."; api/errors
    r"\busage limits?\b",
    r"\b(spend|spending)[ -](limit|cap)",
    r"\bregain access\b",
    r"\b(rate[ -]limit|quota)",
    # "Unable to download the file. Please verify the URL and try again."; seen in batch rows, 2026-09
    r"\bunable to (download|fetch|retrieve|access|load|read|reach)\b",
    # "Failed to download/fetch …", "Could not download …", "Error fetching …"; vision and PDF pages, url sources
    r"\b(failed|failure|could ?n[o']t|could not|cannot|can't|error|problem|not be)\b.{0,40}\b(download|fetch|retriev)",
    r"\b(failed|could not|couldn't|cannot|unable|not be)\b.{0,20}\b(reach|connect|resolv)",
    r"\b(failed|could not|couldn't|cannot|unable)\b.{0,20}\b(access|load|get)\b.{0,40}\b(file|url|image|document)\b",
    r"\b(download|fetch|retriev)\w*\b.{0,60}\b(fail(ed|s|ure)?|error|timed? ?out|timeout|interrupted)\b",
    r"\b(http|returned|responded with)\b.{0,20}\b[45][0-9][0-9]\b",
    r"\bconnection\b.{0,20}\b(refused|reset|closed|aborted|error)\b",
    r"\b(still|being) process",
    r"\bnot (yet )?(ready|processed|uploaded)\b",
    r"\b(url|file|image|document|pdf)\b.{0,60}\b(unreachable|unavailable|not reachable|not accessible)",
    r"\btimed[ -]?out\b",
    r"\b(connection|connect|read|request|gateway|server)\b.{0,20}\btime-?out\b",
    # "This URL is disallowed by the website's robots.txt file"; only the website can change it, and it may
    r"\brobots\.txt\b",
    # Words of passing states, of whatever type the error is
    r"\b(please )?(try|retry) again\b",
    r"\btemporar(y|ily)\b",
    r"\boverloaded\b",
    r"\b(service|server) (is )?unavailable\b",
    r"\btoo many requests\b",
    r"\bthrottl",
    r"\binternal server error\b",
    # "The organization … has been disabled", "is on hold": a person ends it; SDK 2.12, _error_classes.py
    r"\borganization\b.{0,40}\b(disabled|on hold|suspended)\b",
)
_temporary: Final = re.compile("|".join(TEMPORARY_WORDS), re.IGNORECASE | re.DOTALL)
#: Words behind this many characters are a quotation of the request.
_SEARCHED_CHARACTERS: Final = 2000
_QUOTED_CHARACTERS: Final = 1000
_MOST_NESTED: Final = 8

_any = msgspec.json.Decoder()


def is_permanent(error_type: str | None, message: str | None) -> bool:
    """Tell whether the same request would meet the error again."""
    if error_type not in PERMANENT_TYPES:
        return False
    return _temporary.search((message or "")[:_SEARCHED_CHARACTERS]) is None


def read_error(result: wire.Result) -> dict[str, Any]:
    """Return the row's error: ``type``, ``message`` and ``request_id``.

    The API nests it twice: errored results carry a whole error response. Others nest it once, or send words only.
    """
    if result.error is None:
        return {"type": result.type, "message": f"The API sent a result of type {result.type!r} without an error."}
    try:
        envelope = wire.decode_error(result.error)
    except MalformedResponseError:
        return _loose_error(result.error)
    if envelope.message is None and _has_words(result.error):
        return _loose_error(result.error)
    message = envelope.message or "The API gave no reason."
    return {"type": envelope.type or "unknown", "message": message, "request_id": envelope.request_id}


def _has_words(raw: msgspec.Raw) -> bool:
    """Tell whether an error says anything, at whatever depth."""
    error: Any = _any.decode(raw)
    while isinstance(error, dict):
        if error.keys() - {"type", "error", "request_id"} or error.get("type", "error") != "error":
            return True
        error = error.get("error")
    return error is not None


def _loose_error(raw: msgspec.Raw) -> dict[str, Any]:
    """Read an error that has another form than the API's, and keep its words."""
    try:
        error = _any.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {"type": "unknown", "message": "The API sent an error that cannot be read."}
    found: dict[str, Any] = {"type": "unknown", "message": None, "request_id": None}
    inner = error
    for _ in range(_MOST_NESTED):
        if isinstance(inner, str):
            found["message"] = inner
            break
        if not isinstance(inner, dict):
            break
        for name in found:
            if isinstance(value := inner.get(name), str) and not (name == "type" and value == "error"):
                found[name] = value
        inner = inner.get("error")
    if found["message"] is None:
        words = f"{msgspec.json.encode(error).decode():.{_QUOTED_CHARACTERS}}"
        found["message"] = f"The API sent an error in another form than its own: {words}"
    return found
