"""Read ``allow_failed``: how many requests may end without an answer, as a count or as a share of them.

>>> allowed_failures(5, 200), allowed_failures(0.05, 200), allowed_failures("5%", 200)
(5, 10, 10)
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

_PERCENT: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*")


def allowed_failures(allow_failed: float | str, request_count: int) -> int:
    """Return how many of these requests may end without an answer.

    :raises ValueError: ``allow_failed`` is no count and no share.
    """
    share = _share(allow_failed)
    return int(allow_failed) if share is None else int(share * request_count)


def check_form(allow_failed: Any) -> None:
    """Check that a value is a count (an int), or a share (a float from 0.0 to 1.0, or a percentage as text).

    :raises ValueError: it is neither; says what to write instead.
    """
    is_count = isinstance(allow_failed, int) and not isinstance(allow_failed, bool)
    if is_count and allow_failed >= 0:
        return
    if not is_count and isinstance(allow_failed, float | str):
        share = _share(allow_failed)
        if share is not None and share.is_finite() and 0 <= share <= 1:
            return
    if isinstance(allow_failed, float) and allow_failed > 1 and allow_failed.is_integer():
        whole = int(allow_failed)
        raise ValueError(
            f"For a number of rows write {whole}" + (f', for a share "{whole}%".' if whole <= 100 else ".")
        )
    raise ValueError('Write a number of rows (5), or a share of them from 0.0 to 1.0 (0.05) or in percent ("5%").')


def as_percentage(allow_failed: float | str) -> int | str:
    """Return a share as a percentage, and a count as it is: a store of JSON may give 1 back for 1.0."""
    share = _share(allow_failed)
    return int(allow_failed) if share is None else f"{(share * 100).normalize():f}%"


def _share(allow_failed: float | str) -> Decimal | None:
    """Return a share as it is written: 0.29 of 100 is 29, in binary floats 28. None for a count.

    :raises ValueError: a text is no percentage.
    """
    if isinstance(allow_failed, str):
        if (match := _PERCENT.fullmatch(allow_failed)) is None:
            raise ValueError('Write a share in percent, such as "5%".')
        return Decimal(match[1]) / 100
    return None if isinstance(allow_failed, int) else Decimal(repr(allow_failed))
