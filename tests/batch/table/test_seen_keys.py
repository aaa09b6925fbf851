from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.batch.table.seen_keys import SeenKeys


@given(st.lists(st.text(max_size=3)))
def test_only_the_first_of_equal_keys_is_new(keys: list[str]) -> None:
    seen = SeenKeys()
    before: set[str] = set()
    for key in keys:
        assert seen.add(key) == (key not in before)
        before.add(key)


def test_many_keys_take_few_bytes() -> None:
    seen = SeenKeys()

    assert all(seen.add(str(number)) for number in range(20_000))
    assert not any(seen.add(str(number)) for number in range(20_000))
    assert seen._slots.itemsize * len(seen._slots) <= 16 * 20_000
