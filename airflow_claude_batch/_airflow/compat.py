"""The only module that knows Airflow's versions: every name the package takes from Airflow, 3.0.6 to 3.3.

What costs milliseconds at DAG-parse time is imported when first asked for (``_LAZY``); everything else is
already loaded by ``airflow.sdk``.
"""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from airflow import __version__
from airflow.sdk import (
    BaseOperator,
    BaseOperatorLink,
    BaseSensorOperator,
    Context,
    ObjectStoragePath,
    PokeReturnValue,
)
from airflow.sdk.execution_time.xcom import XCom
from airflow.sdk.log import mask_secret

if TYPE_CHECKING:
    from airflow.sdk.bases.decorator import (
        DecoratedOperator,
        TaskDecorator,
        determine_kwargs,
        task_decorator_factory,
    )
    from airflow.sdk.observability.stats import Stats
    from airflow.triggers.base import BaseTrigger, StartTriggerArgs, TriggerEvent

#: Types are checked against the newest version; the branches below differ in homes, not in behaviour.
AIRFLOW_VERSION: Final = tuple(int(number) for number in re.findall(r"\d+", __version__)[:3])

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
    "ON_KILL_SUPPORTED",
    "START_FROM_TRIGGER_SUPPORTED",
    "TASK_STATE_STORE_SUPPORTED",
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "BaseHook",
    "BaseOperator",
    "BaseOperatorLink",
    "BaseSensorOperator",
    "BaseTrigger",
    "Context",
    "DecoratedOperator",
    "ObjectStoragePath",
    "PokeReturnValue",
    "StartTriggerArgs",
    "Stats",
    "TaskDecorator",
    "TaskDeferralError",
    "TaskDeferralTimeout",
    "TaskDeferred",
    "TriggerEvent",
    "XCom",
    "conf",
    "default_deferrable",
    "determine_kwargs",
    "mask_secret",
    "supervisor_call",
    "task_decorator_factory",
    "timezone",
]

#: Whether a trigger's ``on_kill`` is called when a user ends its deferred task.
ON_KILL_SUPPORTED: Final = AIRFLOW_VERSION >= (3, 3)
#: Whether the scheduler may defer a task itself and the trigger's arguments are rendered: 3.1 and 3.2 start a worker.
START_FROM_TRIGGER_SUPPORTED: Final = AIRFLOW_VERSION >= (3, 3)
#: Whether ``context["task_state_store"]`` exists: it survives retries, which an XCom does not.
TASK_STATE_STORE_SUPPORTED: Final = AIRFLOW_VERSION >= (3, 3)

_LAZY: Final = {
    "DecoratedOperator": "airflow.sdk.bases.decorator",
    "Stats": "airflow.sdk.observability.stats" if AIRFLOW_VERSION >= (3, 2) else "airflow.stats",
    "TaskDecorator": "airflow.sdk.bases.decorator",
    "determine_kwargs": (
        "airflow.sdk.bases.decorator" if AIRFLOW_VERSION >= (3, 2) else "airflow.utils.operator_helpers"
    ),
    "task_decorator_factory": "airflow.sdk.bases.decorator",
    "BaseTrigger": "airflow.triggers.base",
    "StartTriggerArgs": "airflow.triggers.base",
    "TriggerEvent": "airflow.triggers.base",
}

P = ParamSpec("P")
T = TypeVar("T")

_in_flight: set[asyncio.Future[Any]] = set()


def default_deferrable() -> bool:
    """Whether operators defer when their author did not say."""
    return bool(conf.getboolean("operators", "default_deferrable", fallback=False))


async def supervisor_call(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking call that talks to Airflow's supervisor (connections, XComs, states) from a trigger.

    It runs in asgiref's thread: ``asyncio.to_thread`` fails on 3.0 and 3.1. It is shielded: on those versions
    a call cancelled half way leaves its answer unread, and the whole triggerer dies of reading answers out
    of order; on 3.3 the unshielded thread call swallows the message that makes ``on_kill`` run.
    """
    from asgiref.sync import sync_to_async

    call = asyncio.ensure_future(sync_to_async(function)(*args, **kwargs))
    _in_flight.add(call)
    call.add_done_callback(_in_flight.discard)
    return await asyncio.shield(call)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(_LAZY[name]), name)
