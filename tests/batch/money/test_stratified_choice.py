from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.batch.money.planned_request import StratumKey
from airflow_claude_batch.batch.money.stratified_choice import choose_indices


def key(length_class: int) -> StratumKey:
    return StratumKey("claude-haiku-5-5", media=False, length_class=length_class, cache_ttl="5m", inference_geo="")


@given(st.lists(st.integers(0, 4), max_size=200), st.integers(1, 30))
def test_choice_has_the_wanted_size_and_the_share_of_each_stratum(classes: list[int], count: int) -> None:
    strata = [(3 * number, key(length_class)) for number, length_class in enumerate(classes)]

    chosen = choose_indices(iter(strata), count)

    assert chosen == choose_indices(iter(strata), count)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(count, len(classes))
    assert {index for index, _ in strata} >= set(chosen)
    taken = Counter(classes[index // 3] for index in chosen)
    for length_class, size in Counter(classes).items():
        share = size * len(chosen) / len(classes)
        assert abs(taken[length_class] - share) < 1
