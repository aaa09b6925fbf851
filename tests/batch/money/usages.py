"""Usages of answers, and the bundled prices: what the tests of money reckon with."""

from __future__ import annotations

from hypothesis import strategies as st

from airflow_claude_batch.api.wire import CacheCreation, ServerToolUse, Usage
from airflow_claude_batch.batch.money.pricing import PriceTable

TABLE = PriceTable.load()
MILLION = 1_000_000


def usage(
    input_tokens: int = 0,
    output_tokens: int = 0,
    *,
    five_minutes: int = 0,
    one_hour: int = 0,
    read: int = 0,
    searches: int = 0,
    geo: str | None = None,
) -> Usage:
    """Make the usage of one answer."""
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_creation=CacheCreation(five_minutes, one_hour),
        cache_creation_input_tokens=five_minutes + one_hour,
        cache_read_input_tokens=read,
        inference_geo=geo,
        server_tool_use=ServerToolUse(web_search_requests=searches),
    )


_COUNTS = st.integers(min_value=0, max_value=10**9)
#: Any usage, and any model with a price.
USAGES = st.builds(
    usage,
    _COUNTS,
    _COUNTS,
    five_minutes=_COUNTS,
    one_hour=_COUNTS,
    read=_COUNTS,
    searches=st.integers(min_value=0, max_value=100),
    geo=st.sampled_from([None, "us", "global", "not_available"]),
)
PRICED_MODELS = st.sampled_from([name for name, entry in TABLE.models.items() if entry.rates])
