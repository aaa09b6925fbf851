"""A succeeded result in the very form in which the API writes it: made a row without copying it through Python.

Nearly all of a hundred thousand lines have that form. What passes through unread is checked where it stands, and goes
from the line into the row as it is. A line that differs in anything is not read here.
"""

from __future__ import annotations

from typing import Final

import msgspec

from airflow_claude_batch.batch.land import parse_result as results
from airflow_claude_batch.batch.land.parse_result import Outcome, Status
from airflow_claude_batch.batch.money.pricing import PriceTable

_HEAD: Final = b'{"custom_id":"'
_MIDDLE: Final = b'","result":{"type":"succeeded","message":'
_END: Final = b"}}"
_HEAD_LENGTH, _MIDDLE_LENGTH = len(_HEAD), len(_MIDDLE)
_SUCCEEDED: Final = Status.SUCCEEDED
#: None of them is written otherwise in JSON.
_ID_CHARACTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
_QUOTE: Final = ord('"')
_NO_TEXT: Final = msgspec.Raw(b"")
_GAP: Final = "\0"
_GAP_JSON: Final = b'"\\u0000"'


class _Block(results.KnownBlock, frozen=True, gc=False, forbid_unknown_fields=True):
    """A block whose text stays as it is written."""

    text: msgspec.Raw = _NO_TEXT  # type: ignore[assignment]  # undecoded


class _Message(results.KnownMessage, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A message whose text stays as it is written."""

    content: list[_Block]  # type: ignore[assignment]  # narrower


_message = msgspec.json.Decoder(_Message)
#: A row's tail between its gaps: text, usage, cost, custom_id, message.
_Frame = tuple[bytes, bytes, bytes, bytes, bytes, bytes]


class PlainReader:
    """Reads lines of one message batch, of answers that may be any text."""

    def __init__(self, batch_id: str, prices: PriceTable) -> None:
        self._batch_id = batch_id
        self._prices = prices
        self._frames: dict[tuple[str, str | None], _Frame | None] = {}

    def read(self, line: bytes) -> tuple[str, Outcome] | None:
        """The custom_id of a line and what :func:`~.results.read_outcome` would make of it, None if it must."""
        at = line.find(_MIDDLE, _HEAD_LENGTH)
        custom_id, raw = line[_HEAD_LENGTH:at], line[at + _MIDDLE_LENGTH : -2]
        if at < 0 or not (line.startswith(_HEAD) and line.endswith(_END)) or custom_id.strip(_ID_CHARACTERS):
            return None
        try:
            if not line.isascii():
                line.decode()
            message = _message.decode(raw)
            usage = results.known_usage.decode(message.usage)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        content, model, stop_reason = message.content, message.model, message.stop_reason
        try:
            frame = self._frames[model, stop_reason]
        except KeyError:
            frame = self._frames[model, stop_reason] = self._frame(model, stop_reason)
        if frame is None or not content or (len(content) > 1 and any(map(_has_text, content[:-1]))):
            return None
        text = content[-1]
        charge = self._prices.charge(usage, model)
        cost = b"null" if (usd := charge.usd) is None else b'"%b"' % usd.encode()
        a, b, c, d, e, f = frame
        tail = b"".join((a, text.text, b, message.usage, c, cost, d, custom_id, e, raw, f))
        if text.type != "text" or tail[len(a)] != _QUOTE:  # it has none, or null
            return None
        return custom_id.decode(), Outcome(_SUCCEEDED, tail, model, stop_reason, charge)

    def _frame(self, model: str, stop_reason: str | None) -> _Frame | None:
        """What the rows of such answers have in common; None if it cannot be told from the rest."""
        gap = msgspec.Raw(_GAP_JSON)
        tail = results.Tail(
            status=Status.SUCCEEDED.word,
            text=_GAP,
            stop_reason=stop_reason,
            model=model,
            usage=gap,
            cost_usd=_GAP,
            batch_id=self._batch_id,
            custom_id=_GAP,
            message=gap,
        )
        parts = tail.encode().split(_GAP_JSON)
        if len(parts) != 6:  # a model's name has a gap in it
            return None
        a, b, c, d, e, f = parts
        return a, b, c, d + b'"', b'"' + e, f


def _has_text(block: _Block) -> bool:
    return block.text is not _NO_TEXT
