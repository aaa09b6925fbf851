"""Reads the tokens that ``usage.iterations`` bills on top of the usage itself.

The API may run a model several times for one answer. Each run is an entry of ``usage.iterations``:

* ``message`` and ``fallback_message``: their tokens are in the top-level usage already.
* ``compaction``: the model's own summary of a long context. It is billed, and it is not in the top-level usage
  (https://platform.claude.com/docs/en/build-with-claude/compaction, read 2026-11-28).
* ``advisor_message``: another model that was asked for advice. It is billed at that model's rates, and it is not in
  the top-level usage (https://platform.claude.com/docs/en/agents-and-tools/tool-use/advisor-tool, read 2026-11-28).

An entry of any other type makes the cost unknown, because leaving it out could make the answer look cheaper.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from airflow_claude_batch.api.wire import BilledUsage
from airflow_claude_batch.batch.money.cost import Tokens

_IN_TOP_LEVEL: Final = frozenset({"message", "fallback_message"})
_SAME_MODEL: Final = "compaction"
_OTHER_MODEL: Final = "advisor_message"


class Iteration(NamedTuple):
    """The tokens of one run that is billed apart from the top-level usage, and the model that ran."""

    model: str
    tokens: Tokens


class _Entry(BilledUsage, frozen=True, kw_only=True, gc=False):
    model: str | None = None


def read_iterations(iterations: Any, model: str) -> list[Iteration] | None:
    """Return the runs that are billed apart, None if an entry is in a form that is not known.

    :param iterations: the decoded field.
    :param model: the model of the answer.
    """
    if iterations is None:
        return []
    if not isinstance(iterations, list):
        return None
    found: list[Iteration] = []
    for entry in iterations:
        kind = entry.get("type") if isinstance(entry, dict) else None
        if not isinstance(kind, str):
            return None
        if kind in _IN_TOP_LEVEL:
            continue
        if (iteration := _read_billed(entry, kind, model)) is None:
            return None
        found.append(iteration)
    return found


def _read_billed(entry: dict[str, Any], kind: str, model: str) -> Iteration | None:
    try:
        usage = msgspec.convert(entry, _Entry)
    except (msgspec.ValidationError, UnicodeError):
        return None
    if kind == _SAME_MODEL:
        return Iteration(usage.model or model, Tokens.of(usage))
    if kind == _OTHER_MODEL and usage.model:
        return Iteration(usage.model, Tokens.of(usage))
    return None
