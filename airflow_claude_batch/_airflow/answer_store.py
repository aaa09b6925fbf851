"""Open the answer store of a task: the one that its author or the deployment names."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from airflow_claude_batch._airflow import settings
from airflow_claude_batch._airflow.check_arguments import wrong_path
from airflow_claude_batch._airflow.compat import timezone
from airflow_claude_batch._airflow.options import StoreOptions
from airflow_claude_batch._airflow.results_folder import folder_at
from airflow_claude_batch.batch.answer_reuse import AnswerReuse
from airflow_claude_batch.exceptions import ConfigurationError

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.options import SubmissionOptions
    from airflow_claude_batch._airflow.read_batch import SensedBatches
    from airflow_claude_batch._airflow.task_run import TaskRun
    from airflow_claude_batch.batch.storage import Folder

log = logging.getLogger(__name__)

_SETTING: Final = "[claude_batch] answer_store"


def open_answer_store(options: SubmissionOptions) -> AnswerReuse | None:
    """Return the answer store of an operator's task, None if it has none. Nothing is read yet.

    :raises ConfigurationError: its path is not the same place for every process.
    """
    store = options.answer_store
    name = f"{options.task_id}: answer_store"
    if store is None and (path := settings.answer_store()):
        store, name = StoreOptions(path=path), _SETTING
    if not store:
        return None
    _check_path(name, store.path)
    return AnswerReuse(
        path=store.path,
        open_folder=partial(_folder, store.path),
        connection=options.claude_conn_id,
        clock=timezone.utcnow,
        version=str(store.version),
        max_age=store.max_age,
        looks_up=options.reuse_answers,
    )


def open_sensors_answer_store(batches: SensedBatches, claude_conn_id: str, run: TaskRun) -> AnswerReuse | None:
    """Return the answer store that the operator has handed over, None if it has none.

    A path that came by XCom is used only if the deployment or the author of the DAG names it too.
    """
    handed = batches.handed_over.answer_store
    if handed is None or batches.request_count is None:
        return None
    if handed.path not in (settings.answer_store(), *_paths_upstream(run)):
        log.warning(
            "The answers are not stored: batch names the answer store %.100s, but no upstream operator names it, nor "
            "does %s.\nA later run that asks the same pays for it again.\nWrite the operator's answer_store so that it "
            "renders to the same path in both tasks.",
            handed.path,
            _SETTING,
        )
        return None
    return AnswerReuse(
        path=handed.path,
        open_folder=partial(_folder, handed.path),
        connection=claude_conn_id,
        clock=timezone.utcnow,
        version=handed.version,
        looks_up=False,
        scope=handed.scope,
        api=handed.api,
    )


def _paths_upstream(run: TaskRun) -> Iterator[str]:
    """Yield the paths of the answer stores that the author of the DAG gave to the operators upstream."""
    task = run.ti.task
    for upstream in task.get_flat_relatives(upstream=True):
        own: Any = getattr(upstream, "partial_kwargs", {}).get("answer_store", getattr(upstream, "answer_store", None))
        if not hasattr(own, "rendered"):
            continue
        try:
            yield str(own.rendered(lambda value: task.render_template(value, run.context)).path)
        except Exception as error:  # a template may raise anything
            log.debug("answer_store of %s cannot be rendered here: %r", upstream.task_id, error)


def _check_path(name: str, path: Any) -> None:
    if reason := wrong_path(path) if path else "it is empty":
        raise ConfigurationError(
            f"{name} is {path!r:.40}: {reason}.",
            "Nothing was sent now. Batches that were sent before are not affected.",
            "Give an absolute path that all workers share, or a URI such as s3://aws_default@my-bucket/answers.",
        )


def _folder(path: str, name: str) -> Folder:
    return folder_at(f"{path.rstrip('/')}/{name}")
