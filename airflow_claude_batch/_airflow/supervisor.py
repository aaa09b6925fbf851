"""Call Airflow's supervisor from an event loop, without harm to the triggerer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class RunningCalls:
    """The calls to the supervisor that this process has not finished.

    It holds a reference to each: asyncio keeps none, and a call that is garbage collected leaves its response unread.
    """

    def __init__(self) -> None:
        self._calls: set[asyncio.Future[Any]] = set()

    def add(self, call: asyncio.Future[Any]) -> None:
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def wait(self) -> None:
        """Wait until all of them have returned."""
        await asyncio.gather(*self._calls)


RUNNING_CALLS: Final = RunningCalls()


async def supervisor_call(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking call that talks to Airflow's supervisor (connections, XComs, states) from a trigger.

    It runs in asgiref's thread: ``asyncio.to_thread`` fails on 3.0 and 3.1. It is shielded from cancellation. On those
    versions a canceled call leaves its response unread, and the triggerer dies of responses that are out of order. On
    3.3 the unshielded call swallows the message that makes ``on_kill`` run.
    """
    from asgiref.sync import sync_to_async

    call = asyncio.ensure_future(sync_to_async(function)(*args, **kwargs))
    RUNNING_CALLS.add(call)
    return await asyncio.shield(call)
