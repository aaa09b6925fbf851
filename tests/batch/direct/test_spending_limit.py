"""How much direct requests may still cost, by the limits of the submission and what may have been billed already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from airflow_claude_batch.api.wire import BilledUsage, decode_usage
from airflow_claude_batch.batch.direct.memory import DirectMemory
from airflow_claude_batch.batch.direct.request import DirectRequest
from airflow_claude_batch.batch.direct.spending_limit import SpendingLimit
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_writer import write_requests
from airflow_claude_batch.batch.ledger.approval import Approval, ApprovalState
from airflow_claude_batch.batch.ledger.ledger import DirectRecord, Ledger
from airflow_claude_batch.batch.money.bill import Bill
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.exceptions import CostLimitError

BATCH = PriceTable.load()
TOKEN = "0123456789ab"
PARAMS: dict[str, Any] = {
    "model": "claude-haiku-5-5",
    "max_tokens": 1000,
    "messages": [{"role": "user", "content": "hello"}],
}


EMPTY = Ledger(
    submission_id="s", input_digest="digest", attempt="a", attempt_began_at=datetime(2026, 11, 1, tzinfo=UTC)
)


def usage_of(raw: bytes) -> BilledUsage | None:
    return decode_usage(msgspec.Raw(raw))


def approval(state: ApprovalState, usd: str | None) -> Approval:
    return Approval(input="digest", state=state, usd=usd)


@dataclass
class Attempt:
    """The facts that the limit is decided by."""

    requests: RequestFile
    folder: LocalFolder
    policy: Policy = field(default_factory=Policy)
    ledger: Ledger = EMPTY
    lost: set[int] = field(default_factory=set)
    asked_again: set[int] = field(default_factory=set)

    @property
    def limit(self) -> SpendingLimit:
        memory = DirectMemory.of(self.folder, self.ledger)
        memory.lost |= self.lost
        memory.asked_again |= self.asked_again
        return SpendingLimit(
            policy=self.policy, ledger=self.ledger, requests=self.requests, prices=BATCH.full, memory=memory
        )

    def bound(self, index: int) -> Decimal:
        bound = DirectRequest.of(index, bytes(self.requests.params(index)), BATCH.full).bound
        assert bound
        return bound

    def with_unseen(self, *custom_ids: str) -> None:
        self.ledger = msgspec.structs.replace(self.ledger, direct=DirectRecord(unseen=custom_ids))


@pytest.fixture
def attempt(tmp_path: Path) -> Iterator[Attempt]:
    path = tmp_path / "requests.jsonl"
    with path.open("wb") as file:
        # Longer prompts cost more, so that no two requests have the same bound.
        contents = ("hello " * 100 * (index + 1) for index in range(3))
        prompts = ([{"role": "user", "content": content}] for content in contents)
        write_requests((Request(index, index, {**PARAMS, "messages": p}) for index, p in enumerate(prompts)), file)
    with RequestFile(path) as requests:
        yield Attempt(requests, LocalFolder(tmp_path / "submission"))


@pytest.mark.parametrize(
    ("policy", "given", "lowest"),
    [
        pytest.param(Policy(), None, None, id="no limit"),
        pytest.param(Policy(max_cost=Decimal(3)), None, (Decimal(3), "max_cost"), id="max_cost"),
        pytest.param(
            Policy(max_cost=Decimal(3), max_cost_name="[claude_batch] max_cost"),
            None,
            (Decimal(3), "[claude_batch] max_cost"),
            id="name of the setting",
        ),
        pytest.param(Policy(approve_above=Decimal(2)), None, (Decimal(2), "approve_above"), id="nobody was asked"),
        pytest.param(
            Policy(approve_above=Decimal(2)),
            approval(ApprovalState.ASKED, "9"),
            (Decimal(2), "approve_above"),
            id="nobody has answered",
        ),
        pytest.param(
            Policy(approve_above=Decimal(2)),
            approval(ApprovalState.APPROVED, "9"),
            (Decimal(9), "the approved cost"),
            id="approved",
        ),
        pytest.param(
            Policy(approve_above=Decimal(2)),
            approval(ApprovalState.APPROVED, None),
            None,
            id="approved at any cost",
        ),
        pytest.param(
            Policy(max_cost=Decimal(5), approve_above=Decimal(2)),
            approval(ApprovalState.APPROVED, "9"),
            (Decimal(5), "max_cost"),
            id="max_cost below the approved cost",
        ),
    ],
)
def test_lowest_limit_decides(
    attempt: Attempt, policy: Policy, given: Approval | None, lowest: tuple[Decimal, str] | None
) -> None:
    attempt.policy = policy
    if given is not None:
        attempt.ledger = msgspec.structs.replace(attempt.ledger, approval=given)
    assert attempt.limit.lowest == lowest


def test_without_a_limit_any_amount_may_be_spent(attempt: Attempt) -> None:
    assert attempt.limit.room(Bill(BATCH)) is None


def test_what_was_billed_and_what_may_have_been_is_subtracted(attempt: Attempt) -> None:
    attempt.policy = Policy(max_cost=Decimal(1))
    bill = Bill(BATCH)
    bill.add_usage(usage_of(b'{"input_tokens": 1000, "output_tokens": 1000}'), "claude-haiku-5-5")
    assert bill.cost
    left = 1 - bill.cost.usd
    assert attempt.limit.room(bill) == left

    attempt.with_unseen(attempt.requests.custom_id(0, TOKEN))
    attempt.lost = {1}
    attempt.asked_again = {1, 2}
    assert attempt.limit.room(bill) == left - attempt.bound(0) - 2 * attempt.bound(1) - attempt.bound(2)


def test_requests_in_flight_of_another_input_have_no_bound(attempt: Attempt) -> None:
    attempt.policy = Policy(max_cost=Decimal(1))
    other = f"{TOKEN}-0-{'x' * 22}"
    attempt.with_unseen(other, "not one of ours")
    assert attempt.limit.room(Bill(BATCH)) == 1


@pytest.mark.parametrize(
    ("model", "usage"),
    [("claude-unpriced-9", b'{"input_tokens": 1}'), ("claude-haiku-5-5", b'"in another form"')],
    ids=["no price", "usage in an unknown form"],
)
def test_nothing_is_asked_while_it_is_not_known_what_was_spent(attempt: Attempt, model: str, usage: bytes) -> None:
    attempt.policy = Policy(max_cost=Decimal(1))
    bill = Bill(BATCH)
    bill.add_usage(usage_of(usage), model)
    with pytest.raises(CostLimitError, match="max_cost cannot be held"):
        attempt.limit.room(bill)
