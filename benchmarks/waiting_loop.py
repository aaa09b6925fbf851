"""Run many triggers on one event loop, as Airflow's triggerer does, and measure this process.

``waiting.py`` starts it, also with the interpreter of another environment. It reads commands from stdin, one on each
line: ``start <count>`` starts triggers, ``watch`` measures the loop's lag from now on (which costs CPU itself), and
``mark`` prints a line of JSON about this process.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TextIO

TICK_SECONDS = 0.005


def ours(batch_id: str, interval: float) -> Any:
    """Make a trigger of this package."""
    from airflow_claude_batch.triggers import MessageBatchTrigger

    return MessageBatchTrigger("claude_default", batch_ids=[batch_id], poll_interval=interval)


def official(batch_id: str, interval: float) -> Any:
    """Make a trigger of Apache's provider."""
    from airflow.providers.anthropic.triggers.batch import AnthropicBatchTrigger

    return AnthropicBatchTrigger("anthropic_default", batch_id, poll_interval=interval, end_time=time.time() + 86_400)


def common_ai(batch_id: str, interval: float) -> Any:
    """Make a trigger of Apache's common-ai provider."""
    from airflow.providers.common.ai.triggers.llm_batch import LLMBatchTrigger

    return LLMBatchTrigger(
        llm_conn_id="pydanticai_default",
        adapter="anthropic",
        batch_id=batch_id,
        poll_interval=interval,
        end_time=time.time() + 86_400,
        cancel_on_kill=True,
        cancel_on_timeout=True,
    )


TRIGGERS = {"ours": ours, "official": official, "common_ai": common_ai}
ENDED = {"ours": "ended", "official": "success", "common_ai": "success"}


class Loop:
    """The triggers, and the measurements of what they cost."""

    def __init__(self, role: str, batch_ids: list[str], interval: float, output: TextIO) -> None:
        self._make = TRIGGERS[role]
        self._ended = ENDED[role]
        self._batch_ids = iter(batch_ids)
        self._interval = interval
        self._output = output
        self._tasks: set[asyncio.Task[None]] = set()
        self._fired: dict[str, float] = {}
        self._wrong: list[str] = []
        self._worst_lag = self._longest_turn = 0.0
        self._watching: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Execute commands until stdin is closed."""
        async for command in lines_of(sys.stdin):
            match command.split():
                case ["start", count]:
                    self._start(int(count))
                case ["watch"]:
                    self._watching = asyncio.create_task(self._watch())
                case ["mark"]:
                    self._mark()
        for task in filter(None, (self._watching, *self._tasks)):
            task.cancel()

    def _start(self, count: int) -> None:
        for _, batch_id in zip(range(count), self._batch_ids, strict=False):
            task = asyncio.create_task(self._wait(batch_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _wait(self, batch_id: str) -> None:
        async for event in self._make(batch_id, self._interval).run():
            if batch_id in self._fired or event.payload["status"] != self._ended or batch_id not in str(event.payload):
                self._wrong.append(str(event.payload)[:500])
            self._fired[batch_id] = time.time()

    async def _watch(self) -> None:
        """Measure by how much a short sleep was too long, and how much CPU the loop's thread used meanwhile.

        The CPU time leaves out the delays that other processes of a busy machine cause.
        """
        while True:
            started_at, cpu = time.perf_counter(), time.thread_time()
            await asyncio.sleep(TICK_SECONDS)
            self._worst_lag = max(self._worst_lag, time.perf_counter() - started_at - TICK_SECONDS)
            self._longest_turn = max(self._longest_turn, time.thread_time() - cpu)

    def _mark(self) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        mark = {
            "cpu": time.process_time(),
            "rss": pages * os.sysconf("SC_PAGE_SIZE"),
            "lag": self._worst_lag,
            "turn": self._longest_turn,
            "waiting": len(self._tasks),
            "wrong": self._wrong,
            "fired": self._fired if not self._tasks else {},
        }
        self._worst_lag = self._longest_turn = 0.0
        print(json.dumps(mark), file=self._output, flush=True)


async def lines_of(stream: TextIO) -> AsyncIterator[str]:
    """Read a pipe without blocking the loop."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stream)
    while line := await reader.readline():
        yield line.decode()


def main() -> None:
    """Run one role. Arguments: role, interval, and the file of batch ids."""
    role, interval, ids_path = sys.argv[1:]
    output = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Airflow logs to stdout
    batch_ids = json.loads(Path(ids_path).read_text())
    TRIGGERS[role](batch_ids[0], 1.0)  # imports are not measured
    asyncio.run(Loop(role, batch_ids, float(interval), output).run())


if __name__ == "__main__":
    main()
