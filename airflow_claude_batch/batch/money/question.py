"""What a person is asked before a submission is sent: its amounts, in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from airflow_claude_batch.batch.money.amounts import rounded_usd
from airflow_claude_batch.batch.quantity import quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredBefore:
    """What was answered before the question, and is kept.

    :param sampled: number of requests of the sample. 0 if an earlier attempt was answered.
    :param counts: number of requests by how they ended, in the rows' words.
    :param usd: what the answers cost. None if that is not known.
    :param rows: path or URI of the file with their rows.
    """

    sampled: int
    counts: Mapping[str, int]
    usd: Decimal | None
    rows: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Question whether requests may be sent.

    >>> question.subject
    'Send 12,400 requests to Claude for up to $61.20?'

    :param requests: number of requests to send, by model.
    :param expected, most: what they are expected to cost, and the most that they may cost, in USD. None if a model has
        no price.
    :param approve_above: amount above which the author wants the question.
    :param remarks: what the estimate says of itself.
    :param answered: what was answered before. None if nothing was.
    """

    requests: Mapping[str, int]
    expected: Decimal | None
    most: Decimal | None
    approve_above: Decimal
    unpriced_models: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    answered: AnsweredBefore | None = None

    @property
    def subject(self) -> str:
        """The question in one line."""
        count = quantity(sum(self.requests.values()), "more request" if self.answered else "request")
        if self.most is None:
            return f"Send {count} to Claude at a cost that is not known?"
        return f"Send {count} to Claude for up to ${rounded_usd(self.most)}?"

    def amounts(self) -> Iterator[tuple[str, str]]:
        """Yield what the person decides by: a name and a text of each figure."""
        models = ", ".join(f"{count:,} to {model}" for model, count in self.requests.items())
        yield "Requests", models
        yield "Expected cost", _usd(self.expected)
        yield "At most", _usd(self.most)
        if self.answered is not None:
            yield "Spent so far", _usd(self.answered.usd)

    def sentences(self) -> Iterator[str]:
        """Yield the sentences below the figures."""
        if self.answered is not None:
            yield _answered(self.answered, self)
        if self.unpriced_models:
            yield f"No price is known for {', '.join(self.unpriced_models)}, so the cost cannot be bounded."
        yield from self.remarks


def _answered(answered: AnsweredBefore, question: Question) -> str:
    ended = ", ".join(f"{count:,} {word}" for word, count in answered.counts.items() if count)
    what = (
        f"A sample of {quantity(answered.sampled, 'request')} was sent first" if answered.sampled else "Already ended"
    )
    cost = "an amount that is not known" if answered.usd is None else f"${rounded_usd(answered.usd)} (measured)"
    rest = "."
    if question.most is not None:
        rest = f"; the rest is expected to cost {_usd(question.expected)}, at most {_usd(question.most)}."
    return f"{what}: {ended}. That cost {cost}{rest} Its rows are kept and not paid again: {answered.rows}"


def _usd(amount: Decimal | None) -> str:
    return "not known" if amount is None else f"${rounded_usd(amount)}"
