"""Tell who has made a message batch. The API does not say, but the results name the custom_ids of its requests."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Final

from airflow_claude_batch.api.wire import decode_result_line
from airflow_claude_batch.batch.input.custom_id import is_like_ours
from airflow_claude_batch.exceptions import MalformedResponseError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

#: Lines of a result stream that are read to find one that names its custom_id.
_PEEKED_LINES: Final = 20


def is_own(client: ClaudeClient, batch_id: str) -> bool:
    """Tell whether this package has sent an ended batch, in whichever Airflow. Reads one line of its results.

    :raises APIError: the results cannot be read now, or tell nothing.
    """
    with client.stream_results(batch_id) as lines:
        for line in itertools.islice(lines, _PEEKED_LINES):
            with contextlib.suppress(MalformedResponseError):
                return is_like_ours(decode_result_line(line).custom_id)
    raise MalformedResponseError(f"The results of message batch {batch_id} have no line that can be read.")
