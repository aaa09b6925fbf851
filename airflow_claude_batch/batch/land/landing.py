"""Rows on their way from result streams to ``jsonl``: in any order in, in input order out.

Memory is 13 bytes a request; the rows themselves wait in a spool file on the local disk. A landing may be
fed the same batch twice, and fed again what an earlier attempt landed: the first answer of a request stays.
"""

from __future__ import annotations

import contextlib
import io
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from airflow_claude_batch.api import wire
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.land.disk_sort import DiskSorter
from airflow_claude_batch.batch.land.match_requests import RequestMatcher
from airflow_claude_batch.batch.land.parse_result import ParsedResult, invalid_status, parse_result
from airflow_claude_batch.batch.land.rows import (
    ANSWERED,
    FINAL,
    PERMANENT_ERRORS,
    RESULTS_FILE,
    Row,
    Status,
    missing_tail,
    replacing_tail,
    twin_tail,
)
from airflow_claude_batch.batch.money.pricing import PriceTable, Totals
from airflow_claude_batch.exceptions import ResultsError


@dataclass(slots=True)
class DownloadSummary:
    """What one result stream held."""

    rows: int = 0
    duplicates: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What is needed of an answer that was paid for."""

    batch_id: str
    model: str
    usage: wire.Usage
    stop_reason: str | None = None
    replaced: list[Answer] = []


class _Landed(msgspec.Struct, frozen=True, gc=False):
    """What is needed of a row that an earlier attempt landed."""

    index: int
    key: msgspec.Raw
    status: str
    custom_id: str | None = None
    batch_id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    usage: wire.Usage | None = None
    error: wire.ErrorObject | None = None
    replaced: list[Answer] = []


_row = msgspec.json.Decoder(Row)
_REPAIRABLE = Status.REPAIRABLE_OUTPUT


class Landing:
    """Collects outcomes by request and publishes them. Use it as a context manager: it holds a spool file."""

    def __init__(self, slots: RequestMatcher, *, prices: PriceTable) -> None:
        self._slots = slots
        self._prices = prices
        self.bill = Totals(prices)
        self.statuses = bytearray(len(slots))
        #: Why each answer ended, by its number; 0 is for requests without an answer.
        self._stops = bytearray(len(slots))
        self._stop_reasons = {"": 0}
        #: Batches of which something was taken or restored.
        self.batch_ids: set[str] = set()
        self._models = array("H", bytes(2 * len(slots)))
        self._model_numbers: dict[str | None, int] = {None: 0}
        self._spool = DiskSorter(len(slots))
        self._chosen: dict[str, int] = {}

    def __enter__(self) -> Landing:
        return self

    def __exit__(self, *exc: object) -> None:
        self._spool.close()

    def restore(self, lines: Iterable[bytes]) -> None:
        """Take the rows of an earlier ``jsonl`` as they are.

        :raises ResultsError: a line is damaged.
        """
        decoder = msgspec.json.Decoder(_Landed)
        for number, line in enumerate(lines, 1):
            try:
                self._restore(line, decoder)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                raise ResultsError(
                    f"Line {number} of the landed {RESULTS_FILE} is damaged ({type(error).__name__}). Restore the "
                    "file, or remove it: the answers are then fetched from the API again, which keeps them for 29 "
                    "days."
                ) from None
        self._share()

    def _restore(self, line: bytes, decoder: msgspec.json.Decoder[_Landed]) -> None:
        row = decoder.decode(line)
        _row.decode(line)  # as everybody reads it who comes after us
        if row.custom_id is None or row.batch_id is None:
            return
        head = b'{"index":%d,"key":%b,' % (row.index, row.key)
        if not line.startswith(head):
            raise ValueError("not written by us")
        tail = line[len(head) :].rstrip(b"\n")
        status = _status_of(row, self._prices)
        self.batch_ids.update((row.batch_id, *(answer.batch_id for answer in row.replaced)))
        charge = self._prices.charge(row.usage, row.model) if row.usage is not None and row.model is not None else None
        outcome = ParsedResult(status, tail, row.model, row.stop_reason, charge)
        if self._keep(row.custom_id, row.batch_id, outcome):
            for answer in row.replaced:
                self.bill.add(answer.usage, answer.model)

    def take(self, batch_id: str, lines: Iterable[bytes]) -> DownloadSummary:
        """Take one batch's result stream, in whatever order it comes.

        :raises MalformedResponseError: a line is no result.
        """
        intake = DownloadSummary()
        self.batch_ids.add(batch_id)
        slots = self._slots
        places_seen, ids_seen = bytearray(len(slots)), set[str]()
        for line in lines:
            intake.rows += 1
            custom_id, outcome = self._read(line, batch_id)
            if (exact_index := slots.exact_index(custom_id)) is not None:
                is_duplicate = places_seen[exact_index]
                places_seen[exact_index] = True
            else:
                is_duplicate = custom_id in ids_seen
                ids_seen.add(custom_id)
            if is_duplicate:
                intake.duplicates.append(custom_id)
            elif exact_index is not None and not slots.have_moved:
                self._keep_at(exact_index, batch_id, outcome)
            elif not self._keep(custom_id, batch_id, outcome):
                intake.strangers.append(custom_id)
        self._share()
        return intake

    def _read(self, line: bytes, batch_id: str) -> tuple[str, ParsedResult]:
        """Understand a result line, in whatever form it is."""
        result = wire.decode_result_line(line)
        validator = self._slots.validator(result.custom_id, batch_id)
        return result.custom_id, parse_result(result, batch_id, self._prices, validator)

    def _share(self) -> None:
        """Give requests that were not sent the answers of their equals."""
        for twin, first in self._slots.duplicates.items():
            self.statuses[twin] = self.statuses[first]
            self._stops[twin] = self._stops[first]
            self._models[twin] = self._models[first]

    def _keep(self, custom_id: str, batch_id: str, outcome: ParsedResult) -> bool:
        """Keep a row where it belongs. False: that is nowhere."""
        candidate_indices = self._slots.candidate_indices(custom_id, batch_id)
        if not candidate_indices:
            return False
        index = (
            candidate_indices[0]
            if len(candidate_indices) == 1
            else self._choose(custom_id, outcome.status, candidate_indices)
        )
        self._keep_at(index, batch_id, outcome)
        return True

    def _keep_at(self, index: int, batch_id: str, outcome: ParsedResult) -> None:
        """Keep a row unless its request has a better one."""
        held, tail, charge = self.statuses[index], outcome.tail, outcome.charge
        if held == _REPAIRABLE and charge is not None:
            if batch_id in self._paid_in(index):
                return
            tail = replacing_tail(tail, self._spool.get(index))
        elif held and (held in ANSWERED or (held in FINAL and outcome.status not in ANSWERED)):
            return
        self._spool.put(index, tail)
        self.statuses[index] = outcome.status
        self._stops[index] = 0 if charge is None else self._stop(outcome.stop_reason or "none")
        self._models[index] = self._model_number(outcome.model)
        if charge is not None:
            self.bill.count(charge)

    def _model_number(self, name: str | None) -> int:
        if (number := self._model_numbers.get(name)) is None:
            number = self._model_numbers[name] = len(self._model_numbers)
        return number

    def _stop(self, reason: str) -> int:
        """The number of a stop reason; the API has seven, and there is room for 254."""
        if (number := self._stop_reasons.get(reason)) is None:
            if (number := len(self._stop_reasons)) > 254:
                return 0
            self._stop_reasons[reason] = number
        return number

    def repairable(self) -> Iterator[int]:
        """Requests whose answers are invalid, while others may be valid."""
        return (index for index, status in enumerate(self.statuses) if status == Status.REPAIRABLE_OUTPUT)

    def answer(self, index: int) -> Answer:
        """What is held of an answered request."""
        return msgspec.json.decode(b"{" + self._spool.get(self._slots.duplicates.get(index, index)), type=Answer)

    def _paid_in(self, index: int) -> set[str]:
        """The batches that have answered a request so far."""
        answer = self.answer(index)
        return {answer.batch_id, *(before.batch_id for before in answer.replaced)}

    def _choose(self, custom_id: str, status: Status, candidate_indices: Sequence[int]) -> int:
        """Of several equal requests, one that has no answer yet; the same one when the answer comes again."""
        if custom_id not in self._chosen:
            free = (index for index in candidate_indices if self.statuses[index] not in ANSWERED)
            index = next(free, candidate_indices[0])
            if status not in ANSWERED:
                return index
            self._chosen[custom_id] = index
        return self._chosen[custom_id]

    def lines(self, *, missing: str | None) -> Iterator[bytes]:
        """The rows in input order. Requests without an outcome get a row that says ``missing``, or none if None."""
        nothing = b"" if missing is None else missing_tail(missing)
        for index, (key, tail) in enumerate(zip(self._slots.keys(), self._tails(), strict=True)):
            if tail or nothing:
                yield b'{"index":%d,"key":%b,%b\n' % (index, key, tail or nothing)

    def _tails(self) -> Iterator[bytes]:
        """What is held of each request; of one that was not sent, what is held of its equal."""
        duplicates = self._slots.duplicates
        if not duplicates:
            return iter(self._spool)
        tails = enumerate(self._spool)
        return (self._twin_tail(duplicates[index]) if index in duplicates else tail for index, tail in tails)

    def _twin_tail(self, first: int) -> bytes:
        tail = self._spool.get(first)
        return tail and twin_tail(tail)

    def publish(self, folder: storage.Folder, *, missing: str | None) -> int:
        """Write ``jsonl`` as a whole and answer its size in bytes.

        :raises ResultsError: the storage refused; what was landed before is untouched.
        """
        with writing_to(folder, RESULTS_FILE), folder.replace_file(RESULTS_FILE) as file:
            file.writelines(self.lines(missing=missing))
            return file.tell()

    def verify(self, folder: storage.Folder, *, missing: str | None) -> None:
        """Read ``jsonl`` back.

        :raises ResultsError: it is not what was published.
        """
        with writing_to(folder, RESULTS_FILE):
            file = folder.open(RESULTS_FILE) or io.BytesIO()
            with file:
                is_whole = all(file.readline() == line for line in self.lines(missing=missing)) and not file.read(1)
            if not is_whole:
                raise OSError("what is read back is not what was written")

    def counts(self) -> dict[str, int]:
        """How many requests ended in which way, under the rows' words."""
        found = Counter(self.statuses)
        counts = dict.fromkeys(("succeeded", "errored", "expired", "canceled", "missing", "invalid_output"), 0)
        for status in Status:
            counts[status.word] += found[status]
        return counts

    def asked(self, index: int) -> str | None:
        """The model of a row: the one that answered, else the one that was asked, None if neither is known."""
        return list(self._model_numbers)[self._models[index]] or self._slots.model(index)

    @property
    def answered_by(self) -> Iterator[str | None]:
        """For each request, the model whose answer is held."""
        names = list(self._model_numbers)
        return (names[number] for number in self._models)

    def stop_reasons(self) -> dict[str, int]:
        """Why the answers ended, the most frequent first."""
        found, reasons = Counter(self._stops), list(self._stop_reasons)
        return {reasons[stop]: count for stop, count in found.most_common() if stop}

    def is_caching_in_vain(self) -> bool:
        """Whether the prompt cache was asked for, and no answer wrote or read it."""
        tokens = self.bill.tokens
        return bool(tokens.prompt) and not tokens.cached and self._slots.is_caching()


@contextlib.contextmanager
def writing_to(folder: storage.Folder, name: str) -> Iterator[None]:
    """Say of a storage that refuses what became of the answers.

    :raises ResultsError: it has refused.
    """
    try:
        yield
    except OSError as error:
        raise ResultsError(
            f"The answers are at the API, but {folder.uri(name)} could not be written ({error}). What was landed "
            "before is untouched. A retry fetches them again and pays nothing."
        ) from error


def _status_of(row: _Landed, prices: PriceTable) -> Status:
    if row.status == "errored":
        permanent = row.error is not None and row.error.type in PERMANENT_ERRORS
        return Status.REFUSED if permanent else Status.ERRORED
    if row.status == Status.INVALID_OUTPUT.word and row.model is not None and row.usage is not None:
        return invalid_status(row.stop_reason, row.usage, row.model, prices)
    if row.status.upper() not in Status.__members__:
        raise ValueError(f"no status of ours: {row.status!r}")
    return Status[row.status.upper()]
