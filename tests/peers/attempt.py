"""One process of a task, in the environment of the package that it runs: it sends, waits and writes a report.

Started by ``scenario.py`` as ``attempt.py <package> <number> <options as JSON>``. The first process runs the DAG with
``dag.test()``: real operators, triggers, task runner, XComs and database, but no scheduler. A second one continues
after a killed process. It lets Airflow fail the task, as the scheduler does when heartbeats stop, and runs the retry.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

KEY = "sk-peers"
MODEL = "claude-haiku-5-5"
MAX_TOKENS = 64
POLL_SECONDS = 30  # the minimum of common-ai's operator
RETRY_DELAY = timedelta(seconds=60)
TASK_ID = "send"
#: steadybatch accepts only JSON answers.
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
    "additionalProperties": False,
}


def ours(home: Path, prompts: list[str], deferrable: bool) -> Any:
    """Build this package's operator."""
    from airflow_claude_batch.operators import SendMessageBatchOperator

    return SendMessageBatchOperator(
        task_id=TASK_ID,
        messages=prompts,
        model=MODEL,
        max_tokens=MAX_TOKENS,
        results_path=str(home / "results"),
        wait_for_completion=True,
        deferrable=deferrable,
        poll_interval=POLL_SECONDS,
    )


def official(home: Path, prompts: list[str], deferrable: bool) -> Any:
    """Build the operator of Apache's anthropic provider."""
    from airflow.providers.anthropic.operators.batch import AnthropicBatchOperator

    messages = [[{"role": "user", "content": prompt}] for prompt in prompts]
    return AnthropicBatchOperator(
        task_id=TASK_ID,
        requests=[
            {"custom_id": f"r{n}", "params": {"model": MODEL, "max_tokens": MAX_TOKENS, "messages": each}}
            for n, each in enumerate(messages)
        ],
        deferrable=deferrable,
        poll_interval=POLL_SECONDS,
    )


def common_ai(home: Path, prompts: list[str], deferrable: bool) -> Any:
    """Build the operator of Apache's common-ai provider."""
    from airflow.providers.common.ai.operators.llm_batch import LLMBatchOperator

    return LLMBatchOperator(
        task_id=TASK_ID,
        requests=prompts,
        result_path=f"file://{home}/results",
        llm_conn_id="pydanticai_default",
        model_id=f"anthropic:{MODEL}",
        max_tokens=MAX_TOKENS,
        deferrable=deferrable,
        poll_interval=POLL_SECONDS,
    )


OPERATORS: dict[str, Callable[..., Any]] = {"ours": ours, "official": official, "common_ai": common_ai}


def run_task(peer: str, number: int, home: Path, url: str, prompts: list[str], deferrable: bool) -> dict[str, Any]:
    """Run a DAG of one task with one retry."""
    from airflow.sdk import DAG
    from airflow.utils.db import initdb

    schedule = {"schedule": None, "start_date": datetime(2026, 1, 1, tzinfo=UTC)}
    with DAG("peers", default_args={"retries": 1, "retry_delay": RETRY_DELAY}, **schedule) as dag:
        OPERATORS[peer](home, prompts, deferrable)
    if number == 1:
        initdb()
        sync(dag)
        run = dag.test()
    else:
        run = retry(dag)
    ti = run.get_task_instance(TASK_ID)
    value = ti.xcom_pull(task_ids=TASK_ID, map_indexes=-1)
    return {"ended": str(ti.state), "tries": ti.try_number, "batch_ids": batch_ids(value)}


def batch_ids(value: Any) -> list[str]:
    """Read the batch ids from the output of a task."""
    if isinstance(value, str):
        return [value]
    return [] if value is None else list(value.get("batch_ids") or [value["batch_id"]])


def sync(dag: Any) -> None:
    """Store the DAG in the database, where ``dag.test()`` reads it."""
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    with create_session() as session:
        session.merge(DagBundleModel(name="peers"))
    bag = DagBag(os.devnull)
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "peers", None)


def retry(dag: Any) -> Any:
    """Fail and retry the task, as the scheduler does when its heartbeats stop."""
    from airflow import settings
    from airflow.models.dagrun import DagRun
    from airflow.sdk.definitions.dag import _run_task
    from airflow.serialization.serialized_objects import DagSerialization
    from sqlalchemy import select

    session = settings.Session()
    run = session.scalars(select(DagRun).where(DagRun.dag_id == dag.dag_id)).one()
    run.dag = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    ti = run.get_task_instance(TASK_ID, session=session)
    ti.task = run.dag.get_task(TASK_ID)
    ti.handle_failure("The worker died.", session=session)
    session.commit()
    while run.state == "running":
        session.expire_all()
        ready, _ = run.update_state(session=session)
        for ti in ready:
            ti.try_number += 1
            ti.state = "scheduled"
        session.commit()
        time.sleep(1.0 if not ready else 0.0)  # until the retry is due
        for ti in ready:
            _run_task(ti=ti, task=dag.task_dict[ti.task_id], run_triggerer=True)
    return run


def run_steadybatch(home: Path, url: str, prompts: list[str]) -> dict[str, Any]:
    """Run its job, and retry it once if it fails, because it has no Airflow task."""
    from anthropic import Anthropic
    from steadybatch import Request, Runner
    from steadybatch.providers.anthropic_batch import AnthropicBatch

    def job() -> list[str]:
        runner = Runner(
            AnthropicBatch(Anthropic(api_key=KEY, base_url=url)),
            MODEL,
            response_schema=SCHEMA,
            checkpoint=home / "job.sqlite",
            poll_every=POLL_SECONDS,
        )
        messages = [[{"role": "user", "content": prompt}] for prompt in prompts]
        report = runner.run([Request(str(n), each, max_tokens=MAX_TOKENS) for n, each in enumerate(messages)])
        if report.ok != len(prompts):
            raise RuntimeError(f"{report.failed} requests failed")
        return [batch_id for batch_id, *_ in runner.store.batch_timings()]

    for number in (1, 2):
        try:
            return {"ended": "success", "tries": number, "batch_ids": job()}
        except Exception as error:  # a task would be retried after any error
            print(f"attempt {number}: {type(error).__name__}: {error}", file=sys.stderr)
            time.sleep(RETRY_DELAY.total_seconds() if number == 1 else 0.0)
    return {"ended": "failed", "tries": 2, "batch_ids": []}


def main() -> None:
    """Run one process and write its report."""
    peer, number, options = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    home, url, prompts = Path(options["home"]), options["url"], options["prompts"]
    if peer == "steadybatch":
        report = run_steadybatch(home, url, prompts)
    else:
        report = run_task(peer, number, home, url, prompts, options["deferrable"])
    (home / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
