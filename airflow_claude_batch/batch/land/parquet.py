"""Rows as a Parquet file with typed columns, for queries and warehouses. ``results.jsonl`` stays beside it.

``parquet_writer`` and ``parquet_reader`` write and read it. ``row_layout`` chooses its columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from airflow_claude_batch.exceptions import ConfigurationError

PARQUET_FILE: Final = "results.parquet"


def check_parquet_installed(batch_ids: Sequence[str] | None = None) -> None:
    """Check before anything is sent, or waited for, that Parquet files can be written.

    :param batch_ids: the message batches whose rows are to be landed. None if they are yet to be sent.
    :raises ConfigurationError: pyarrow is not installed; names the extra to install.
    """
    try:
        import pyarrow.parquet  # noqa: F401  # only whether it is there
    except ImportError:
        remedy = "Install airflow-claude-batch[parquet] on the workers. Or leave results_format out, for JSON lines."
        unsent = "Nothing was sent now. Batches that were sent before are not affected."
        raise ConfigurationError(
            "results_format='parquet' needs pyarrow, which is not installed here.",
            unsent if batch_ids is None else _still_billed(len(batch_ids)),
            remedy if batch_ids is None else f"{remedy} Then clear this task.",
        ) from None


def _still_billed(batches: int) -> str:
    if batches == 1:
        return (
            "Nothing was landed. The message batch runs on until it has ended, and is billed. Its answers stay at the "
            "API for 29 days."
        )
    return (
        f"Nothing was landed. The {batches:,} message batches run on until they have ended, and are billed. Their "
        "answers stay at the API for 29 days."
    )
