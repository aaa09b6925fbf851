"""Call Airflow's supervisor from an event loop, without harm to the triggerer; or from a task that may be killed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
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


class UninterruptedCalls:
    """Calls to the supervisor from a task's main thread. What a signal handler wants to ask comes after them.

    The supervisor answers one question after the other. A signal handler interrupts the thread that waits for an
    answer, so a question from the handler would get none.

    Example::

        calls = UninterruptedCalls()
        with calls.running():
            RuntimeTaskInstance.get_task_states(...)
        calls.run_after(cancel)  # in the signal handler
    """

    def __init__(self) -> None:
        self._depth = 0
        self._postponed: Callable[[], None] | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Postpone what a signal handler wants to do until the block has ended."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0 and (function := self._postponed) is not None:
                self._postponed = None
                function()

    def run_after(self, function: Callable[[], None]) -> None:
        """Run the function now, or after the call that the main thread is waiting for."""
        if self._depth:
            self._postponed = function
        else:
            function()
