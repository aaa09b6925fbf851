"""Take over what was landed before: by the indexes of landed parts, or row by row from ``results.jsonl``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from airflow_claude_batch.batch.land.landed_parts import find_parts, merge_parts
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.rows import RESULTS_FILE
from airflow_claude_batch.batch.storage import Folder

log = logging.getLogger(__name__)


class Restored(NamedTuple):
    """What was taken over.

    :ivar has_rows: something was landed before.
    :ivar damaged: number of lines that were left out.
    :ivar read: bytes that were read row by row. The next resumption reads them again, if they are in no part by then.
    """

    has_rows: bool = True
    damaged: int = 0
    read: int = 0


def restore_rows(
    landing: Landing, folder: Folder, input_digest: str | None, *, may_skip: Callable[[bytes], bool]
) -> Restored:
    """Take over the rows that were landed before.

    Rows of another input are matched with today's requests one by one.

    :param input_digest: identifies the requests. None if they are not ours.
    :param may_skip: as in :meth:`.Landing.restore`.
    :raises OSError: the storage cannot be read.
    :raises ResultsError: a line is damaged.
    """
    parts = find_parts(folder)
    if parts and all(part.content.input == input_digest for part in parts):
        landing.restore_parts(parts)
        return Restored()
    if parts:
        merge_parts(parts, folder)
    if (file := folder.open(RESULTS_FILE)) is None:
        return Restored(has_rows=False)
    with file:
        damaged = landing.restore(file, may_skip=may_skip)
    if damaged:
        uri = folder.uri(RESULTS_FILE)
        log.warning("The end of %s is cut off. The answers are downloaded again at no cost.", uri)
    return Restored(damaged=damaged, read=folder.size(RESULTS_FILE) or 0)
