"""The decision whether a person must be asked, without anything around it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from airflow_claude_batch.batch.ledger.approval import Approval, ApprovalState
from airflow_claude_batch.batch.ledger.ledger import Ledger
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.send.approval import Verdict, decide

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ABOVE_50 = Policy(approve_above=Decimal(50))
WITH_SAMPLE = Policy(approve_above=Decimal(50), sample=20)
SAMPLED = {"state": ApprovalState.SAMPLED, "sampled": 20}


def ledger(approval: dict[str, Any] | None = None, *, round_: int = 0) -> Ledger:
    known = Approval(**{"input": "d", **approval}) if approval else msgspec.UNSET
    return Ledger(submission_id="s", input_digest="d", attempt="a", attempt_began_at=NOW, round=round_, approval=known)


def approved(usd: str | None, **more: Any) -> dict[str, Any]:
    return {"state": ApprovalState.APPROVED, "usd": usd, **more}


@pytest.mark.parametrize(
    ("policy", "known", "round_", "most", "unsent", "expected"),
    [
        pytest.param(Policy(), None, 0, None, 9, Verdict.SEND, id="nobody is to be asked"),
        pytest.param(ABOVE_50, None, 0, "50", 9, Verdict.SEND, id="at the amount"),
        pytest.param(ABOVE_50, None, 0, "50.01", 9, Verdict.ASK, id="above the amount"),
        pytest.param(ABOVE_50, None, 0, None, 9, Verdict.ASK, id="not known"),
        pytest.param(ABOVE_50, approved("60"), 0, "60", 9, Verdict.SEND, id="approved"),
        pytest.param(ABOVE_50, approved("60"), 0, "61", 9, Verdict.SEND, id="counted a little differently"),
        pytest.param(ABOVE_50, approved("60"), 0, "62", 9, Verdict.ASK, id="grown"),
        pytest.param(ABOVE_50, approved("60"), 0, None, 9, Verdict.ASK, id="not known any more"),
        pytest.param(ABOVE_50, approved(None), 0, "900", 9, Verdict.SEND, id="any amount approved"),
        pytest.param(ABOVE_50, approved("60", input="e"), 0, "60", 9, Verdict.ASK, id="other requests approved"),
        pytest.param(ABOVE_50, approved("60"), 1, "60", 9, Verdict.SEND, id="repair within what was approved"),
        pytest.param(ABOVE_50, approved("60"), 1, "60.01", 9, Verdict.TOO_MUCH, id="repair above it"),
        pytest.param(ABOVE_50, None, 1, "51", 9, Verdict.TOO_MUCH, id="repair that nobody was asked for"),
        pytest.param(ABOVE_50, {"state": ApprovalState.REJECTED}, 0, "60", 9, Verdict.REFUSED, id="rejected"),
        pytest.param(ABOVE_50, {"state": ApprovalState.TIMED_OUT}, 0, "60", 9, Verdict.REFUSED, id="timed out"),
        pytest.param(ABOVE_50, {"state": ApprovalState.REJECTED}, 0, "49", 9, Verdict.REFUSED, id="amount raised"),
        pytest.param(ABOVE_50, {"state": ApprovalState.ASKED}, 0, "60", 9, Verdict.ASK, id="asked, not answered"),
        pytest.param(WITH_SAMPLE, None, 0, "60", 21, Verdict.SAMPLE, id="sample first"),
        pytest.param(WITH_SAMPLE, None, 0, "60", 20, Verdict.SEND, id="sample is all"),
        pytest.param(WITH_SAMPLE, None, 1, "60", 20, Verdict.SEND, id="repair where the sample was all"),
        pytest.param(WITH_SAMPLE, None, 0, "50", 21, Verdict.SEND, id="no sample without a question"),
        pytest.param(WITH_SAMPLE, SAMPLED, 0, "60", 15, Verdict.ASK, id="sample has ended"),
    ],
)
def test_decision(
    policy: Policy, known: dict[str, Any] | None, round_: int, most: str | None, unsent: int, expected: Verdict
) -> None:
    assert decide(ledger(known, round_=round_), policy, most and Decimal(most), unsent) is expected


def test_time_that_a_question_was_open_is_that_of_its_own_attempt() -> None:
    asked = Approval(
        input="d", state=ApprovalState.ASKED, attempt="a", asked_at=NOW, until=NOW + timedelta(hours=2), usd="60"
    )

    assert asked.waited("a", NOW + timedelta(hours=1)) == timedelta(hours=1)
    assert asked.waited("a", NOW + timedelta(hours=3)) == timedelta(hours=2)
    assert asked.waited("b", NOW + timedelta(hours=1)) == timedelta()
    early = msgspec.structs.replace(asked, answered_at=NOW - timedelta(minutes=1))  # the clock of Airflow's server
    assert early.waited("a", NOW) == timedelta()


STORED = (
    b'{"submission_id":"s","input_digest":"d","attempt":"a","attempt_began_at":"2026-01-01T00:00:00Z","try_number":1,'
    b'"generation":0,"round":0,"parts":[{"token":"t","first":2,"last":9,"count":3,"size":50,"attempt":"a","round":0,'
    b'"intended_at":"2026-01-01T00:00:00Z","batch_id":"msgbatch_1","sample":[2,5,9]}],"settled":[],"dropped":[],'
    b'"timed_out":false,"created_at":null,"ended_at":null,"estimate":null,"approval":{"input":"d","state":"approved",'
    b'"attempt":"a","asked_at":"2026-01-01T00:00:00Z","until":"2026-01-02T00:00:00Z","usd":"60","expected_usd":"15",'
    b'"by":"ann","answered_at":"2026-01-01T01:00:00Z","sampled":3},"version":1}'
)


def test_stored_form_stays_as_it_is() -> None:
    known = msgspec.json.decode(STORED, type=Ledger)

    assert msgspec.json.encode(known) == STORED
    assert known.approval
    assert known.approval.permits("d", Decimal(60))
    assert list(known.indices_of("msgbatch_1")) == [2, 5, 9]
