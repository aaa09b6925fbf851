"""What is expected of a submission, from the earlier runs of its task."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import fmean

import pytest
from batch.money.estimates import MODEL, Counter, Params, estimated, params, usd_of
from batch.money.runs import DAY, model_run, run
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_claude_batch.batch.money.expectation import EXPECTED_FROM, GUESS, Expectations
from airflow_claude_batch.batch.money.run_history import MOST_RUNS, ModelRun, Run, add_run

HAIKU = "claude-haiku-5-5"
SHARED = {"type": "text", "text": "y" * 4_000, "cache_control": {"type": "ephemeral"}}


def expected_output(runs: Sequence[Run], *, max_tokens: int = 1_000, requests: int = 2) -> int:
    many = [params(max_tokens=max_tokens)] * requests
    return estimated(many, Counter(), expectations=Expectations(runs)).tokens.expected.output


# ---------------------------------------------------------------- what comes from the runs


def test_answers_are_expected_to_be_as_long_as_in_the_last_runs() -> None:
    assert expected_output([run(1, output=120)]) == 2 * 120


def test_only_the_last_runs_count() -> None:
    runs = [run(number, output=900 if number < 10 else 120) for number in range(10 + EXPECTED_FROM)]

    assert expected_output(runs) == 2 * 120


@pytest.mark.parametrize("max_tokens", [500, 4_000])
def test_another_limit_makes_answers_no_longer(max_tokens: int) -> None:
    assert expected_output([run(1, output=120)], max_tokens=max_tokens) == 2 * 120


def test_sample_of_the_same_submission_counts_more_than_earlier_runs() -> None:
    expectations = Expectations([run(1, output=120)], sampled_share=0.6)

    estimate = estimated([params(max_tokens=1_000)] * 2, Counter(), expectations=expectations)

    assert estimate.tokens.map(lambda tokens: tokens.output) == (2, 1_200, 2_000)
    assert "The expected output is 60% of max_tokens, as in the answers to the sample." in estimate.to_table()


def test_a_limit_below_the_usual_length_is_used_whole() -> None:
    assert expected_output([run(1, output=120)], max_tokens=50) == 2 * 50


def test_an_alias_and_its_model_share_their_runs() -> None:
    runs = [run(1, models={"claude-haiku-4-5-20251001": model_run(output=120)})]

    estimate = estimated([params(model="claude-haiku-4-5")], Counter(), expectations=Expectations(runs))

    assert estimate.models["claude-haiku-4-5"].expectation.runs == 1


def test_billed_tokens_correct_those_that_were_counted() -> None:
    expectations = Expectations([run(1, input_tokens=10_200, estimated_input_tokens=10_000)])
    many = [params("x" * (390 + number)) for number in range(40)]
    guess, estimate = estimated(many, Counter()), estimated(many, Counter(), expectations=expectations)

    assert estimate.tokens.expected.input == pytest.approx(guess.tokens.expected.input * 1.02, abs=2)


@pytest.mark.parametrize(
    ("billed", "written", "read"),
    [
        pytest.param({"cached_tokens": 900, "cache_read_tokens": 720}, 2_002, 8_008, id="most are read"),
        pytest.param({"cached_tokens": 900, "cache_read_tokens": 0}, 10_010, 0, id="all are written"),
        pytest.param({"cached_tokens": 0, "cache_read_tokens": 0}, 0, 0, id="too short for the cache"),
        pytest.param({"cached_tokens": 450, "cache_read_tokens": 450}, 0, 5_005, id="every second one"),
    ],
)
def test_cached_prefixes_are_expected_to_be_used_as_before(billed: dict[str, int], written: int, read: int) -> None:
    expectations = Expectations([run(1, estimated_cached_tokens=900, **billed)])
    many = [params(system=[SHARED]) for _ in range(10)]

    tokens = estimated(many, Counter(), expectations=expectations).tokens.expected

    assert (tokens.cache_write_5m, tokens.cache_read) == pytest.approx((written, read), abs=20)
    assert tokens.prompt == 10 * 1_100


def test_run_without_cached_tokens_says_nothing_of_cache_hits() -> None:
    assert Expectations([run(1)]).of(MODEL).cache_hits == GUESS.cache_hits


def test_time_of_the_last_runs_is_known() -> None:
    runs = [run(0, seconds=9_000.0), *(run(number, seconds=600.0 * number) for number in range(1, 5))]
    unknown = [run(number, seconds=None) for number in (5, 6)]

    assert Expectations([run(9, seconds=1.0), *runs, *unknown]).run_time == (600.0, 9_000.0, 5)
    assert Expectations(unknown).run_time is None


# ---------------------------------------------------------------- the choice of the median


def lengths_of_runs(rng: random.Random, *, odd: float | None) -> list[tuple[float, int]]:
    """Return the mean length of the answers of five runs, about 1, and their number. One run may be odd."""
    lengths = []
    for number in range(5):
        answers = rng.choice((20, 100, 500))
        mean = fmean(rng.lognormvariate(-0.18, 0.6) for _ in range(answers))  # half of them between 0.56 and 1.25
        lengths.append((mean * odd if odd and number == 2 else mean, answers))
    return lengths


def expected_by_median(lengths: list[tuple[float, int]]) -> float:
    runs = [
        run(number, requests=answers, output_tokens=round(length * 1_000 * answers))
        for number, (length, answers) in enumerate(lengths)
    ]
    output_tokens = Expectations(runs).of(MODEL).output_tokens
    assert output_tokens is not None
    return float(output_tokens / 1_000)


def expected_by_weighted_mean(lengths: list[tuple[float, int]]) -> float:
    return sum(length * answers for length, answers in lengths) / sum(answers for _, answers in lengths)


def errors(expected: Callable[[list[tuple[float, int]]], float], *, odd: float | None) -> list[float]:
    rng = random.Random(1)
    return sorted(abs(expected(lengths_of_runs(rng, odd=odd)) - 1) for _ in range(100))


def test_one_odd_run_moves_a_median_little_and_a_mean_far() -> None:
    for odd in (0.2, 5.0):
        by_median, by_mean = (errors(each, odd=odd) for each in (expected_by_median, expected_by_weighted_mean))

        assert by_median[95] < 0.15  # in 95 of 100 tasks
        assert fmean(by_mean) > 3 * fmean(by_median)


def test_the_median_of_runs_that_are_alike_is_about_as_good_as_a_mean() -> None:
    by_median, by_mean = (errors(each, odd=None) for each in (expected_by_median, expected_by_weighted_mean))

    assert by_median[95] < 0.10
    assert fmean(by_median) < 1.5 * fmean(by_mean)


# ---------------------------------------------------------------- bounds stay bounds

COUNTS = st.integers(0, 10**6) | st.integers(0, 2**53)
MODEL_RUNS = st.builds(ModelRun, **dict.fromkeys(set(ModelRun.__struct_fields__) - {"usd"}, COUNTS), usd=st.none())
REQUESTS = st.builds(
    lambda length, model, max_tokens, cached: params(
        "x" * length, model=model, max_tokens=max_tokens, **({"system": [SHARED]} if cached else {})
    ),
    st.integers(1, 3_000),
    st.sampled_from([MODEL, HAIKU]),
    st.integers(1, 1_000),
    st.booleans(),
)


@settings(max_examples=60)
@given(
    requests=st.lists(REQUESTS, min_size=1, max_size=25),
    runs=st.lists(st.dictionaries(st.sampled_from([MODEL, HAIKU]), MODEL_RUNS), max_size=6),
    fails_at=st.sampled_from([0, 3, None]),
)
def test_expectation_is_within_the_bounds_whatever_the_history_says(
    requests: list[Params], runs: list[dict[str, ModelRun]], fails_at: int | None
) -> None:
    guess = estimated(requests, Counter(fails_at=fails_at))
    history = [run(number, models=models) for number, models in enumerate(runs)]

    estimate = estimated(requests, Counter(fails_at=fails_at), expectations=Expectations(history))

    lower, expected, upper = usd_of(estimate)
    assert lower <= expected <= upper
    assert (lower, upper) == (usd_of(guess).lower, usd_of(guess).upper)
    for tokens in (estimate.tokens.map(lambda each: each.prompt), estimate.tokens.map(lambda each: each.output)):
        assert tokens.lower <= tokens.expected <= tokens.upper


# ---------------------------------------------------------------- in words and as JSON


def sentences(runs: Sequence[Run], models: Sequence[str] = (MODEL,)) -> list[str]:
    table = estimated(
        [params(model=model, max_tokens=1_000) for model in models], Counter(), expectations=Expectations(runs)
    ).to_table()
    return [line for line in table.splitlines() if line.startswith("The expected output")]


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        ([], "a guess, 25% of max_tokens: this task has no earlier run with this model"),
        ([run(1, output=120)], "12% of max_tokens, as in the last run"),
        ([run(number, output=4) for number in range(9)], "0.4% of max_tokens, as in the last 5 runs"),
    ],
    ids=["none", "one", "many"],
)
def test_estimate_says_where_the_expectation_comes_from(runs: list[Run], says: str) -> None:
    assert sentences(runs) == [f"The expected output is {says}."]


def test_models_with_different_expectations_have_a_sentence_each() -> None:
    assert sentences([run(1, output=120)], [HAIKU, MODEL]) == [
        f"The expected output of {HAIKU} is a guess, 25% of max_tokens: this task has no earlier run with it.",
        f"The expected output of {MODEL} is 12% of max_tokens, as in the last run.",
    ]
    assert sentences([], [HAIKU, MODEL]) == [
        "The expected output is a guess, 25% of max_tokens: this task has no earlier run with these models."
    ]


def test_manifest_says_where_the_expectation_comes_from() -> None:
    expectations = Expectations([run(1, output=120, seconds=720.0), run(2, output=120, seconds=2_400.0)])

    estimate = estimated([params(max_tokens=1_000)], Counter(), expectations=expectations)

    noted = {**estimate.to_manifest(), **estimate.models_to_manifest()}
    assert noted["output_share"] == 0.12
    assert noted["expected_from_runs"] == 2
    assert noted["expected_seconds"] == {"shortest": 720.0, "longest": 2_400.0, "runs": 2}
    assert noted["models"][MODEL]["expected"] == {"output_share": 0.12, "runs": 2}


# ---------------------------------------------------------------- the runs that are remembered


def test_last_runs_are_remembered_in_the_order_in_which_they_began() -> None:
    runs: tuple[Run, ...] = ()
    for number in [*range(5, 5 + MOST_RUNS), 2, 1]:
        runs = add_run(runs, run(number))

    assert [each.submission_id for each in runs] == [f"run {number}" for number in range(5, 5 + MOST_RUNS)]
    assert all(before.began_at < after.began_at for before, after in pairwise(runs))


def test_try_that_goes_on_takes_the_place_of_the_one_before() -> None:
    runs = add_run(add_run((), run(1, requests=90)), run(1, requests=100))

    assert [each.models[MODEL].requests for each in runs] == [100]
    assert runs[0].began_at > DAY
