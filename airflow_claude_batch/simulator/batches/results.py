"""The results of a batch: rows in random order, generated while they are sent."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec

from airflow_claude_batch.simulator.batches.batch import Batch
from airflow_claude_batch.simulator.batches.create_body import BatchRequest
from airflow_claude_batch.simulator.batches.odd_rows import odd_row
from airflow_claude_batch.simulator.faults import Fault
from airflow_claude_batch.simulator.http.exchange import ConnectionDropped
from airflow_claude_batch.simulator.ids import Ids
from airflow_claude_batch.simulator.messages.answers import AnswerWriter

CHUNK_BYTES = 64_000


def result_row(batch: Batch, position: int, request: BatchRequest, answers: AnswerWriter) -> dict[str, Any]:
    """Build one row: ``{"custom_id", "result"}``."""
    outcome = batch.outcome(position)
    if outcome.kind == "errored":
        return {"custom_id": request.custom_id, "result": outcome.error_result()}
    if outcome.kind != "succeeded":
        return {"custom_id": request.custom_id, "result": {"type": outcome.kind}}
    params = request.read_params()
    model = batch.conditions.usable_model(params["model"])
    if model is None:
        raise AssertionError(f"position {position} of {batch.id} succeeded with an unusable model")
    message = answers.message(
        params,
        position,
        custom_id=request.custom_id,
        canned=batch.canned.get(position),
        model=model,
        outcome=outcome,
        cache_use=batch.cache_use(position),
        message_id=f"msg_011C{batch.id[-12:]}{position:08d}",
    )
    return {"custom_id": request.custom_id, "result": {"type": "succeeded", "message": message}}


def result_lines(
    batch: Batch, *, answers: AnswerWriter, rng: random.Random | None, odd: Fault | None = None
) -> Iterator[bytes]:
    """Yield every row as a line without its newline.

    :param rng: decides the order. None: the order of the requests.
    :param odd: changes the row of the first request.
    """
    requests = batch.requests.items()
    positions = list(range(len(requests)))
    if rng is not None:
        rng.shuffle(positions)
    encode = msgspec.json.Encoder().encode
    for position in positions:
        line = encode(result_row(batch, position, requests[position], answers))
        yield line if odd is None or position else odd_row(line, odd.form)


def result_body(lines: Iterable[bytes], faults: Mapping[str, Fault], *, rows: int, ids: Ids) -> Iterator[bytes]:
    """Join the lines to a body, damaged by the faults.

    :param rows: number of lines of the whole body. A cut at a line falls after half of them.
    """
    lines = _with_row_faults(lines, faults, ids)
    final_newline = "no_trailing_newline" not in faults
    fault = faults.get("cut")
    if fault is None:
        pieces = _chunks(lines, final_newline=final_newline)
    elif fault.at == "line_end":
        pieces = _chunks(islice(lines, rows // 2), final_newline=final_newline)
    elif fault.at == "mid_line":
        pieces = _then_drop(_chunks(_half(lines, rows // 2), final_newline=False), fault)
    else:
        whole = _chunks(lines, final_newline=final_newline)
        pieces = _then_drop(_first_bytes(whole, fault.at), fault)
    return _gzipped(pieces) if "gzip" in faults else pieces


def _with_row_faults(lines: Iterable[bytes], faults: Mapping[str, Fault], ids: Ids) -> Iterator[bytes]:
    """Yield an unknown row first, drop the first line, repeat the first of the remaining lines, end early."""
    if (few := faults.get("few_rows")) is not None:
        lines = islice(lines, few.rows)
    if (changed := faults.get("changed_ids")) is not None:
        lines = (_with_changed_id(line, changed.ids) for line in lines)
    if "unknown_row" in faults:
        unknown = {"custom_id": ids.new("unknown-"), "result": {"type": "expired"}}
        yield msgspec.json.encode(unknown)
    lines = iter(lines)
    if "missing_row" in faults:
        next(lines, None)
    for index, line in enumerate(lines):
        yield line
        if index == 0 and "duplicate_row" in faults:
            yield line


def _with_changed_id(line: bytes, how: str) -> bytes:
    row = msgspec.json.decode(line)
    name = row["custom_id"]
    forms = {"lower": name.lower(), "upper": name.upper(), "cut": name[:20], "damaged": f"{name[:-10]}{'x' * 10}"}
    row["custom_id"] = forms[how]
    return msgspec.json.encode(row)


def _chunks(lines: Iterable[bytes], *, final_newline: bool) -> Iterator[bytes]:
    """Join the lines to pieces of about `CHUNK_BYTES`."""
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
    """Yield that many whole lines, and half of the next."""
    yield from islice(lines, whole)
    for line in islice(lines, 1):
        yield line[: len(line) // 2]


def _first_bytes(pieces: Iterable[bytes], count: int) -> Iterator[bytes]:
    for piece in pieces:
        yield piece[:count]
        count -= len(piece)
        if count <= 0:
            return


def _then_drop(pieces: Iterable[bytes], fault: Fault) -> Iterator[bytes]:
    yield from pieces
    raise ConnectionDropped(reset=fault.reset)


def _gzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Compress the pieces to one gzip member. A cut keeps what was compressed before it."""
    compressor = zlib.compressobj(wbits=31)
    try:
        for piece in pieces:
            yield compressor.compress(piece)
    except ConnectionDropped:
        yield compressor.flush(zlib.Z_SYNC_FLUSH)
        raise
    yield compressor.flush()
