"""The bill of many answers."""

from __future__ import annotations

import operator
from collections import Counter
from typing import Any, Final

import msgspec

from airflow_claude_batch.api.wire import BilledUsage
from airflow_claude_batch.batch.money.amounts import exact_usd
from airflow_claude_batch.batch.money.cost import Cost, Tokens
from airflow_claude_batch.batch.money.pricing import Charge, PriceTable, RateKey
from airflow_claude_batch.batch.money.reused import ReusedSums

_NO_TOKENS: Final = Tokens()
_SUMMED_AT_ONCE: Final = 1000


class BillSums(msgspec.Struct, frozen=True):
    """The sums of a bill, as they are stored. Added to another bill, they give the bill of all answers together.

    :ivar tokens: of each model and rate: model, inference_geo, whether the prompts are long, and the token counts.
    :ivar unknown: number of answers whose usage is in a form that is not known, by model.
    :ivar unreadable: number of answers that cannot be read. A difference of two bills may have fewer than none.
    :ivar reused: what reused answers cost first. Left out if there are none.
    :ivar direct: the sums of answers of the Messages API, which are in no other sum. Left out if there are none.
    :ivar answers: number of answers in the sums of ``direct``. 0 in those of message batches.
    """

    tokens: list[tuple[str, str | None, bool, Tokens]] = []
    unknown: dict[str, int] = {}
    unreadable: int = 0
    reused: ReusedSums | msgspec.UnsetType = msgspec.UNSET
    direct: BillSums | msgspec.UnsetType = msgspec.UNSET
    answers: int | msgspec.UnsetType = msgspec.UNSET


class Bill:
    """Adds up what many answers cost.

    To add an answer is integer arithmetic. Money is computed only when it is asked for.

    >>> bill = Bill(PriceTable.load())
    >>> bill.add_usage(Usage(input_tokens=2_000_000, output_tokens=0), "claude-haiku-4-5")
    >>> bill.to_manifest()["usd"]
    '1'
    """

    def __init__(self, table: PriceTable) -> None:
        self._table = table
        self._sums: dict[RateKey, Tokens] = {}
        self._pending: dict[RateKey, list[Tokens]] = {}
        self._unknown: Counter[str] = Counter()
        #: The number of answers that cannot be read. They may be billed, and their cost is in no sum.
        self.unreadable_answers = 0
        #: What reused answers cost first. It is in no other sum.
        self.reused = ReusedSums()
        #: The bill of the answers of the Messages API, at full price. All sums of this bill include it.
        self.direct: Bill | None = None
        #: The number of answers in a ``direct`` bill.
        self.answers = 0

    def add_usage(
        self, usage: BilledUsage | None, model: str, *, inference_geo: str | None = None, is_direct: bool = False
    ) -> None:
        """Add one answer by its usage and the model that its row names. None: the usage could not be read.

        :param is_direct: the Messages API gave the answer.
        """
        if is_direct:
            self.add_direct(self._table.full.charge(usage, model, inference_geo=inference_geo))
        else:
            self.add_charge(self._table.charge(usage, model, inference_geo=inference_geo))

    def add_charge(self, charge: Charge) -> None:
        """Add one answer by its charge."""
        try:
            pending = self._pending[charge.key]
        except KeyError:
            pending = self._pending[charge.key] = []
        pending.append(charge.tokens)
        if len(pending) == _SUMMED_AT_ONCE:
            self._totals()
        if charge.iterations or not charge.is_known:
            self._add_odd(charge)

    def add_direct(self, charge: Charge) -> None:
        """Add one answer of the Messages API by its charge at full price."""
        direct = self._direct()
        direct.answers += 1
        direct.add_charge(charge)

    def _direct(self) -> Bill:
        if self.direct is None:
            self.direct = Bill(self._table.full)
        return self.direct

    def _add_odd(self, charge: Charge) -> None:
        """Add what only few charges have."""
        for key, tokens in charge.iterations:
            self._pending.setdefault(key, []).append(tokens)
        if not charge.is_known:
            self._unknown[charge.key[0]] += 1

    def sums(self, since: BillSums | None = None) -> BillSums:
        """Return the sums, to be stored.

        :param since: earlier sums of this bill. Then only what was added since.
        """
        earlier = since or BillSums()
        before = {(model, geo, is_long): tokens for model, geo, is_long, tokens in earlier.tokens}
        added = {
            key: Tokens(*map(operator.sub, tokens, before.get(key, _NO_TOKENS)))
            for key, tokens in self._totals().items()
        }
        return BillSums(
            [(*key, tokens) for key, tokens in added.items() if any(tokens) or key not in before],
            dict(self._unknown - Counter(earlier.unknown)),
            self.unreadable_answers - earlier.unreadable,
            self.reused.since(earlier.reused or ReusedSums()) if self.reused.newest else msgspec.UNSET,
            self.direct.sums(since=earlier.direct or None) if self.direct is not None else msgspec.UNSET,
            self.answers - (earlier.answers or 0) or msgspec.UNSET,
        )

    def add_sums(self, sums: BillSums) -> None:
        """Add a bill that was stored."""
        for model, geo, is_long, tokens in sums.tokens:
            self._pending.setdefault((model, geo, is_long), []).append(tokens)
        self._unknown.update(sums.unknown)
        self.unreadable_answers += sums.unreadable
        if sums.reused:
            self.reused = self.reused.plus(sums.reused)
        self.answers += sums.answers or 0
        if sums.direct:
            self._direct().add_sums(sums.direct)

    def _totals(self) -> dict[RateKey, Tokens]:
        """Sum up everything. To sum a thousand at once is faster than one by one."""
        for key, tokens in self._pending.items():
            self._sums[key] = Tokens.total([self._sums.get(key, _NO_TOKENS), *tokens])
        self._pending.clear()
        return self._sums

    def canonical(self, model: str) -> str:
        """Return the id under which the answers of a model are counted: its own where the name is an alias."""
        price = self._table.lookup(model)
        return price.id if price else model

    @property
    def tokens(self) -> Tokens:
        """The tokens of all answers, also of models without a price."""
        direct = _NO_TOKENS if self.direct is None else self.direct.tokens
        return Tokens.total([*self._totals().values(), direct])

    @property
    def by_model(self) -> dict[str, Cost | None]:
        """The cost of each model's tokens. None if the model has no price, or the usage of an answer is not known.

        A model that was only an advisor is here too.
        """
        costs: dict[str, Cost | None] = {}
        for (model, geo, long_prompt), tokens in self._totals().items():
            part = self._table.token_cost(tokens, model, inference_geo=geo, long_prompt=long_prompt)
            costs[model] = part and (costs.get(model) or Cost()) + part
        costs |= dict.fromkeys(self._unknown)
        for model, part in self.direct.by_model.items() if self.direct is not None else ():
            known = costs.get(model, Cost())
            costs[model] = None if known is None or part is None else known + part
        return costs

    @property
    def tokens_by_model(self) -> dict[str, Tokens]:
        """The tokens of each model's answers."""
        sums: dict[str, Tokens] = {}
        for (model, _, _), part in self._totals().items():
            sums[model] = Tokens.total([sums.get(model, _NO_TOKENS), part])
        for model, part in self.direct.tokens_by_model.items() if self.direct is not None else ():
            sums[model] = Tokens.total([sums.get(model, _NO_TOKENS), part])
        return sums

    @property
    def unpriced_models(self) -> list[str]:
        """The models without a price, sorted."""
        models = self.tokens_by_model
        return sorted(model for model in models if self._table.token_cost(_NO_TOKENS, model) is None)

    @property
    def unknown_answers(self) -> int:
        """The number of answers whose usage is in a form that is not known, so that their cost is not known."""
        return self._unknown.total() + (0 if self.direct is None else self.direct.unknown_answers)

    def direct_to_manifest(self) -> dict[str, Any] | None:
        """Return how the cost splits by way, as JSON: message batches, and the Messages API. None without the latter.

        Amounts are strings, or None if they are not known.
        """
        if self.direct is None:
            return None
        direct, cost = self.direct.cost, self.cost
        return {
            "answers": self.direct.answers,
            "usd": direct and exact_usd(direct.usd),
            "batch_usd": exact_usd(cost.usd - direct.usd) if cost and direct else None,
        }

    @property
    def cost(self) -> Cost | None:
        """The cost of all answers, None if the cost of one of them is not known."""
        parts = self.by_model.values()
        return None if None in parts else sum(filter(None, parts), Cost())

    def to_manifest(self) -> dict[str, Any]:
        """Return the cost as JSON. Amounts are strings, or None if they are not known.

        ``unknown_answers`` is left out if it is zero.
        """
        cost = self.cost
        amounts: dict[str, Any] = {
            "usd": cost and exact_usd(cost.usd),
            "without_batch_usd": cost and exact_usd(cost.without_batch),
            "without_cache_usd": cost and exact_usd(cost.without_cache),
            "unpriced_models": self.unpriced_models,
        }
        return amounts | ({"unknown_answers": self.unknown_answers} if self._unknown else {})
