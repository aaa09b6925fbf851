"""What to expect of the requests to a model, from the last runs of the task. Pure functions.

An expectation is the median of a ratio over the last runs, such as output tokens per answer. One odd run of five moves
it little, while a mean follows that run: ``tests/batch/money/test_expectation.py`` measures both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from statistics import median
from typing import Any, Final, NamedTuple

from airflow_claude_batch.batch.money.run_history import ModelRun, Run

#: How many of the last runs the expectation comes from.
EXPECTED_FROM: Final = 5

GUESSED_OUTPUT_SHARE: Final = Fraction("0.25")  # of max_tokens; an assumption
GUESSED_CACHE_HITS: Final = Fraction("0.5")  # of cached prefixes; batch-processing quotes 30 to 98 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What is expected of the requests to one model. Without earlier runs, it is a guess.

    >>> Expectation(output_tokens=Fraction(120), runs=5).output_share(max_tokens=100_000, requests=100)
    Fraction(3, 25)

    :ivar output_tokens: of an answer on average. None guesses a quarter of ``max_tokens``.
    :ivar input_ratio: billed input tokens for each one that was counted or estimated.
    :ivar cached_ratio: tokens in the cache for each one of a prefix with a mark for it. The API caches no short ones.
    :ivar cache_hits: the share of them that is read from the cache. The others are written to it.
    :ivar runs: how many earlier runs it comes from.
    :ivar sampled_share: of ``max_tokens``, used by a sample of the same submission. It counts more than earlier runs.
    """

    output_tokens: Fraction | None = None
    input_ratio: Fraction = Fraction(1)
    cached_ratio: Fraction = Fraction(1)
    cache_hits: Fraction = GUESSED_CACHE_HITS
    runs: int = 0
    sampled_share: Fraction | None = None

    def output_share(self, *, max_tokens: int, requests: int) -> Fraction:
        """Return the share of ``max_tokens`` that answers are expected to use, at most all of it.

        Answers do not become longer or shorter because the author changes a limit that most of them do not reach.

        :param max_tokens: sum over all requests to the model.
        """
        if self.sampled_share is not None:
            return self.sampled_share
        if self.output_tokens is None or not max_tokens:
            return GUESSED_OUTPUT_SHARE
        return min(self.output_tokens * requests / max_tokens, Fraction(1))


GUESS: Final = Expectation()


class RunTime(NamedTuple):
    """How long the last runs took: the shortest and the longest time in seconds, and how many runs they were."""

    shortest: float
    longest: float
    runs: int

    def to_manifest(self) -> dict[str, Any]:
        """Return it as JSON."""
        return self._asdict()


class Expectations:
    """What to expect of a submission, from the earlier runs of its task.

    >>> expectations = Expectations(history.runs)
    >>> expectations.of("claude-haiku-5-5").runs
    5

    :param runs: the oldest first.
    :param sampled_share: share of ``max_tokens`` that the answers to a sample use, None without a sample.
    """

    def __init__(self, runs: Sequence[Run] = (), *, sampled_share: float | None = None) -> None:
        self.by_model: Mapping[str, Expectation] = _by_model(runs)
        self._sampled_share = None if sampled_share is None else min(Fraction(sampled_share), Fraction(1))
        times = [run.seconds for run in runs if run.seconds is not None][-EXPECTED_FROM:]
        #: How long the last runs took, None if that is not known.
        self.run_time = RunTime(min(times), max(times), len(times)) if times else None

    def of(self, model: str) -> Expectation:
        """Return what is expected of a model, by its id."""
        return replace(self.by_model.get(model, GUESS), sampled_share=self._sampled_share)


def _by_model(runs: Sequence[Run]) -> dict[str, Expectation]:
    found: dict[str, list[ModelRun]] = {}
    for run in runs:
        for model, part in run.models.items():
            if part.requests:
                found.setdefault(model, []).append(part)
    return {model: _expectation(parts[-EXPECTED_FROM:]) for model, parts in found.items()}


def _expectation(runs: Sequence[ModelRun]) -> Expectation:
    def median_of(ratio: Callable[[ModelRun], tuple[int, int]], default: Fraction) -> Fraction:
        """Return the median over the runs in which the ratio is defined."""
        found = [Fraction(part, whole) for part, whole in map(ratio, runs) if whole]
        return median(found) if found else default

    one = Fraction(1)
    return Expectation(
        output_tokens=median_of(lambda run: (run.output_tokens, run.requests), one),
        input_ratio=median_of(lambda run: (run.input_tokens, run.estimated_input_tokens), one),
        cached_ratio=min(median_of(lambda run: (run.cached_tokens, run.estimated_cached_tokens), one), one),
        cache_hits=min(median_of(lambda run: (run.cache_read_tokens, run.cached_tokens), GUESSED_CACHE_HITS), one),
        runs=len(runs),
    )


class ModelEstimate(NamedTuple):
    """The requests to one model in an estimate: sums over all of them, as counted, and what is expected of them.

    :ivar id: the model's own id, where requests name it by an alias.
    """

    id: str
    requests: int
    max_tokens: int
    input_tokens: int
    cached_tokens: int
    expectation: Expectation

    @property
    def output_share(self) -> Fraction:
        """The share of ``max_tokens`` that the answers are expected to use."""
        return self.expectation.output_share(max_tokens=self.max_tokens, requests=self.requests)

    def to_manifest(self, name: str) -> dict[str, Any]:
        """Return it as JSON.

        :param name: by which the requests name the model.
        """
        values = {"max_tokens": self.max_tokens, "input_tokens": self.input_tokens}
        if self.cached_tokens:
            values["cached_tokens"] = self.cached_tokens
        id_ = {"id": self.id} if self.id != name else {}
        expected = {"output_share": round(float(self.output_share), 4), "runs": self.expectation.runs}
        return {**values, **id_, "expected": expected}

    @property
    def reason(self) -> str:
        """Say where the expected output comes from."""
        share, runs = f"{_percent(self.output_share)} of max_tokens", self.expectation.runs
        if self.expectation.sampled_share is not None:
            return f"{share}, as in the answers to the sample"
        if not runs:
            return f"a guess, {share}: this task has no earlier run with {{model}}"
        return f"{share}, as in the last {'run' if runs == 1 else f'{runs} runs'}"


def _percent(share: Fraction) -> str:
    return f"{float(share):.0%}" if share >= Fraction("0.1") else f"{float(share):.1%}"


def expected_output_in_words(models: Mapping[str, ModelEstimate]) -> list[str]:
    """Say how much output is expected, and where that comes from: one sentence, or one for each model."""
    reasons = {model: estimate.reason for model, estimate in models.items()}
    if len(set(reasons.values())) == 1:
        named = "this model" if len(reasons) == 1 else "these models"
        return [f"The expected output is {next(iter(reasons.values())).format(model=named)}."]
    return [f"The expected output of {model} is {reason.format(model='it')}." for model, reason in reasons.items()]
