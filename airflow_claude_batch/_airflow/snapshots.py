"""Push where a submission stands to XCom, so that Airflow's UI and the command line can show it.

The snapshot is for people. Whatever is wrong with it, no task waits or fails because of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from airflow_claude_batch._airflow.compat import AirflowException, redact, timezone
from airflow_claude_batch._airflow.links import ClaudeBatchLink, submission_address
from airflow_claude_batch._airflow.results_folder import place_of
from airflow_claude_batch._airflow.supervisor import UninterruptedCalls
from airflow_claude_batch.api.redaction import shorten
from airflow_claude_batch.batch.land.snapshot import Snapshot, SnapshotPart, SnapshotState, with_manifest, with_parts
from airflow_claude_batch.batch.steps import AskStep, DoneStep, WaitStep
from airflow_claude_batch.exceptions import ClaudeBatchError, SubmissionTakenOverError

if TYPE_CHECKING:
    from types import TracebackType

    from airflow_claude_batch._airflow.task_history import TaskHistory
    from airflow_claude_batch._airflow.task_run import TaskRun
    from airflow_claude_batch.batch.storage import Folder

log = logging.getLogger(__name__)

#: Key of the XCom.
SNAPSHOT_KEY: Final = "claude_batch"
_LINK: Final = ClaudeBatchLink()
_MAX_FAILURE_CHARACTERS: Final = 500


class Work(Protocol):
    """What a snapshot is taken of: a submission, or a collection of batches made elsewhere."""

    @property
    def submission_id(self) -> str: ...
    @property
    def folder(self) -> Folder: ...
    @property
    def request_count(self) -> int: ...
    @property
    def estimate(self) -> dict[str, object] | None: ...
    def parts(self) -> list[SnapshotPart]: ...


class Snapshots:
    """The snapshots of a task instance's submission. As a context manager it also notes the error of the block.

    Example::

        with Snapshots(submission, run, conn_id="claude_default") as snapshots:
            step = submission.advance()
            snapshots.push(step)

    :param calls: has a kill wait until a push is over: ``on_kill`` asks Airflow's supervisor, too.
    """

    def __init__(
        self,
        work: Work,
        run: TaskRun,
        *,
        conn_id: str,
        history: TaskHistory | None = None,
        calls: UninterruptedCalls | None = None,
    ) -> None:
        self._work = work
        self._calls = calls or UninterruptedCalls()
        self._run = run
        self._history = history
        self._is_linked = self._has_warned = False
        root, place = place_of(work.folder, work.submission_id) or (work.folder.uri("").rstrip("/"), None)
        self._last = Snapshot(
            submission_id=work.submission_id,
            state=SnapshotState.WORKING,
            updated_at=timezone.utcnow(),
            conn_id=conn_id,
            root=root,
            place=place,
            request_count=work.request_count,
        )

    def push(self, step: WaitStep | AskStep | DoneStep | None = None) -> None:
        """Push where the submission stands now.

        :param step: what ``advance()`` has returned. None: the task is at work.
        """
        self._push(lambda: self._after(step))

    def __enter__(self) -> Snapshots:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, Exception):  # others defer the task, or end its process
            self.push_failure(error)

    def push_failure(self, error: Exception) -> None:
        """Push that the attempt has ended with an error. The step that has failed may have sent batches."""
        if not isinstance(error, SubmissionTakenOverError):  # then a newer attempt pushes the snapshots
            self._push(lambda: msgspec.structs.replace(self._now(), failure=_failure_of(error)))

    def _after(self, step: WaitStep | AskStep | DoneStep | None) -> Snapshot:
        now = self._now()
        if isinstance(step, DoneStep):
            return with_manifest(now, step.manifest)
        if isinstance(step, AskStep):
            return msgspec.structs.replace(now, state=SnapshotState.APPROVAL)
        if isinstance(step, WaitStep):
            usual = self._history.usual if self._history is not None else None
            return msgspec.structs.replace(now, state=SnapshotState.WAITING, reason=step.reason, usual=usual)
        return now

    def _now(self) -> Snapshot:
        work = self._work
        last = msgspec.structs.replace(self._last, request_count=work.request_count, estimate=work.estimate)
        return with_parts(last, work.parts())

    def _push(self, take: Callable[[], Snapshot]) -> None:
        try:
            self._last = msgspec.structs.replace(take(), updated_at=timezone.utcnow())
            with self._calls.running():
                self._run.ti.xcom_push(key=SNAPSHOT_KEY, value=self._last.to_xcom())
                if not self._is_linked:
                    ti = self._run.ti
                    ti.xcom_push(key=_LINK.xcom_key, value=submission_address(ti, ti.task))
                    self._is_linked = True
        except Exception as error:  # the supervisor's client and XCom back ends raise many types
            log.log(
                logging.DEBUG if self._has_warned else logging.WARNING,
                "The page in Airflow's UI does not show where the submission stands now: its XCom could not be pushed "
                "(%s). The submission itself goes on.",
                _failure_of(error),
            )
            self._has_warned = True


def _failure_of(error: Exception) -> str:
    """Return the first line of an error, without the secrets that Airflow masks in logs. XComs are not masked.

    Of errors that may come from anywhere, only the type is returned: their texts may have what was read or answered.
    """
    line = str(error).partition("\n")[0] if isinstance(error, ClaudeBatchError | AirflowException) else ""
    return shorten(str(redact(line)), _MAX_FAILURE_CHARACTERS) or type(error).__name__
