"""Check a message that is given as an answer, and add what every message of the API has."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from typing import Any

# SDK 2.14.0, types/message.py and types/beta/beta_message.py
_FIELDS = (
    "content",
    "stop_reason",
    "stop_sequence",
    "stop_details",
    "usage",
    "model",
    "id",
    "type",
    "role",
    "container",
    "diagnostics",
    "context_management",
    "input_transformations",
)
_NEEDED: dict[str, tuple[tuple[str, type[Any]], ...]] = {
    "text": (("text", str),),
    "thinking": (("thinking", str),),
    "tool_use": (("name", str), ("input", dict)),
    "server_tool_use": (("name", str), ("input", dict)),
}
_ID_PREFIXES = {"tool_use": "toolu_01", "server_tool_use": "srvtoolu_01"}


class MessageError(ValueError):
    """No message of the API."""


def message_fields(value: Any) -> dict[str, Any]:
    """Return the fields of a message: of a whole one, of some fields, or of a list of content blocks.

    :raises MessageError: when it is none. The text begins with the place in it.
    """
    if isinstance(value, list):
        value = {"content": value}
    if not isinstance(value, Mapping):
        raise MessageError(f" is {value!r:.40}.\nGive a message of the API, or a list of content blocks.")
    _check_fields(value)
    content = value["content"]
    blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
    fields = {**value, "content": [_block(f".content[{number}]", block) for number, block in enumerate(blocks)]}
    if any(block["type"] == "tool_use" for block in fields["content"]):
        fields.setdefault("stop_reason", "tool_use")
    return fields


def _check_fields(message: Mapping[str, Any]) -> None:
    unknown = next((name for name in message if name not in _FIELDS), None)
    if unknown is not None:
        close = difflib.get_close_matches(str(unknown), _FIELDS, n=1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        raise MessageError(f" has no field {unknown!r}.\n{hint}A message has {', '.join(_FIELDS)}.")
    if not isinstance(message.get("content"), str | list):
        raise MessageError(".content is neither text nor a list.\nGive the text, or a list of content blocks.")
    for name, wanted in (("type", "message"), ("role", "assistant")):
        if message.get(name, wanted) != wanted:
            raise MessageError(f".{name} is {message[name]!r:.40}.\nAn answer has {wanted!r} there.")
    for name in ("id", "model", "stop_reason"):
        if not isinstance(message.get(name, ""), str):
            raise MessageError(f".{name} is {message[name]!r:.40}.\nGive text, or leave it out.")
    if not isinstance(message.get("usage", {}), Mapping):
        raise MessageError(".usage is no object.\nGive the counts that differ from the counted ones, or leave it out.")


def _block(place: str, block: Any) -> dict[str, Any]:
    kind = block.get("type") if isinstance(block, Mapping) else None
    if not isinstance(kind, str):
        raise MessageError(f'{place} is no content block.\nGive an object with a type, such as {{"type": "text", …}}.')
    for name, wanted in _NEEDED.get(kind, ()):
        if not isinstance(block.get(name), wanted):
            noun = "text" if wanted is str else "an object"
            raise MessageError(
                f"{place}.{name} is missing or has another type.\nBlocks of type {kind} have {noun} there."
            )
    return {**_added(kind, block), **block}


def _added(kind: str, block: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields that the API would have filled in. The signature of thinking is added with the answer."""
    digest = hashlib.sha256(repr(block).encode(errors="surrogatepass")).hexdigest()
    if kind in _ID_PREFIXES:
        return {"type": kind, "id": _ID_PREFIXES[kind] + digest[:22], "caller": {"type": "direct"}}
    return {"type": kind, "data": digest} if kind == "redacted_thinking" else {}
