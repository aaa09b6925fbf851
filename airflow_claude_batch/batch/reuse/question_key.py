"""Question key: 16 bytes that identify what a request asks. Requests with the same key may have the same answer.

Marks of the prompt cache and ``metadata`` change the bill, not the question. So they are left out, and with them the
list of blocks that a text becomes when a mark is put on it: ``"system": "Be brief."`` asks what
``"system": [{"type": "text", "text": "Be brief."}]`` asks. Everything else counts.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from airflow_claude_batch.batch.input.canonical_json import canonical

QUESTION_KEY_BYTES: Final = 16
_MARK: Final = "cache_control"
#: A request without these bytes has nothing to leave out. In a JSON string a quotation mark is escaped.
_LEFT_OUT: Final = (b'"cache_control"', b'"metadata"')
_TEXT_BLOCK: Final = frozenset({"type", "text"})


def question_key(params: bytes, *, version: str, api: str) -> bytes:
    """Return the key of a request.

    :param params: as in ``requests.jsonl``.
    :param version: the author's. Another one asks everything anew.
    :param api: the API's version and beta features, which may change answers.

    >>> marked = b'{"model":"m","system":[{"type":"text","text":"Be brief.","cache_control":{"type":"ephemeral"}}]}'
    >>> plain = b'{"system":"Be brief.","model":"m"}'
    >>> question_key(marked, version="", api="2023-06-01") == question_key(plain, version="", api="2023-06-01")
    True
    """
    has_marks = any(text in params for text in _LEFT_OUT)
    asked = canonical(params, _without_marks if has_marks else _with_short_texts)
    hashed = hashlib.blake2b(msgspec.json.encode((version, api)), digest_size=QUESTION_KEY_BYTES)
    hashed.update(asked)
    return hashed.digest()


def _without_marks(params: Any) -> Any:
    """Remove the marks where blocks have them, and ``metadata``. A JSON schema or a tool's input stays as it is."""
    if not isinstance(params, dict):
        return params
    params.pop(_MARK, None)
    params.pop("metadata", None)
    _unmark(params.get("tools"), nested=False)
    _unmark(params.get("system"))
    messages = params.get("messages")
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict):
            _unmark(message.get("content"))
    return _with_short_texts(params)


def _unmark(blocks: Any, *, nested: bool = True) -> None:
    for block in blocks if isinstance(blocks, list) else ():
        if not isinstance(block, dict):
            continue
        block.pop(_MARK, None)
        if nested:
            _unmark(block.get("content"))
            if isinstance(source := block.get("source"), dict):
                _unmark(source.get("content"))


def _with_short_texts(params: Any) -> Any:
    """Write a system prompt or a message of one text block as that text."""
    if not isinstance(params, dict):
        return params
    if isinstance(params.get("system"), list):
        params["system"] = _short(params["system"])
    messages = params.get("messages")
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict) and isinstance(message.get("content"), list):
            message["content"] = _short(message["content"])
    return params


def _short(blocks: list[Any]) -> Any:
    if len(blocks) != 1 or not isinstance(block := blocks[0], dict) or block.keys() != _TEXT_BLOCK:
        return blocks
    return block["text"] if block["type"] == "text" and isinstance(block["text"], str) else blocks
