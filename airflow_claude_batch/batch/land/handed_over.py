"""What the operator's author said about the landing, where a sensor lands the rows: the manifest hands it over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from airflow_claude_batch.batch.allow_failed import as_percentage, check_form
from airflow_claude_batch.batch.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver:
    """The operator's arguments that count for the sensor, unless it has its own.

    >>> HandedOver(allow_failed=0.05).to_manifest()
    {'allow_failed': '5%'}
    """

    allow_failed: float | str = 0
    delete_batches: bool = False
    results_format: Literal["jsonl", "parquet"] = "jsonl"

    @classmethod
    def of_policy(cls, policy: Policy) -> HandedOver:
        return cls(
            allow_failed=policy.allow_failed,
            delete_batches=policy.delete_batches,
            results_format=policy.results_format,
        )

    @classmethod
    def of_manifest(cls, values: Mapping[str, Any]) -> HandedOver:
        """Read what a manifest hands over. It came by XCom, so a value that cannot be right counts as none."""
        allow_failed = values.get("allow_failed", 0)
        try:
            check_form(allow_failed)
        except ValueError:
            allow_failed = 0
        return cls(
            allow_failed=allow_failed,
            delete_batches=values.get("delete_batches") is True,
            results_format="parquet" if values.get("results_format") == "parquet" else "jsonl",
        )

    def to_manifest(self) -> dict[str, Any]:
        """Return what is not the default, as JSON."""
        values: dict[str, Any] = {}
        if self.allow_failed:
            values["allow_failed"] = as_percentage(self.allow_failed)
        if self.delete_batches:
            values["delete_batches"] = True
        if self.results_format != "jsonl":
            values["results_format"] = self.results_format
        return values
