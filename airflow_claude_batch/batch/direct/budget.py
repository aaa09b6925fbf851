"""What direct requests may still cost: a limit that holds at every moment, whatever is answered."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from airflow_claude_batch.api import wire
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.exceptions import MalformedResponseError


class DirectBudget:
    """Keeps the bounds of the requests in flight, and the costs of those that were answered, within an amount.

    A request whose response was lost keeps its bound: it may be billed.

    :param room: USD that direct requests may cost in all. None: no limit, and models without a price are asked.
    """

    def __init__(self, room: Decimal | None) -> None:
        self._room = room
        self._reserved: dict[int, Decimal] = {}
        #: USD that was billed, and what may have been: bounds of answers without a known cost, and of lost responses.
        self.spent = Decimal(0)

    @property
    def reserved(self) -> Decimal:
        """USD that the requests in flight cost at most."""
        return sum(self._reserved.values(), Decimal(0))

    def fits(self, bound: Decimal | None) -> bool:
        """Tell whether a request with this bound fits beside what is spent and in flight."""
        if self._room is None:
            return True
        return bound is not None and self.spent + self.reserved + bound <= self._room

    def reserve(self, index: int, bound: Decimal | None) -> None:
        """Count a request that is sent now."""
        self._reserved[index] = bound or Decimal(0)

    def release(self, index: int) -> None:
        """Count a request as not billed: it was refused, or not accepted."""
        del self._reserved[index]

    def settle(self, index: int, cost: Decimal | None) -> None:
        """Count what a request cost. None: that is not known, and its bound counts."""
        bound = self._reserved.pop(index)
        self.spent += bound if cost is None else cost


def answer_cost(result: bytes, prices: PriceTable) -> Decimal | None:
    """Price an answer. Return None if its usage cannot be read, or its model has no price.

    :param result: of a ``MessageResponse`` that was accepted.
    :param prices: the full ones, not those of message batches.
    """
    usage = answer_usage(result)
    if usage is None:
        return None
    model, billed = usage
    cost = prices.usage_cost(billed, model)
    return None if cost is None else cost.usd


def answer_usage(result: bytes) -> tuple[str, wire.BilledUsage] | None:
    """Return the model and the usage of an answer. Return None if they cannot be read."""
    try:
        head = wire.decode(result, _Answer)
    except MalformedResponseError:
        return None
    usage = wire.decode_usage(head.message.usage)
    return None if usage is None else (head.message.model, usage)


class _Message(msgspec.Struct):
    model: str
    usage: msgspec.Raw


class _Answer(msgspec.Struct):
    message: _Message
