"""The bundled simulator in a process, with failing requests, odd answers and batches of random duration.

A prompt says how often its request fails before it succeeds (``fails 2 times``).
"""

from __future__ import annotations

import argparse
import random
import signal
from typing import Any

from cluster.workload import FAILING_REQUEST

from airflow_claude_batch.simulator import Simulator
from airflow_claude_batch.simulator.messages.answers import default_answer

FAILURES = ("expired", "errored:overloaded_error", "errored:api_error", "canceled")
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def outcome(_: str, params: dict[str, Any], attempt: int) -> str | None:
    content = str(params["messages"][0]["content"])
    failures = FAILING_REQUEST.search(content)
    if failures is None or attempt > int(failures[1]):
        return None
    return FAILURES[len(content) % len(FAILURES)]


def answer(params: dict[str, Any], n: int) -> str:
    """Write the usual answer. Every third one holds a NUL, which PostgreSQL refuses in an XCom."""
    return default_answer(params, n) + ("\0" if n % 3 == 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument(
        "--batch-seconds", type=float, help="longest duration of a batch; the shortest is a quarter of it"
    )
    parser.add_argument("--queue-limit", type=int, help="most requests in all running batches together")
    options = parser.parse_args()
    rng = random.Random(0)
    simulator = Simulator(
        batch_seconds=lambda _: rng.uniform(options.batch_seconds / 4, options.batch_seconds),
        outcome=outcome,
        answer=answer,
        queue_limit=options.queue_limit,
        cancel_seconds=2,
    )
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    with simulator.serve(port=options.port) as server:
        print(f"Simulator on {server.url}", flush=True)
        signal.sigwait(STOP_SIGNALS)


if __name__ == "__main__":
    main()
