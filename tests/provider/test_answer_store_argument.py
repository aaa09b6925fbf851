"""``answer_store=`` on real tasks: a second run pays for what changed, in one task and in two."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import task

from airflow_claude_batch.answers import AnswerStore
from airflow_claude_batch.exceptions import ConfigurationError
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.sensors import MessageBatchSensor

ASKED = ["What is a?", "What is b?", "What is c?"]


def texts(manifest: Any) -> list[str | None]:
    return [row.text for row in read_rows(manifest)]


@pytest.mark.airflow
def test_second_run_pays_for_what_changed_only(bench: Any, claude_default: str, simulator: Any, tmp_path: Path) -> None:
    def run(dag_id: str, messages: list[str], **options: Any) -> Any:
        with bench.dag(dag_id) as dag:
            SendMessageBatchOperator(
                task_id="send",
                messages=messages,
                wait_for_completion=True,
                deferrable=False,
                poll_interval=0.1,
                answer_store=AnswerStore(f"{tmp_path}/{{{{ 'answers' }}}}", max_age=timedelta(days=1)),
                **options,
            )
        return bench.run(dag).xcom("send")

    first = run("day_1", ASKED)
    second = run("day_2", [*ASKED[1:], "What is d?"])
    dry = run("day_3", [*ASKED, "What is e?"], dry_run=True)
    third = run("day_4", ASKED)

    assert simulator.books()["billed_requests"] == 4
    assert "reused" not in first
    assert second["reused"]["requests"] == 2
    assert second["counts"]["succeeded"] == 3
    assert texts(second)[:2] == texts(first)[1:]
    assert [row.reused_from and row.reused_from["batch_id"] for row in read_rows(second)] == [
        *first["batch_ids"] * 2,
        None,
    ]
    assert (dry["reused"]["requests"], dry["estimate"]["requests"]) == (3, 1)
    assert (third["status"], third["batch_ids"], third["reused"]["requests"]) == ("ended", [], 3)
    assert third["cost"]["usd"] == "0"
    assert third["reused"]["first_usd"] == first["cost"]["usd"]
    assert texts(third) == texts(first)


@pytest.mark.airflow
def test_sensor_stores_answers_where_the_operator_looks(
    bench: Any, claude_default: str, simulator: Any, tmp_path: Path
) -> None:
    def run(dag_id: str, messages: list[str]) -> Any:
        with bench.dag(dag_id) as dag:
            send = SendMessageBatchOperator(
                task_id="send", messages=messages, answer_store=AnswerStore(tmp_path / "answers", version="{{ 'v1' }}")
            )
            MessageBatchSensor(task_id="wait", batch=send.output, deferrable=False, poke_interval=0.1)
        done = bench.run(dag)
        return done.xcom("wait")

    first, second, third = run("two_1", ASKED), run("two_2", [*ASKED, "What is d?"]), run("two_3", ASKED)

    assert simulator.books()["billed_requests"] == 4
    assert first["stored_batch_ids"] == first["batch_ids"]
    assert second["reused"]["requests"] == 3
    assert texts(second)[:3] == texts(first)
    assert (third["status"], third["batch_ids"], third["reused"]["requests"]) == ("ended", [], 3)


@pytest.mark.airflow
def test_deployments_store_counts_for_a_decorated_task_that_names_none(
    bench: Any, claude_default: str, simulator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__ANSWER_STORE", str(tmp_path / "answers"))

    def run(dag_id: str, **options: Any) -> Any:
        with bench.dag(dag_id) as dag:

            @task.claude_batch(wait_for_completion=True, deferrable=False, poll_interval=0.1, **options)
            def send() -> list[str]:
                return ASKED

            send()
        return bench.run(dag).xcom("send")

    run("of_deployment")
    assert run("of_deployment_again")["reused"]["requests"] == 3
    assert "reused" not in run("without", answer_store=False)
    assert "reused" not in run("anew", reuse_answers=False)
    assert simulator.books()["billed_requests"] == 9


def test_store_that_came_by_xcom_alone_is_not_written(
    bench: Any, claude_default: str, simulator: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with bench.dag("by_xcom") as dag:
        send = SendMessageBatchOperator(task_id="send", messages=ASKED, answer_store=AnswerStore(tmp_path / "answers"))

        @task(multiple_outputs=False)  # Airflow 3.0 refuses the outputs that are None
        def change(manifest: dict[str, Any]) -> dict[str, Any]:
            store = {**manifest["for_sensor"]["answer_store"], "path": str(tmp_path / "elsewhere")}
            return {**manifest, "for_sensor": {"answer_store": store}}

        MessageBatchSensor(task_id="wait", batch=change(send.output), deferrable=False, poke_interval=0.1)
    manifest = bench.run(dag).xcom("wait")

    assert manifest["counts"]["succeeded"] == 3
    assert "stored_batch_ids" not in manifest
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: AnswerStore("answers"), "a relative path"),
        (lambda: AnswerStore(""), "it is empty"),
        (lambda: AnswerStore("s3:///x"), "there must be a bucket"),
        (lambda: AnswerStore("/answers", max_age=0), "max_age must be a timedelta or seconds above zero, not 0"),
        (lambda: AnswerStore("/answers", max_age="90 days"), "not '90 days'"),
        (lambda: AnswerStore("/answers", version=2), "version must be a text, not int"),
        (
            lambda: SendMessageBatchOperator(task_id="send", messages=["a"], answer_store="s3://bucket/answers"),
            r"Write answer_store=AnswerStore\('s3://bucket/answers'\), with: from",
        ),
        (
            lambda: SendMessageBatchOperator(task_id="send", messages=["a"], answer_store=True),
            "must be an AnswerStore, None or False, not True",
        ),
    ],
)
def test_argument_that_cannot_be_right_is_refused_when_the_dag_is_parsed(make: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        make()


def test_store_is_shown_alike_each_time_that_the_dag_is_parsed() -> None:
    shown = AnswerStore("s3://c@b/{{ ds }}", max_age=86400, version="2").serialize()
    assert shown == "AnswerStore('s3://c@b/{{ ds }}', max_age=datetime.timedelta(days=1), version='2')"
