"""Checks that every ``tool_use`` of a conversation has its ``tool_result`` in the next turn, and no result lacks it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from typing import Any, Final, NamedTuple

from airflow_claude_batch.batch.input.element_errors import short_repr
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.preflight.refusal import message_place, refuse

_ID: Final = re.compile(r"[a-zA-Z0-9_-]+", re.ASCII)
_HAS_TOOLS: Final = frozenset({"tool_use", "tool_result"})


class _Block(NamedTuple):
    kind: str
    id: Any
    place: str


class _Turn(NamedTuple):
    """Consecutive messages of one role, which the API combines."""

    role: str
    blocks: list[_Block]


def check_tool_pairs(request: Request, kinds: Set[str]) -> None:
    """Raise if a tool call has no result, or a result no call, or if an id is used twice.

    :param kinds: the types of all content blocks in the messages.
    """
    messages = request.params["messages"]
    if not kinds & _HAS_TOOLS or "compaction" in kinds:
        return
    open_calls: list[_Block] = []
    seen: set[str] = set()
    for turn in _turns(request, messages):
        if turn.role == "user":
            _check_results(request, turn, open_calls)
            open_calls = []
        elif turn.role == "assistant":
            _check_answered(request, open_calls)
            open_calls = [block for block in turn.blocks if block.kind == "tool_use"]
            _check_ids(request, open_calls, seen)
    _check_answered(request, open_calls)


def _blocks(message: Mapping[str, Any]) -> list[Any]:
    content = message.get("content")
    return content if isinstance(content, list) else []


def _turns(request: Request, messages: list[Any]) -> Iterator[_Turn]:
    turn = _Turn("", [])
    for position, message in enumerate(messages):
        if message["role"] != turn.role:
            if turn.role:
                yield turn
            turn = _Turn(message["role"], [])
        for number, block in enumerate(_blocks(message)):
            identity = block.get("tool_use_id" if block["type"] == "tool_result" else "id")
            place = f"{message_place(request, position)}.content[{number}]"
            turn.blocks.append(_Block(block["type"], identity, place))
    yield turn


def _check_ids(request: Request, calls: list[_Block], seen: set[str]) -> None:
    for call in calls:
        if not isinstance(call.id, str) or not _ID.fullmatch(call.id):
            problem = f"the 'id' of a tool_use is {short_repr(call.id, 30)}."
            refuse(request, "tool_ids", problem, "Use letters of a to z, digits, - and _.", inside=call.place)
        if call.id in seen:
            problem = f"two tool_use blocks have the id {short_repr(call.id, 40)}."
            refuse(request, "tool_ids", problem, "Give each an id of its own.", inside=call.place)
        seen.add(call.id)


def _check_results(request: Request, turn: _Turn, calls: list[_Block]) -> None:
    names = {call.id for call in calls}
    answered: set[str] = set()
    has_text = False
    for block in turn.blocks:
        has_text = has_text or block.kind == "text"
        if block.kind != "tool_result":
            continue
        if not isinstance(block.id, str) or block.id not in names:
            problem = f"no tool_use of the turn before has the id {short_repr(block.id, 40)}."
            remedy = "Put the assistant's message with that tool_use right before, or give the result as text."
            refuse(request, "tool_result_without_use", problem, remedy, inside=block.place)
        if block.id in answered:
            problem = f"a second tool_result has the id {short_repr(block.id, 40)}."
            refuse(request, "tool_ids", problem, "Give one result for each tool_use.", inside=block.place)
        if has_text:
            problem = "a text stands before a tool_result."
            refuse(request, "tool_result_first", problem, "Put the tool results first.", inside=block.place)
        answered.add(block.id)
    _check_answered(request, [call for call in calls if call.id not in answered])


def _check_answered(request: Request, calls: list[_Block]) -> None:
    for call in calls:
        problem = f"the tool_use {short_repr(call.id, 40)} has no tool_result in the next message."
        remedy = "Add a user's message with {'type': 'tool_result', 'tool_use_id': …}, or leave the tool_use out."
        refuse(request, "tool_use_without_result", problem, remedy, inside=call.place)
