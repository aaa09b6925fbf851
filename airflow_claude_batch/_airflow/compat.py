"""Import every name that tasks take from Airflow, 3.0.6 to 3.4. ``servers`` and ``api_server`` have those of servers.

Names that would cost milliseconds when a DAG file is parsed are imported at their first use (``_LAZY_IMPORTS``). The
others are already loaded by ``airflow.sdk``.
"""

from __future__ import annotations

import importlib
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from airflow import __version__
from airflow.sdk import (
    BaseOperator,
    BaseOperatorLink,
    BaseSensorOperator,
    Context,
    ObjectStoragePath,
    PokeReturnValue,
)
from airflow.sdk.definitions._internal.mixins import ResolveMixin  # no public module has it, 3.0 to 3.4
from airflow.sdk.log import mask_secret

if TYPE_CHECKING:
    # Not in __all__, because the provider need not be installed, or this Airflow does not have them.
    from airflow.providers.openlineage.extractors import OperatorLineage as OperatorLineage
    from airflow.providers.standard.triggers.hitl import HITLTrigger as HITLTrigger
    from airflow.sdk import Asset, XComArg
    from airflow.sdk._shared.secrets_masker import redact
    from airflow.sdk.bases.decorator import (
        DecoratedOperator,
        TaskDecorator,
        determine_kwargs,
        task_decorator_factory,
    )
    from airflow.sdk.exceptions import TaskAwaitingInput as TaskAwaitingInput
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
    from airflow.sdk.observability.stats import Stats
    from airflow.triggers.base import BaseEventTrigger, BaseTrigger, StartTriggerArgs, TriggerEvent
    from opentelemetry.trace import TracerProvider

#: The version as numbers, such as (3, 3, 2).
AIRFLOW_VERSION: Final = tuple(int(number) for number in re.findall(r"\d+", __version__)[:3])

# mypy checks the newest version. The branches differ in where a name comes from, not in what it does.
if TYPE_CHECKING or AIRFLOW_VERSION >= (3, 1):
    from airflow.sdk import BaseHook, timezone
else:
    from airflow.hooks.base import BaseHook
    from airflow.utils import timezone

if TYPE_CHECKING or AIRFLOW_VERSION >= (3, 2):
    from airflow.sdk.configuration import conf
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSensorTimeout,
        AirflowSkipException,
        TaskDeferralError,
        TaskDeferralTimeout,
        TaskDeferred,
    )
else:
    from airflow.configuration import conf
    from airflow.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSensorTimeout,
        AirflowSkipException,
        TaskDeferralError,
        TaskDeferralTimeout,
        TaskDeferred,
    )

__all__ = [
    "AIRFLOW_VERSION",
    "ASKING_SUPPORTED",
    "AWAITING_INPUT_SUPPORTED",
    "FIRST_QUESTION_STAYS",
    "ON_KILL_SUPPORTED",
    "START_FROM_TRIGGER_SUPPORTED",
    "TASK_BREADCRUMBS_SUPPORTED",
    "TASK_STATE_STORE_SUPPORTED",
    "TASK_STATE_SURVIVES_CLEAR",
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "Asset",
    "BaseEventTrigger",
    "BaseHook",
    "BaseOperator",
    "BaseOperatorLink",
    "BaseSensorOperator",
    "BaseTrigger",
    "Context",
    "DecoratedOperator",
    "LoopRegion",
    "ObjectStoragePath",
    "PokeReturnValue",
    "ResolveMixin",
    "RuntimeTaskInstance",
    "StartTriggerArgs",
    "Stats",
    "TaskDecorator",
    "TaskDeferralError",
    "TaskDeferralTimeout",
    "TaskDeferred",
    "TaskInstance",
    "TaskInstanceKey",
    "TriggerEvent",
    "XComArg",
    "clear_mark",
    "conf",
    "default_deferrable",
    "determine_kwargs",
    "executors",
    "get_variable",
    "heartbeat_timeout",
    "loop_iteration",
    "loop_region",
    "mask_secret",
    "put_variable",
    "redact",
    "show_question",
    "task_decorator_factory",
    "timezone",
    "tracer_provider",
]

#: True if a task can ask a person in Airflow's UI.
ASKING_SUPPORTED: Final = AIRFLOW_VERSION >= (3, 1)
#: True if a task that asks waits in a state of its own. 3.1 and 3.2 wait in the triggerer.
AWAITING_INPUT_SUPPORTED: Final = AIRFLOW_VERSION >= (3, 3)
#: True if the text of a task's first question is shown again when a retry or a clear asks. 3.4 shows the new text.
FIRST_QUESTION_STAYS: Final = AIRFLOW_VERSION < (3, 4)

#: True if Airflow calls a trigger's ``on_kill`` when a user ends its deferred task.
ON_KILL_SUPPORTED: Final = AIRFLOW_VERSION >= (3, 3)
#: True if the scheduler can defer a task itself and renders the trigger's arguments. 3.1 and 3.2 start a worker.
START_FROM_TRIGGER_SUPPORTED: Final = AIRFLOW_VERSION >= (3, 3)
#: True if a worker can ask how long the finished tasks of its run took.
TASK_BREADCRUMBS_SUPPORTED: Final = AIRFLOW_VERSION >= (3, 2)
#: True if ``context["task_state_store"]`` exists. It survives retries, which an XCom does not.
TASK_STATE_STORE_SUPPORTED: Final = AIRFLOW_VERSION >= (3, 3)
#: True if it survives a clear, too. From 3.4 on, a clear in the UI or by the REST API discards it by default.
TASK_STATE_SURVIVES_CLEAR: Final = (3, 3) <= AIRFLOW_VERSION < (3, 4)

_LAZY_IMPORTS: Final = {
    "Asset": "airflow.sdk",
    "DecoratedOperator": "airflow.sdk.bases.decorator",
    "HITLTrigger": "airflow.providers.standard.triggers.hitl",
    "OperatorLineage": "airflow.providers.openlineage.extractors",
    "RuntimeTaskInstance": "airflow.sdk.execution_time.task_runner",
    "Stats": "airflow.sdk.observability.stats" if AIRFLOW_VERSION >= (3, 2) else "airflow.stats",
    "TaskAwaitingInput": "airflow.sdk.exceptions",
    "TaskDecorator": "airflow.sdk.bases.decorator",
    "redact": "airflow.sdk.log" if AIRFLOW_VERSION >= (3, 1) else "airflow.sdk.execution_time.secrets_masker",
    "determine_kwargs": (
        "airflow.sdk.bases.decorator" if AIRFLOW_VERSION >= (3, 2) else "airflow.utils.operator_helpers"
    ),
    "task_decorator_factory": "airflow.sdk.bases.decorator",
    "BaseEventTrigger": "airflow.triggers.base",
    "BaseTrigger": "airflow.triggers.base",
    "StartTriggerArgs": "airflow.triggers.base",
    "TriggerEvent": "airflow.triggers.base",
    "XComArg": "airflow.sdk",
}


class TaskInstanceKey(Protocol):
    """The ids that name a task instance, the same in each of its tries."""

    @property
    def dag_id(self) -> str: ...
    @property
    def run_id(self) -> str: ...
    @property
    def task_id(self) -> str: ...
    @property
    def map_index(self) -> int | None: ...


class TaskInstance(TaskInstanceKey, Protocol):
    """The attributes of ``context["ti"]`` that this package uses.

    ``max_tries`` grows with most clears, not with retries. ``start_date`` is that of the current process.
    """

    @property
    def try_number(self) -> int: ...
    @property
    def max_tries(self) -> int: ...
    @property
    def task(self) -> BaseOperator: ...
    @property
    def start_date(self) -> datetime: ...
    def get_first_reschedule_date(self, context: Context) -> datetime | None: ...
    def xcom_push(self, key: str, value: Any) -> None: ...


def clear_mark(context: Context) -> str | None:
    """Return a text that changes with every clear of the task instance, but not with a retry. None if there is none.

    From 3.2 on, a clear gives each task instance a new trace context, with or without tracing. Before, tracing renews
    it for a retry as well. There a clear of a finished run counts the run's ``clear_number`` up. Nothing in a finished
    run is retried, so a task instance that runs after it was cleared. ``dag.test()`` has no trace context.
    """
    ti = context["ti"]
    if AIRFLOW_VERSION >= (3, 2) and "context_carrier" in ti.model_fields_set:  # type: ignore[attr-defined]  # pydantic's
        trace = (ti.context_carrier or {}).get("traceparent")  # type: ignore[attr-defined]  # 3.2 and newer
        return f"traceparent {trace}" if trace else None
    number = getattr(context["dag_run"], "clear_number", None)
    return None if number is None else f"clear_number {number}"


def loop_iteration(context: Context) -> str | None:
    """Return a name for the iteration of the task group's loop that the task instance belongs to (Airflow 3.4).

    All iterations have ``map_index`` -1. A clear of an earlier iteration gives the later ones another region, and they
    are to find what they have sent. So the region is in the name only where the number may be there twice: a nested
    loop, or one in a mapped task group, has a region for each of the outer iterations. Airflow 3.4.0b2 refuses these.
    None outside of loops.
    """
    loop: Any = context.get("loop")
    if loop is None:
        return None
    region = getattr(context["ti"], "region_id", None)
    is_nested = len(_loops_around(context["ti"].task)) > 1 or context["ti"].task.get_closest_mapped_task_group()
    return f"loop-{loop.index}" if region is None or not is_nested else f"loop-{loop.index}-{region.hex}"


class LoopRegion(NamedTuple):
    """The place of a task instance in an execution of a loop.

    :ivar region: 32 hexadecimal digits, of the loop or of a mapped task in one iteration of it.
    :ivar number: the number of the iteration, or the map index of a mapped task.
    """

    region: str
    number: int


def loop_region(operator: Any, ti: TaskInstanceKey) -> LoopRegion | None:
    """Return the place of a task instance in the loop around its task (Airflow 3.4). None outside of loops."""
    region, index = getattr(ti, "region_id", None), getattr(ti, "region_index", None)
    if region is None or index is None or not _loops_around(operator):
        return None
    return LoopRegion(region.hex, index)


def _loops_around(operator: Any) -> list[Any]:
    """Return the loops that a task is in, the innermost first. Their class is private, so it is told by a field."""
    found = []
    group = getattr(operator, "task_group", None)
    while group is not None:
        if hasattr(group, "gate_task_id"):
            found.append(group)
        group = group.parent_group
    return found


def show_question(**fields: Any) -> str | None:
    """Show a question of a running task in Airflow's UI, and return the text that it has there.

    Airflow updates the id of the task instance in its question when it retries or clears, and before 3.4 it then keeps
    the old text.
    ``upsert_hitl_detail`` of the SDK does the same, but does not return what it gets.
    """
    from airflow.sdk.execution_time import task_runner

    payload = importlib.import_module("airflow.sdk.execution_time.comms").CreateHITLDetailPayload
    shown = task_runner.SUPERVISOR_COMMS.send(payload(assigned_users=[], **fields))
    return getattr(shown, "body", None)


def get_variable(key: str) -> str | None:
    """Return an Airflow Variable from Airflow's database, None only if there certainly is none.

    ``Variable.get`` says "not found" whatever went wrong (3.1 and newer), and asks other secrets backends first.
    """
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType

    comms: Any = importlib.import_module("airflow.sdk.execution_time.comms")
    try:
        response = _ask_supervisor(comms.GetVariable(key=key))
    except AirflowRuntimeError as error:
        response = error.error
    if isinstance(response, comms.VariableResult):
        return response.value or ""  # it exists, even if Airflow cannot decrypt it
    if not isinstance(response, comms.ErrorResponse):
        raise TypeError(f"Airflow's supervisor has answered with {type(response).__name__}.")
    if response.error is ErrorType.VARIABLE_NOT_FOUND:
        return None
    raise AirflowRuntimeError(response)


def put_variable(key: str, value: str, description: str) -> None:
    """Store an Airflow Variable. ``Variable.set`` does not raise if that fails."""
    from airflow.sdk.exceptions import AirflowRuntimeError

    comms: Any = importlib.import_module("airflow.sdk.execution_time.comms")
    response = _ask_supervisor(comms.PutVariable(key=key, value=value, description=description))
    if isinstance(response, comms.ErrorResponse):
        raise AirflowRuntimeError(response)


def _ask_supervisor(message: Any) -> Any:
    from airflow.sdk.execution_time import task_runner

    return task_runner.SUPERVISOR_COMMS.send(message)


def default_deferrable() -> bool:
    """Return ``[operators] default_deferrable``: True if tasks defer whose author did not decide. Default: False."""
    return bool(conf.getboolean("operators", "default_deferrable", fallback=False))


def executors() -> str:
    """Return ``[core] executor``: one or several names or class paths. Default: LocalExecutor."""
    return str(conf.get("core", "executor", fallback="LocalExecutor"))


def heartbeat_timeout() -> float:
    """Return the seconds without a heartbeat after which the scheduler fails a running task. Default: 300."""
    return float(conf.getfloat("scheduler", "task_instance_heartbeat_timeout", fallback=300.0))


def tracer_provider() -> TracerProvider | None:
    """Return what makes the tracers of OpenTelemetry, as ``[traces]`` says. None if tracing is off.

    From 3.2 on, Airflow makes one for each process, and sends what a task has reported when it ends. Before, a task
    makes its own, which sends each span at once.
    """
    if not conf.getboolean("traces", "otel_on", fallback=False):
        return None
    if AIRFLOW_VERSION >= (3, 2):
        from opentelemetry import trace

        return trace.get_tracer_provider()
    otel_tracer, tracer = (importlib.import_module(f"airflow.traces.{name}") for name in ("otel_tracer", "tracer"))
    provider: TracerProvider = otel_tracer.get_otel_tracer_for_task(tracer.Trace).get_otel_tracer_provider()
    return provider


def __getattr__(name: str) -> Any:
    if name not in _LAZY_IMPORTS:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(_LAZY_IMPORTS[name]), name)
