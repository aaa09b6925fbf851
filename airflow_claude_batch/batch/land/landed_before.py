"""Read what a sensor's folder holds from an earlier landing, and decide which batches need no download."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.land.landed_parts import landed_lines
from airflow_claude_batch.batch.land.landed_rows import count_results, count_rows_by_batch
from airflow_claude_batch.batch.land.manifest import Manifest, load_manifest
from airflow_claude_batch.batch.land.rows import RESULTS_FILE
from airflow_claude_batch.batch.storage import Folder

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LandedBefore:
    """Rows and manifest that this task or another one has left in a folder.

    :param batch_ids: the batches that are to be landed now.
    :param is_external: they were made elsewhere, so that no requests of ours tell what they hold.
    :param manifest: None if there is none, or if it is about other batches.
    """

    folder: Folder
    batch_ids: Sequence[str]
    is_external: bool
    manifest: Manifest | None

    @classmethod
    def read(cls, folder: Folder, batch_ids: Sequence[str], *, is_external: bool) -> LandedBefore:
        """Read the manifest. Rows of batches made elsewhere count only if they are of the same batches."""
        manifest = load_manifest(folder)
        if manifest is not None and is_external and set(manifest.batch_ids) != set(batch_ids):
            manifest = None
        return cls(folder, batch_ids, is_external, manifest)

    def landed_batch_ids(self) -> frozenset[str]:
        """Return the batches that need no download. If rows are missing from the file, all are downloaded."""
        return frozenset(self._landed(self.manifest) if self.manifest else ()).intersection(self.batch_ids)

    def _landed(self, manifest: Manifest) -> Sequence[str]:
        with landed_lines(self.folder) as lines:
            if lines is None:
                return manifest.landed_batch_ids if manifest.counts.get("missing") == manifest.request_count else ()
            if count_results(lines) < manifest.result_count:
                log.warning("Rows are missing from %s; all batches are read again.", self.folder.uri(RESULTS_FILE))
                return ()
        if not self.is_external or manifest.status == "ended":
            return manifest.landed_batch_ids
        # A row of a batch made elsewhere may lack its custom_id. Then it cannot be taken over.
        rows, sizes = self._rows_by_batch(), manifest.batch_request_counts or {}
        return [id_ for id_ in manifest.landed_batch_ids if rows.get(id_, 0) == sizes.get(id_)]

    def request_counts(self, ended: Sequence[MessageBatch]) -> dict[str, int]:
        """Return the number of requests in each batch: as its sender wrote it, else as the API counts them.

        :param ended: the batches that have ended, as the API describes them.
        """
        sizes = dict(self.manifest.batch_request_counts or {}) if self.manifest is not None else {}
        if not self.is_external:
            return sizes
        for batch in ended:
            sizes[batch.id] = max(sizes.get(batch.id, 0), batch.request_counts.total)
        rows = self._rows_by_batch()
        return sizes | {id_: max(sizes.get(id_, 0), rows[id_]) for id_ in self.batch_ids if rows.get(id_)}

    def _rows_by_batch(self) -> dict[str, int]:
        with landed_lines(self.folder) as lines:
            return dict(count_rows_by_batch(lines or ()))
