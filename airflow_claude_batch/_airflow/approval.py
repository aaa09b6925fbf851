"""Ask a person in Airflow's UI whether a submission may be sent, and read the answer.

Invariant: nobody approves more than the text says that Airflow shows. Airflow keeps the first text of a task instance,
also when a retry or a clear asks again (3.1 to 3.3). So what is shown is read back and compared.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from airflow_claude_batch._airflow.compat import (
    AWAITING_INPUT_SUPPORTED,
    FIRST_QUESTION_STAYS,
    AirflowFailException,
    AirflowSkipException,
    TaskDeferred,
    timezone,
)
from airflow_claude_batch._airflow.times import time_in_words
from airflow_claude_batch.batch.money.amounts import exact_usd, rounded_usd
from airflow_claude_batch.batch.send.approval import TOLERANCE
from airflow_claude_batch.exceptions import ApprovalRejectedError

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.task_run import TaskRun
    from airflow_claude_batch.batch.steps import AskStep

log = logging.getLogger(__name__)

#: The options that Airflow's own approval has. The second one is the answer of nobody.
APPROVE: Final = "Approve"
REJECT: Final = "Reject"
METHOD: Final = "execute_answered"
_AMOUNT: Final = re.compile(r"An approval holds up to \$([0-9]+(?:\.[0-9]+)?) in all\.")
_ANY_AMOUNT: Final = "An approval holds for any amount, because a price is not known."
_MARKDOWN: Final = re.compile(r"[\\`*_\[\]<>|#~]")
#: Airflow resumes a deferred task this long after the trigger should have fired: no triggerer runs.
_TRIGGER_GRACE_PERIOD: Final = timedelta(minutes=10)


class Asking(Protocol):
    """Work that takes an answer: a submission."""

    def answer(self, *, approved: bool, by: str | None, at: datetime, timed_out: bool = False) -> None: ...


def ask(step: AskStep, run: TaskRun) -> NoReturn:
    """Show the question, and leave the worker until it is answered. Airflow then calls ``execute_answered``.

    :raises TaskAwaitingInput: on Airflow 3.3 and newer.
    :raises TaskDeferred: on 3.1 and 3.2.
    :raises AirflowFailException: Airflow shows the question of an earlier try, about a lower amount.
    """
    from airflow_claude_batch._airflow import compat

    ti_id: Any = run.ti.id  # type: ignore[attr-defined]  # Airflow's; only a running task has it
    question: dict[str, Any] = {"options": [APPROVE, REJECT], "defaults": [REJECT], "multiple": False, "params": {}}
    subject = step.question.subject
    text = body(step, run)
    shown = compat.show_question(ti_id=ti_id, subject=subject, body=text, **question)
    if shown != text:
        _check_shown(shown or "", step)
    log.info("Asking for approval until %s, under Required Actions: %s", time_in_words(step.until), subject)
    left = max(step.until - timezone.utcnow(), timedelta(seconds=1))
    if AWAITING_INPUT_SUPPORTED:
        raise compat.TaskAwaitingInput(method_name=METHOD, timeout=left)
    trigger = compat.HITLTrigger(ti_id=ti_id, timeout_datetime=step.until, **question)
    raise TaskDeferred(trigger=trigger, method_name=METHOD, timeout=left + _TRIGGER_GRACE_PERIOD)


def _check_shown(shown: str, step: AskStep) -> None:
    """Check that the text of an earlier try, which Airflow still shows, allows what is asked for now.

    :raises AirflowFailException: it does not.
    """
    if _ANY_AMOUNT in shown:
        return
    found = _AMOUNT.search(shown)
    allowed = Decimal(found[1]) if found else Decimal(0)
    if step.most is not None and step.most <= allowed * (1 + TOLERANCE):
        log.warning(
            "Airflow shows this question as it was asked first, before a retry or a clear. Now: %s.",
            ", ".join(f"{name.lower()} {text}" for name, text in step.question.amounts()),
        )
        return
    now = "is not known now" if step.most is None else f"may be ${rounded_usd(step.most)} now"
    error = ApprovalRejectedError(
        f"The cost {now}, but Airflow shows the question of an earlier try, up to ${rounded_usd(allowed)}.",
        "Nothing was sent for it.",
        "Airflow keeps the first question of a task instance, whatever a retry or a clear asks. A new run of the DAG "
        "asks with the new amount. Or raise approve_above.",
    )
    raise AirflowFailException(str(error))


def apply_answer(event: Mapping[str, Any], work: Asking) -> None:
    """Hand the answer in Airflow's event to the submission. An event without one leaves the question open."""
    chosen, user = event.get("chosen_options"), event.get("responded_by_user")
    at = _moment(event.get("responded_at"))
    if isinstance(chosen, list | tuple) and chosen:
        by = _name(user)
        timed_out = bool(event.get("timedout")) or (by is None and APPROVE not in chosen)
        work.answer(approved=list(chosen) == [APPROVE], by=by, at=at, timed_out=timed_out)
    elif event.get("error_type") == "timeout":
        work.answer(approved=False, by=None, at=at, timed_out=True)
    elif event.get("error"):
        log.warning("Airflow could not take the answer: %s", event["error"])


def raise_rejection(error: ApprovalRejectedError, *, skips: bool) -> NoReturn:
    """End the task after a rejection. A retry would not ask again, so that there is none.

    :raises AirflowSkipException: ``on_rejected`` is ``skip``.
    :raises AirflowFailException: it is ``fail``.
    """
    if skips:
        log.warning("%s\nThe task is skipped: on_rejected='skip'.", error)  # Airflow shows no reason of a skip
        raise AirflowSkipException(error.summary)
    raise AirflowFailException(str(error)) from None


def body(step: AskStep, run: TaskRun) -> str:
    """Write what a person decides by, as Markdown."""
    return "\n".join(_body(step, run))


def _body(step: AskStep, run: TaskRun) -> Iterator[str]:
    ti, question, until = run.ti, step.question, step.until
    mapped = f"[{ti.map_index}]" if ti.map_index not in (None, -1) else ""
    # The first row is the table's head: an empty one is shown as an empty row. Code is shown as a block (Airflow 3.1).
    yield f"| Task | {_plain(f'{ti.dag_id}.{ti.task_id}{mapped}')} |"
    yield "|---|---|"
    yield f"| **Run** | {_plain(ti.run_id)} |"
    for name, text in question.amounts():
        yield f"| **{name}** | {_plain(text)} |"
    yield ""
    for sentence in question.sentences():
        yield f"- {_plain(sentence)}"
    yield ""
    more = " more" if question.answered else ""
    yield (
        f"**Approve** sends exactly these requests. **Reject** sends nothing{more}. Without an answer until "
        f"{until:%Y-%m-%d %H:%M} UTC it counts as rejected. Asked because the cost may be above "
        f"approve\\_above, ${rounded_usd(question.approve_above)}."
    )
    yield ""
    holds = _ANY_AMOUNT if step.most is None else f"An approval holds up to ${exact_usd(step.most)} in all."
    stays = " This text stays as it is after a retry or a clear of the task. Its log has the figures of then."
    yield holds + (stays if FIRST_QUESTION_STAYS else "")


def _plain(text: str) -> str:
    """Return Markdown that shows this text."""
    return _MARKDOWN.sub(r"\\\g<0>", text).replace("\n", " ")


def _moment(value: Any) -> datetime:
    """Return when the answer came. Before Airflow 3.3 it is a DateTime of pendulum, which the ledger does not take."""
    answered = value if isinstance(value, datetime) and value.tzinfo else timezone.utcnow()
    return datetime.fromtimestamp(answered.timestamp(), UTC)


def _name(user: Any) -> str | None:
    """Return the name of who answered, or the id. From Airflow 3.3 on it is a dict."""
    for field in ("name", "id"):
        value = user.get(field) if isinstance(user, Mapping) else getattr(user, field, None)
        if value:
            return str(value)
    return None
