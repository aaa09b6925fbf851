"""Counts of billed tokens, and their cost by column.

Money is exact: counts are integers, amounts are decimals, and nothing is rounded. The cost of many answers is the sum
of their costs to the last digit.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

import msgspec

from airflow_claude_batch.api.wire import BilledUsage


class Tokens(NamedTuple):
    """Billed quantities: tokens, by the rate that applies to them, and web searches."""

    input: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_read: int = 0
    output: int = 0
    web_searches: int = 0

    @classmethod
    def of(cls, usage: BilledUsage) -> Tokens:
        """Count a usage. Cache writes that it does not break down have the API's default lifetime, 5 minutes."""
        written, tools, all_written = usage.cache_creation, usage.server_tool_use, usage.cache_creation_input_tokens
        five_minutes = written.ephemeral_5m_input_tokens if written else 0
        one_hour = written.ephemeral_1h_input_tokens if written else 0
        columns = (
            usage.input_tokens,
            max(five_minutes, all_written - one_hour) if all_written else five_minutes,
            one_hour,
            usage.cache_read_input_tokens or 0,
            usage.output_tokens,
            (tools.web_search_requests or 0) if tools else 0,
        )
        return tuple.__new__(cls, columns)  # cls(*columns) takes twice as long, for each of a million answers

    @classmethod
    def total(cls, counts: Iterable[Tokens]) -> Tokens:
        """Sum each column."""
        return cls(*map(sum, zip(*counts, strict=True)))

    @property
    def prompt(self) -> int:
        """The tokens of the whole prompt, whether they were cached or not."""
        return self.input + self.cache_write_5m + self.cache_write_1h + self.cache_read

    @property
    def cached(self) -> int:
        """The tokens that were written to the prompt cache or read from it."""
        return self.cache_write_5m + self.cache_write_1h + self.cache_read

    def to_manifest(self) -> dict[str, int]:
        """Return the counts by the names of the API's usage."""
        return {
            "input_tokens": self.input,
            "cache_creation_input_tokens": self.cache_write_5m + self.cache_write_1h,
            "ephemeral_5m_input_tokens": self.cache_write_5m,
            "ephemeral_1h_input_tokens": self.cache_write_1h,
            "cache_read_input_tokens": self.cache_read,
            "output_tokens": self.output,
            "web_search_requests": self.web_searches,
        }


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """USD by column, as a message batch is billed.

    ``without_batch`` is the cost of the same usage by the Messages API. ``without_cache`` is its cost in a batch that
    reads the whole prompt as uncached input.
    """

    input: Decimal = Decimal(0)
    cache_write_5m: Decimal = Decimal(0)
    cache_write_1h: Decimal = Decimal(0)
    cache_read: Decimal = Decimal(0)
    output: Decimal = Decimal(0)
    web_search: Decimal = Decimal(0)
    without_batch: Decimal = Decimal(0)
    without_cache: Decimal = Decimal(0)

    @property
    def usd(self) -> Decimal:
        """The sum to pay."""
        prompt = self.input + self.cache_write_5m + self.cache_write_1h + self.cache_read
        return prompt + self.output + self.web_search

    def __add__(self, other: Cost) -> Cost:
        return Cost(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})
