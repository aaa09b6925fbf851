"""Checks the messages of a request: their shape, their order, and how the conversation ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, Final

from airflow_claude_batch.batch.input.element_errors import short_repr, type_name
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.foreign_types import recognise
from airflow_claude_batch.batch.input.preflight.blocks import check_blocks
from airflow_claude_batch.batch.input.preflight.conditions import Conditions
from airflow_claude_batch.batch.input.preflight.known_fields import MESSAGE, SYSTEM_MESSAGE
from airflow_claude_batch.batch.input.preflight.media import MOST_IMAGES
from airflow_claude_batch.batch.input.preflight.refusal import message_place, refuse
from airflow_claude_batch.batch.input.preflight.tool_pairs import check_tool_pairs

#: Roles of a message.
ROLES: Final = ("user", "assistant", "system")
MOST_MESSAGES: Final = 100_000
#: What to do if the messages of one conversation were given as elements: each element is a request of its own.
INNER_LIST: Final = (
    "Each element is a request of its own: to send one conversation, put its messages into an inner list, "
    "messages=[[…]]."
)
_GIVE_MESSAGES: Final = "Give a list of messages: [{'role': 'user', 'content': …}]."
_ROLES_ELSEWHERE: Final = {
    "developer": "Use the parameter 'system' for instructions.",
    "tool": "Give the result in a message of the user: {'type': 'tool_result', 'tool_use_id': …, 'content': …}.",
    "function": "Give the result in a message of the user: {'type': 'tool_result', 'tool_use_id': …, 'content': …}.",
    "human": "Did you mean 'user'?",
    "model": "Did you mean 'assistant'?",
    "ai": "Did you mean 'assistant'?",
    "bot": "Did you mean 'assistant'?",
}
_FIELDS_ELSEWHERE: Final = {
    "cache_control": "Put 'cache_control' on a content block of the message.",
    "name": "Write the name into the text.",
    "tool_calls": "Write calls as blocks: {'type': 'tool_use', 'id': …, 'name': …, 'input': {…}}.",
    "tool_call_id": "Write results as blocks: {'type': 'tool_result', 'tool_use_id': …, 'content': …}.",
}


def check_messages(request: Request, conditions: Conditions) -> Set[str]:
    """Raise if the conversation, or a message of it, is one that the API refuses. Return the kinds of its blocks.

    :raises InvalidMessageError: names the element, the message and the remedy.
    """
    messages = request.params.get("messages")
    if not isinstance(messages, list | tuple):
        refuse(request, "messages", f"'messages' must be a list, not {type_name(messages)}.", _GIVE_MESSAGES)
    if not messages:
        refuse(request, "messages", "'messages' is empty.", _GIVE_MESSAGES)
    kinds: set[str] = set()
    has_system = False
    last = len(messages) - 1
    for position, message in enumerate(messages):
        _check_message(request, message, position, conditions, is_last=position == last)
        if not isinstance(message.get("content"), str):
            kinds |= _kinds(message)
        has_system = has_system or message["role"] == "system"
    _check_first(request, messages[0])
    if last >= MOST_MESSAGES:
        refuse(
            request, "messages", f"'messages' has more than {MOST_MESSAGES:,} messages.", "Shorten the conversation."
        )
    if has_system:
        _check_system_placement(request, messages)
    if kinds:
        check_tool_pairs(request, kinds)
    if kinds & _HAVE_CONTENT:
        _check_media(request, messages)
    _check_end(request, messages[-1])
    return kinds


def _check_message(request: Request, message: Any, position: int, conditions: Conditions, *, is_last: bool) -> None:
    if isinstance(message, dict) and len(message) == 2 and "role" in message:
        content = message.get("content")  # the usual message, at once
        if isinstance(content, str) and content and not content.isspace() and _is_role(message["role"]):
            return
    place = message_place(request, position)
    _check_keys(request, message, place, conditions)
    role, content = message["role"], message.get("content")
    if isinstance(content, str):
        if not content.strip() and not (is_last and role == "assistant" and not content):
            refuse(request, "content", "the text is empty.", "Give a text, or leave the element out.", inside=place)
    elif isinstance(content, list):
        _check_content(request, content, role, place, conditions, is_last=is_last)
    elif "content" in message:
        problem = f"'content' must be a string or a list of content blocks, not {type_name(content)}."
        refuse(request, "content", problem, "Convert the content to a string.", inside=place)


def _check_content(
    request: Request, blocks: list[Any], role: str, place: str, conditions: Conditions, *, is_last: bool
) -> None:
    if not blocks and not (is_last and role == "assistant"):
        remedy = "Give a text or at least one content block."
        refuse(request, "content", "'content' has no blocks.", remedy, inside=place)
    check_blocks(request, blocks, role, conditions, inside=place)


def _check_keys(request: Request, message: Any, place: str, conditions: Conditions) -> None:
    if not isinstance(message, Mapping):
        problem = f"a message must be a mapping, not {type_name(message)}."
        foreign = None if isinstance(message, str) else recognise(message)
        remedy = f"{foreign.remedy} " if foreign else ""
        refuse(request, "message", problem, f"{remedy}Give a mapping with 'role' and 'content'.", inside=place)
    if "role" not in message:
        refuse(request, "message", "'role' is missing.", f"Give 'role', one of {', '.join(ROLES)}.", inside=place)
    role = message["role"]
    if not _is_role(role):
        problem = f"'role' must be one of {', '.join(ROLES)}, not {short_repr(role, 40)}."
        meant = _ROLES_ELSEWHERE.get(role.lower()) if isinstance(role, str) else None
        refuse(request, "role", problem, meant or "Set 'role' to one of these.", inside=place)
    for name in message if not conditions.takes_unknown else ():
        if name not in MESSAGE:
            _refuse_field(request, name, place)
    if "content" not in message and not (
        role == "system" and message.keys() <= SYSTEM_MESSAGE and conditions.takes_unknown
    ):
        remedy = "Give 'content', a string or a list of content blocks."
        refuse(request, "message", "'content' is missing.", remedy, inside=place)


def _is_role(role: Any) -> bool:
    return isinstance(role, str) and role in ROLES


def _refuse_field(request: Request, name: Any, place: str) -> None:
    problem = f"a message has no field {short_repr(name, 40)}."
    meant = _FIELDS_ELSEWHERE.get(name) if isinstance(name, str) else None
    refuse(request, "message", problem, meant or "Remove it: a message has 'role' and 'content'.", inside=place)


# ---------------------------------------------------------------- order


def _check_first(request: Request, first: Mapping[str, Any]) -> None:
    if first["role"] == "user":
        return
    place = message_place(request, 0)
    if first["role"] == "system":
        remedy = "Put it into the parameter 'system', and begin with a user's message."
        refuse(request, "first_message", "a system message comes first.", remedy, inside=place)
    if first["role"] == "assistant" and "compaction" not in _kinds(first):
        remedy = "Begin with a user's message."
        if request.is_single_message:
            remedy = f"{remedy} {INNER_LIST}"
        problem = "an assistant's message comes first, so the conversation ends with an assistant's turn."
        if not request.is_single_message:
            problem = "an assistant's message comes first."
        refuse(request, "first_message", problem, remedy, inside=place)


def _check_system_placement(request: Request, messages: Sequence[Any]) -> None:
    for position, message in enumerate(messages):
        if message["role"] != "system":
            continue
        before = messages[position - 1]
        after = messages[position + 1] if position + 1 < len(messages) else None
        is_after_turn = before["role"] in ("user", "system") or _ends_with_server_result(before)
        if not is_after_turn or (after is not None and after["role"] == "user"):
            problem = "a system message must follow a user's turn, and an assistant's turn must follow it."
            remedy = "Move it, or put it into the parameter 'system'. At the end of the conversation it may stand, too."
            refuse(request, "system_placement", problem, remedy, inside=message_place(request, position))


def _ends_with_server_result(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    kind = content[-1].get("type", "") if isinstance(content, list) and content else ""
    return kind.endswith("_tool_result")


def _kinds(message: Mapping[str, Any]) -> Set[str]:
    content = message.get("content")
    return {block["type"] for block in content} if isinstance(content, list) else _NO_KINDS


# ---------------------------------------------------------------- the end


def is_prefill(message: Mapping[str, Any]) -> bool:
    """Return whether a last message is the beginning of the answer.

    A turn that the API paused ends the conversation too, to be continued. It has calls of server tools.
    """
    if message["role"] != "assistant":
        return False
    return not any(kind.endswith("_tool_result") or kind in _OF_THE_SERVER for kind in _kinds(message))


_NO_KINDS: Final = frozenset[str]()
_OF_THE_SERVER: Final = frozenset({"server_tool_use", "mcp_tool_use", "compaction", "fallback"})


def _check_end(request: Request, message: Mapping[str, Any]) -> None:
    if message["role"] != "assistant":
        return
    content = message["content"]
    if isinstance(content, str):
        text = content
    else:
        text = content[-1].get("text", "") if content and content[-1]["type"] == "text" else ""
    if text != text.rstrip() and is_prefill(message):
        problem = "the last message is of the assistant, and ends with white space."
        place = message_place(request, len(request.params["messages"]) - 1)
        refuse(request, "prefill_blank", problem, "Remove the white space at its end.", inside=place)


# ---------------------------------------------------------------- documents, images, citations


def content_blocks(messages: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the blocks of all messages, and those inside of tool results."""
    for message in messages:
        content = message.get("content")
        for block in content if isinstance(content, list) else ():
            yield block
            nested = block.get("content") if block["type"] == "tool_result" else None
            if isinstance(nested, list):
                yield from nested


def asks_for_citations(block: Mapping[str, Any]) -> bool:
    """Return whether a document or a search result has its citations on."""
    citations = block.get("citations")
    return isinstance(citations, Mapping) and citations.get("enabled") is True


_HAVE_CONTENT: Final = frozenset({"image", "document", "search_result", "tool_result"})


def _check_reference(request: Request, block: Mapping[str, Any]) -> None:
    tools = request.params.get("tools")
    tools = tools if isinstance(tools, list | tuple) else ()
    if any("_toolset" in str(tool.get("type")) for tool in tools):
        return  # its members have names that only the API knows
    names = [name for tool in tools if isinstance(name := tool.get("name"), str)]
    wanted = block["tool_name"]
    if not isinstance(wanted, str) or wanted not in names:
        problem = f"a tool_reference names {short_repr(wanted, 40)}, which is no tool of the request."
        refuse(request, "tool_reference", problem, "Give its definition in 'tools'.")


def _check_media(request: Request, messages: Sequence[Any]) -> None:
    images = 0
    cited: dict[str, set[bool]] = {"document": set(), "search_result": set()}
    for block in content_blocks(messages):
        kind = block["type"]
        images += kind == "image"
        if kind == "tool_reference":
            _check_reference(request, block)
        if kind in cited:
            cited[kind].add(asks_for_citations(block))
    if images > MOST_IMAGES:
        problem = f"the request has {images} images, and {MOST_IMAGES} are allowed."
        refuse(request, "image_count", problem, "Split the request.")
    for kind, choices in cited.items():
        if len(choices) > 1:
            problem = f"citations are on for some {kind} blocks, and off for others."
            refuse(request, "citations", problem, "Turn them on for all of them, or for none.")
