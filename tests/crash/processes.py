"""Processes for tests of crashes: forks of a small process that has everything imported, and no threads."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing.connection
import multiprocessing.context
import multiprocessing.forkserver
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from typing import Any

PATIENCE_SECONDS = 60

#: Whether this process is one of ``run_apart``.
_is_apart = False


def start_process(function: Callable[..., Any], *args: Any) -> BaseProcess:
    """Start a process: a fork of this one if it is small, else of the fork server."""
    context = multiprocessing.get_context("fork") if _is_apart else _fork_server()
    process: BaseProcess = context.Process(target=function, args=args)  # type: ignore[attr-defined]  # both have it
    process.start()
    return process


def is_apart() -> bool:
    """Return whether this process is one of ``run_apart``."""
    return _is_apart


def run_apart(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Run a function of a module in a small process, which can fork cheaply. Return its result.

    :raises AssertionError: it raised something. The text has its traceback.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = start_process(_run_and_send, sender, function, args, options)
    sender.close()
    try:
        failure, result = receiver.recv()
    except EOFError:
        process.join()
        failure, result = f"the harness itself failed: {process.exitcode}", None
    finally:
        with contextlib.suppress(ProcessLookupError):  # its group: processes that it has left suspended
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
    assert failure is None, failure
    return result


def wait_until_stopped(process: BaseProcess) -> bool:
    """Wait until a ``stop`` trap has stopped a process that this one has forked. Return False if it ended instead."""
    with _patience():
        end = os.waitid(os.P_PID, process.pid or 0, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
    return end is not None and end.si_code == os.CLD_STOPPED


def resume_process(process: BaseProcess) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGCONT)


@functools.cache
def _fork_server() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    # Missing ones are left out.
    context.set_forkserver_preload(["pytest", "psycopg2", "pymysql", "crash.table_writer", "crash.warm_up"])
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # the one way to tell it where to import from
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if inherited is not None:
            os.environ["PYTHONPATH"] = inherited
    return context


def _run_and_send(
    sender: multiprocessing.connection.Connection, function: Callable[..., Any], args: Any, options: Any
) -> None:
    global _is_apart
    _is_apart = True
    os.setpgid(0, 0)
    try:
        sender.send((None, function(*args, **options)))
    except BaseException:
        sender.send((traceback.format_exc(), None))


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    def give_up(*_: Any) -> None:
        raise AssertionError("a process hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
