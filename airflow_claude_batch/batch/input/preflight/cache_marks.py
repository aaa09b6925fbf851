"""Finds the marks of the prompt cache in a request, checks them, and adds one to the system prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any, Final, NamedTuple

from airflow_claude_batch.batch.input.element_errors import short_repr
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.preflight.conditions import Conditions
from airflow_claude_batch.batch.input.preflight.known_fields import CACHE_CONTROL
from airflow_claude_batch.batch.input.preflight.refusal import check_fields, kind_of, refuse

MOST_MARKS: Final = 4
TTLS: Final = ("5m", "1h")
_WITHOUT_MARK: Final = ("thinking", "redacted_thinking")
_HAVE_BLOCKS: Final = frozenset({"tool_result", "document", "search_result"})


class Mark(NamedTuple):
    """One mark, and the block that has it. ``place`` is for errors."""

    control: Any
    block: Mapping[str, Any]
    place: str

    @property
    def ttl(self) -> str:
        """The lifetime of the mark. Five minutes if it names none."""
        ttl = self.control.get("ttl") if isinstance(self.control, Mapping) else None
        return ttl if isinstance(ttl, str) else "5m"


def marks_of(params: Mapping[str, Any], *, everywhere: bool = False) -> list[Mark]:
    """Return the marks in the order in which the API reads them: tools, system, messages.

    :param everywhere: with those inside of documents and search results. No page says if they count.
    """
    found = [*_marks(params.get("tools"), "tools"), *_marks(params.get("system"), "system")]
    messages = params.get("messages")
    for position, message in enumerate(messages if isinstance(messages, list | tuple) else ()):
        if isinstance(message, Mapping) and not isinstance(message.get("content"), str):
            found += _marks(message.get("content"), f"messages[{position}].content", everywhere=everywhere)
    return found


def _marks(blocks: Any, place: str, *, everywhere: bool = False) -> Iterator[Mark]:
    for number, block in enumerate(blocks if isinstance(blocks, list | tuple) else ()):
        if not isinstance(block, Mapping):
            continue
        here = f"{place}[{number}]"
        kind = kind_of(block)
        if kind == "tool_result" or (kind == "search_result" and everywhere):
            yield from _marks(block.get("content"), f"{here}.content", everywhere=everywhere)
        source = block.get("source")
        if kind == "document" and everywhere and isinstance(source, Mapping):
            yield from _marks(source.get("content"), f"{here}.source.content")
        if block.get("cache_control") is not None:
            yield Mark(block["cache_control"], block, here)


def has_marks(params: Mapping[str, Any], kinds: Set[str]) -> bool:
    """Return whether a request can have marks at all: a text has none.

    :param kinds: the types of all content blocks in the messages.
    """
    if "cache_control" in params or "tools" in params or isinstance(params.get("system"), list | tuple):
        return True
    if not kinds.isdisjoint(_HAVE_BLOCKS):
        return True
    contents = (message.get("content") for message in params["messages"]) if kinds else ()
    return any("cache_control" in block for content in contents if isinstance(content, list) for block in content)


def check_cache_marks(request: Request, conditions: Conditions) -> None:
    """Raise if the marks are of a wrong shape, too many, or in an order that the API refuses."""
    marks = marks_of(request.params)
    automatic = request.params.get("cache_control")
    if automatic is not None:
        marks.append(Mark(automatic, {}, "cache_control"))
    for mark in (*marks_of(request.params, everywhere=True), *(marks[-1:] if automatic is not None else ())):
        _check_mark(request, mark, conditions)
    if automatic is not None and len(marks) > 1:
        _check_automatic(request, marks)
    explicit = marks if automatic is None else marks[:-1]
    if len(explicit) > MOST_MARKS:
        problem = f"the request has {len(explicit)} cache marks, and {MOST_MARKS} are allowed."
        refuse(request, "cache_marks_count", problem, "Keep the marks at the ends of the longest shared parts.")
    _check_order(request, marks)


def _check_mark(request: Request, mark: Mark, conditions: Conditions) -> None:
    control, remedy = mark.control, "Give {'type': 'ephemeral'}, or with 'ttl': '1h'."
    if kind_of(control) != "ephemeral":
        problem = f"the cache mark at {mark.place} must be {{'type': 'ephemeral'}}."
        refuse(request, "cache_mark", problem, remedy)
    ttl = control.get("ttl", "5m")
    if not isinstance(ttl, str) or ttl not in TTLS:
        problem = f"the 'ttl' of the cache mark at {mark.place} must be '5m' or '1h', not {short_repr(ttl, 20)}."
        refuse(request, "cache_mark", problem, remedy)
    if not conditions.takes_unknown:
        check_fields(request, "cache_mark", control, CACHE_CONTROL, f"the cache mark at {mark.place}")
    if mark.block.get("type") in _WITHOUT_MARK:
        problem = f"the cache mark at {mark.place} stands on a block of thinking."
        refuse(request, "cache_mark_on_thinking", problem, "Put it on another block.")


def _check_automatic(request: Request, marks: list[Mark]) -> None:
    *explicit, automatic = marks
    last = explicit[-1]
    messages = request.params["messages"]
    content = messages[-1].get("content")
    is_same_block = isinstance(content, list | tuple) and bool(content) and content[-1] is last.block
    if is_same_block and last.ttl != automatic.ttl:
        problem = "'cache_control' and the mark of the last block have different lifetimes."
        refuse(request, "automatic_cache_mark", problem, "Give both the same 'ttl', or remove one.")
    if len(explicit) == MOST_MARKS and not is_same_block:
        problem = f"'cache_control' needs one of {MOST_MARKS} cache marks, and blocks have them all."
        refuse(request, "automatic_cache_mark", problem, "Remove it, or the mark of a block.")


def _check_order(request: Request, marks: list[Mark]) -> None:
    short: Mark | None = None
    for mark in marks:
        if mark.ttl == "5m":
            short = short or mark
        elif short is not None:
            problem = f"a cache mark of 1h ({mark.place}) comes after one of 5m ({short.place})."
            remedy = "Marks of 1h must come first, in the order tools, system, messages. Give them the same 'ttl'."
            refuse(request, "cache_marks_order", problem, remedy)


def with_system_mark(params: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Return the params with a mark on the system prompt, and a sentence if it is not one of an hour.

    The mark never breaks a rule: it lives for five minutes after a mark of five minutes, and is left out where
    the request has all its marks. A mark that the system prompt has already stays as it is.

    >>> with_system_mark({"system": "Be brief.", "messages": []})[0]["system"][0]["cache_control"]
    {'type': 'ephemeral', 'ttl': '1h'}
    """
    system = params["system"]
    blocks = [{"type": "text", "text": system}] if isinstance(system, str) else list(system)
    if blocks[-1].get("cache_control") is not None:
        return params, None
    count = len(marks_of(params, everywhere=True)) + (params.get("cache_control") is not None)
    if count >= MOST_MARKS:
        return params, f"cache_system: no mark was added where a request has {MOST_MARKS} cache marks already."
    earlier = [*_marks(params.get("tools"), "tools"), *_marks(blocks, "system")]
    is_short = any(mark.ttl == "5m" for mark in earlier)
    mark = {"type": "ephemeral"} if is_short else {"type": "ephemeral", "ttl": "1h"}
    marked = {**params, "system": [*blocks[:-1], {**blocks[-1], "cache_control": mark}]}
    note = "cache_system: the mark lives for 5 minutes where a mark of 5 minutes comes before it." if is_short else None
    return marked, note
