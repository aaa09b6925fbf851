"""``python -m airflow_claude_batch.simulator``: the simulator as a server of its own."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from airflow_claude_batch.simulator.clock import ManualClock
from airflow_claude_batch.simulator.credentials import Keys
from airflow_claude_batch.simulator.simulator import Simulator

_STOPPING = (signal.SIGINT, signal.SIGTERM)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; 0 then, 1 if the port is taken."""
    options = _parser().parse_args(argv)
    simulator = Simulator(
        clock=ManualClock() if options.manual_clock else None,
        keys=options.keys,
        batch_seconds=options.batch_seconds,
        latency_seconds=options.latency,
        queue_limit=options.queue_limit,
        seed=options.seed,
    )
    # Blocked before the server's thread begins, which inherits it, and waited for below.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    server = simulator.serve(options.host, options.port)
    try:
        server.start()
    except OSError as error:
        print(f"Cannot listen on {options.host}:{options.port}: {error.strerror or error}.", file=sys.stderr)
        print("Stop what listens there, or choose another port with --port (0 takes a free one).", file=sys.stderr)
        return 1
    print(f"Claude simulator on {server.url}")
    print(
        f"Use it from Airflow: export AIRFLOW_CONN_CLAUDE_DEFAULT='{_connection(server.url, options.keys)}'", flush=True
    )
    signal.sigwait(_STOPPING)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
    server.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_claude_batch.simulator",
        description="Claude's Message Batches API, simulated: no key, no cost, nothing is kept when it stops.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; its control surface asks for no key")
    parser.add_argument("--port", type=int, default=8700, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--batch-seconds", type=float, default=0.0, metavar="N", help="how long a batch takes")
    parser.add_argument("--latency", type=float, default=0.0, metavar="N", help="seconds added to every answer")
    parser.add_argument("--queue-limit", type=int, metavar="N", help="requests in the processing queue before a 429")
    parser.add_argument(
        "--keys",
        type=_keys,
        metavar="JSON",
        help='accepted keys and their workspaces, {"sk-…": "wrkspc_…"}, or a file that holds it; default: any sk-…',
    )
    parser.add_argument("--seed", type=int, default=0, help="decides the order of results and what is left unfinished")
    parser.add_argument("--manual-clock", action="store_true", help="time moves by POST /_simulator/clock only")
    return parser


def _keys(written: str) -> Keys:
    """Read the --keys option. Its text is never repeated in an error."""
    try:
        text = written if written.lstrip().startswith("{") else Path(written).read_text(encoding="utf-8")
        return msgspec.json.decode(text, type=dict[str, str | list[str]])
    except OSError as error:
        raise argparse.ArgumentTypeError(f"the file cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise argparse.ArgumentTypeError(f"not a JSON object of keys and workspaces: {error}") from None


def _connection(url: str, keys: Keys | None) -> str:
    key = "sk-simulator" if keys is None else "<one of your keys>"
    return json.dumps({"conn_type": "claude", "password": key, "host": url})


if __name__ == "__main__":
    sys.exit(main())
