"""The operator on Airflow: its forms, its manifest, its failures and their cost."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import task
from workbench import Workbench

from airflow_claude_batch._airflow.compat import TASK_STATE_STORE_SUPPORTED, TASK_STATE_SURVIVES_CLEAR
from airflow_claude_batch.batch.ledger.chunks import split
from airflow_claude_batch.batch.ledger.ledger import Ledger
from airflow_claude_batch.batch.ledger.part import Part
from airflow_claude_batch.batch.ledger.record import LedgerRecord, claim_ledger, load_ledger
from airflow_claude_batch.batch.ledger.stores import CHUNK_KEY, STATE_KEY, StateLedgerStore
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows

pytestmark = pytest.mark.airflow

MANIFEST = {
    "schema_version",
    "submission_id",
    "status",
    "batch_ids",
    "landed_batch_ids",
    "request_count",
    "counts",
    "responses",
    "results_path",
    "stop_reasons",
    "usage",
    "by_model",
    "cost",
    "estimate",
    "created_at",
    "ended_at",
}
COUNTS = {"succeeded": 0, "errored": 0, "expired": 0, "canceled": 0, "missing": 0, "invalid_output": 0}


def by_prompt(custom_id: str, params: dict[str, Any], attempt: int) -> str | None:
    """Choose the outcome of a request by its prompt."""
    endings = {
        "refused": "errored:invalid_request_error:no such thing",
        "down": "errored:api_error",
        "down once": "errored:api_error" if attempt == 1 else None,
        "late": "expired",
    }
    return endings.get(params["messages"][0]["content"])


SCRIPTED = pytest.mark.parametrize("simulator", [{"outcome": by_prompt}], indirect=True, ids=["scripted"])


def send(task_id: str = "send", **arguments: Any) -> SendMessageBatchOperator:
    return SendMessageBatchOperator(task_id=task_id, **arguments)


def ask(task_id: str = "ask", **arguments: Any) -> SendMessageBatchOperator:
    return SendMessageBatchOperator(task_id=task_id, wait_for_completion=True, **arguments)


def landed(folder: Path) -> list[dict[str, Any]]:
    """The rows in a task's folder."""
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().split("\n") if line]


# ---------------------------------------------------------------- forms


def test_manifest_of_each_form_has_the_promised_shape(bench: Workbench, claude_default: str, simulator: Any) -> None:
    with bench.dag("forms") as dag:
        for deferrable in (True, False):
            for wait in (True, False):
                send(
                    f"{'wait' if wait else 'send'}_{'deferred' if deferrable else 'working'}",
                    messages=["a", {"key": ["b"], "prompt": "b"}],
                    wait_for_completion=wait,
                    deferrable=deferrable,
                )
    run = bench.run(dag)

    assert set(run.states.values()) == {"success"}
    for task_id in run.states:
        manifest = run.xcom(task_id)
        assert set(manifest) == MANIFEST
        assert json.loads(json.dumps(manifest)) == manifest
        assert manifest["request_count"] == 2
        assert len(manifest["batch_ids"]) == 1
        assert manifest["results_path"] == str(run.folder(task_id) / "results.jsonl")
        files = {path.name for path in run.folder(task_id).iterdir() if not path.name.startswith("ledger-")}
        if task_id.startswith("wait"):
            assert manifest["status"] == "ended"
            assert manifest["counts"] == COUNTS | {"succeeded": 2}
            assert manifest["responses"] == landed(run.folder(task_id))
            assert [row["key"] for row in manifest["responses"]] == [0, ["b"]]
            assert manifest["landed_batch_ids"] == manifest["batch_ids"]
            assert manifest["created_at"] <= manifest["ended_at"]
            assert files == {"requests.jsonl", "results.jsonl", "manifest.json"}
        else:
            assert manifest["status"] == "in_progress"
            assert manifest["counts"] == COUNTS | {"missing": 2}
            assert (manifest["responses"], manifest["landed_batch_ids"], manifest["ended_at"]) == (None, [], None)
            assert files == {"requests.jsonl", "manifest.json"}
    assert simulator.books()["calls"]["create"] == 4


def test_rows_above_max_inline_bytes_are_in_the_file_only(
    bench: Workbench, claude_default: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__MAX_INLINE_BYTES", "100")
    with bench.dag("large") as dag:
        ask(messages=["a", "b"])
    manifest = bench.run(dag).xcom("ask")

    assert manifest["responses"] is None
    assert [row.status for row in read_rows(manifest)] == ["succeeded", "succeeded"]


def test_keys_of_any_json_type_come_back(bench: Workbench, claude_default: str) -> None:
    keys: list[Any] = [
        None,
        True,
        0,
        -1,
        1.5,
        2**60,
        "",
        "ä\u2028/..",
        "x" * 300,
        [],
        [1, [None]],
        {},
        {"b": 1, "a": []},
    ]
    with bench.dag("keys") as dag:
        ask(messages=[{"key": key, "prompt": "a"} for key in keys])
    manifest = bench.run(dag).xcom("ask")

    assert [row["key"] for row in manifest["responses"]] == keys
    assert [row.key for row in read_rows(manifest)] == keys


def test_thousand_requests_are_one_batch_in_order(bench: Workbench, claude_default: str, simulator: Any) -> None:
    with bench.dag("many") as dag:
        ask(messages=[f"question {number}" for number in range(1000)])
    manifest = bench.run(dag).xcom("ask")

    rows = list(read_rows(manifest))
    assert [row.index for row in rows] == list(range(1000))
    assert all(f"question {row.index}”" in str(row.text) for row in rows)
    assert len(manifest["batch_ids"]) == 1
    assert simulator.books(detail=False)["billed_requests"] == 1000


# ---------------------------------------------------------------- the ledger


class BeforeTheStateStore(SendMessageBatchOperator):
    """The operator without a task state store, as before Airflow 3.3."""

    def execute(self, context: Any) -> Any:
        context.pop("task_state_store", None)
        return super().execute(context)


def test_ledger_is_in_the_state_store_or_in_files(bench: Workbench, claude_default: str) -> None:
    with bench.dag("ledger") as dag:
        ask("newest", messages=["a"])
        BeforeTheStateStore(task_id="before", messages=["a"], wait_for_completion=True)
    run = bench.run(dag)

    assert set(run.states.values()) == {"success"}
    assert any(run.folder("newest").glob("ledger-*.json")) is not TASK_STATE_SURVIVES_CLEAR
    assert any(run.folder("before").glob("ledger-*.json"))


def test_ledger_of_an_older_airflow_is_read(bench: Workbench, claude_default: str, simulator: Any) -> None:
    with bench.dag("upgraded") as dag:
        BeforeTheStateStore(task_id="ask", messages=["a", "b"], wait_for_completion=True)
    run = bench.run(dag)
    with bench.dag("upgraded") as dag:
        ask(messages=["a", "b"])
    run = run.again(dag, "ask")

    assert run.states == {"ask": "success"}
    assert run.xcom("ask")["counts"]["succeeded"] == 2
    assert simulator.books()["calls"]["create"] == 1


@pytest.mark.skipif(not TASK_STATE_STORE_SUPPORTED, reason="before the task state store")
def test_ledger_of_many_parts_in_airflows_own_state_store(bench: Workbench, tmp_path: Path) -> None:
    from airflow.sdk import get_current_context

    parts = tuple(
        Part(
            token=f"{number:012}",
            first=number,
            last=number,
            count=1,
            size=100,
            attempt="a1",
            round=0,
            intended_at=datetime(2026, 11, 22, 9, tzinfo=UTC),
            batch_id=f"msgbatch_{number}",
            landed=True,
        )
        for number in range(40)
    )
    ledger = Ledger(
        submission_id="s", input_digest="d", attempt="a1", attempt_began_at=parts[0].intended_at, parts=parts
    )

    @task
    def keep() -> list[list[bool]]:
        """Return which keys are there while the ledger has chunks, and after they were dropped."""
        states: Any = get_current_context()["task_state_store"]
        folder = LocalFolder(tmp_path)
        store = StateLedgerStore(states, folder)
        claim_ledger(store)
        record = LedgerRecord.take_over(store, ledger)
        keys = [STATE_KEY, *(f"{CHUNK_KEY}{name}" for name in split(ledger)[1])]
        found = []
        for changed in (ledger.with_landed(["msgbatch_1"], ledger.attempt_began_at), ledger.archive_landed()):
            record.save(changed)
            assert load_ledger(StateLedgerStore(states, folder)) == changed
            found.append([states.get(key) is not None for key in keys])
        return found

    with bench.dag("many_parts") as dag:
        keep()
    run = bench.run(dag)

    assert run.states == {"keep": "success"}
    assert run.xcom("keep") == [[True, True, True], [True, False, False]]


# ---------------------------------------------------------------- bad input


def test_input_that_cannot_be_sent_fails_at_once_and_sends_nothing(
    bench: Workbench, claude_default: str, simulator: Any
) -> None:
    says = {
        "empty": "empty: messages is empty.\nNothing was sent.\nIf that may happen, set on_empty='skip'",
        "one": "one: messages must be a list or the path of a file of JSON lines, not a text.",
        "types": "types: messages[1]: an element must be a string, a list or a mapping, not int",
        "keys": "keys: messages[0] and messages[2] have the same key",
        "max_tokens": "max_tokens: messages[0]: 'max_tokens' must be at least 1",
        "retired": "retired: messages[0]: claude-3-opus-20240229 was retired",
        "upstream": "upstream: messages is of type dict: a single element.\nNothing was sent.\nGive a list",
        "file": "file: messages: there is no file /nowhere/at/all.jsonl",
    }
    with bench.dag("refused") as dag:

        @task
        def mapping() -> dict[str, str]:
            return {"prompt": "a"}

        again: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(0)}
        ask("empty", messages=[], **again)
        ask("one", messages="{{ 'a prompt' }}", **again)
        ask("types", messages=["a", 7], **again)
        ask("keys", messages=[{"key": "x", "prompt": "a"}, "b", {"key": "x", "prompt": "c"}], **again)
        ask("max_tokens", messages=["a"], max_tokens="{{ 0 }}", **again)
        ask("retired", messages=["a"], model="claude-3-opus-20240229", **again)
        ask("upstream", messages=mapping(), **again)
        ask("file", messages="/nowhere/at/all.jsonl", **again)
    run = bench.run(dag)

    for task_id, words in says.items():
        assert run.states[task_id] == "failed"
        assert words in run.error(task_id)
        assert run.tries(task_id) == 1
        assert task_id == "retired" or not run.folder(task_id).exists()
    assert simulator.books()["batches"] == []


def test_results_path_that_cannot_be_written_is_refused_before_anything_is_sent(
    bench: Workbench, claude_default: str, simulator: Any, tmp_path: Any
) -> None:
    (tmp_path / "file").write_text("no folder")
    with bench.dag("unwritable") as dag:
        ask("below_a_file", messages=["a"], results_path=str(tmp_path / "file"))
        ask("no_disk", messages=["a"], results_path="/proc/claude")
        ask("no_provider", messages=["a"], results_path="s3://bucket/claude")
    run = bench.run(dag)

    assert set(run.states.values()) == {"failed"}
    for task_id in ("below_a_file", "no_disk"):
        assert "cannot be written" in run.error(task_id)
        assert "Nothing was sent.\nSet results_path" in run.error(task_id)
    assert "s3://bucket/claude" in run.error("no_provider")
    assert "Install apache-airflow-providers-amazon[s3fs]" in run.error("no_provider")
    assert simulator.books()["batches"] == []


# ---------------------------------------------------------------- failure


@SCRIPTED
def test_task_succeeds_only_if_enough_requests_were_answered(
    bench: Workbench, claude_default: str, simulator: Any
) -> None:
    ran: list[str] = []
    with bench.dag("outcomes") as dag:

        @task(trigger_rule="all_failed")
        def when_failed() -> None:
            ran.append("when failed")

        @task(trigger_rule="all_done")
        def when_done() -> None:
            ran.append("when done")

        @task
        def when_green() -> None:
            ran.append("when green")

        refused = ask("all_refused", messages=["refused", "refused"], retries=2, retry_delay=timedelta(0))
        refused >> [when_failed(), when_done(), when_green()]
        ask("one_too_many", messages=["a", "refused", "late"], allow_failed=1, repair_rounds=0)
        ask("count", messages=["a", "refused", "late"], allow_failed=2, repair_rounds=0)
        ask("share", messages=["a", "b", "c", "refused"], allow_failed=0.25)
        ask("repaired", messages=["a", "down once"])
    run = bench.run(dag)

    assert run.states == {
        "all_refused": "failed",
        "when_failed": "success",
        "when_done": "success",
        "when_green": "upstream_failed",
        "one_too_many": "failed",
        "count": "success",
        "share": "success",
        "repaired": "success",
    }
    assert sorted(ran) == ["when done", "when failed"]
    assert run.tries("all_refused") == 1
    assert "2 of 2 requests ended without an answer (allow_failed permits 0).\n2 errored. The first: " in run.error(
        "all_refused"
    )
    assert "invalid_request_error: no such thing" in run.error("all_refused")
    assert "2 of 3 requests ended without an answer (allow_failed permits 1)" in run.error("one_too_many")
    assert run.xcom("count")["counts"] == COUNTS | {"succeeded": 1, "errored": 1, "expired": 1}
    assert len(run.xcom("repaired")["batch_ids"]) == 2
    assert [row.status for row in read_rows(str(run.folder("all_refused") / "results.jsonl"))] == ["errored"] * 2


@SCRIPTED
def test_retry_sends_and_pays_for_unanswered_requests_only(
    bench: Workbench, claude_default: str, simulator: Any
) -> None:
    with bench.dag("retried") as dag:
        ask(messages=["a", "down once", "b"], repair_rounds=0, retries=3, retry_delay=timedelta(0))
    run = bench.run(dag)

    assert run.states == {"ask": "success"}
    assert run.tries("ask") == 2
    assert "1 of 3 requests ended without an answer" in run.error("ask")
    assert run.xcom("ask")["counts"]["succeeded"] == 3
    books = simulator.books()
    assert [batch["request_count"] for batch in books["batches"]] == [3, 1]
    assert set(books["billed"].values()) == {1}


# ---------------------------------------------------------------- clearing


def test_clear_after_retries_were_lowered_is_no_retry(bench: Workbench, claude_default: str, simulator: Any) -> None:
    """Airflow sets ``max_tries`` to the tries so far plus the retries: the same number as before."""

    def dag(retries: int) -> Any:
        with bench.dag("lowered") as dag:
            ask(messages=["a"], reuse_answers=False, retries=retries)
        return dag

    run = bench.run(dag(1))
    run = run.again(dag(0), "ask")

    assert run.states == {"ask": "success"}
    assert run.run.get_task_instance("ask").max_tries == 1
    assert simulator.books()["billed_requests"] == 2


@SCRIPTED
def test_clear_pays_for_new_requests_only(bench: Workbench, claude_default: str, simulator: Any) -> None:
    def dag(*messages: str, **arguments: Any) -> Any:
        with bench.dag("cleared") as dag:
            ask(messages=list(messages), allow_failed=1, **arguments)
        return dag

    def paid() -> int:
        count: int = simulator.books()["billed_requests"]
        return count

    run = bench.run(dag("a", "b", "refused"))
    assert paid() == 2
    run = run.again(dag("a", "b", "refused"), "ask")
    assert (paid(), run.tries("ask")) == (2, 2)
    run = run.again(dag("b", "refused", "c"), "ask")
    assert paid() == 3
    assert [row["text"][-2] for row in run.xcom("ask")["responses"] if row["text"]] == ["b", "c"]
    run = run.again(dag("b", "refused", "c", reuse_answers=False), "ask")
    assert paid() == 5
    assert run.states == {"ask": "success"}
    assert len([path for path in run.folder("ask").iterdir() if path.name.startswith("results-")]) == 2
