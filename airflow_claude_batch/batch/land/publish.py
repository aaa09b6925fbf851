"""The last publication of a submission: every row, the manifest, and what follows from having both."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.cancel import delete_batches
from airflow_claude_batch.batch.land.landing import Landing, writing_to
from airflow_claude_batch.batch.land.manifest import MANIFEST_FILE, Manifest, write_manifest
from airflow_claude_batch.batch.land.parquet import PARQUET_FILE, write_parquet
from airflow_claude_batch.batch.land.rows import RESULTS_FILE
from airflow_claude_batch.batch.policy import Policy

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)

NO_ROW = "no result row came for this request"


def publish_final(
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
    with writing_to(folder, MANIFEST_FILE):
        write_manifest(folder, manifest)
    if not complete:
        return manifest
    if policy.delete_batches:
        _delete(landing, folder, client, manifest)
    _say_if_not_cached(landing, policy)
    if size > policy.max_inline_bytes:
        return manifest
    rows = [msgspec.json.decode(line) for line in landing.lines(missing=missing)]
    return msgspec.structs.replace(manifest, responses=rows)


def _published(landing: Landing, folder: storage.Folder, policy: Policy, *, missing: str | None) -> str:
    """Where the rows are, in the format that was asked for."""
    if policy.results_format == "jsonl" or missing is None:
        return folder.uri(RESULTS_FILE)
    with writing_to(folder, PARQUET_FILE):
        write_parquet(folder, landing.lines(missing=missing))
    return folder.uri(PARQUET_FILE)


def _delete(landing: Landing, folder: storage.Folder, client: ClaudeClient, manifest: Manifest) -> None:
    """Delete the batches if their answers need not be fetched ever again.

    :raises ResultsError: what was landed cannot be read back as it was written.
    """
    if missing := manifest.counts["missing"]:
        log.warning("The message batches are not deleted: for %d requests no result row came", missing)
        return
    landing.verify(folder, missing=NO_ROW)
    delete_batches(client, manifest.batch_ids)


def _say_if_not_cached(landing: Landing, policy: Policy) -> None:
    if landing.is_caching_in_vain():
        log.warning(
            "The prompt cache was neither written nor read: what stands before the cache_control mark is shorter than "
            "the model's least (512 to 4,096 tokens), or differs from request to request"
        )
    elif policy.warm_cache and not landing.bill.tokens.cached:
        log.warning("The prompt cache was neither written nor read: no cache_control mark says what to cache")
