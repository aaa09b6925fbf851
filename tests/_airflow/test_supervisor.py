from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from airflow_claude_batch._airflow.supervisor import RUNNING_CALLS, UninterruptedCalls, supervisor_call


def test_supervisor_call_runs_in_another_thread_with_its_arguments() -> None:
    def call(first: int, *, second: int) -> tuple[int, str]:
        return first + second, threading.current_thread().name

    result, thread = asyncio.run(supervisor_call(call, 1, second=2))

    assert result == 3
    assert thread != threading.current_thread().name


def test_supervisor_calls_run_one_at_a_time() -> None:
    meeting = threading.Barrier(2)

    def meet() -> bool:
        try:
            meeting.wait(timeout=0.1)
        except threading.BrokenBarrierError:
            return False
        return True

    async def two_at_once() -> list[bool]:
        return await asyncio.gather(supervisor_call(meet), supervisor_call(meet))

    assert asyncio.run(two_at_once()) == [False, False]


def test_supervisor_call_that_fails_raises() -> None:
    def call() -> None:
        raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        asyncio.run(supervisor_call(call))


def test_canceled_supervisor_call_completes_and_the_cancel_message_survives() -> None:
    begun, go_on, completed = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        go_on.wait(5)
        completed.set()

    async def cancel_half_way() -> tuple[Any, ...]:
        task = asyncio.create_task(supervisor_call(call))
        await asyncio.to_thread(begun.wait, 5)
        task.cancel("by a user")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert not completed.is_set()
        go_on.set()
        await RUNNING_CALLS.wait()
        return caught.value.args

    assert asyncio.run(cancel_half_way()) == ("by a user",)
    assert completed.is_set()


def test_what_a_signal_handler_wants_comes_after_the_call_that_it_interrupted() -> None:
    calls, done = UninterruptedCalls(), list[str]()
    with calls.running():
        with calls.running():
            calls.run_after(lambda: done.append("canceled"))
        assert done == []
    assert done == ["canceled"]

    with calls.running():
        pass
    assert done == ["canceled"]
    calls.run_after(lambda: done.append("at once"))
    assert done == ["canceled", "at once"]


def test_call_that_fails_does_not_swallow_what_a_signal_handler_wants() -> None:
    calls, done = UninterruptedCalls(), list[str]()

    def fail() -> None:
        calls.run_after(lambda: done.append("canceled"))
        raise ConnectionError

    with pytest.raises(ConnectionError), calls.running():
        fail()
    assert done == ["canceled"]
