"""Check the simulator's books at the end: every request is paid for once, and every batch is recorded."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crash.attempt import Prompts, kept_columns, params

from airflow_claude_batch.batch.input.request_file import open_requests
from airflow_claude_batch.batch.storage import LocalFolder

FILES = {"requests.jsonl", "requests.index", "results.jsonl", "manifest.json"}


def digest(prompt: str) -> str:
    """Return the hash that the books have for a request."""
    canonical = json.dumps(params(prompt), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def check(
    books: Mapping[str, Any],
    manifest: Mapping[str, Any],
    folder: Path,
    prompts: Prompts,
    *,
    dropped: Prompts | None = None,
    foreign: frozenset[str] = frozenset(),
    kept: str | None = None,
) -> None:
    """Assert that the submission ended as promised.

    :param kept: marks the kept columns of the last input.
    :param dropped: requests of an earlier input that are not in the last one; they may have been paid for once.
    :param foreign: batches that somebody else made.
    """
    ours = [batch for batch in books["batches"] if batch["id"] not in foreign]
    check_bill(ours, prompts, dropped or {})
    assert all(batch["processing_status"] == "ended" for batch in ours), "something still runs"
    assert Counter(manifest["batch_ids"]) == Counter(batch["id"] for batch in ours), "not every batch is accounted for"
    check_rows(ours, folder, prompts)
    check_kept(folder, kept)
    leftovers = {path.name for path in folder.iterdir()} - FILES
    assert not {name for name in leftovers if not name.startswith(("results-", "ledger", "kept-"))}, leftovers


def check_both(
    books: Mapping[str, Any], manifests: Sequence[Mapping[str, Any]], submissions: Sequence[tuple[Path, Prompts]]
) -> None:
    """Assert that several submissions with one answer store have paid for each request once, together."""
    ours = list(books["batches"])
    asked = {key: prompt for _, prompts in submissions for key, prompt in prompts.items()}
    check_bill(ours, asked, {})
    assert all(batch["processing_status"] == "ended" for batch in ours), "something still runs"
    listed = Counter(batch_id for manifest in manifests for batch_id in manifest["batch_ids"])
    assert listed == Counter(batch["id"] for batch in ours), "not every batch is accounted for"
    before: set[str] = set()
    for manifest, (folder, prompts) in zip(manifests, submissions, strict=True):
        check_rows(ours, folder, prompts)
        reused = len(before.intersection(prompts))
        assert manifest.get("reused", {}).get("requests", 0) == reused
        assert manifest.get("stored_batch_ids", []) == manifest["batch_ids"], "answers are not stored"
        before |= prompts.keys()
        leftovers = {path.name for path in folder.iterdir()} - FILES
        assert not {name for name in leftovers if not name.startswith(("results-", "ledger"))}, leftovers


def check_kept(folder: Path, kept: str | None) -> None:
    """Assert that the rows have the kept columns of the last input, and that these lie beside the requests."""
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_bytes().splitlines()]
    expected = [None if kept is None else kept_columns(row["key"], kept) for row in rows]
    assert [row.get("input") for row in rows] == expected, "rows have other columns"
    files = [path.name for path in folder.glob("kept-*.index")]
    assert len(files) == (kept is not None), f"there are columns of other requests: {files}"
    if kept is not None:
        with open_requests(LocalFolder(folder), folder) as requests:
            assert [json.loads(requests.kept.of(index)) for index in range(len(rows))] == expected, "other columns lie"


def check_bill(ours: list[Mapping[str, Any]], prompts: Prompts, dropped: Prompts) -> None:
    billed = Counter(request["params_sha256"] for batch in ours for request in batch["requests"] if request["billed"])
    for key, prompt in prompts.items():
        assert billed.pop(digest(prompt), 0) == 1, f"{key} was not paid for exactly once"
    for key, prompt in dropped.items():
        assert billed.pop(digest(prompt), 0) <= 1, f"{key} was paid for twice"
    assert not billed, "something was paid for that nobody asked for"


def check_rows(ours: list[Mapping[str, Any]], folder: Path, prompts: Prompts) -> None:
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_bytes().splitlines()]
    assert [row["index"] for row in rows] == list(range(len(prompts)))
    assert [row["key"] for row in rows] == list(prompts)
    paid = {
        request["custom_id"].lower(): (batch["id"], request["params_sha256"])
        for batch in ours
        for request in batch["requests"]
        if request["billed"]
    }
    for row, prompt in zip(rows, prompts.values(), strict=True):
        assert row["status"] == "succeeded", row
        # Some gateways change the case of custom_ids, and a row has its own as it came.
        answered = row.get("reused_from") or row
        assert paid[answered["custom_id"].lower()] == (row["batch_id"], digest(prompt))
