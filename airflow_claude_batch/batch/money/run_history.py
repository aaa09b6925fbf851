"""What earlier runs of a task used and cost, for what is expected of the next one. No file access."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Final

import msgspec

from airflow_claude_batch.api.wire import Timestamp

#: How many runs are remembered.
MOST_RUNS: Final = 20
#: What is above it is no count of tokens, and not every reader of JSON can read it.
MOST_TOKENS: Final = 2**53
#: Longer than a message batch lives, with repair rounds. What took longer was cleared days later.
MOST_SECONDS: Final = 3 * 24 * 3600.0

_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]


class ModelRun(msgspec.Struct, frozen=True, kw_only=True):
    """What the answered requests to one model used in one run."""

    #: The number of answered requests, and the sum of their ``max_tokens``.
    requests: _Count
    max_tokens: _Count
    output_tokens: _Count
    #: Billed tokens of the whole prompts, cached or not, and how many the estimate had counted.
    input_tokens: _Count
    estimated_input_tokens: _Count
    #: Tokens that were written to the prompt cache or read from it, those that were read, and how many tokens of
    #: prefixes with a mark for the cache the estimate had counted.
    cached_tokens: _Count = 0
    cache_read_tokens: _Count = 0
    estimated_cached_tokens: _Count = 0
    #: The cost, None if it is not known.
    usd: Decimal | None = None


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What one submission of a task used, by the id of the model that was asked.

    Example::

        Run(submission_id="1f0c…", began_at=created_at, seconds=720.0, models={"claude-haiku-5-5": ModelRun(...)})
    """

    submission_id: str
    #: Creation of the first message batch, by the API's clock.
    began_at: Timestamp
    #: From then to the end of the last one. None if it is not plausible.
    seconds: Annotated[float, msgspec.Meta(gt=0, le=MOST_SECONDS)] | None = None
    models: dict[str, ModelRun] = {}


def add_run(runs: Iterable[Run], new: Run) -> tuple[Run, ...]:
    """Add a run, in the order in which they began, and forget the oldest ones.

    A try that goes on with the batches of an earlier one takes the place of what that had noted.
    """
    others = (run for run in runs if (run.submission_id, run.began_at) != (new.submission_id, new.began_at))
    return tuple(sorted((*others, new), key=lambda run: run.began_at)[-MOST_RUNS:])
