"""Choose a few requests that stand for all of them: by chance, but from each stratum as many as are its share."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from airflow_claude_batch.batch.money.planned_request import StratumKey


@dataclass(slots=True)
class _Stratum:
    size: int = 0
    reservoir: list[int] = field(default_factory=list)


def choose_indices(strata: Iterable[tuple[int, StratumKey]], count: int) -> list[int]:
    """Choose ``count`` requests, all if there are fewer. The same requests give the same choice.

    Memory does not grow with the number of requests.

    >>> choose_indices(((index, planned.stratum) for index, planned in enumerate(planned_requests)), 20)
    [3, 17, 41, ...]

    :param strata: index and stratum of each request.
    :return: indices, ascending.
    """
    rng = random.Random(0)  # noqa: S311 - no secret, and the same in a retry
    found: dict[StratumKey, _Stratum] = {}
    for index, key in strata:
        stratum = found.setdefault(key, _Stratum())
        stratum.size += 1
        if len(stratum.reservoir) < count:
            stratum.reservoir.append(index)
        elif (replaced := rng.randrange(stratum.size)) < count:
            stratum.reservoir[replaced] = index
    ordered = [found[key] for key in sorted(found)]
    hits = _shares([stratum.size for stratum in ordered], count)
    chosen = (rng.sample(stratum.reservoir, hit) for stratum, hit in zip(ordered, hits, strict=True))
    return sorted(index for indices in chosen for index in indices)


def _shares(sizes: list[int], count: int) -> list[int]:
    """Divide ``count`` among strata by their sizes: systematic sampling, whose points are equally far apart."""
    total = sum(sizes)
    if total <= count:
        return sizes
    hits, before = [], 0
    for size in sizes:
        # Point i lies at (2i + 1) / 2 of the i-th of `count` equal intervals. In whole numbers, so that none is lost.
        points = [(2 * count * position + total) // (2 * total) for position in (before, before + size)]
        hits.append(points[1] - points[0])
        before += size
    return hits
