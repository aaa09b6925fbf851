"""A submission that a person must approve, with and without a sample, from attempt to attempt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import ROUND_UP, Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from batch.send.day_budgets import Store
from submission_world import DEFAULTS, TEN, World, fails_first, make_world

from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch.collection import Collection
from airflow_claude_batch.batch.input.request_file import RequestFile, open_requests
from airflow_claude_batch.batch.money.day_limit import DayLimit
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.steps import AskStep, DoneStep
from airflow_claude_batch.batch.submission import Submission
from airflow_claude_batch.exceptions import ApprovalRejectedError, BatchTimeoutError, CostLimitError
from airflow_claude_batch.simulator.faults import Fault

ASKS = Policy(approve_above=Decimal(0))
SAMPLES = Policy(approve_above=Decimal(0), sample=3)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def asked(world: World, submission: Submission) -> AskStep:
    step = world.advance(submission)
    assert isinstance(step, AskStep), step
    return step


def approve(world: World, submission: Submission) -> None:
    submission.answer(approved=True, by="ann", at=world.clock.now())


def reject(world: World, submission: Submission) -> None:
    submission.answer(approved=False, by="ann", at=world.clock.now())


@contextmanager
def question(world: World, messages: list[Any], policy: Policy, **how: Any) -> Iterator[tuple[Submission, AskStep]]:
    """Begin a try and run it to its question."""
    with world.attempt(messages, policy, **how) as submission:
        yield submission, asked(world, submission)


def batch_sizes(world: World) -> list[int]:
    return [batch["request_count"] for batch in world.simulator.books()["batches"]]


def test_upper_bound_below_the_amount_asks_nobody(world: World) -> None:
    step = world.run(TEN, Policy(approve_above=Decimal(50), sample=3))

    assert step.failure is None
    assert world.billed == 10
    assert step.manifest.approval is msgspec.UNSET
    stored = [path.read_bytes() for path in (world.path / "submission").glob("*.json")]
    assert len(stored) > 1
    assert not any(b"approval" in data for data in stored)


def test_question_names_model_requests_and_amounts_and_nothing_is_sent_before_the_answer(world: World) -> None:
    with question(world, TEN, ASKS) as (submission, ask):
        assert ask.question.requests == {"claude-haiku-5-5": 10}
        assert ask.question.expected is not None
        assert ask.question.most is not None
        assert 0 < ask.question.expected < ask.question.most
        assert ask.question.subject.startswith("Send 10 requests to Claude for up to $0.")
        assert ask.until == world.clock.now() + timedelta(hours=24)
        assert ask.question.answered is None
        assert batch_sizes(world) == []
        approve(world, submission)
        done = world.finish(submission)

    assert done.failure is None
    assert world.billed == 10
    assert done.manifest.approval == {
        "by": "ann",
        "at": (ask.until - timedelta(hours=24)).isoformat(),
        "usd": f"{ask.question.most.normalize():f}",
    }


def test_retry_and_clear_of_approved_requests_ask_nobody(world: World) -> None:
    with question(world, TEN, ASKS) as (submission, _):
        approve(world, submission)  # and the process dies

    assert world.run(TEN, ASKS).failure is None
    assert world.run(TEN, ASKS, clear=True).failure is None
    assert world.billed == 10


def test_attempt_that_got_no_answer_is_followed_by_one_that_asks_again(world: World) -> None:
    with question(world, TEN, ASKS):
        pass
    world.clock.advance(3600)

    with question(world, TEN, ASKS) as (_, ask):
        assert ask.until == world.clock.now() + timedelta(hours=24)


def test_changed_input_asks_again(world: World) -> None:
    with question(world, TEN, ASKS) as (submission, _):
        approve(world, submission)

    with question(world, [*TEN, "question 10"], ASKS) as (_, ask):
        assert ask.question.requests == {"claude-haiku-5-5": 11}


def test_answer_to_a_question_about_other_requests_is_ignored(world: World) -> None:
    with question(world, TEN, ASKS):
        pass
    with world.attempt([*TEN, "question 10"], ASKS) as submission:
        approve(world, submission)
        assert isinstance(world.advance(submission), AskStep)


def test_clear_that_pays_for_everything_again_asks_again(world: World) -> None:
    with question(world, TEN, ASKS) as (submission, _):
        approve(world, submission)
        world.finish(submission)

    with question(world, TEN, ASKS, clear=True, reuse_answers=False):
        pass


@pytest.mark.parametrize("on_rejected", ["fail", "skip"])
def test_rejection_sends_nothing_and_lasts_until_a_clear(on_rejected: Any, world: World) -> None:
    policy = Policy(approve_above=Decimal(0), on_rejected=on_rejected)
    with question(world, TEN, policy) as (submission, _):
        reject(world, submission)
        done = world.finish(submission)
    retried = world.run(TEN, policy)

    for step in (done, retried):
        assert isinstance(step.failure, ApprovalRejectedError)
        assert str(step.failure).startswith("ann rejected the submission, which may cost up to $0.")
        assert "Nothing was sent for it." in str(step.failure)
        assert (step.permanent, step.skips) == (True, on_rejected == "skip")
    with question(world, TEN, policy, clear=True) as (submission, _):
        approve(world, submission)
        assert world.finish(submission).failure is None
    assert world.billed == 10


def test_question_without_an_answer_in_time_counts_as_rejected(world: World) -> None:
    with question(world, TEN, Policy(approve_above=Decimal(0), approval_timeout=timedelta(hours=2))) as (submission, _):
        world.clock.advance(3600)
        assert isinstance(submission.advance(), AskStep)  # resumed without an answer
        world.clock.advance(3600)
        step = world.finish(submission)

    assert "Nobody approved the submission within 2:00:00." in str(step.failure)
    assert step.permanent


def test_time_in_which_a_person_is_asked_does_not_count_for_the_timeout(world: World) -> None:
    policy = Policy(approve_above=Decimal(0), timeout=timedelta(hours=1))
    with question(world, TEN, policy) as (submission, _):
        world.clock.advance(20 * 3600)
        approve(world, submission)
        world.clock.advance(600)
        assert world.finish(submission).failure is None


#: Their lengths bound the cost far above their counted tokens.
LONG = [f"{text} {'word ' * 900}" for text in TEN]


@pytest.mark.parametrize("same_try", [True, False], ids=["after the answer", "in a retry"])
def test_approved_requests_wait_until_tokens_can_be_counted_again(same_try: bool, world: World) -> None:
    fault = Fault(do="status", on="count_tokens", status=529, times=3)
    with question(world, LONG, ASKS) as (submission, _):
        approve(world, submission)
        if same_try:
            world.simulator.inject(fault)
            assert world.finish(submission).failure is None
    if not same_try:
        world.simulator.inject(fault)
        assert world.run(LONG, ASKS).failure is None
    assert world.billed == 10


def test_requests_that_were_not_counted_when_they_were_approved_need_no_count(world: World) -> None:
    world.simulator.inject(Fault(do="status", on="count_tokens", status=529, times=None))
    with question(world, LONG, ASKS) as (submission, _):
        approve(world, submission)
    assert world.run(LONG, ASKS).failure is None


def test_grown_estimate_is_asked_for_again(world: World) -> None:
    with question(world, TEN, ASKS) as (submission, first):
        approve(world, submission)
    prices = {"claude-haiku-5-5": {"rates": {"output": "500"}}}

    with world.attempt(TEN, ASKS) as submission:
        replace_prices(submission, prices)
        ask = asked(world, submission)
        assert (ask.question.most or 0) > 2 * (first.question.most or 0)
        approve(world, submission)
        replace_prices(submission, {"claude-haiku-5-5": {"rates": {"output": "5000"}}})
        with pytest.raises(ApprovalRejectedError, match="was approved"):
            submission.advance()
    assert world.billed == 0


def replace_prices(submission: Submission, models: dict[str, Any]) -> None:
    """Change the price table of a running attempt, as another setting does between two processes."""
    submission.prices = PriceTable.load(overrides={"models": models})
    submission.__post_init__()


def test_model_without_a_price_is_asked_for_with_those_words(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    defaults = replace(DEFAULTS, model="claude-opus-5-5")
    with world.attempt(TEN, Policy(approve_above=Decimal(50)), defaults=defaults) as submission:
        submission.prices = without_price(submission.prices, "claude-opus-5-5")
        submission.__post_init__()
        ask = asked(world, submission)
        assert ask.question.subject == "Send 10 requests to Claude at a cost that is not known?"
        assert any("No price is known for claude-opus-5-5" in text for text in ask.question.sentences())
        approve(world, submission)
        step = world.finish(submission)
    assert (step.manifest.approval or {})["usd"] is None
    assert world.billed == 10


def without_price(prices: PriceTable, model: str) -> PriceTable:
    return PriceTable(prices.terms, {name: price for name, price in prices.models.items() if name != model})


def test_max_cost_is_checked_before_anybody_is_asked(world: World) -> None:
    with (
        world.attempt(TEN, Policy(approve_above=Decimal(0), max_cost=Decimal("0.000001"))) as submission,
        pytest.raises(CostLimitError),
    ):
        submission.advance()


def test_repair_round_within_the_approved_amount_is_sent(tmp_path: Path) -> None:
    world = make_world(tmp_path, outcome=fails_first(1, "expired", 2, 5))
    with question(world, TEN, ASKS) as (submission, _):
        approve(world, submission)
        step = world.finish(submission)

    assert step.failure is None
    assert batch_sizes(world) == [10, 2]


def test_repair_round_above_the_amount_is_left_out(tmp_path: Path) -> None:
    """Three in four answers cost nothing. Nobody was asked, since the whole was just below the amount."""
    world = make_world(tmp_path, outcome=fails_first(1, "errored:overloaded_error", 2))
    with world.attempt(TEN, ASKS) as submission:
        most = asked(world, submission).question.most
    assert most is not None
    with world.attempt(TEN, Policy(approve_above=most), clear=True) as submission:
        while not batch_sizes(world):
            submission.advance()
        world.clock.advance(120)
        replace_prices(submission, {"claude-haiku-5-5": {"rates": {"output": "5000"}}})
        step = world.finish(submission)

    assert batch_sizes(world) == [10]
    assert "No repair round was sent: With the requests to repair, the submission may cost" in str(step.failure)


def test_repair_round_of_few_requests_is_no_sample(tmp_path: Path) -> None:
    """Nobody was asked, since the whole was just below the amount."""
    world = make_world(tmp_path, outcome=fails_first(1, "expired", 2))
    with world.attempt(TEN, ASKS) as submission:
        most = asked(world, submission).question.most
    assert most is not None
    with world.attempt(TEN, Policy(approve_above=most, sample=3), clear=True) as submission:
        while not batch_sizes(world):
            submission.advance()
        world.clock.advance(120)
        replace_prices(submission, {"claude-haiku-5-5": {"rates": {"output": "5000"}}})
        world.finish(submission)

    assert batch_sizes(world) == [10]


# ------------------------------------------------------------------ a sample


def test_sample_goes_first_and_its_real_cost_is_in_the_question(world: World) -> None:
    with question(world, TEN, SAMPLES) as (submission, ask):
        answered = ask.question.answered
        assert batch_sizes(world) == [3]
        assert answered is not None
        assert (answered.sampled, answered.counts) == (3, {"succeeded": 3})
        assert answered.usd is not None
        assert answered.usd > 0
        assert ask.question.subject.startswith("Send 7 more requests to Claude for up to $")
        assert ask.question.requests == {"claude-haiku-5-5": 7}
        rows = [msgspec.json.decode(line) for line in Path(answered.rows).read_bytes().splitlines()]
        assert sum(Decimal(row["cost_usd"]) for row in rows) == answered.usd
        assert [row["status"] for row in rows] == ["succeeded"] * 3
        used = sum(row["usage"]["output_tokens"] for row in rows) / (3 * 64)
        assert ask.question.expected is not None
        assert ask.question.most is not None
        assert any(f"{used:.0%} of max_tokens" in text for text in ask.question.sentences())
        approve(world, submission)
        step = world.finish(submission)

    assert step.failure is None
    assert batch_sizes(world) == [3, 7]
    assert world.billed == 10
    assert [row["key"] for row in world.rows] == list(range(10))
    usd = Decimal((step.manifest.approval or {})["usd"])
    assert usd == answered.usd + ask.question.most


def test_sample_is_spread_over_the_kinds_of_requests(world: World) -> None:
    messages = [f"question {n}" + " word" * (2000 if n % 10 == 0 else 0) for n in range(40)]
    with question(world, messages, Policy(approve_above=Decimal(0), sample=10)) as (_, ask):
        lengths = [len(row["text"]) for row in world.rows]
        assert ask.question.answered is not None
    (batch,) = world.simulator.books()["batches"]
    assert len(lengths) == batch["request_count"] == 10
    indices = sorted(row["index"] for row in world.rows)
    assert sum(index % 10 == 0 for index in indices) == 1


def test_sample_of_all_requests_asks_nobody(world: World) -> None:
    step = world.run(TEN, Policy(approve_above=Decimal(0), sample=10))

    assert step.failure is None
    assert batch_sizes(world) == [10]


def test_retry_after_the_sample_sends_no_other_sample(world: World) -> None:
    with world.attempt(TEN, SAMPLES) as submission:
        submission.advance()  # the sample is out, and the process dies
    with question(world, TEN, SAMPLES):
        assert batch_sizes(world) == [3]
    with question(world, TEN, SAMPLES) as (submission, ask):
        assert ask.question.answered is not None
        assert ask.question.answered.sampled == 3
        reject(world, submission)
        step = world.finish(submission)
        assert "Only the sample of 3 requests was sent." in str(step.failure)
    with question(world, TEN, SAMPLES, clear=True) as (submission, ask):
        assert ask.question.answered is not None
        assert ask.question.answered.sampled == 3
        approve(world, submission)
        world.finish(submission)

    assert batch_sizes(world) == [3, 7]
    assert world.billed == 10


def test_sample_that_landed_just_before_a_kill_is_not_sent_again(world: World) -> None:
    with world.attempt(TEN, SAMPLES) as submission:
        submission.advance()
        world.clock.advance(120)
        save = submission.record.save

        def die(ledger: Any) -> None:
            save(ledger)
            if any(part.landed for part in ledger.parts):
                raise KeyboardInterrupt

        submission.record.save = die  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            submission.advance()
    with question(world, TEN, SAMPLES):
        assert batch_sizes(world) == [3]


def test_timeout_of_the_sample_sends_no_other_sample(tmp_path: Path) -> None:
    world = make_world(tmp_path, batch_seconds=10 * 3600)
    policy = replace(SAMPLES, timeout=timedelta(hours=1))
    assert isinstance(world.run(TEN, policy).failure, BatchTimeoutError)

    with question(world, TEN, policy) as (_, ask):
        assert ask.question.answered is not None
        assert ask.question.answered.sampled == 3
    assert batch_sizes(world) == [3]


def test_input_that_shrinks_while_the_sample_is_out_is_repaired(tmp_path: Path) -> None:
    world = make_world(tmp_path, outcome=fails_first(1, "expired", 0))
    with world.attempt(TEN, SAMPLES) as submission:
        submission.advance()
        assert submission.ledger.parts[0].last > 2

    assert world.run(TEN[:2], Policy()).failure is None
    assert [row["key"] for row in world.rows] == [0, 1]


def test_request_of_the_sample_without_an_answer_goes_out_with_the_rest(tmp_path: Path) -> None:
    world = make_world(tmp_path, outcome=fails_first(1, "expired", *range(10)))
    with question(world, TEN, SAMPLES) as (submission, ask):
        assert ask.question.answered is not None
        assert ask.question.answered.counts == {"expired": 3}
        assert ask.question.requests == {"claude-haiku-5-5": 10}
        approve(world, submission)
        step = world.finish(submission)

    assert step.failure is None
    assert batch_sizes(world) == [3, 10, 7]
    assert world.billed == 10


def test_duplicates_of_sampled_requests_are_answered_and_not_sent(world: World) -> None:
    with question(world, TEN + TEN, SAMPLES, deduplicate=True) as (submission, ask):
        assert sum(ask.question.requests.values()) == 7
        approve(world, submission)
        assert world.finish(submission).failure is None
    assert batch_sizes(world) == [3, 7]


def test_canary_is_the_sample(world: World) -> None:
    policy = Policy(approve_above=Decimal(0), sample=3, canary=True, warm_cache=True)
    with question(world, TEN, policy) as (submission, _):
        approve(world, submission)
        assert world.finish(submission).failure is None
    assert batch_sizes(world) == [3, 7]


def test_refused_sample_of_one_is_a_refused_canary(tmp_path: Path) -> None:
    world = make_world(tmp_path, outcome=lambda *_: "errored:invalid_request_error")
    step = world.run(TEN, Policy(approve_above=Decimal(0), sample=1, canary=True))

    (index,) = (row["index"] for row in world.rows if row["status"] == "errored")
    assert index > 0
    assert f"The request: key {index}: errored (invalid_request_error: " in str(step.failure)


def test_two_tasks_ask_before_they_send(world: World) -> None:
    policy = Policy(approve_above=Decimal(0), sample=3, wait_for_completion=False)
    with question(world, TEN, policy) as (submission, _):
        assert batch_sizes(world) == [3]
        approve(world, submission)
        step = world.advance(submission)
    assert isinstance(step, DoneStep)
    assert step.manifest.status == "in_progress"
    assert (step.manifest.approval or {})["by"] == "ann"
    assert batch_sizes(world) == [3, 7]
    world.clock.advance(120)
    landed = sense(world, step.manifest.batch_ids, policy)
    assert landed.manifest.counts["succeeded"] == 10
    assert landed.manifest.approval == step.manifest.approval


def sense(world: World, batch_ids: list[str], policy: Policy) -> DoneStep:
    """Land the rows as a sensor does."""
    config = ClientConfig(credentials=ApiKey("sk-test"), base_url="http://127.0.0.1:1", max_retries=0)
    scratch = world.path / "sensor"
    scratch.mkdir()

    def requests() -> RequestFile:
        found = open_requests(world.folder, scratch)
        assert found is not None
        return found

    with ClaudeClient(config, transport=world.simulator.transport(), sleep=lambda _: None) as client:
        step = Collection(
            client=client,
            submission_id="s",
            batch_ids=tuple(batch_ids),
            folder=world.folder,
            requests=requests,
            policy=policy,
            prices=PriceTable.load(),
            deadline=world.clock.now() + timedelta(hours=1),
            clock=world.clock.now,
            sleep=lambda _: None,
        ).advance()
    assert isinstance(step, DoneStep)
    return step


def test_input_that_changes_while_the_sample_is_out_uses_its_answers(world: World) -> None:
    with world.attempt(TEN, SAMPLES) as submission:
        submission.advance()
    with question(world, ["question 99", *TEN], SAMPLES) as (submission, _):
        approve(world, submission)
        assert world.finish(submission).failure is None
    assert world.billed == 11
    assert [row["key"] for row in world.rows] == list(range(11))


@pytest.mark.parametrize("policy", [ASKS, SAMPLES], ids=["no sample", "sample"])
def test_budget_of_the_day_holds_nothing_while_a_person_is_asked(policy: Policy, world: World) -> None:
    store = Store(now=world.clock.now())
    day = f"{store.now:%Y-%m-%d}"
    with world.attempt(TEN, policy) as submission:
        submission.day_budget = store.budget("a1")
        submission.__post_init__()
        ask = asked(world, submission)
        spent = ask.question.answered.usd if ask.question.answered else None
        assert store.sums(day) == ({} if spent is None else {"a1": (False, micro_usd(spent))})
        approve(world, submission)
        submission.advance()
        assert store.sums(day)["a1"][0]
        step = world.finish(submission)
    usd = Decimal((step.manifest.cost or {})["usd"])
    assert store.sums(day) == {"a1": (False, micro_usd(usd))}


def test_nobody_is_asked_for_more_than_a_day_may_cost(world: World) -> None:
    store = Store(now=world.clock.now())
    limit = DayLimit(usd=Decimal("0.00001"), name="[claude_batch] max_cost_per_day")
    with world.attempt(TEN, ASKS) as submission:
        submission.day_budget = replace(store.budget("a1"), limits=[limit])
        submission.__post_init__()
        with pytest.raises(CostLimitError, match="max_cost_per_day"):
            submission.advance()


def micro_usd(usd: Decimal) -> Decimal:
    return usd.quantize(Decimal("0.000001"), ROUND_UP)


def test_reused_answers_are_neither_asked_for_nor_sampled(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    earlier = make_world(tmp_path / "one")
    earlier.run(TEN, Policy(), store={})
    world = earlier.another("two")
    messages = [*TEN[:5], *(f"new question {number}" for number in range(7))]

    with world.attempt(messages, SAMPLES, store={}) as submission:
        ask = asked(world, submission)
        assert ask.question.requests == {"claude-haiku-5-5": 4}
        assert ask.question.answered is not None
        assert ask.question.answered.counts == {"succeeded": 3}
        approve(world, submission)
        step = world.finish(submission)

    assert step.failure is None
    assert step.manifest.counts["succeeded"] == 12
    assert (step.manifest.reused or {})["requests"] == 5
    assert earlier.billed == 17
    assert [row["index"] for row in world.rows] == list(range(12))
