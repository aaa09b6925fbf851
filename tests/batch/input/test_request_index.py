"""The index beside ``requests.jsonl``: made while the requests are written, used instead of reading them."""

from __future__ import annotations

import io
import json
import math
import tempfile
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from batch.input.request_files import JSON_VALUES, PARAMS, TOKEN
from hypothesis import given
from hypothesis import strategies as st
from stores import Store

from airflow_claude_batch.batch.index_file import BLOCK_ROWS, Block
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.request_file import RequestFile, open_requests
from airflow_claude_batch.batch.input.request_index import (
    INDEX_FILE,
    IndexedBlock,
    RequestIndex,
    RequestIndexWriter,
)
from airflow_claude_batch.batch.input.request_writer import create_request_file, write_requests
from airflow_claude_batch.batch.storage import Folder, LocalFolder, ObjectFolder, write
from airflow_claude_batch.exceptions import ResultsError, SubmissionRecordError

STORED = Path(__file__).parent / "stored" / "request_index_1"
MODELS = ("claude-haiku-5-5", "claude-opus-5-5")
CONFIGS: tuple[Any, ...] = ({"format": {"type": "json_schema", "schema": {"type": "object"}}}, {"effort": "low"}, None)
#: More than two blocks of the index, and 2.3 MB of requests. Requests 0 and 10 are equal, and so on.
COUNT = 20_000


class CountingStore(ObjectFolder):
    """Folder in an object store that counts what is read, and may refuse."""

    def __init__(self) -> None:
        super().__init__(Store(), "/b/run", uri="s3://b/run")
        self.ranges: list[tuple[str, int]] = []
        self.opened: list[str] = []
        self.refusing = False

    def open(self, name: str) -> IO[bytes] | None:
        self.opened.append(name)
        return super().open(name)

    def read_range(self, name: str, start: int, end: int) -> bytes | None:
        if self.refusing:
            raise OSError("503 Slow Down")
        self.ranges.append((name, end - start))
        return super().read_range(name, start, end)

    def bytes_read(self, name: str) -> int:
        return sum(length for read, length in self.ranges if read == name)


def request(index: int) -> Request:
    """Make one of the many requests. A content comes again after ten, but for the last ones."""
    params: dict[str, Any] = {"model": MODELS[index % 2], "content": f"{index % 10 if index < COUNT - 5 else index}"}
    if (config := CONFIGS[index % 3]) is not None:
        params["output_config"] = config
    return Request(index, f"row-{index}", params)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """The many requests, without duplicates, and their index."""
    with tempfile.TemporaryDirectory() as path:
        create_request_file(
            Path(path, "requests.jsonl"), lambda file, index: write_requests(map(request, range(COUNT)), file, index)
        ).close()
        return {name: Path(path, name).read_bytes() for name in ("requests.jsonl", INDEX_FILE)}


@pytest.fixture(params=["disk", "object store"])
def folder(request: pytest.FixtureRequest, files: dict[str, bytes], tmp_path: Path) -> Folder:
    folder = LocalFolder(tmp_path / "run") if request.param == "disk" else CountingStore()
    for name, data in files.items():
        write(folder, name, data)
    return folder


@pytest.fixture
def store(files: dict[str, bytes]) -> CountingStore:
    folder = CountingStore()
    for name, data in files.items():
        write(folder, name, data)
    return folder


def opened(folder: Folder, tmp_path: Path, **how: Any) -> RequestFile:
    found = open_requests(folder, tmp_path, **how)
    assert found is not None
    return found


# ---------------------------------------------------------------- written and scanned


@given(
    pairs=st.lists(st.tuples(JSON_VALUES, PARAMS | st.just({"model": "m", "output_config": {}})), max_size=12),
    deduplicate=st.booleans(),
)
def test_the_index_of_the_writer_is_that_of_a_scan(pairs: list[tuple[Any, Any]], deduplicate: bool) -> None:
    requests = [Request(index, [index, key], params) for index, (key, params) in enumerate(pairs)]

    def fill(file: IO[bytes], index: RequestIndexWriter) -> int:
        return write_requests(requests, file, index, deduplicate=deduplicate, may_be_empty=True)

    with tempfile.TemporaryDirectory() as path:
        file = Path(path, "requests.jsonl")
        with create_request_file(file, fill) as written, RequestFile(file) as scanned:
            assert index_of(written) == index_of(scanned)
            assert written.index.content.size == file.stat().st_size
            assert (written.digest, written.duplicates) == (scanned.digest, scanned.duplicates)


def index_of(requests: RequestFile) -> bytes:
    """Return the bytes of the index that a file of requests uses."""
    with tempfile.TemporaryDirectory() as path:
        requests.index.copy_to(LocalFolder(Path(path)))
        return Path(path, INDEX_FILE).read_bytes()


@pytest.mark.parametrize("deduplicate", [False, True])
def test_the_index_of_many_blocks_tells_what_the_lines_say(deduplicate: bool, tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    with create_request_file(
        path,
        lambda file, index: write_requests(map(request, range(COUNT)), file, index, deduplicate=deduplicate),
    ) as requests:
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        with RequestFile(path) as scanned:
            assert index_of(requests) == index_of(scanned)
        assert len(requests) == len(lines) == COUNT
        assert [json.loads(key) for key in requests.keys()] == [line["key"] for line in lines]  # noqa: SIM118
        for index in range(0, COUNT, 7):
            line, original = lines[index], lines[requests.duplicates.get(index, index)]
            assert json.loads(requests.params(index)) == line["params"]
            assert json.loads(requests.key(index)) == line["key"]
            assert requests.params_size(index) == len(requests.params(index))
            assert requests.hash(index) == line["hash"].encode()
            assert requests.has_hash(index, requests.hash(index))
            assert not requests.has_hash(index, b"x" + requests.hash(index)[1:])
            assert requests.model(index) == original["params"]["model"]
            assert json.loads(requests.output_config(index)) == original["params"].get("output_config")
        assert not requests.has_hash(COUNT, b"")
        assert (len(requests.duplicates) > COUNT // 2) == deduplicate


def test_more_models_and_configs_than_are_listed_are_read_from_the_params(tmp_path: Path) -> None:
    params = [
        {"model": f"model-{number}", "output_config": {"format": "x" * (40_000 if number == 3 else number)}}
        for number in range(300)
    ]
    with create_request_file(
        tmp_path / "requests.jsonl",
        lambda file, index: write_requests((Request(n, n, each) for n, each in enumerate(params)), file, index),
    ) as requests:
        listed = requests.index.content
        assert len(listed.models) == 255
        assert sum(len(config) for config in map(bytes, listed.output_configs)) <= 64 * 1024
        assert [requests.model(index) for index in range(300)] == [each["model"] for each in params]
        configs = [json.loads(requests.output_config(index)) for index in range(300)]
        assert configs == [each["output_config"] for each in params]


@pytest.mark.parametrize(("place", "asks"), [(0, True), (19, True), (20, False)])
def test_the_first_requests_tell_whether_they_ask_for_the_cache(place: int, asks: bool, tmp_path: Path) -> None:
    marked = {"cache_control": {"type": "ephemeral"}}
    params = [marked if number == place else {"content": '"cache_control":'} for number in range(30)]
    with create_request_file(
        tmp_path / "requests.jsonl",
        lambda file, index: write_requests((Request(n, n, each) for n, each in enumerate(params)), file, index),
    ) as requests:
        assert requests.asks_for_cache == asks


def test_blocks_of_more_than_4_gb_have_their_offsets() -> None:
    rows, length = 20, 250_000_000
    data = [array("I", [length] * rows), b"h" * 22 * rows, bytes(2 * rows), array("I", [1] * rows), b"7" * rows]
    columns = [("length", "I"), ("hash", "22s"), ("model", "B"), ("config", "B"), ("key", "bytes")]
    block = IndexedBlock(Block(columns, b"".join(map(bytes, data)), rows), 1000)
    line = len('{"hash":"","key":7,"params":}\n') + 22 + length
    assert [block.params_end(row) for row in (0, 19)] == [1000 + line - 2, 1000 + 20 * line - 2]


# ---------------------------------------------------------------- opened again


def test_a_resumption_reads_the_end_of_the_index_only(store: CountingStore, tmp_path: Path) -> None:
    with opened(store, tmp_path) as requests:
        assert len(requests) == COUNT
        assert requests.asks_for_cache is False
        assert store.opened == []
        assert (len(store.ranges), store.bytes_read("requests.jsonl")) == (1, 0)
        assert store.bytes_read(INDEX_FILE) <= 64 * 1024


def test_what_is_sent_is_all_that_is_read(store: CountingStore, tmp_path: Path) -> None:
    with opened(store, tmp_path) as requests:
        part = range(9_000, 12_000)
        requests.verify([15_000])
        requests.verify(part)
        assert store.opened == []
        wanted = sum(len(requests.params(index)) for index in part)
        assert wanted <= store.bytes_read("requests.jsonl") <= 2 * wanted
        reads = len(store.ranges)
        assert [json.loads(requests.params(index)) for index in part] == [request(index).params for index in part]
        requests.verify(range(12_000, 12_010))
        assert json.loads(requests.params(12_000)) == request(12_000).params
        assert len(store.ranges) == reads + 1  # nothing is read twice


def test_keys_in_order_read_each_block_once(store: CountingStore, tmp_path: Path) -> None:
    with opened(store, tmp_path) as requests:
        assert [json.loads(requests.key(index)) for index in range(COUNT)] == [f"row-{n}" for n in range(COUNT)]
        assert len(store.ranges) == 1 + math.ceil(COUNT / BLOCK_ROWS)


def test_requests_that_are_far_apart_are_read_by_themselves(tmp_path: Path) -> None:
    store = CountingStore()
    text = "x" * 300_000
    with create_request_file(
        tmp_path / "requests.jsonl",
        lambda file, index: write_requests((Request(n, n, {"content": f"{n}{text}"}) for n in range(9)), file, index),
    ) as written:
        write(store, "requests.jsonl", (tmp_path / "requests.jsonl").read_bytes())
        written.index.copy_to(store)
    with opened(store, tmp_path) as requests:
        requests.verify([1, 2, 7])
        assert [length // 300_000 for name, length in store.ranges if name == "requests.jsonl"] == [2, 1]
        assert requests.params(7).startswith(b'{"content":"7xxx')


def test_requests_read_in_order_are_fetched_ahead(store: CountingStore, tmp_path: Path) -> None:
    with opened(store, tmp_path) as requests:
        for index in range(COUNT):
            assert json.loads(requests.params(index)) == request(index).params
        assert len([name for name, _ in store.ranges if name == "requests.jsonl"]) < 5


def test_a_missing_file_of_requests_is_none(folder: Folder, tmp_path: Path) -> None:
    folder.remove("requests.jsonl")
    assert open_requests(folder, tmp_path) is None


def test_a_small_file_of_requests_is_read_without_looking_for_an_index(tmp_path: Path) -> None:
    store = CountingStore()
    file = io.BytesIO()
    write_requests([Request(0, 0, {"x": 1})], file)
    write(store, "requests.jsonl", file.getvalue())
    with opened(store, tmp_path) as requests:
        assert requests.params(0) == b'{"x":1}'
    assert store.ranges == []


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: None, id="none"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: data[:-1], id="cut"),
        pytest.param(lambda data: b"\0" * len(data), id="zeros"),
        pytest.param(lambda data: data[:-100] + b"?" + data[-99:], id="damaged description"),
    ],
)
def test_without_a_usable_index_all_requests_are_read(
    damage: Callable[[bytes], bytes | None], folder: Folder, files: dict[str, bytes], tmp_path: Path
) -> None:
    folder.remove(INDEX_FILE)
    if (damaged := damage(files[INDEX_FILE])) is not None:
        write(folder, INDEX_FILE, damaged)
    with opened(folder, tmp_path) as requests:
        assert len(requests) == COUNT
        assert json.loads(requests.params(COUNT - 1)) == request(COUNT - 1).params
    # So a damaged line is found at once.
    write(folder, "requests.jsonl", files["requests.jsonl"].replace(b'"content":"19999"', b'"content":"99999"'))
    with pytest.raises(SubmissionRecordError, match="Line 20000 "):
        open_requests(folder, tmp_path)


def test_an_index_of_other_requests_is_not_used(folder: Folder, files: dict[str, bytes], tmp_path: Path) -> None:
    with opened(folder, tmp_path) as requests:
        digest = requests.digest
    changed = files["requests.jsonl"].replace(b'"key":"row-0"', b'"key":"row-x"')
    write(folder, "requests.jsonl", changed)
    with opened(folder, tmp_path, digest="0" * 64) as requests:  # same size, but not what the ledger knows
        assert (requests.key(0), requests.digest != digest) == (b'"row-x"', True)
    write(folder, "requests.jsonl", changed[changed.index(b"\n") + 1 :])  # another size
    with opened(folder, tmp_path, digest=digest) as requests:
        assert (len(requests), requests.key(0)) == (COUNT - 1, b'"row-1"')


# ---------------------------------------------------------------- damage, and storage that fails


def test_a_damaged_request_is_found_before_it_is_sent(folder: Folder, files: dict[str, bytes], tmp_path: Path) -> None:
    write(folder, "requests.jsonl", files["requests.jsonl"].replace(b'"content":"19999"', b'"content":"99999"'))
    with opened(folder, tmp_path) as requests:
        requests.verify(range(100))
        assert json.loads(requests.params(99)) == request(99).params
        with pytest.raises(SubmissionRecordError, match=r"Line 20000 .* its params are not those that were written"):
            requests.verify([5, 6, COUNT - 1])
        with pytest.raises(SubmissionRecordError, match="Line 20000 "):
            requests.params(COUNT - 1)
        with pytest.raises(SubmissionRecordError, match="Line 20000 "):
            requests.max_tokens(COUNT - 1)


def test_a_cut_file_of_requests_is_damaged(files: dict[str, bytes], tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path / "run")
    for name, data in files.items():
        write(folder, name, data)
    with opened(folder, tmp_path) as requests:
        with (folder.path / "requests.jsonl").open("r+b") as file:
            file.truncate(len(files["requests.jsonl"]) - 20)
        with pytest.raises(SubmissionRecordError, match="Line 20000 "):
            requests.verify([COUNT - 1])


def test_requests_that_this_process_wrote_are_not_verified_again(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    with create_request_file(path, lambda file, index: write_requests([request(0)], file, index)) as requests:
        path.write_bytes(path.read_bytes().replace(b'"content":"0"', b'"content":"9"'))
        requests.verify([0])
        assert b'"content":"9"' in requests.params(0)


def test_a_damaged_block_of_the_index_is_named(folder: Folder, files: dict[str, bytes], tmp_path: Path) -> None:
    write(folder, INDEX_FILE, b"?" + files[INDEX_FILE][1:])
    with opened(folder, tmp_path) as requests:
        assert json.loads(requests.params(COUNT - 1)) == request(COUNT - 1).params
        for read in (lambda: requests.hash(0), lambda: next(requests.keys()), lambda: requests.key(5)):
            with pytest.raises(SubmissionRecordError, match=r"block 0 of .*requests.index is damaged"):
                read()


def test_a_store_that_cannot_be_read_is_an_outage(store: CountingStore, tmp_path: Path) -> None:
    with opened(store, tmp_path) as requests:
        requests.verify([0])
        store.refusing = True
        for read in (lambda: requests.verify([9_000]), lambda: requests.params(1), lambda: requests.key(9_000)):
            with pytest.raises(ResultsError, match=r"cannot be read .*503 Slow Down"):
                read()
        store.refusing = False
        assert json.loads(requests.params(9_000)) == request(9_000).params
    store.refusing = True
    with pytest.raises(OSError, match="503"):
        open_requests(store, tmp_path)


def test_requests_that_are_gone_from_the_store_are_an_outage(store: CountingStore, tmp_path: Path) -> None:
    with opened(store, tmp_path) as requests:
        requests.verify([0])
        store.remove("requests.jsonl")
        with pytest.raises(ResultsError, match="does not exist any more"):
            requests.verify([15_000])


# ---------------------------------------------------------------- stored by earlier versions


def test_version_1_is_read() -> None:
    """``python -m batch.input.test_request_index`` wrote these files, with version 1 of the format."""
    index = RequestIndex.open(LocalFolder(STORED))
    assert index is not None
    with RequestFile(STORED / "requests.jsonl", index=index) as requests:
        assert list(requests.keys()) == [b"0", b'"b"', b"[2]"]
        assert requests.duplicates == {2: 0}
        assert requests.digest == "583c69c30b8fb8bcd92f64d80dba7143747c6fcfbf68f7b69edbdeceec29b5a0"
        assert [requests.model(index) for index in range(3)] == [MODELS[0], MODELS[1], MODELS[0]]
        assert [json.loads(requests.output_config(index)) for index in range(3)] == [CONFIGS[1], None, CONFIGS[1]]
        assert requests.asks_for_cache
        requests.verify(range(3))
        assert json.loads(requests.params(1)) == {"model": MODELS[1], "cache_control": {"type": "ephemeral"}}
        assert requests.custom_id(1, TOKEN) == f"{TOKEN}-1-MQLyjaoar7oTTsww1HQJMA"


def stored_requests() -> Iterator[Request]:
    yield Request(0, 0, {"model": MODELS[0], "output_config": CONFIGS[1]})
    yield Request(1, "b", {"model": MODELS[1], "cache_control": {"type": "ephemeral"}})
    yield Request(2, [2], {"output_config": CONFIGS[1], "model": MODELS[0]})


if __name__ == "__main__":
    STORED.mkdir()
    create_request_file(
        STORED / "requests.jsonl",
        lambda file, index: write_requests(stored_requests(), file, index, deduplicate=True),
    ).close()
