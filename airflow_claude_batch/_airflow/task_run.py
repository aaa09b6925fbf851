"""What one run of a task in a worker works with, besides its options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from airflow_claude_batch._airflow.compat import loop_iteration
from airflow_claude_batch._airflow.results_folder import submission_folder, submission_id

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.compat import BaseTrigger, Context, TaskInstance
    from airflow_claude_batch._airflow.on_kill import RunningWork
    from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
    from airflow_claude_batch.batch.land.manifest import Manifest
    from airflow_claude_batch.batch.storage import Folder


class Hook(Protocol):
    """The methods of :class:`~airflow_claude_batch.hooks.ClaudeHook` that a task uses."""

    def get_conn(self) -> ClaudeClient: ...
    def get_estimate_client(self) -> ClaudeClient: ...
    def get_config(self) -> ClientConfig: ...
    def read_config_again(self) -> ClientConfig: ...
    def get_connection_model(self) -> str | None: ...
    def get_default_model(self) -> str: ...


class MakeTrigger(Protocol):
    """Make the trigger for a deferral: :class:`~airflow_claude_batch.triggers.MessageBatchTrigger`."""

    def __call__(
        self,
        claude_conn_id: str,
        *,
        batch_ids: list[str],
        open_batch_ids: list[str],
        wait_for: Literal["all", "any"],
        poll_interval: float,
        until: str,
        cancel_on_kill: bool,
        submitted_at: str | None,
        unconfirmed_batch_ids: list[str],
        known: dict[str, Any],
        later_iteration: bool,
    ) -> BaseTrigger: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRun:
    """One run of a task in a worker: its context, and how the layers below reach what lies above them.

    :param set_running_work: takes what ``on_kill`` is to stop.
    :param record_manifest: takes the manifest, for lineage and asset events.
    """

    context: Context
    hook: Hook
    make_trigger: MakeTrigger
    set_running_work: Callable[[RunningWork], None]
    record_manifest: Callable[[Manifest, Context], None]

    @property
    def ti(self) -> TaskInstance:
        return self.context["ti"]

    @property
    def submission_id(self) -> str:
        return submission_id(self.ti, loop_iteration(self.context))

    def submission_folder(self, results_path: str | None) -> Folder:
        """Return the task instance's own folder.

        :raises ConfigurationError: ``results_path`` cannot be right, or no installed provider serves it.
        """
        return submission_folder(results_path, self.ti, loop_iteration(self.context))
