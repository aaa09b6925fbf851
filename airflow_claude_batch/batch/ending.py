"""The last publication of a submission: every row, the manifest, and what follows from having both."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from airflow_claude_batch.batch import manifest as manifests
from airflow_claude_batch.batch import parquet, results, storage
from airflow_claude_batch.batch.canceling import delete_batches
from airflow_claude_batch.batch.landing import Landing
from airflow_claude_batch.batch.manifest import Manifest
from airflow_claude_batch.batch.policy import Policy

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

NO_ROW = "no result row came for this request"


def publish_end(
    landing: Landing,
    folder: storage.Folder,
    policy: Policy,
    client: ClaudeClient,
    *,
    complete: bool,
    summarize: Callable[[str], Manifest],
) -> Manifest:
    """Publish the rows, then the manifest; only then may batches be deleted.

    :param complete: no batch is open any more, so that every request gets a row; else only what is there is landed.
    :param summarize: makes the manifest, given where the rows are.
    :raises ResultsError: the storage refused; what was landed before is untouched.
    """
    missing = NO_ROW if complete else None
    size = landing.publish(folder, missing=missing)
    manifest = summarize(_published(landing, folder, policy, missing=missing))
    manifests.publish(folder, manifest)
    if complete and policy.delete_batches:
        delete_batches(client, manifest.batch_ids)
    if size > policy.max_inline_bytes or not complete:
        return manifest
    rows = [msgspec.json.decode(line) for line in landing.lines(missing=missing)]
    return msgspec.structs.replace(manifest, responses=rows)


def _published(landing: Landing, folder: storage.Folder, policy: Policy, *, missing: str | None) -> str:
    """Where the rows are, in the format that was asked for."""
    if policy.results_format == "jsonl" or missing is None:
        return folder.uri(results.FILE)
    parquet.publish(folder, landing.lines(missing=missing))
    return folder.uri(parquet.FILE)
