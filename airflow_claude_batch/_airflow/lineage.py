"""Report a submission's outcome to others: the events of outlet assets, and OpenLineage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.compat import Context, OperatorLineage
    from airflow_claude_batch.batch.land.manifest import Manifest

#: The fields of the manifest that fit an event, and hold no prompt and no answer.
_SUMMARY_FIELDS: Final = ("submission_id", "status", "request_count", "counts", "usage", "cost", "results_path")


class LineageMixin:
    """A task that keeps its submission's manifest, for asset events and OpenLineage."""

    _manifest: Manifest | None = None

    def record_manifest(self, manifest: Manifest, context: Context) -> None:
        """Keep the manifest, and write its summary to the events of the task's outlet assets.

        The ``extra`` of each event gets ``submission_id``, ``status``, ``request_count``, ``counts``, ``usage``,
        ``cost`` and ``results_path``, and ``reused`` and ``direct`` if there are any, beside what the author put there.
        """
        from airflow_claude_batch._airflow.compat import Asset

        self._manifest = manifest
        for outlet in getattr(self, "outlets", None) or ():
            if isinstance(outlet, Asset):
                event = context["outlet_events"][outlet]
                event.extra = {**event.extra, **summary(manifest)}

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage:
        """Give OpenLineage the rows as output dataset, and the summary as run facet ``claudeBatch``.

        OpenLineage asks in the process in which the task has ended, so the manifest is at hand.
        """
        from openlineage.client.event_v2 import OutputDataset
        from openlineage.client.facet_v2 import RunFacet, output_statistics_output_dataset

        from airflow_claude_batch._airflow.compat import OperatorLineage

        manifest = self._manifest
        if manifest is None:
            return OperatorLineage()
        rows = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=_row_count(manifest))
        outputs = [
            OutputDataset(namespace=namespace, name=name, outputFacets={"outputStatistics": rows})
            for namespace, name in _datasets(manifest)
        ]
        facet = RunFacet().with_additional_properties(**summary(manifest))
        return OperatorLineage(outputs=outputs, run_facets={"claudeBatch": facet})


def summary(manifest: Manifest) -> dict[str, Any]:
    """Return the counts and the cost of a submission, as JSON."""
    fields = manifest.to_xcom()
    more = [name for name in ("reused", "direct") if name in fields]
    return {name: fields[name] for name in (*_SUMMARY_FIELDS, *more)}


def _row_count(manifest: Manifest) -> int:
    """Count the rows in the results file: all of them once the submission has ended."""
    unwritten = 0 if manifest.status == "ended" else manifest.counts.get("missing", 0)
    return manifest.request_count - unwritten


def _datasets(manifest: Manifest) -> list[tuple[str, str]]:
    """Return namespace and name by OpenLineage's rules, without the connection id; none if nothing is landed."""
    if manifest.results_path is None or not _row_count(manifest):
        return []
    parts = urlsplit(manifest.results_path)
    if parts.scheme in ("", "file"):
        return [("file", parts.path)]
    return [(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", parts.path.lstrip("/"))]
