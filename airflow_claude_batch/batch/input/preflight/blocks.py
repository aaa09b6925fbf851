"""Checks content blocks: of messages, of the system prompt, and of tool results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from airflow_claude_batch.batch.input.element_errors import VERSION_WITHOUT_SAMPLING, short_repr, type_name
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.foreign_types import recognise
from airflow_claude_batch.batch.input.preflight.conditions import Conditions
from airflow_claude_batch.batch.input.preflight.known_fields import BLOCKS, TOOL_RESULT_BLOCKS, Shape
from airflow_claude_batch.batch.input.preflight.media import check_source
from airflow_claude_batch.batch.input.preflight.refusal import IF_NEW, check_shape, did_you_mean, kind_of, refuse
from airflow_claude_batch.batch.quantity import with_article

_AS_TEXT: Final = "Write texts as {'type': 'text', 'text': …}."
#: Kinds of blocks that other APIs have.
_MEANT: Final = {
    "image_url": "Use {'type': 'image', 'source': {'type': 'url', 'url': …}}, or a source of type base64.",
    "input_image": "Use {'type': 'image', 'source': {'type': 'url', 'url': …}}, or a source of type base64.",
    "input_text": _AS_TEXT,
    "output_text": _AS_TEXT,
    "file": "Use {'type': 'document', 'source': {'type': 'file', 'file_id': …}}.",
    "input_file": "Use {'type': 'document', 'source': {'type': 'file', 'file_id': …}}.",
    "pdf": "Use {'type': 'document', 'source': {'type': 'base64', 'media_type': 'application/pdf', 'data': …}}.",
    "input_audio": "Remove it: no model takes audio.",
    "audio": "Remove it: no model takes audio.",
    "video": "Remove it: no model takes videos.",
    "function_call": "Use {'type': 'tool_use', 'id': …, 'name': …, 'input': {…}}.",
    "function": "Use {'type': 'tool_use', 'id': …, 'name': …, 'input': {…}}.",
    "function_call_output": "Use {'type': 'tool_result', 'tool_use_id': …, 'content': …}.",
}
#: The longest title of a document. Its context may be as long as any text.
_LENGTHS: Final = {"title": 500, "context": 10**9}
#: Kinds of blocks that only one of the two roles may have.
_PLACES: Final = {
    **dict.fromkeys(("tool_use", "server_tool_use", "thinking", "redacted_thinking"), "assistant"),
    **dict.fromkeys(("tool_result", "search_result", "image", "container_upload"), "user"),
}


def check_blocks(request: Request, blocks: list[Any], role: str, conditions: Conditions, *, inside: str) -> None:
    """Raise if a content block of a message is one that the API refuses."""
    has_words = False
    for number, block in enumerate(blocks):
        if _is_usual(block):
            has_words = has_words or not block["text"].isspace()
            continue
        place = f"{inside}.content[{number}]"
        _check_block(request, block, BLOCKS, conditions, inside=place)
        _check_role(request, block, role, conditions, inside=place)
    if not has_words and _is_blank(blocks):
        problem = "the text is blank: a message with text needs a character that is no white space."
        refuse(request, "text_blank", problem, "Remove the block, or give a text.", inside=inside)


def check_system(request: Request, value: Any, conditions: Conditions) -> None:
    """Raise if the system prompt is no text and no list of text blocks."""
    if value is None or isinstance(value, str):
        return
    if not isinstance(value, list | tuple):
        problem = f"'system' must be a string or a list of content blocks, not {type_name(value)}."
        refuse(request, "system", problem, "Convert the system prompt to a string.")
    for number, block in enumerate(value):
        if kind_of(block) != "text" and not (kind_of(block) and conditions.takes_unknown):
            problem = f"'system[{number}]' must be a block of type text."
            refuse(request, "system", problem, f"{_AS_TEXT} Put images and documents into a message.")
        _check_block(request, block, BLOCKS, conditions, inside=f".system[{number}]")
    if _is_blank(value):
        refuse(request, "text_blank", "'system' is blank.", "Give a text, or leave 'system' out.")


def _check_block(
    request: Request, block: Any, known: Mapping[str, Shape], conditions: Conditions, *, inside: str
) -> None:
    kind = kind_of(block)
    if kind is None:
        problem = "a content block must be a mapping with a 'type'."
        foreign = None if isinstance(block, str | Mapping) else recognise(block)  # the vendor's SDK takes its objects
        refuse(request, "block", problem, foreign.remedy if foreign else _AS_TEXT, inside=inside)
    shape = known.get(kind)
    if shape is None:
        if not conditions.takes_unknown:
            problem = f"no content block of type {short_repr(kind, 30)} may stand here."
            remedy = _MEANT.get(kind) or f"{did_you_mean(kind, known)}Use one of {', '.join(list(known)[:8])}. {IF_NEW}"
            refuse(request, "block", problem, remedy, inside=inside)
        return
    what = f"a block of type {kind!r}"
    check_shape(request, "block_fields", block, shape, what, inside=inside, strict=not conditions.takes_unknown)
    check_content = _CONTENTS.get(kind)
    if check_content is not None:
        check_content(request, block, conditions, inside)


def _check_text(request: Request, block: Mapping[str, Any], _conditions: Conditions, inside: str) -> None:
    text = block["text"]
    if not isinstance(text, str):
        problem = f"'text' must be a string, not {type_name(text)}."
        refuse(request, "block_fields", problem, "Convert it to a string.", inside=inside)
    if not text:
        if block.get("cache_control") is not None:
            problem = "a cache mark stands on an empty text."
            refuse(request, "cache_mark_on_empty_text", problem, "Put it on a block that has a text.", inside=inside)
        refuse(request, "text_empty", "the text is empty.", "Give a text, or leave the block out.", inside=inside)


def _check_image(request: Request, block: Mapping[str, Any], conditions: Conditions, inside: str) -> None:
    check_source(request, block["source"], "image", conditions, inside=inside)


def _check_document(request: Request, block: Mapping[str, Any], conditions: Conditions, inside: str) -> None:
    for name, most in _LENGTHS.items():
        words = block.get(name)
        if words is not None and not (isinstance(words, str) and 0 < len(words) <= most):
            problem = f"{name!r} of a document must be a text of 1 to {most:,} characters."
            refuse(request, "block_fields", problem, f"Shorten {name!r}, or leave it out.", inside=inside)
    _check_citations(request, block, inside)
    source = block["source"]
    check_source(request, source, "document", conditions, inside=inside)
    if kind_of(source) == "content" and isinstance(source["content"], list):
        _check_nested(request, source["content"], ("text", "image"), conditions, inside=f"{inside}.source")


def _check_citations(request: Request, block: Mapping[str, Any], inside: str) -> None:
    """Citations are switched in a mapping. A bare ``True`` is what people write instead."""
    citations = block.get("citations")
    if citations is not None and not isinstance(citations, Mapping):
        problem = f"'citations' must be a mapping, not {type_name(citations)}."
        refuse(request, "block_fields", problem, "Give {'enabled': True}, or leave 'citations' out.", inside=inside)


def _check_search_result(request: Request, block: Mapping[str, Any], conditions: Conditions, inside: str) -> None:
    _check_citations(request, block, inside)
    if isinstance(block["content"], list):
        _check_nested(request, block["content"], ("text",), conditions, inside=inside)


def _check_tool_result(request: Request, block: Mapping[str, Any], conditions: Conditions, inside: str) -> None:
    content = block.get("content")
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        problem = f"'content' of a tool_result must be a string or a list of blocks, not {type_name(content)}."
        refuse(
            request,
            "tool_result_content",
            problem,
            "Convert it to a string, for example with json.dumps.",
            inside=inside,
        )
    for number, item in enumerate(content):
        _check_block(request, item, TOOL_RESULT_BLOCKS, conditions, inside=f"{inside}.content[{number}]")
    kinds = {kind_of(item) for item in content}
    if "search_result" in kinds and len(kinds) > 1:
        problem = "search_result blocks stand beside other blocks of a tool_result."
        remedy = "Put other texts into 'content' of a search_result."
        refuse(request, "tool_result_content", problem, remedy, inside=inside)


def _check_tool_use(request: Request, block: Mapping[str, Any], _conditions: Conditions, inside: str) -> None:
    if not isinstance(block["input"], Mapping):
        problem = f"'input' of a tool_use must be a mapping, not {type_name(block['input'])}."
        remedy = "Give the arguments as a mapping, not as JSON text."
        refuse(request, "block_fields", problem, remedy, inside=inside)


def _check_nested(
    request: Request, blocks: list[Any], kinds: Iterable[str], conditions: Conditions, *, inside: str
) -> None:
    known = {kind: BLOCKS[kind] for kind in kinds}
    for number, block in enumerate(blocks):
        _check_block(request, block, known, conditions, inside=f"{inside}.content[{number}]")


_CONTENTS: Final = {
    "text": _check_text,
    "image": _check_image,
    "document": _check_document,
    "search_result": _check_search_result,
    "tool_result": _check_tool_result,
    "tool_use": _check_tool_use,
}


def _check_role(request: Request, block: Mapping[str, Any], role: str, conditions: Conditions, *, inside: str) -> None:
    kind = block["type"]
    if _PLACES.get(kind, role) != role:
        problem = f"{with_article(kind)} block may only stand in a message of the {_PLACES[kind]}."
        refuse(request, "block_role", problem, f"Put it into a message with 'role': {_PLACES[kind]!r}.", inside=inside)
    if role == "system" and kind != "text" and not conditions.takes_unknown:
        refuse(request, "block_role", "a system message may only have texts.", _AS_TEXT, inside=inside)
    if conditions.api_version < VERSION_WITHOUT_SAMPLING:
        return
    if role == "assistant" and kind == "document":
        problem = f"API version {conditions.api_version} takes no document in an assistant's message."
        refuse(request, "document_of_assistant", problem, "Put it into a message of the user.", inside=inside)
    citations = block.get("citations")
    if role == "user" and kind == "text" and isinstance(citations, list | tuple) and citations:
        problem = f"API version {conditions.api_version} takes no citations in a user's text."
        refuse(request, "citations_of_user", problem, "Remove 'citations'.", inside=inside)


def _is_usual(block: Any) -> bool:
    """Return whether a block is a text and nothing else. Most are, so they are told at once."""
    if not isinstance(block, dict) or len(block) != 2:
        return False
    text, kind = block.get("text"), block.get("type")
    return isinstance(text, str) and text != "" and isinstance(kind, str) and kind == "text"


def _is_blank(blocks: Iterable[Any]) -> bool:
    """Return whether there are texts, and all of them are white space."""
    texts = [block["text"] for block in blocks if block["type"] == "text"]
    return bool(texts) and not any(text.strip() for text in texts)
