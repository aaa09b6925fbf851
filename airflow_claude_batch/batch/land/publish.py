"""Publish a landing: write the rows, then the manifest, and only then delete batches.

While a submission runs, new rows are published as a landed part. At the end all parts are merged into the results.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.cancel import delete_batches
from airflow_claude_batch.batch.input.output_schema import load_schema
from airflow_claude_batch.batch.land.csv_results import CSV_FILE, write_csv
from airflow_claude_batch.batch.land.landed_part import LandedPart, PartRow, part_files, write_part
from airflow_claude_batch.batch.land.landed_parts import new_part_name, results_identity
from airflow_claude_batch.batch.land.landing import Landing, PublishedRows
from airflow_claude_batch.batch.land.manifest import MANIFEST_FILE, Manifest, write_manifest
from airflow_claude_batch.batch.land.parquet import PARQUET_FILE
from airflow_claude_batch.batch.land.parquet_writer import write_parquet
from airflow_claude_batch.batch.land.place_odd_lines import UNREADABLE_FILE, place_lines
from airflow_claude_batch.batch.land.row_layout import layout_of
from airflow_claude_batch.batch.land.rows import RESULTS_FILE, Status
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.batch.storable_json import MAX_LEVELS, is_storable
from airflow_claude_batch.exceptions import APIError, NotFoundError, ResultsError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)

#: The error message of rows with the status ``missing``.
NO_RESULT: Final = "The batch has ended, but the API has no result for this request."


_TABLES: Final = {"parquet": (PARQUET_FILE, write_parquet), "csv": (CSV_FILE, write_csv)}


def publish_final(
    landing: Landing,
    folder: storage.Folder,
    policy: Policy,
    client: ClaudeClient,
    *,
    complete: bool,
    summarize: Callable[[str], Manifest],
    on_deleted: Callable[[Sequence[str]], None] = lambda _: None,
    store_answers: Callable[[], None] | None = None,
) -> Manifest:
    """Publish the rows, then the manifest. Delete the batches after that, if the policy says so.

    :param complete: no batch is open any more, so that every request gets a row. Else only results so far are written.
    :param summarize: makes the manifest, given the path of the rows.
    :param on_deleted: takes the batches that were deleted.
    :param store_answers: puts the answers into the answer store, once the rows are in the folder. None without a store.
    :returns: the manifest, with the rows in ``responses`` if they are small and Airflow's stores can hold them.
    :raises ResultsError: the storage refused, or rows that were read back differ. No batch was deleted.
    """
    missing = NO_RESULT if complete else None
    if complete:
        place_lines(landing)
    size = publish_rows(landing, folder, missing=missing).size
    path = folder.uri(RESULTS_FILE)
    if complete and policy.results_format in _TABLES:
        name, write_table = _TABLES[policy.results_format]
        with writing_to(folder, name):
            layout = layout_of(
                landing, load_schema(folder), has_store=store_answers is not None, may_ask_directly=policy.asks_directly
            )
            write_table(folder, landing.lines(missing=missing), layout)
        path = folder.uri(name)
    if store_answers is not None:
        store_answers()
    manifest = summarize(path)
    with writing_to(folder, MANIFEST_FILE):
        write_manifest(folder, manifest)
    if not complete:
        return manifest
    if policy.delete_batches:
        on_deleted(_delete(landing, folder, client, manifest))
    _log_unused_cache(landing, policy)
    if size > policy.max_inline_bytes:
        return manifest
    return msgspec.structs.replace(manifest, responses=_inline_rows(landing, path, missing=missing))


def _inline_rows(landing: Landing, path: str, *, missing: str | None) -> list[Any] | None:
    """Return the rows for XCom, None if a store of Airflow would refuse them or give back other ones."""
    try:
        rows = [msgspec.json.decode(line) for line in landing.lines(missing=missing)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        rows = None
    if rows is not None and all(is_storable(row, MAX_LEVELS - 2) for row in rows):
        return rows
    log.warning(
        "The rows are not in the task's XCom (responses is null), because an answer holds what Airflow's database may "
        "refuse, such as a NUL character. All rows are in %s.",
        path,
    )
    return None


def publish_part(landing: Landing, folder: storage.Folder, input_digest: str) -> None:
    """Publish the rows that were read now as another landed part. Lines that belong to no row go beside it.

    :param input_digest: identifies the requests whose rows these are.
    :raises ResultsError: the storage refused. The rows that were there are untouched.
    """
    _publish_leftover(landing, folder)
    if not any(landing.rows.pending):
        return
    with writing_to(folder, "landed-….jsonl"):
        sizes = folder.sizes()
        name = new_part_name(sizes)
        write_part(
            folder,
            name,
            _pending_rows(landing),
            input_digest=input_digest,
            beside=results_identity(folder, sizes),
            after=landing.rows.part_names,
            bill=landing.rows.pending_sums(),
            batch_ids=landing.pending_batch_ids,
            shortened_batch_ids=landing.shortened_batch_ids,
        )
        part = LandedPart.open(folder, name, {file: folder.size(file) for file in part_files(name)})
    if part is None:
        raise ResultsError(
            f"{folder.uri(name)} could not be read back after it was written.",
            "What was landed before is untouched. Answers are kept, by the API or in the folder; a retry pays nothing.",
            "Make sure that the storage keeps what is written, then clear the task.",
        )
    landing.rows.land_pending(part)
    landing.pending_batch_ids.clear()


def _pending_rows(landing: Landing) -> Iterator[PartRow]:
    outcomes, hash_of = landing.rows.outcomes, landing.matcher.hash
    for index, line in landing.pending_lines():
        yield PartRow(index, line, outcomes[index], hash_of(index))


def publish_rows(landing: Landing, folder: storage.Folder, *, missing: str | None) -> PublishedRows:
    """Replace ``results.jsonl`` as a whole, if it has not all rows yet. Lines that belong to no row go beside it.

    :param missing: as in :meth:`.Landing.lines`.
    :raises ResultsError: the storage refused, or a landed part cannot be read. The rows that were there are untouched.
    """
    _publish_leftover(landing, folder)
    uri, known = folder.uri(RESULTS_FILE), landing.published
    if known is not None and known.uri == uri and (missing is None or Status.NONE not in landing.statuses):
        return known
    with writing_to(folder, RESULTS_FILE), folder.replace_file(RESULTS_FILE) as file:
        file.writelines(landing.lines(missing=missing))
        size = file.tell()
    landing.published = PublishedRows(uri, size)
    return landing.published


def verify_rows(landing: Landing, folder: storage.Folder, *, missing: str | None) -> None:
    """Read ``results.jsonl`` back and compare it with the landing.

    :raises ResultsError: it differs.
    """
    with writing_to(folder, RESULTS_FILE):
        with folder.open(RESULTS_FILE) or io.BytesIO() as file:
            is_whole = all(file.readline() == line for line in landing.lines(missing=missing)) and not file.read(1)
        if not is_whole:
            raise OSError("the file that is read back differs from what was written")


@contextlib.contextmanager
def writing_to(folder: storage.Folder, name: str) -> Iterator[None]:
    """Turn an ``OSError`` of the storage into an error that says where the answers are.

    :raises ResultsError: the storage refused.
    """
    try:
        yield
    except OSError as error:
        raise ResultsError(
            f"{folder.uri(name)} could not be written ({error}).",
            "What was landed before is untouched. Answers are kept, by the API or in the folder; a retry pays nothing.",
            "Make sure that the storage can be written, then clear the task.",
        ) from error


def _publish_leftover(landing: Landing, folder: storage.Folder) -> None:
    if landing.leftover:
        with writing_to(folder, UNREADABLE_FILE):
            _add_leftover_lines(landing, folder)


def _add_leftover_lines(landing: Landing, folder: storage.Folder) -> None:
    """Add lines of result streams that belong to no request, as they came, to those that were written before."""
    known = (storage.read(folder, UNREADABLE_FILE) or b"").splitlines(keepends=True)
    new = (
        msgspec.json.encode({"batch_id": batch_id, **msgspec.to_builtins(odd.raw_line)}) + b"\n"
        for batch_id, odd_lines in landing.leftover.items()
        for odd in odd_lines
    )
    storage.write(folder, UNREADABLE_FILE, b"".join(dict.fromkeys((*known, *new))))


def _delete(landing: Landing, folder: storage.Folder, client: ClaudeClient, manifest: Manifest) -> list[str]:
    """Delete the batches all of whose answers are landed and can be read back. Return those that were deleted."""
    if count := manifest.counts["missing"]:
        text = "The message batches are not deleted, because the API had no result for %d of %s."
        log.warning(text, count, quantity(manifest.request_count, "request"))
        return []
    verify_rows(landing, folder, missing=NO_RESULT)
    kept = landing.rows.answers_by_batch()
    return delete_batches(client, [id_ for id_ in manifest.batch_ids if _is_kept(id_, kept[id_], landing, client)])


def _is_kept(batch_id: str, kept: int, landing: Landing, client: ClaudeClient) -> bool:
    """Tell whether every answer of a batch is in the rows as a whole. The API's counts are compared with them."""
    if batch_id in landing.shortened_batch_ids:
        log.warning("Message batch %s is not deleted, because a line of its results is too long to be kept.", batch_id)
        return False
    try:
        answered = client.retrieve_batch(batch_id).request_counts.succeeded
    except NotFoundError:
        return True  # to delete it again does nothing
    except APIError as error:
        log.warning("Message batch %s is not deleted, because its answers could not be counted. %s", batch_id, error)
        return False
    if kept < answered:
        text = "Message batch %s is not deleted, because the rows have %d of its %s."
        log.warning(text, batch_id, kept, quantity(answered, "answer"))
        return False
    return True


def _log_unused_cache(landing: Landing, policy: Policy) -> None:
    """Warn if the prompt cache was asked for, and no answer wrote or read it."""
    tokens = landing.bill.tokens
    if tokens.cached:
        return
    if tokens.prompt and landing.matcher.asks_for_cache():
        log.warning(
            "No answer wrote or read the prompt cache. The prompt before the cache_control mark is shorter than the "
            "model's minimum (512 to 4,096 tokens), or it differs from request to request."
        )
    elif policy.warm_cache:
        log.warning("No answer wrote or read the prompt cache: no request has a cache_control mark.")
