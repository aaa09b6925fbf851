"""What ``rows=`` takes beside lists and outputs of tasks: an object that says where rows are, and reads them later."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from airflow_claude_batch._airflow.templated_argument import TemplatedArgument

if TYPE_CHECKING:
    from airflow_claude_batch.batch.input.rows.source import RowSource


class Source(TemplatedArgument, ABC):
    """Base of ``SqlRows`` and ``FileRows``."""

    @abstractmethod
    def rows(self) -> RowSource:
        """Return the rows, with the connections that Airflow has."""
