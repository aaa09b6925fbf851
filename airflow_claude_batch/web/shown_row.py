"""What the page shows of a row: its fields as texts, of which long ones are cut."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from airflow_claude_batch.batch.land.rows import DIRECT
from airflow_claude_batch.web.json_prefix import decode_prefix
from airflow_claude_batch.web.row_lines import Line

#: Characters of a text in a list of rows, and where one row is shown.
LIST_CHARACTERS: Final = 300
FULL_CHARACTERS: Final = 40_000
#: Of a long line, this much is read for a list.
_LIST_BYTES: Final = 64 << 10
_MAX_KEY_CHARACTERS: Final = 200
#: Most characters of one string within a value that is shown as JSON, and most levels and items.
_MAX_LEAF_CHARACTERS: Final = 4_000
_MAX_LEVELS: Final = 20
_MAX_ITEMS: Final = 100

_decode: Final = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class ShownText:
    """A text for people.

    :param more: the number of characters that are left out, 0 if there are none. None if there are more, nobody has
        counted how many.
    """

    text: str
    more: int | None = 0

    @property
    def note(self) -> str:
        """What is left out, in words. Empty if nothing is."""
        if self.more is None:
            return "the rest is left out"
        return f"{self.more:,} more characters are left out" if self.more else ""


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A row for people.

    :param position: of its line, for a link to it.
    :param answer: its output, else its text. None if it has no answer.
    :param reason: why it has no valid answer.
    :param is_damaged: its line cannot be read. Only the position is known.
    """

    position: int
    index: int | None = None
    key: str = ""
    status: str = "damaged"
    answer: ShownText | None = None
    reason: str = ""
    model: str | None = None
    stop_reason: str | None = None
    cost_usd: str | None = None
    batch_id: str | None = None
    custom_id: str | None = None
    is_reused: bool = False
    is_direct: bool = False
    is_damaged: bool = False

    @property
    def is_failed(self) -> bool:
        return self.status != "succeeded"


def show_row(line: Line, *, most: int = LIST_CHARACTERS) -> ShownRow:
    """Read a line of results for people.

    :param most: characters of each text.
    """
    fields, is_cut = fields_of(line, max_bytes=_LIST_BYTES if most <= LIST_CHARACTERS else len(line.data))
    if fields is None:
        return ShownRow(line.position, is_damaged=True)
    text, output = fields.get("text"), fields.get("output")
    answer = None
    if output is not None:
        answer = show_json(output, most)
    elif isinstance(text, str):
        answer = show_text(text, most, is_cut=is_cut and "stop_reason" not in fields)
    error = fields.get("error")
    return ShownRow(
        position=line.position,
        index=index if isinstance(index := fields.get("index"), int) else None,
        key=key_text(fields.get("key")),
        status=_word(fields.get("status")) or "unknown",
        answer=answer,
        reason=_reason(error),
        model=_word(fields.get("model")),
        stop_reason=_word(fields.get("stop_reason")),
        cost_usd=_word(fields.get("cost_usd")),
        batch_id=_word(fields.get("batch_id")),
        custom_id=_word(fields.get("custom_id")),
        is_reused=bool(fields.get("reused_from")),
        is_direct=fields.get("way") == DIRECT,
    )


def fields_of(line: Line, *, max_bytes: int) -> tuple[dict[str, Any] | None, bool]:
    """Return the fields of a line, and whether some may be missing because it is long. None if it is damaged.

    :param max_bytes: of a longer line only the beginning is decoded.
    """
    is_cut = line.is_cut or len(line.data) > max_bytes
    try:
        fields = decode_prefix(line.data[:max_bytes]) if is_cut else _decode(line.data)
    except (ValueError, msgspec.MsgspecError, UnicodeError, RecursionError):
        return None, is_cut
    return (fields if isinstance(fields, dict) else None), is_cut


def key_text(key: Any) -> str:
    """Return a key for people: a text as it is, other values as JSON."""
    text = key if isinstance(key, str) else json.dumps(key, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_KEY_CHARACTERS else f"{text[:_MAX_KEY_CHARACTERS]}…"


def show_text(text: str, most: int, *, is_cut: bool = False) -> ShownText:
    """Cut a text.

    :param is_cut: there is more of it than is given.
    """
    more = max(0, len(text) - most)
    return ShownText(text[:most], None if is_cut else more)


def show_json(value: Any, most: int) -> ShownText:
    """Return a value as indented JSON. Long strings in it, and deep or long lists, are cut with a word."""
    short = shorten(value)
    return show_text(json.dumps(short, ensure_ascii=False, indent=2, default=str), most)


def shorten(value: Any, level: int = 0) -> Any:
    """Cut the long strings and lists within a JSON value, such as images in base64."""
    if isinstance(value, str):
        more = len(value) - _MAX_LEAF_CHARACTERS
        return value if more <= 0 else f"{value[:_MAX_LEAF_CHARACTERS]}… ({more:,} more characters are left out)"
    if isinstance(value, dict | list) and level == _MAX_LEVELS:
        return "… (deeper levels are left out)"
    if isinstance(value, dict):
        kept = {name[:_MAX_KEY_CHARACTERS]: shorten(value[name], level + 1) for name in list(value)[:_MAX_ITEMS]}
        return kept if len(value) <= _MAX_ITEMS else {**kept, "…": f"{len(value) - _MAX_ITEMS:,} more are left out"}
    if isinstance(value, list):
        more = len(value) - _MAX_ITEMS
        note = [f"… ({more:,} more are left out)"] if more > 0 else []
        return [shorten(item, level + 1) for item in value[:_MAX_ITEMS]] + note
    return value


def _reason(error: Any) -> str:
    if not isinstance(error, dict):
        return ""
    reason = ": ".join(str(error[name]) for name in ("type", "message") if error.get(name))
    return reason if len(reason) <= LIST_CHARACTERS else f"{reason[:LIST_CHARACTERS]}…"


def _word(value: Any) -> str | None:
    return value[:_MAX_KEY_CHARACTERS] if isinstance(value, str) else None
