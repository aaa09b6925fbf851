"""Landed parts: a landing that was restored again and again equals one that never was, whatever came in between."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.output_schema import read_schema
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_writer import write_requests
from airflow_claude_batch.batch.land.landed_part import DamagedPartError
from airflow_claude_batch.batch.land.landed_parts import remove_parts
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.match_requests import SubmissionMatcher
from airflow_claude_batch.batch.land.publish import publish_part, publish_rows
from airflow_claude_batch.batch.land.restore import restore_rows
from airflow_claude_batch.batch.land.result_stream import read_results
from airflow_claude_batch.batch.land.summary import summarize
from airflow_claude_batch.batch.land.validate_output import OutputValidator
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.storage import LocalFolder

TABLE = PriceTable.load()
SCHEMA = read_schema({"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}, "required": ["n"]})
TOKEN = "0123456789ab"
#: The last two share the answers of the first two.
CONTENTS = ["a", "b", "c", "d", "e", "f", "a", "b"]
COUNT = 6

#: How a request ends: type, answer, stop reason, model.
ENDINGS: dict[str, tuple[str, str, str, str]] = {
    "valid": ("succeeded", '{"n":1}', "end_turn", "claude-haiku-5-5"),
    "valid of another model": ("succeeded", '{"n":2}', "end_turn", "claude-opus-5"),
    "invalid": ("succeeded", '{"n":-1}', "end_turn", "claude-haiku-5-5"),
    "cut off": ("succeeded", '{"n":', "max_tokens", "claude-haiku-5-5"),
    "refusal": ("succeeded", "I cannot", "refusal", "claude-haiku-5-5"),
    "unknown usage": ("succeeded", '{"n":3}', "end_turn", "claude-haiku-5-5"),
    "expired": ("expired", "", "", ""),
    "canceled": ("canceled", "", "", ""),
    "overloaded": ("errored", "overloaded_error", "", ""),
    "refused request": ("errored", "invalid_request_error", "", ""),
}

Deed = Literal["nothing", "part", "part and resume", "end and clear"]
#: Each step reads the results of a batch, as far as they come, and then does a deed. A batch may be read again.
Step = tuple[int, int, Deed]
BATCHES = st.lists(
    st.dictionaries(st.integers(0, COUNT - 1), st.sampled_from(sorted(ENDINGS)), min_size=1), min_size=1, max_size=5
)
STEPS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.integers(1, COUNT),
        st.sampled_from(["nothing", "part", "part and resume", "part and resume", "end and clear"]),
    ),
    min_size=1,
    max_size=8,
)


@contextlib.contextmanager
def requests_file() -> Iterator[RequestFile]:
    with tempfile.NamedTemporaryFile() as file:
        params = {"model": "claude-haiku-5-5", "output_config": {"format": SCHEMA.format}}
        write_requests(
            (Request(n, f"k{n}", {"content": content, **params}) for n, content in enumerate(CONTENTS)),
            file,
            deduplicate=True,
        )
        file.flush()
        with RequestFile(Path(file.name)) as requests:
            yield requests


def new_landing(requests: RequestFile) -> Landing:
    return Landing(SubmissionMatcher(requests, OutputValidator(SCHEMA)), prices=TABLE)


def line(custom_id: str, ending: str) -> bytes:
    type_, text, stop_reason, model = ENDINGS[ending]
    result: dict[str, Any] = {"type": type_}
    if type_ == "succeeded":
        usage = "many" if ending == "unknown usage" else {"input_tokens": 10, "output_tokens": len(text)}
        content = [{"type": "text", "text": text}]
        result["message"] = {"model": model, "content": content, "usage": usage, "stop_reason": stop_reason}
    if type_ == "errored":
        result["error"] = {"type": "error", "error": {"type": text, "message": "why"}}
    return json.dumps({"custom_id": custom_id, "result": result}).encode()


def read(landing: Landing, requests: RequestFile, number: int, batch: dict[int, str], most: int = COUNT) -> None:
    lines = [line(requests.custom_id(index, TOKEN), ending) for index, ending in batch.items()]
    read_results(landing, f"msgbatch_{number}", lines[:most])


def state(landing: Landing) -> dict[str, Any]:
    """Return everything that a landing tells about its rows."""
    manifest = summarize(
        landing,
        submission_id="s",
        status="ended",
        batch_ids=(),
        landed=(),
        results_path="",
        created_at=None,
        ended_at=None,
    )
    outcomes = landing.rows.outcomes
    return {
        "lines": list(landing.lines(missing="gone")),
        "some lines": list(landing.lines(missing=None)),
        "single lines": [landing.line(index, missing="gone") for index in range(len(CONTENTS))],
        "statuses": list(landing.statuses),
        "outcomes": [outcomes[index] for index in range(len(CONTENTS))],
        "answers by batch": landing.rows.answers_by_batch(),
        "manifest": {**msgspec.to_builtins(manifest), "stop_reasons": dict(sorted(manifest.stop_reasons.items()))},
    }


class Played:
    """A landing whose process ends again and again, with what it has left in its folder."""

    def __init__(self, path: Path, requests: RequestFile) -> None:
        self.folder = LocalFolder(path)
        self.requests = requests
        self.landing = new_landing(requests)

    def close(self) -> None:
        self.landing.rows.close()

    def resume(self) -> None:
        """Restore what is in the folder, as another process does."""
        self.landing.rows.close()
        self.landing = new_landing(self.requests)
        restore_rows(self.landing, self.folder, self.requests.digest, may_skip=lambda line: False)

    def publish(self) -> None:
        publish_part(self.landing, self.folder, self.requests.digest)

    def end(self) -> None:
        publish_rows(self.landing, self.folder, missing=None)
        remove_parts(self.folder)

    def do(self, deed: Deed) -> None:
        match deed:
            case "part":
                self.publish()
            case "part and resume":
                self.publish()
                self.resume()
            case "end and clear":
                self.end()
                self.resume()


@settings(deadline=None, max_examples=60)
@given(batches=BATCHES, steps=STEPS)
def test_landing_that_is_restored_from_parts_equals_one_that_never_was(
    batches: list[dict[int, str]], steps: list[Step]
) -> None:
    with (
        requests_file() as requests,
        new_landing(requests) as expected,
        tempfile.TemporaryDirectory() as path,
        contextlib.closing(Played(Path(path), requests)) as played,
    ):
        for step, most, deed in steps:
            number = step % len(batches)
            for landing in (played.landing, expected):
                read(landing, requests, number, batches[number], most)
            played.do(deed)
            assert state(played.landing) == state(expected)
        played.end()
        assert (Path(path) / "results.jsonl").read_bytes() == b"".join(expected.lines(missing=None))
        assert sorted(file.name for file in Path(path).iterdir()) == ["results.jsonl"]


# ---------------------------------------------------------------- parts that are lost, damaged, or not seen for a while

Harm = Literal["hidden", "cut", "flipped", "no rows", "no index", "cut index", "flipped index"]


class Harmed(Played):
    """The same in a folder whose files somebody else touches."""

    def __init__(self, path: Path, requests: RequestFile) -> None:
        super().__init__(path, requests)
        self._hidden: dict[Path, bytes] = {}

    def harm(self, number: int, harm: Harm) -> None:
        """Do something to one of the parts, if there are any."""
        indexes = sorted(self.folder.path.glob("landed-*.index"))
        if not indexes:
            return
        index = indexes[number % len(indexes)]
        rows = index.with_suffix(".jsonl")
        match harm:
            case "hidden":
                for path in (index, rows):
                    if path.exists():
                        self._hidden[path] = path.read_bytes()
                        path.unlink()
            case "no rows" | "no index":
                (rows if harm == "no rows" else index).unlink(missing_ok=True)
            case _:
                path = index if harm.endswith("index") else rows
                data = path.read_bytes() if path.exists() else b""
                at = len(data) // 3
                path.write_bytes(data[:at] + (b"" if harm.startswith("cut") else data[at:].replace(b'"', b"'", 1)))

    def show(self) -> None:
        """Let the hidden files come back, as after a while in which a file server did not list them."""
        for path, data in self._hidden.items():
            path.write_bytes(data)
        self._hidden.clear()

    def undamaged(self, work: Callable[[], None]) -> None:
        """Do the work. Drop the parts that turn out to be damaged, and begin anew, as a task does."""
        for _ in range(20):
            try:
                work()
            except DamagedPartError as error:
                error.part.drop()
                self.landing.rows.close()
                self.landing = new_landing(self.requests)
            else:
                return
        raise AssertionError("there is no end of damaged parts")


def costs(landing: Landing) -> dict[str, Any]:
    manifest = state(landing)["manifest"]
    return {name: manifest[name] for name in ("counts", "stop_reasons", "usage", "cost", "by_model")}


@settings(deadline=None, max_examples=25)
@given(
    batches=BATCHES,
    steps=st.lists(
        st.tuples(
            st.integers(0, 4),
            st.integers(1, COUNT),
            st.sampled_from(["part and resume", "part and resume", "end and clear"]),
            st.sampled_from([None, *get_args(Harm)]),
            st.integers(0, 3),
        ),
        min_size=2,
        max_size=8,
    ),
)
def test_harm_to_parts_costs_a_download_and_the_bill_is_that_of_the_rows(
    batches: list[dict[int, str]], steps: list[tuple[int, int, Deed, Harm | None, int]]
) -> None:
    with (
        requests_file() as requests,
        tempfile.TemporaryDirectory() as path,
        contextlib.closing(Harmed(Path(path), requests)) as harmed,
    ):

        def step(number: int, most: int, deed: Deed) -> None:
            harmed.resume()
            read(harmed.landing, requests, number, batches[number], most)
            harmed.do(deed)
            list(harmed.landing.lines(missing=None))

        def finish() -> None:
            harmed.resume()
            for number, batch in enumerate(batches):
                read(harmed.landing, requests, number, batch)
            publish_rows(harmed.landing, harmed.folder, missing=None)

        for number, most, deed, harm, which in steps:
            harmed.undamaged(partial(step, number % len(batches), most, deed))
            harmed.show()
            if harm is not None:
                harmed.harm(which, harm)
        harmed.undamaged(finish)

        lines = (Path(path) / "results.jsonl").read_bytes().splitlines(keepends=True)
        with new_landing(requests) as from_rows:
            from_rows.restore(lines)
            assert costs(harmed.landing) == costs(from_rows)
        sent = {index for batch in batches for index in batch}
        assert {json.loads(line)["index"] for line in lines} >= sent
        remove_parts(harmed.folder)
        assert sorted(file.name for file in Path(path).iterdir()) == ["results.jsonl"]
