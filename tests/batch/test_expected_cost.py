"""The expected cost beside the bill, run by run of one task against the simulator; and what each run leaves behind."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from submission_world import TEN, World, fails_first, make_world

from airflow_claude_batch.batch.input.elements import Defaults
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.land.run_record import run_of
from airflow_claude_batch.batch.money.run_history import Run, add_run
from airflow_claude_batch.batch.policy import Policy

HAIKU, OPUS = "claude-haiku-5-5", "claude-opus-5-5"
DEFAULTS = Defaults(model=HAIKU, max_tokens=2_000)
HANDBOOK = {"type": "text", "text": "The handbook. " * 1_500, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
ONE_PART = Policy()


def day(rng: random.Random) -> list[Any]:
    """Make the requests of a day: two models, one of them with a cached prefix, prompts of any length."""
    short = [
        {"messages": [{"role": "user", "content": "x" * rng.randint(50, 4_000)}], "model": HAIKU, "key": number}
        for number in range(80)
    ]
    return [
        *short,
        *(
            {**element, "model": OPUS, "key": f"opus {element['key']}", "system": [HANDBOOK], "max_tokens": 1_000}
            for element in short[:40]
        ),
    ]


def answers(rng: random.Random, *, mean: float = 90) -> Callable[..., dict[str, Any]]:
    """Answer with texts of very different lengths: half of them between 56 % and 125 % of the mean."""
    known: dict[str, str] = {}

    def answer(params: dict[str, Any], n: int, custom_id: str) -> str:
        return known.setdefault(custom_id, "y" * round(4 * mean * rng.lognormvariate(-0.18, 0.6)))

    return answer  # type: ignore[return-value]


def error_of(manifest: Manifest) -> float:
    """Return how far the expected cost was from the bill."""
    assert manifest.cost is not None
    usd = Decimal(manifest.cost["usd"])
    return float(abs(Decimal(manifest.cost["estimated_usd"]) - usd) / usd)


def one_run(
    path: Path, messages: list[Any], runs: tuple[Run, ...], policy: Policy = ONE_PART, **options: Any
) -> Manifest:
    path.mkdir()
    world = make_world(path, **options)
    world.runs = runs
    return world.run(messages, policy, defaults=DEFAULTS).manifest


def recorded(manifest: Manifest, runs: tuple[Run, ...], number: int) -> tuple[Run, ...]:
    run = run_of(manifest)
    assert run is not None
    return add_run(runs, msgspec.structs.replace(run, submission_id=f"{number}"))


def test_expectation_is_within_15_percent_of_the_bill_from_the_third_run_on(tmp_path: Path) -> None:
    rng, runs = random.Random(3), tuple[Run, ...]()
    errors = []
    for number in range(6):
        manifest = one_run(tmp_path / f"{number}", day(rng), runs, answer=answers(rng))
        errors.append(error_of(manifest))
        runs = recorded(manifest, runs, number)
        assert manifest.estimate is not None
        assert manifest.estimate.get("expected_from_runs", 0) == min(number, 5)

    assert errors[0] > 0.5  # the guess
    assert max(errors[1:]) <= 0.15
    assert set(runs[-1].models) == {HAIKU, OPUS}
    assert runs[-1].models[OPUS].cache_read_tokens > 0


def test_one_odd_run_costs_the_others_nothing(tmp_path: Path) -> None:
    rng, runs = random.Random(5), tuple[Run, ...]()
    for number in range(4):
        mean = 700 if number == 2 else 90
        manifest = one_run(tmp_path / f"{number}", day(rng), runs, answer=answers(rng, mean=mean))
        runs = recorded(manifest, runs, number)

    assert error_of(manifest) <= 0.15


# ---------------------------------------------------------------- what a run leaves behind


def used(manifest: Manifest) -> tuple[int, int, int]:
    """Return answered requests, their output tokens and the sum of their max_tokens."""
    run = run_of(manifest)
    assert run is not None
    (part,) = run.models.values()
    return part.requests, part.output_tokens, part.max_tokens


def world_of(path: Path, **options: Any) -> World:
    return make_world(path, answer=lambda params, n: "y" * 40, **options)  # 10 tokens


def test_run_notes_what_its_answers_used(tmp_path: Path) -> None:
    manifest = world_of(tmp_path).run(TEN, Policy(max_requests=4)).manifest

    run = run_of(manifest)

    assert run is not None
    assert used(manifest) == (10, 100, 640)
    assert run.seconds == 90.0
    part = run.models[HAIKU]
    assert part.estimated_input_tokens == part.input_tokens > 10
    assert part.usd == Decimal((manifest.cost or {})["usd"])


def test_requests_without_an_answer_leave_no_trace(tmp_path: Path) -> None:
    outcome = fails_first(9, "expired", 1, 2, 3, 4)

    assert used(world_of(tmp_path, outcome=outcome).run(TEN, Policy(allow_failed=9)).manifest) == (6, 60, 384)


def test_try_that_sends_the_rest_completes_the_record(tmp_path: Path) -> None:
    world = world_of(tmp_path, outcome=fails_first(1, "expired", 1, 2, 3))
    first = world.run(TEN, Policy(repair_rounds=0)).manifest
    then = world.run(TEN, Policy(repair_rounds=0)).manifest

    one, other = run_of(first), run_of(then)
    assert (used(first)[0], used(then)) == (7, (10, 100, 640))
    assert one is not None
    assert other is not None
    assert len(add_run((one,), other)) == 1


def test_clear_of_a_changed_input_notes_only_what_it_sends(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    world.run(TEN, Policy())

    manifest = world.run([*TEN, "question 10", "question 11"], Policy(), clear=True).manifest

    assert manifest.counts["succeeded"] == 12
    assert used(manifest) == (2, 20, 128)


def test_reused_answers_leave_no_trace(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    world = world_of(tmp_path / "first")
    world.run(TEN, Policy(), store={})

    manifest = world.another("second").run([*TEN, "question 10", "question 11"], Policy(), store={}).manifest
    nothing_sent = world.another("third").run(TEN, Policy(), store={}).manifest

    assert manifest.counts["succeeded"] == 12
    assert used(manifest) == (2, 20, 128)
    assert run_of(nothing_sent) is None


def test_duplicates_leave_no_trace(tmp_path: Path) -> None:
    manifest = world_of(tmp_path).run([*TEN, *TEN], Policy(), deduplicate=True).manifest

    assert used(manifest) == (10, 100, 640)


@pytest.mark.parametrize(
    "change",
    [
        {"status": "in_progress"},
        {"created_at": None},
        {"estimate": None},
        {"estimate": {"requests": 10}},
        {"estimate": {"models": {HAIKU: {"requests": 10, "usd_per_million": None}}}},
        {"estimate": {"models": {"claude-next": {"requests": 10, "max_tokens": 64, "input_tokens": 9}}}},
        {"by_model": {HAIKU: {"counts": {"succeeded": 10}, "usage": {"output_tokens": 2**63}, "usd": None}}},
        {"by_model": {HAIKU: {"counts": {"errored": 10}, "usage": {}, "usd": "0"}}},
        {"by_model": {HAIKU: {"counts": [], "usage": {}, "usd": "0"}}},
    ],
    ids=[
        "in progress",
        "no batch",
        "no estimate",
        "other release",
        "earlier release",
        "another model",
        "huge",
        "no answer",
        "odd",
    ],
)
def test_manifest_that_says_too_little_leaves_no_record(change: dict[str, Any], tmp_path: Path) -> None:
    manifest = world_of(tmp_path).run(TEN, Policy()).manifest

    assert run_of(msgspec.structs.replace(manifest, **change)) is None


def test_model_that_an_alias_stands_for_is_noted_under_the_alias(tmp_path: Path) -> None:
    """Without a price it is not known that both are one model."""
    manifest = world_of(tmp_path).run(TEN, Policy()).manifest
    asked = {"claude-novella-7": {"requests": 10, "max_tokens": 640, "input_tokens": 40}}
    answered = {"claude-novella-7-20261101": manifest.by_model[HAIKU]}

    run = run_of(msgspec.structs.replace(manifest, estimate={"models": asked}, by_model=answered))

    assert run is not None
    assert list(run.models) == ["claude-novella-7"]


def test_time_that_is_not_plausible_is_left_out(tmp_path: Path) -> None:
    manifest = world_of(tmp_path).run(TEN, Policy()).manifest
    assert manifest.created_at is not None

    for ended_at in (None, manifest.created_at, manifest.created_at.replace(year=2999)):
        run = run_of(msgspec.structs.replace(manifest, ended_at=ended_at))
        assert run is not None
        assert run.seconds is None


@pytest.mark.parametrize(("minutes", "seconds"), [(-5, 90.0), (1, None)], ids=["before sending", "after a sample"])
def test_time_in_which_a_person_was_asked_is_left_out(minutes: int, seconds: float | None, tmp_path: Path) -> None:
    manifest = world_of(tmp_path).run(TEN, Policy()).manifest
    assert manifest.created_at is not None
    approval = {"by": "ada", "at": (manifest.created_at + timedelta(minutes=minutes)).isoformat(), "usd": "1"}

    run = run_of(msgspec.structs.replace(manifest, approval=approval))

    assert run is not None
    assert run.seconds == seconds


def test_answers_at_full_price_and_a_time_that_was_cut_are_not_expected_again(tmp_path: Path) -> None:
    policy = Policy(timeout=timedelta(hours=1), on_timeout="ask_directly", direct_concurrency=2)

    manifest = one_run(tmp_path / "run", TEN, (), policy, batch_seconds=36_000, cancel_succeeded_share=0.5)

    run = run_of(manifest)
    assert run is not None
    assert manifest.direct
    assert (run.seconds, run.models[HAIKU].usd) == (None, None)
    assert run.models[HAIKU].requests == 10
