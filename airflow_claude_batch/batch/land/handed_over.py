"""What the operator's author said about the landing, where a sensor lands the rows: the manifest hands it over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from airflow_claude_batch.batch.allow_failed import as_percentage, check_form
from airflow_claude_batch.batch.policy import Policy

#: Names of the folders of workspaces.
_SCOPE: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
_formats: dict[str, Literal["parquet", "csv"]] = {"parquet": "parquet", "csv": "csv"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedStore:
    """The answer store that the operator has looked its requests up in. The sensor stores the new answers there.

    :param path: of the store. A sensor must not write to a path only because it came by XCom.
    :param version: the author's.
    :param scope: name of the workspace's folder.
    :param api: the API's version and betas of the operator's connection.
    """

    path: str
    version: str = ""
    scope: str = ""
    api: str = ""

    @classmethod
    def of_manifest(cls, value: Any) -> HandedStore | None:
        if not isinstance(value, Mapping) or not isinstance(value.get("path"), str):
            return None
        texts = {name: value.get(name) for name in ("version", "scope", "api")}
        kept = {name: text for name, text in texts.items() if isinstance(text, str)}
        if not _SCOPE.fullmatch(kept.get("scope", "")):
            return None
        return cls(path=value["path"], **kept)

    def to_manifest(self) -> dict[str, str]:
        return {"path": self.path, "version": self.version, "scope": self.scope, "api": self.api}


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver:
    """The operator's arguments that count for the sensor, unless it has its own.

    >>> HandedOver(allow_failed=0.05).to_manifest()
    {'allow_failed': '5%'}
    """

    allow_failed: float | str = 0
    delete_batches: bool = False
    results_format: Literal["jsonl", "parquet", "csv"] = "jsonl"
    #: Reservation in the budget of the day, which the sensor settles.
    reservation: str | None = None
    answer_store: HandedStore | None = None

    @classmethod
    def of_policy(
        cls, policy: Policy, reservation: str | None = None, answer_store: HandedStore | None = None
    ) -> HandedOver:
        return cls(
            reservation=reservation,
            answer_store=answer_store,
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
        reservation = values.get("reservation")
        return cls(
            allow_failed=allow_failed,
            delete_batches=values.get("delete_batches") is True,
            results_format=_formats.get(str(values.get("results_format")), "jsonl"),
            reservation=reservation if isinstance(reservation, str) else None,
            answer_store=HandedStore.of_manifest(values.get("answer_store")),
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
        if self.reservation is not None:
            values["reservation"] = self.reservation
        if self.answer_store is not None:
            values["answer_store"] = self.answer_store.to_manifest()
        return values
