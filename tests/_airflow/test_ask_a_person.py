"""The question in Airflow's UI, and the events that bring its answer, without an Airflow that runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pendulum
import pytest

from airflow_claude_batch._airflow import approval, compat
from airflow_claude_batch.batch.money.question import AnsweredBefore, Question
from airflow_claude_batch.batch.steps import AskStep
from airflow_claude_batch.exceptions import ApprovalRejectedError

pytestmark = pytest.mark.skipif(not compat.ASKING_SUPPORTED, reason="this Airflow cannot ask a person")

QUESTION = Question(
    requests={"claude-haiku-5-5": 12_400, "claude-opus-5-5": 3},
    expected=Decimal("15.304"),
    most=Decimal("61.2"),
    approve_above=Decimal(50),
    remarks=("The upper bound is all of max_tokens.",),
)
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Supervisor:
    """Keeps the questions that it gets, and answers as Airflow does before 3.4: the first text of a task stays."""

    def __init__(self, written: list[dict[str, Any]]) -> None:
        self._written = written

    def send(self, message: Any) -> Any:
        self._written.append(message.model_dump())
        return SimpleNamespace(body=self._written[0]["body"])


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What Airflow's database is asked to keep."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", Supervisor(found), raising=False)
    return found


def run_of(**fields: Any) -> Any:
    ti = {"id": UUID(int=7), "dag_id": "dag", "run_id": "a|run", "task_id": "label", "map_index": -1, **fields}
    return SimpleNamespace(ti=SimpleNamespace(**ti))


def ask(question: Question = QUESTION, **fields: Any) -> BaseException:
    until = datetime.now(UTC) + timedelta(hours=24)
    with pytest.raises(BaseException) as raised:  # noqa: PT011 - Airflow's signals are no Exceptions
        approval.ask(AskStep(question=question, until=until, most=question.most), run_of(**fields))
    return raised.value


def test_retry_that_may_cost_more_than_the_question_that_airflow_still_shows_fails(
    written: list[dict[str, Any]],
) -> None:
    ask()
    error = ask(replace(QUESTION, most=Decimal(500)))

    assert isinstance(error, compat.AirflowFailException)
    assert str(error).startswith(
        "The cost may be $500.00 now, but Airflow shows the question of an earlier try, up to $61.20.\n"
    )
    assert isinstance(ask(replace(QUESTION, most=None)), compat.AirflowFailException)


def test_retry_within_the_amount_that_airflow_still_shows_asks_again(
    written: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    ask()
    signal: Any = ask(replace(QUESTION, most=Decimal("62.3")))

    assert signal.method_name == "execute_answered"
    assert "Now: requests 12,400 to claude-haiku-5-5, 3 to claude-opus-5-5, expected cost $15.30" in caplog.text


def test_retry_of_a_question_without_a_bound_asks_again(written: list[dict[str, Any]]) -> None:
    ask(replace(QUESTION, most=None))
    signal: Any = ask(replace(QUESTION, most=Decimal(500)))

    assert signal.method_name == "execute_answered"


def test_task_leaves_its_worker_until_it_is_answered(written: list[dict[str, Any]]) -> None:
    signal: Any = ask()

    assert signal.method_name == "execute_answered"
    assert timedelta(hours=23) < signal.timeout < timedelta(hours=25)
    if compat.AWAITING_INPUT_SUPPORTED:
        assert isinstance(signal, compat.TaskAwaitingInput)
    else:
        path, arguments = signal.trigger.serialize()
        assert path == "airflow.providers.standard.triggers.hitl.HITLTrigger"
        assert (arguments["ti_id"], arguments["defaults"]) == (UUID(int=7), ["Reject"])
    (question,) = written
    assert question["subject"] == "Send 12,403 requests to Claude for up to $61.20?"
    assert (question["options"], question["defaults"]) == (["Approve", "Reject"], ["Reject"])


def test_text_has_what_a_person_decides_by(written: list[dict[str, Any]]) -> None:
    ask(map_index=2)

    body = written[0]["body"]
    assert "| Task | dag.label\\[2\\] |\n|---|---|\n| **Run** | a\\|run |\n" in body
    assert "| **Requests** | 12,400 to claude-haiku-5-5, 3 to claude-opus-5-5 |" in body
    assert "| **Expected cost** | $15.30 |\n| **At most** | $61.20 |" in body
    assert "- The upper bound is all of max\\_tokens." in body
    assert "approve\\_above, $50.00" in body
    assert ("This text stays as it is after a retry" in body) is compat.FIRST_QUESTION_STAYS


def test_text_after_a_sample_has_its_cost_and_where_its_rows_are(written: list[dict[str, Any]]) -> None:
    answered = AnsweredBefore(
        sampled=20, counts={"succeeded": 19, "errored": 1}, usd=Decimal("0.012"), rows="s3://b/results.jsonl"
    )
    ask(
        Question(
            requests={"m": 9}, expected=Decimal("4.1"), most=Decimal(60), approve_above=Decimal(5), answered=answered
        )
    )

    assert written[0]["subject"] == "Send 9 more requests to Claude for up to $60.00?"
    assert (
        "- A sample of 20 requests was sent first: 19 succeeded, 1 errored. That cost $0.0120 (measured); the rest is "
        "expected to cost $4.10, at most $60.00. Its rows are kept and not paid again: s3://b/results.jsonl"
    ) in written[0]["body"]


def test_cost_that_is_not_known_is_said(written: list[dict[str, Any]]) -> None:
    ask(Question(requests={"m": 1}, expected=None, most=None, approve_above=Decimal(5), unpriced_models=("m",)))

    assert written[0]["subject"] == "Send 1 request to Claude at a cost that is not known?"
    assert "| **At most** | not known |" in written[0]["body"]
    assert "No price is known for m, so the cost cannot be bounded." in written[0]["body"]


@dataclass
class Answers:
    """Keeps the answers that it is given."""

    given: list[tuple[bool, str | None, bool]] = field(default_factory=list)

    def answer(self, *, approved: bool, by: str | None, at: datetime, timed_out: bool = False) -> None:
        assert (type(at), at.tzinfo) == (datetime, UTC)
        self.given.append((approved, by, timed_out))


ANN = {"id": "7", "name": "ann"}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param({"chosen_options": ["Approve"], "responded_by_user": ANN}, (True, "ann", False), id="yes"),
        pytest.param({"chosen_options": ["Reject"], "responded_by_user": ANN}, (False, "ann", False), id="no"),
        pytest.param({"chosen_options": ["Approve"], "responded_by_user": None}, (True, None, False), id="by nobody"),
        pytest.param(
            {"chosen_options": ["Approve", "Reject"], "responded_by_user": ANN}, (False, "ann", False), id="both"
        ),
        pytest.param({"chosen_options": ["Reject"], "timedout": True}, (False, None, True), id="default"),
        pytest.param(
            {"chosen_options": ["Reject"], "responded_by_user": None}, (False, None, True), id="default again"
        ),
        pytest.param({"error": "too late", "error_type": "timeout"}, (False, None, True), id="no default"),
        pytest.param({"error": "odd", "error_type": "unknown"}, None, id="another error"),
        pytest.param({}, None, id="nothing"),
        pytest.param({"chosen_options": []}, None, id="no option"),
    ],
)
@pytest.mark.parametrize("at", [NOW, pendulum.instance(NOW), None])
def test_event_is_read(at: Any, event: dict[str, Any], expected: tuple[bool, str | None, bool] | None) -> None:
    work = Answers()

    approval.apply_answer({"responded_at": at, "params_input": {}, **event}, work)

    assert work.given == ([] if expected is None else [expected])


@pytest.mark.parametrize(("skips", "signal"), [(False, "AirflowFailException"), (True, "AirflowSkipException")])
def test_rejection_ends_the_task_without_a_retry(skips: bool, signal: str) -> None:
    with pytest.raises(getattr(compat, signal), match="ann rejected the submission"):
        approval.raise_rejection(ApprovalRejectedError("ann rejected the submission."), skips=skips)
