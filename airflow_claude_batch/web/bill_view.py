"""The bill of a submission for people: by model and kind of token, and beside it what was estimated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any, Final

from airflow_claude_batch._airflow.snapshot_values import MAX_MODEL_LENGTH, MAX_MODELS, count_of, usd_of
from airflow_claude_batch.batch.money.cost import Tokens
from airflow_claude_batch.batch.money.pricing import PriceTable

#: The kinds of token: the field of :class:`Tokens`, its name in a manifest's usage, and its name for people.
KINDS: Final = (
    ("input", "input_tokens", "input"),
    ("cache_write_5m", "ephemeral_5m_input_tokens", "cache write, 5 min"),
    ("cache_write_1h", "ephemeral_1h_input_tokens", "cache write, 1 h"),
    ("cache_read", "cache_read_input_tokens", "cache read"),
    ("output", "output_tokens", "output"),
    ("web_searches", "web_search_requests", "web searches"),
)
_MAX_TOKENS: Final = 2**62


@dataclass(frozen=True, slots=True)
class BilledKind:
    """Tokens of one kind.

    :param usd: what they cost. None if it cannot be told apart from the cost of the others.
    """

    tokens: int
    usd: Decimal | None


@dataclass(frozen=True, slots=True)
class BilledModel:
    """The bill of one model.

    :param kinds: by the names of :class:`Tokens`.
    :param usd: None if it is not known.
    """

    name: str
    rows: int
    kinds: Mapping[str, BilledKind]
    usd: Decimal | None


@dataclass(frozen=True, slots=True)
class Bill:
    """The bill of a submission.

    :param kinds: those of which there are tokens: names of :class:`Tokens` with their names for people.
    """

    models: Sequence[BilledModel]
    kinds: Mapping[str, str]

    def tokens(self, *names: str) -> int:
        """Return the tokens of some kinds, of all models."""
        return sum(model.kinds[name].tokens for model in self.models for name in names)

    @property
    def prompt_tokens(self) -> int:
        return self.tokens("input", "cache_write_5m", "cache_write_1h", "cache_read")

    @property
    def output_tokens(self) -> int:
        return self.tokens("output")


@dataclass(frozen=True, slots=True)
class Range:
    """A number that was estimated, with its bounds."""

    lower: int
    expected: int
    upper: int


@dataclass(frozen=True, slots=True)
class EstimatedTokens:
    """What a submission was estimated to use.

    :param runs: the number of earlier runs that the expectation comes from. 0 if it is a guess.
    """

    prompt: Range | None
    output: Range | None
    runs: int


def bill_of(by_model: Any, prices: PriceTable | None) -> Bill:
    """Read the field ``by_model`` of a snapshot or a manifest.

    :param prices: tells what the tokens of each kind cost, if together they make the sum that was billed.
    """
    found = islice(_mapping(by_model).items(), MAX_MODELS)
    models = [_model(str(name)[:MAX_MODEL_LENGTH], _mapping(part), prices) for name, part in found]
    models.sort(key=lambda model: (-(model.usd or 0), model.name))
    used = {name: label for name, _, label in KINDS if any(model.kinds[name].tokens for model in models)}
    return Bill(models, used)


def estimated_tokens(estimate: Any) -> EstimatedTokens:
    """Read the tokens of an estimate."""
    values = _mapping(estimate)
    prompt, output = (_range(values.get(name)) for name in ("input_tokens", "output_tokens"))
    return EstimatedTokens(prompt, output, count_of(values.get("expected_from_runs")) or 0)


def _model(name: str, part: Mapping[str, Any], prices: PriceTable | None) -> BilledModel:
    usd, usage = usd_of(part.get("usd")), _mapping(part.get("usage"))
    rows = sum(count_of(count) or 0 for count in _mapping(part.get("counts")).values())
    tokens = Tokens(*(_tokens(usage.get(field)) for _, field, _ in KINDS))
    written = _tokens(usage.get("cache_creation_input_tokens"))  # earlier manifests do not break it down
    if not tokens.cache_write_1h:
        tokens = tokens._replace(cache_write_5m=max(tokens.cache_write_5m, written))
    cost = prices.token_cost(tokens, name) if prices is not None else None
    is_exact = cost is not None and cost.usd == usd
    kinds = {
        field: BilledKind(getattr(tokens, field), _cost_of(cost, field) if is_exact else None) for field, *_ in KINDS
    }
    return BilledModel(name, rows, kinds, usd)


def _cost_of(cost: Any, field: str) -> Decimal:
    usd: Decimal = getattr(cost, "web_search" if field == "web_searches" else field)
    return usd


def _range(value: Any) -> Range | None:
    names = _mapping(value)
    lower, expected, upper = (names.get(name) for name in ("lower", "expected", "upper"))
    if not all(isinstance(number, int) and 0 <= number < _MAX_TOKENS for number in (lower, expected, upper)):
        return None
    return Range(_tokens(lower), _tokens(expected), _tokens(upper))


def _tokens(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_TOKENS else 0


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
