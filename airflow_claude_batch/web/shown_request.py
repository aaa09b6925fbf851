"""What the page shows of one request and its answer, side by side. Long texts are cut with a word."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from airflow_claude_batch.batch.input.custom_id import parse_custom_id
from airflow_claude_batch.batch.input.request_index import INDEX_FILE, RequestIndex
from airflow_claude_batch.batch.input.request_lines import REQUESTS_FILE
from airflow_claude_batch.web.bounded_folder import BoundedFolder
from airflow_claude_batch.web.row_lines import MAX_LINE_BYTES, Line, LineFile
from airflow_claude_batch.web.row_search import find_request, find_request_by_hash, key_forms
from airflow_claude_batch.web.shown_row import (
    FULL_CHARACTERS,
    ShownRow,
    ShownText,
    fields_of,
    show_json,
    show_row,
    show_text,
)

#: Parameters that are shown as texts, apart from the others.
_TEXTS: Final = frozenset({"system", "messages", "model"})
_MAX_MESSAGES: Final = 50


@dataclass(frozen=True, slots=True)
class ShownMessage:
    """A turn of a conversation."""

    role: str
    content: ShownText


@dataclass(frozen=True, slots=True)
class ShownRequest:
    """The params of a request for people.

    :param parameters: those that are no texts, such as ``max_tokens`` and ``tools``.
    :param is_cut: it is too long to be read as a whole.
    """

    model: str | None
    system: ShownText | None
    messages: Sequence[ShownMessage]
    parameters: ShownText
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """A row for people, as far as it is read.

    :param text: the answer's text.
    :param output: the text as a JSON value, if there is an output schema.
    :param blocks: what else the answer has, such as thinking and calls of tools.
    """

    row: ShownRow
    text: ShownText | None
    output: ShownText | None
    blocks: ShownText | None
    kept: ShownText | None
    usage: Mapping[str, Any]
    error: ShownText | None
    replaced: int
    raw: ShownText | None
    is_cut: bool


@dataclass(frozen=True, slots=True)
class FoundRequest:
    """A request that was searched for.

    :param next_position: where in ``requests.jsonl`` the search goes on. None if there is nothing to go on with.
    """

    request: ShownRequest | None
    next_position: int | None


def show_answer(line: Line) -> ShownAnswer | None:
    """Read a line of results for people. None if it is damaged."""
    fields, is_cut = fields_of(line, max_bytes=MAX_LINE_BYTES)
    if fields is None:
        return None
    row = show_row(line, most=FULL_CHARACTERS)
    text, usage, replaced = fields.get("text"), fields.get("usage"), fields.get("replaced")
    return ShownAnswer(
        row=row,
        text=show_text(text, FULL_CHARACTERS, is_cut=is_cut and "stop_reason" not in fields)
        if isinstance(text, str)
        else None,
        output=_json(fields.get("output")),
        blocks=_json(_other_blocks(fields.get("message"))),
        kept=_json(fields.get("input")),
        usage={name: value for name, value in usage.items() if isinstance(value, int) and value}
        if isinstance(usage, dict)
        else {},
        error=_json(fields.get("error")),
        replaced=len(replaced) if isinstance(replaced, list) else 0,
        raw=_json(fields.get("raw")),
        is_cut=is_cut,
    )


def request_of_row(folder: BoundedFolder, sizes: Mapping[str, int], line: Line, position: int = 0) -> FoundRequest:
    """Find the request that a row answers.

    :param sizes: of the files in the folder.
    :param position: where in ``requests.jsonl`` the search goes on.
    :raises OSError: the storage cannot be read.
    :raises ClaudeBatchError: so does this.
    """
    file = _requests_file(sizes)
    fields, _ = fields_of(line, max_bytes=MAX_LINE_BYTES)
    if file is None or fields is None:
        return FoundRequest(None, None)
    custom_id = parse_custom_id(str(fields.get("custom_id")))
    if custom_id is not None:
        if (indexed := _by_index(folder, sizes, file, fields.get("index"), custom_id.hash)) is not None:
            return FoundRequest(indexed, None)
        found = find_request_by_hash(folder, file, custom_id.hash, position)
    else:
        key = json.dumps(fields.get("key"), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        found = find_request(folder, file, [key.encode(errors="replace")], position)
    return FoundRequest(_show_line(found.line), found.next_position)


def request_with_key(folder: BoundedFolder, sizes: Mapping[str, int], key: str, position: int = 0) -> FoundRequest:
    """Find the request with a key that a person has written.

    :raises OSError: the storage cannot be read.
    """
    file = _requests_file(sizes)
    if file is None:
        return FoundRequest(None, None)
    found = find_request(folder, file, key_forms(key), position)
    return FoundRequest(_show_line(found.line), found.next_position)


def show_request(params: Any, *, is_cut: bool = False) -> ShownRequest | None:
    """Return params for people. None for a request that was not sent, because it equals another one."""
    if not isinstance(params, dict):
        return None
    messages, system = params.get("messages"), params.get("system")
    turns = messages[:_MAX_MESSAGES] if isinstance(messages, list) else []
    return ShownRequest(
        model=model if isinstance(model := params.get("model"), str) else None,
        system=_content(system) if system else None,
        messages=[_message(turn) for turn in turns],
        parameters=show_json({name: params[name] for name in params if name not in _TEXTS}, FULL_CHARACTERS),
        is_cut=is_cut or (isinstance(messages, list) and len(messages) > _MAX_MESSAGES),
    )


def _requests_file(sizes: Mapping[str, int]) -> LineFile | None:
    size = sizes.get(REQUESTS_FILE)
    return None if size is None else LineFile(REQUESTS_FILE, size)


def _by_index(
    folder: BoundedFolder, sizes: Mapping[str, int], file: LineFile, index: Any, hash_: bytes
) -> ShownRequest | None:
    """Read a request by the index that lies beside many requests while the submission runs."""
    if INDEX_FILE not in sizes or not isinstance(index, int):
        return None
    requests = RequestIndex.open(folder)
    if requests is None or requests.content.size != file.size or not 0 <= index < len(requests):
        return None
    block, row = requests.place(requests.duplicates.get(index, index))
    length = len(hash_)
    if block.hashes[row * length : (row + 1) * length] != hash_:
        return None
    end = block.params_end(row)
    start = end - block.lengths[row]
    params = folder.read_range(REQUESTS_FILE, start, min(end, start + MAX_LINE_BYTES)) or b""
    is_cut = end - start > MAX_LINE_BYTES
    fields, _ = fields_of(Line(start, params, is_cut), max_bytes=MAX_LINE_BYTES)
    return show_request(fields, is_cut=is_cut)


def _show_line(line: Line | None) -> ShownRequest | None:
    if line is None:
        return None
    fields, is_cut = fields_of(line, max_bytes=MAX_LINE_BYTES)
    return None if fields is None else show_request(fields.get("params"), is_cut=is_cut)


def _message(turn: Any) -> ShownMessage:
    if not isinstance(turn, dict):
        return ShownMessage("", show_json(turn, FULL_CHARACTERS))
    return ShownMessage(str(turn.get("role", ""))[:40], _content(turn.get("content")))


def _content(content: Any) -> ShownText:
    """Return the content of a message: its texts as they are, other blocks as JSON."""
    if isinstance(content, str):
        return show_text(content, FULL_CHARACTERS)
    blocks = content if isinstance(content, list) else [content]
    return show_text("\n\n".join(map(_block, blocks)), FULL_CHARACTERS)


def _block(block: Any) -> str:
    if isinstance(block, dict) and block.get("type") == "text" and isinstance(block.get("text"), str):
        return str(block["text"])
    return show_json(block, FULL_CHARACTERS).text


def _other_blocks(message: Any) -> list[Any]:
    content = message.get("content") if isinstance(message, dict) else None
    blocks = content if isinstance(content, list) else []
    return [block for block in blocks if not (isinstance(block, dict) and block.get("type") == "text")]


def _json(value: Any) -> ShownText | None:
    return show_json(value, FULL_CHARACTERS) if value else None
