"""The results of a batch: rows in no order, made while they are sent."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec

from airflow_claude_batch.simulator.batches import Batch
from airflow_claude_batch.simulator.catalogue import usable_model
from airflow_claude_batch.simulator.creation import Item
from airflow_claude_batch.simulator.exchange import ConnectionDropped
from airflow_claude_batch.simulator.faults import Fault
from airflow_claude_batch.simulator.ids import new_id
from airflow_claude_batch.simulator.replies import Replies

CHUNK_BYTES = 64_000


def row(batch: Batch, position: int, item: Item, replies: Replies) -> dict[str, Any]:
    """One line: ``{"custom_id", "result"}``."""
    ending = batch.ending(position)
    if ending.kind == "errored":
        return {"custom_id": item.custom_id, "result": ending.error_result()}
    if ending.kind != "succeeded":
        return {"custom_id": item.custom_id, "result": {"type": ending.kind}}
    params = item.read_params()
    model = usable_model(params["model"], now=batch.conditions.now)
    if model is None:
        raise AssertionError(f"position {position} of {batch.id} succeeded with an unusable model")
    message = replies.message(
        params,
        position,
        model=model,
        outcome=ending,
        cache_use=batch.cache_use(position),
        message_id=f"msg_01{batch.id[-14:]}{position:08d}",
    )
    return {"custom_id": item.custom_id, "result": {"type": "succeeded", "message": message}}


def result_lines(batch: Batch, *, replies: Replies, dice: random.Random | None) -> Iterator[bytes]:
    """Every row as a line without its newline, in the order of ``dice`` (None: as submitted)."""
    items = batch.requests.items()
    positions = list(range(len(items)))
    if dice is not None:
        dice.shuffle(positions)
    encode = msgspec.json.Encoder().encode
    for position in positions:
        yield encode(row(batch, position, items[position], replies))


def stream(lines: Iterable[bytes], faults: Mapping[str, Fault], *, rows: int) -> Iterator[bytes]:
    """The lines as a body, with what the faults do to it.

    :param rows: how many lines a whole body has; the cuts at lines fall after half of them.
    """
    lines = _with_row_faults(lines, faults)
    final_newline = "no_trailing_newline" not in faults
    fault = faults.get("cut")
    if fault is None:
        pieces = _chunks(lines, final_newline=final_newline)
    elif fault.at == "line_end":
        pieces = _chunks(islice(lines, rows // 2), final_newline=final_newline)
    elif fault.at == "mid_line":
        pieces = _dropping(_chunks(_half(lines, rows // 2), final_newline=False), fault)
    else:
        whole = _chunks(lines, final_newline=final_newline)
        pieces = _dropping(_first_bytes(whole, fault.at), fault)
    return _gzipped(pieces) if "gzip" in faults else pieces


def _with_row_faults(lines: Iterable[bytes], faults: Mapping[str, Fault]) -> Iterator[bytes]:
    """The lines with a stranger first, the first one missing, the first one that is left twice."""
    if "stranger_row" in faults:
        stranger = {"custom_id": new_id("stranger-"), "result": {"type": "expired"}}
        yield msgspec.json.encode(stranger)
    lines = iter(lines)
    if "missing_row" in faults:
        next(lines, None)
    for index, line in enumerate(lines):
        yield line
        if index == 0 and "duplicate_row" in faults:
            yield line


def _chunks(lines: Iterable[bytes], *, final_newline: bool) -> Iterator[bytes]:
    """The lines joined to pieces of about `CHUNK_BYTES`."""
    pending: list[bytes] = []
    size = 0
    separator = b""
    for line in lines:
        pending.append(line)
        size += len(line) + 1
        if size >= CHUNK_BYTES:
            yield separator + b"\n".join(pending)
            pending, size, separator = [], 0, b"\n"
    if pending:
        yield separator + b"\n".join(pending)
        separator = b"\n"
    if final_newline and separator:
        yield separator


def _half(lines: Iterator[bytes], whole: int) -> Iterator[bytes]:
    """So many whole lines and half of the next one."""
    yield from islice(lines, whole)
    for line in islice(lines, 1):
        yield line[: len(line) // 2]


def _first_bytes(pieces: Iterable[bytes], count: int) -> Iterator[bytes]:
    for piece in pieces:
        yield piece[:count]
        count -= len(piece)
        if count <= 0:
            return


def _dropping(pieces: Iterable[bytes], fault: Fault) -> Iterator[bytes]:
    yield from pieces
    raise ConnectionDropped(reset=fault.reset)


def _gzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The stream as one gzip member; a cut leaves what was packed so far."""
    packer = zlib.compressobj(wbits=31)
    try:
        for piece in pieces:
            yield packer.compress(piece)
    except ConnectionDropped:
        yield packer.flush(zlib.Z_SYNC_FLUSH)
        raise
    yield packer.flush()
