"""The bundled simulator as a process, whose requests may stumble and whose batches take their time.

A prompt says itself how often it ends without an answer before it gets one (``stumbles 2 time``).
"""

from __future__ import annotations

import argparse
import random
import signal
from typing import Any

from cluster.workload import STUMBLING

from airflow_claude_batch.simulator import Simulator

ENDINGS = ("expired", "errored:overloaded_error", "errored:api_error", "canceled")
STOPPING = (signal.SIGINT, signal.SIGTERM)


def outcome(_: str, params: dict[str, Any], attempt: int) -> str | None:
    content = str(params["messages"][0]["content"])
    stumbling = STUMBLING.search(content)
    if stumbling is None or attempt > int(stumbling[1]):
        return None
    return ENDINGS[len(content) % len(ENDINGS)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--batch-seconds", type=float, help="the longest that a batch takes; the shortest is a quarter")
    parser.add_argument("--queue-limit", type=int, help="requests that may run at once, of all batches together")
    options = parser.parse_args()
    dice = random.Random(0)
    simulator = Simulator(
        batch_seconds=lambda _: dice.uniform(options.batch_seconds / 4, options.batch_seconds),
        outcome=outcome,
        queue_limit=options.queue_limit,
        cancel_seconds=2,
    )
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    with simulator.serve(port=options.port) as server:
        print(f"Simulator on {server.url}", flush=True)
        signal.sigwait(STOPPING)


if __name__ == "__main__":
    main()
