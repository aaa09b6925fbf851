"""Rows on their way from result streams to ``results.jsonl``: in any order in, in input order out.

Memory is 15 bytes a request; the rows themselves wait in a spool file on the local disk. A landing may be
fed the same batch twice, and fed again what an earlier attempt landed: the first answer of a request stays.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Protocol

import msgspec

from airflow_claude_batch.api import wire
from airflow_claude_batch.batch import results, storage
from airflow_claude_batch.batch.pricing import PriceTable, Totals
from airflow_claude_batch.batch.requests import Requests, parse_custom_id
from airflow_claude_batch.batch.results import ANSWERED, FINAL, Outcome, Status
from airflow_claude_batch.exceptions import ResultsError

if TYPE_CHECKING:
    from airflow_claude_batch.batch.validator import OutputValidator


class Slots(Protocol):
    """Where each result belongs."""

    def __len__(self) -> int: ...

    def places(self, custom_id: str, batch_id: str) -> Sequence[int]:
        """The requests that an answer under this custom_id serves, the best first; none for a stranger's."""

    @property
    def twins(self) -> Mapping[int, int]:
        """Requests that were not sent, with the ones whose answers are theirs too."""

    def key(self, index: int) -> bytes:
        """The user's key as JSON."""

    def model(self, index: int) -> str | None:
        """Which model the request asks, None if that is not known."""

    def validator(self, custom_id: str, batch_id: str) -> OutputValidator | None:
        """What an answer under this custom_id must satisfy, None if it may be any text."""


class OwnSlots:
    """The places of a submission's own requests.

    An answer belongs to the request at its index while that has the same content. If it has not, the input has
    changed since the answer was asked for: then it belongs wherever a request with its content stands now.
    """

    def __init__(self, requests: Requests, validator: OutputValidator | None = None) -> None:
        self._requests = requests
        self._count = len(requests)
        self._validator = validator
        self.twins = requests.twins
        self._by_hash: dict[bytes, list[int]] = {}

    def __len__(self) -> int:
        return self._count

    def key(self, index: int) -> bytes:
        return self._requests.key(index)

    def model(self, index: int) -> str:
        return self._requests.model(index)

    def places(self, custom_id: str, batch_id: str) -> Sequence[int]:
        ours = parse_custom_id(custom_id)
        if ours is None:
            return ()
        exact = ours.index < self._count and self._requests.hash(ours.index) == ours.hash
        own = self.twins.get(ours.index, ours.index)
        if exact and not self._by_hash:
            return (own,)
        same = self._same(ours.hash)
        return (own, *(index for index in same if index != own)) if exact else same

    def validator(self, custom_id: str, batch_id: str) -> OutputValidator | None:
        """The submission's, if the request asked for its schema: it may have had a format of its own."""
        if self._validator is None or not (places := self.places(custom_id, batch_id)):
            return None
        return self._validator if self._validator.is_asked_for(self._requests.params(places[0])) else None

    def _same(self, hash_: bytes) -> Sequence[int]:
        """Every request with this content; the table is built when the first answer is out of place."""
        if not self._by_hash:
            for index in range(len(self)):
                if index in self.twins:
                    continue
                self._by_hash.setdefault(self._requests.hash(index), []).append(index)
        return self._by_hash.get(hash_, ())


class ForeignSlots:
    """Batches that were made elsewhere: their custom_ids are the keys, their order is that of arrival.

    A custom_id is unique in its batch only.
    """

    def __init__(self, request_count: int) -> None:
        self._count = request_count
        self.twins: Mapping[int, int] = {}
        self._index: dict[tuple[str, str], int] = {}
        self._keys: list[str] = []

    def __len__(self) -> int:
        return self._count

    def places(self, custom_id: str, batch_id: str) -> Sequence[int]:
        name = (batch_id, custom_id)
        if name not in self._index:
            if len(self._keys) == self._count:
                return ()
            self._index[name] = len(self._keys)
            self._keys.append(custom_id)
        return (self._index[name],)

    def key(self, index: int) -> bytes:
        return msgspec.json.encode(self._keys[index] if index < len(self._keys) else None)

    def model(self, index: int) -> None:
        """Only answers tell."""

    def validator(self, custom_id: str, batch_id: str) -> None:
        """What was asked for elsewhere is not known here."""


@dataclass(slots=True)
class Intake:
    """What one result stream held."""

    rows: int = 0
    duplicates: int = 0
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


class Landing:
    """Collects outcomes by request and publishes them. Use it as a context manager: it holds a spool file."""

    def __init__(self, slots: Slots, *, prices: PriceTable) -> None:
        self._slots = slots
        self._prices = prices
        self.bill = Totals(prices)
        self.stop_reasons: Counter[str] = Counter()
        self.statuses = bytearray(len(slots))
        #: Batches of which something was taken or restored.
        self.batch_ids: set[str] = set()
        self._offsets = array("Q", bytes(8 * len(slots)))
        self._lengths = array("I", bytes(4 * len(slots)))
        self._models = array("H", bytes(2 * len(slots)))
        self._model_names: list[str | None] = [None]
        self._spool: IO[bytes] = tempfile.TemporaryFile(buffering=storage.BUFFER_BYTES)  # noqa: SIM115  # closed by __exit__
        self._end = 0
        self._chosen: dict[str, int] = {}

    def __enter__(self) -> Landing:
        return self

    def __exit__(self, *exc: object) -> None:
        self._spool.close()

    def restore(self, lines: Iterable[bytes]) -> None:
        """Take the rows of an earlier ``results.jsonl`` as they are.

        :raises ResultsError: a line is damaged.
        """
        decoder = msgspec.json.Decoder(_Landed)
        for number, line in enumerate(lines, 1):
            try:
                self._restore(line, decoder)
            except (msgspec.MsgspecError, ValueError) as error:
                raise ResultsError(
                    f"Line {number} of the landed {results.FILE} is damaged ({type(error).__name__}). Restore the "
                    "file, or remove it: the answers are then fetched from the API again, which keeps them for 29 "
                    "days."
                ) from None
        self._share()

    def _restore(self, line: bytes, decoder: msgspec.json.Decoder[_Landed]) -> None:
        row = decoder.decode(line)
        if row.custom_id is None or row.batch_id is None:
            return
        head = b'{"index":%d,"key":%b,' % (row.index, row.key)
        if not line.startswith(head):
            raise ValueError("not written by us")
        tail = b"{" + line[len(head) :].rstrip(b"\n")
        status = _status_of(row, self._prices)
        self.batch_ids.update((row.batch_id, *(answer.batch_id for answer in row.replaced)))
        if self._keep(row.custom_id, row.batch_id, Outcome(status, tail, row.model, row.usage, row.stop_reason)):
            for answer in row.replaced:
                self.bill.add(answer.usage, answer.model)

    def take(self, batch_id: str, lines: Iterable[bytes]) -> Intake:
        """Take one batch's result stream, in whatever order it comes.

        :raises MalformedResponseError: a line is no result.
        """
        intake = Intake()
        self.batch_ids.add(batch_id)
        seen: set[str] = set()
        slots, prices = self._slots, self._prices
        for raw in lines:
            line = wire.decode_result_line(raw)
            intake.rows += 1
            if line.custom_id in seen:
                intake.duplicates += 1
                continue
            seen.add(line.custom_id)
            validator = slots.validator(line.custom_id, batch_id)
            outcome = results.read_outcome(line, batch_id, prices, validator)
            if not self._keep(line.custom_id, batch_id, outcome):
                intake.strangers.append(line.custom_id)
        self._share()
        return intake

    def _share(self) -> None:
        """Give requests that were not sent the answers of their equals."""
        for twin, first in self._slots.twins.items():
            self.statuses[twin] = self.statuses[first]
            self._offsets[twin] = self._offsets[first]
            self._lengths[twin] = self._lengths[first]
            self._models[twin] = self._models[first]

    def _keep(self, custom_id: str, batch_id: str, outcome: Outcome) -> bool:
        """Keep a row unless its request has a better one. False: it belongs nowhere."""
        places = self._slots.places(custom_id, batch_id)
        if not places:
            return False
        index = places[0] if len(places) == 1 else self._choose(custom_id, outcome.status, places)
        held, tail = self.statuses[index], outcome.tail
        if held == Status.REPAIRABLE_OUTPUT and outcome.usage is not None:
            if batch_id in self._paid_in(index):
                return True
            tail = results.replacing_tail(tail, self._tail(index))
        elif held in ANSWERED or (held in FINAL and outcome.status not in ANSWERED):
            return True
        self._spool.write(tail)
        self.statuses[index] = outcome.status
        self._offsets[index] = self._end
        self._lengths[index] = len(tail)
        self._models[index] = self._model_number(outcome.model)
        self._end += len(tail)
        if outcome.usage is not None and outcome.model is not None:
            self.bill.add(outcome.usage, outcome.model)
            self.stop_reasons[outcome.stop_reason or "none"] += 1
        return True

    def _model_number(self, name: str | None) -> int:
        if name not in self._model_names:
            self._model_names.append(name)
        return self._model_names.index(name)

    def repairable(self) -> Iterator[int]:
        """Requests whose answers are invalid, while others may be valid."""
        return (index for index, status in enumerate(self.statuses) if status == Status.REPAIRABLE_OUTPUT)

    def answer(self, index: int) -> Answer:
        """What is held of an answered request."""
        return msgspec.json.decode(self._tail(index), type=Answer)

    def _paid_in(self, index: int) -> set[str]:
        """The batches that have answered a request so far."""
        answer = self.answer(index)
        return {answer.batch_id, *(before.batch_id for before in answer.replaced)}

    def _tail(self, index: int) -> bytes:
        self._spool.flush()
        return os.pread(self._spool.fileno(), self._lengths[index], self._offsets[index])

    def _choose(self, custom_id: str, status: Status, places: Sequence[int]) -> int:
        """Of several equal requests, one that has no answer yet; the same one when the answer comes again."""
        if custom_id not in self._chosen:
            free = (index for index in places if self.statuses[index] not in ANSWERED)
            index = next(free, places[0])
            if status not in ANSWERED:
                return index
            self._chosen[custom_id] = index
        return self._chosen[custom_id]

    def lines(self, *, missing: str | None) -> Iterator[bytes]:
        """The rows in input order. Requests without an outcome get a row that says ``missing``, or none if None."""
        self._spool.flush()
        spool, twins = self._spool.fileno(), self._slots.twins
        nothing = None if missing is None else results.missing_tail(missing)
        for index in range(len(self._slots)):
            held = self.statuses[index]
            tail = os.pread(spool, self._lengths[index], self._offsets[index]) if held else nothing
            if tail is not None and index in twins and held:
                tail = results.twin_tail(tail)
            if tail is not None:
                yield b'{"index":%d,"key":%b,%b\n' % (index, self._slots.key(index), tail[1:])

    def publish(self, folder: storage.Folder, *, missing: str | None) -> int:
        """Write ``results.jsonl`` as a whole and answer its size in bytes.

        :raises ResultsError: the storage refused; what was landed before is untouched.
        """
        size = 0
        try:
            with folder.writing(results.FILE) as file:
                for line in self.lines(missing=missing):
                    size += file.write(line)
        except OSError as error:
            raise ResultsError(
                f"The answers are at the API, but {folder.uri(results.FILE)} could not be written ({error}). What "
                "was landed before is untouched. A retry fetches them again and pays nothing."
            ) from error
        return size

    def counts(self) -> dict[str, int]:
        """How many requests ended in which way, under the rows' words."""
        found = Counter(self.statuses)
        counts = dict.fromkeys(("succeeded", "errored", "expired", "canceled", "missing", "invalid_output"), 0)
        for status in Status:
            counts[status.word] += found[status]
        return counts

    def asked(self, index: int) -> str | None:
        """The model of a row: the one that answered, else the one that was asked, None if neither is known."""
        return self._model_names[self._models[index]] or self._slots.model(index)

    @property
    def answered_by(self) -> Iterator[str | None]:
        """For each request, the model whose answer is held."""
        return (self._model_names[number] for number in self._models)


def _status_of(row: _Landed, prices: PriceTable) -> Status:
    if row.status == "errored":
        permanent = row.error is not None and row.error.type in results.PERMANENT_ERRORS
        return Status.REFUSED if permanent else Status.ERRORED
    if row.status == Status.INVALID_OUTPUT.word and row.model is not None and row.usage is not None:
        return results.invalid_status(row.stop_reason, row.usage, row.model, prices)
    if row.status.upper() not in Status.__members__:
        raise ValueError(f"no status of ours: {row.status!r}")
    return Status[row.status.upper()]
