"""Tasks ask a person on real processes, and get their answers through the REST API that the UI uses."""

import re
from collections import Counter

import pytest
from airflow_database import task_instances
from airflow_stack import RUN_SECONDS, DagStack, clear_ended_run

from demo.airflow_api import wait_for
from demo.airflow_processes import AirflowProcesses
from shared_airflow.approval_dag import DAG_ID, first_question_stays, is_supported, waits_in_triggerer
from shared_airflow.preparations import Preparations

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(not is_supported(), reason="this Airflow cannot ask a person"),
]

RUN_ID = "run"
ASKED = ("approved", "in_worker", "rejected", "skipped")
ASKING = "deferred" if waits_in_triggerer() else "awaiting_input"


def states(airflow: AirflowProcesses) -> dict[str, str]:
    airflow.check()
    return {ti["task_id"]: ti["state"] for ti in task_instances(airflow, DAG_ID, RUN_ID)}


def wait_for_states(airflow: AirflowProcesses, expected: dict[str, str]) -> None:
    what = f"the tasks to be {expected}"
    wait_for(lambda: {**states(airflow), **expected} == states(airflow), seconds=RUN_SECONDS, what=what)


def wait_for_ends(airflow: AirflowProcesses, processes: dict[str, int]) -> None:
    """Wait until the scheduler has noted the ends of so many processes of each task.

    Airflow takes a task for lost whose answer comes before that, and begins another try of it.
    """

    def are_noted() -> bool:
        log = (airflow.home / "logs" / "scheduler.log").read_text(errors="replace")
        ends = Counter(re.findall(rf"executor event with state \w+ for .*?dag_id='{DAG_ID}', task_id='(\w+)'", log))
        return all(ends[task_id] >= count for task_id, count in processes.items())

    wait_for(are_noted, seconds=RUN_SECONDS, what=f"the scheduler to note the ends of {processes}")


def tries_of(airflow: AirflowProcesses) -> dict[str, int]:
    return {ti["task_id"]: ti["try_number"] for ti in task_instances(airflow, DAG_ID, RUN_ID)}


def wait_for_log(airflow: AirflowProcesses, task_id: str, text: str) -> None:
    """Wait for a text in the log of a task, whose last lines come after its state."""

    def is_there() -> bool:
        return text in "\n".join(airflow.api.log_lines(DAG_ID, RUN_ID, task_id, tries_of(airflow)[task_id]))

    wait_for(is_there, seconds=RUN_SECONDS, what=f"{text!r} in the log of {task_id}")


def without_time(question: str) -> str:
    return re.sub(r"until \d{4}-\d\d-\d\d \d\d:\d\d UTC", "until then", question)


def prepare(stack: DagStack) -> None:
    if is_supported():
        stack.simulators[DAG_ID].pace(0)
        stack.airflow.api.trigger(DAG_ID, RUN_ID)
        asking = set(ASKED)
        stack.wait_for(lambda: stack.airflow.api.questions(DAG_ID, RUN_ID).keys() >= asking, "questions")


def test_answers_decide_what_is_sent_and_are_not_asked_for_twice(
    dag_stack: DagStack, preparations: Preparations
) -> None:
    airflow, simulator = dag_stack.airflow, dag_stack.simulators[DAG_ID]
    preparations.result_of(prepare)
    tasks = ASKED
    wait_for_states(airflow, dict.fromkeys(tasks, ASKING))
    questions = airflow.api.questions(DAG_ID, RUN_ID)
    assert [batch["request_count"] for batch in simulator.books()["batches"]] == [3]
    assert questions["approved"]["subject"].startswith("Send 5 more requests to Claude for up to $0.")
    assert "| **Requests** | 5 to claude-haiku-5-5 |" in questions["approved"]["body"]
    assert "A sample of 3 requests was sent first: 3 succeeded. That cost $0.0" in questions["approved"]["body"]
    assert "| Task | approval.rejected |" in questions["rejected"]["body"]

    wait_for_ends(airflow, {**dict.fromkeys(tasks, 1), "approved": 2})  # one of it has sent the sample
    tries = tries_of(airflow)
    for task_id in tasks:
        option = "Approve" if task_id in ("approved", "in_worker") else "Reject"
        airflow.api.answer(DAG_ID, RUN_ID, task_id, option)
    ended = {"approved": "success", "in_worker": "success", "rejected": "failed", "skipped": "skipped"}
    wait_for_states(airflow, {**ended, "not_answered": "failed"})

    assert sorted(batch["request_count"] for batch in simulator.books()["batches"]) == [3, 5, 8]
    manifest = airflow.api.returned(DAG_ID, RUN_ID, "approved")
    assert manifest["counts"]["succeeded"] == 8
    assert (manifest["approval"]["by"], float(manifest["approval"]["usd"]) > 0) == ("admin", True)
    wait_for_log(airflow, "rejected", "admin rejected the submission, which may cost up to $0.")
    wait_for_log(airflow, "skipped", "The task is skipped: on_rejected='skip'.")
    wait_for_log(airflow, "not_answered", "Nobody approved the submission within 0:00:10.")
    assert tries_of(airflow) == tries  # nobody is asked by a retry

    # A clear asks nobody for what was approved, and asks again for what was rejected.
    clear_ended_run(airflow, DAG_ID, RUN_ID, "approved", "rejected")
    wait_for_states(airflow, {"approved": "success", "rejected": ASKING})
    wait_for_ends(airflow, {"rejected": 3})
    # Where Airflow keeps the first text of a task instance, the task has compared its amount.
    first, now = (asked["rejected"]["body"] for asked in (questions, airflow.api.questions(DAG_ID, RUN_ID)))
    assert without_time(now) == without_time(first)
    assert now == first or not first_question_stays()
    wait_for_log(airflow, "rejected", "Asking for approval until")
    airflow.api.answer(DAG_ID, RUN_ID, "rejected", "Approve")
    wait_for_states(airflow, {"rejected": "success"})
    assert sorted(batch["request_count"] for batch in simulator.books()["batches"]) == [3, 5, 8, 8]
