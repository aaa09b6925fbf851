"""``python -m airflow_claude_batch.simulator``: runs the simulator as a server of its own."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from airflow_claude_batch.simulator.clock import ManualClock
from airflow_claude_batch.simulator.endpoints.aws import ACCESS_KEY, REGION, SECRET_KEY, AwsPlatform
from airflow_claude_batch.simulator.endpoints.credentials import DEFAULT_WORKSPACE, Keys
from airflow_claude_batch.simulator.endpoints.google import GooglePlatform
from airflow_claude_batch.simulator.http.address import host_name, is_loopback, url_host
from airflow_claude_batch.simulator.http.server import Server
from airflow_claude_batch.simulator.messages.canned_answers import CannedAnswer
from airflow_claude_batch.simulator.messages.canned_lines import read_answers_file
from airflow_claude_batch.simulator.messages.token_buckets import MessageRates
from airflow_claude_batch.simulator.simulator import Simulator

T = TypeVar("T")

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM. Returns 0 then, or 1 when it cannot listen on the address."""
    options = _parser().parse_args(argv)
    simulator = Simulator(
        clock=ManualClock() if options.manual_clock else None,
        keys=options.keys,
        batch_seconds=options.batch_seconds,
        latency_seconds=options.latency,
        queue_limit=options.queue_limit,
        message_seconds=options.message_seconds,
        message_rates=MessageRates(
            requests=options.messages_rpm, input_tokens=options.messages_itpm, output_tokens=options.messages_otpm
        ),
        seed=options.seed,
        ids=options.ids,
        unmatched=options.unmatched,
        default_thinking=options.default_thinking,
        models=options.model,
        betas=options.beta,
        platform=_platform(options),
    )
    simulator.add_canned_answers(options.answers)
    # Blocked before the server's thread starts, because threads inherit the mask. sigwait below receives them.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    server = simulator.serve(options.host, options.port, names=options.name, tls_folder=options.tls)
    try:
        server.start()
    except OSError as error:
        print("\n".join(_cannot_start(options, error)), file=sys.stderr)
        return 1
    print("\n".join(_usage(server, options.keys, simulator.aws, simulator.google)), flush=True)
    signal.sigwait(_STOP_SIGNALS)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
    server.stop()
    return 0


def _cannot_start(options: argparse.Namespace, error: OSError) -> Iterator[str]:
    reason = error.strerror or error
    if error.filename is not None:
        yield f"Cannot keep a certificate in {options.tls}: {reason}."
        yield "Name a folder that can be written, such as --tls /tmp/claude-simulator."
        return
    yield f"Cannot listen on {url_host(options.host)}:{options.port}: {reason}."
    yield "Stop what listens there, or choose another port with --port (0 takes a free one)."


def _platform(options: argparse.Namespace) -> Literal["anthropic", "google"] | AwsPlatform:
    if options.platform == "google":
        return "google"
    if options.platform != "aws":
        return "anthropic"
    return AwsPlatform(region=options.region, access_keys=options.aws_keys or {ACCESS_KEY: SECRET_KEY})


def _usage(server: Server, keys: Keys | None, aws: AwsPlatform | None, google: GooglePlatform | None) -> Iterator[str]:
    """Say how Airflow and others use it."""
    fields = server.connection("sk-simulator" if keys is None else "<one of your keys>")
    if aws is not None:
        fields = _aws_connection(fields, aws)
    if google is not None:
        fields = _google_connection(fields, f"{server.url}{google.path()}")
    connection = json.dumps(fields)
    yield f"Claude simulator on {server.url}"
    yield f"Use it from Airflow: export AIRFLOW_CONN_CLAUDE_DEFAULT={shlex.quote(connection)}"
    if aws is not None:
        access_key = next(iter(aws.access_keys))
        secret = SECRET_KEY if access_key == ACCESS_KEY else "<its secret>"
        named = json.dumps({"conn_type": "aws", "login": access_key, "password": secret})
        yield f"Its calls are signed: export AIRFLOW_CONN_AWS_SIMULATOR={shlex.quote(named)}"
    if server.ca_file is not None:
        yield f"To trust it, workers and triggerers read {server.ca_file}. Mount it there, or change ca_file."
        yield f"Other clients trust it with SSL_CERT_FILE={shlex.quote(str(server.ca_file))}"
    if server.listens_everywhere and is_loopback(server.host):
        yield f"{server.host} is this machine only. Give the name that other machines and containers use: --name NAME"
    if server.listens_everywhere or not is_loopback(server.host):
        yield "Its control endpoints need no key: whoever reaches this address can use them."


def _aws_connection(fields: dict[str, Any], aws: AwsPlatform) -> dict[str, Any]:
    """Return a connection whose calls are signed with keys of an Airflow connection to AWS."""
    place = {"platform": "aws", "region": aws.region, "workspace_id": DEFAULT_WORKSPACE, "aws_conn_id": "aws_simulator"}
    unsigned = {name: value for name, value in fields.items() if name != "password"}
    return {**unsigned, "extra": {**fields.get("extra", {}), **place}}


def _google_connection(fields: dict[str, Any], base_url: str) -> dict[str, Any]:
    """Return a connection with an access token of its own, which may go to this host."""
    without_key = {name: value for name, value in fields.items() if name not in ("password", "port", "schema")}
    extra = {**fields.get("extra", {}), "platform": "google", "auth_token": "ya29.simulator"}
    return {**without_key, "host": base_url, "extra": extra}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_claude_batch.simulator",
        description="Simulate Claude's Message Batches API. It needs no key and costs nothing. "
        "Its batches are gone when it stops.",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: %(default)s; 0.0.0.0: all). Its control endpoints need no key, so keep it "
        "local, or in a network of containers",
    )
    parser.add_argument(
        "--name",
        type=_host_name,
        action="append",
        default=[],
        help="host name or address by which clients reach it, such as the name of its container. May be repeated",
    )
    parser.add_argument(
        "--tls",
        type=Path,
        nargs="?",
        const=Path("claude-simulator-tls"),
        metavar="FOLDER",
        help="serve https, with a certificate of its own. FOLDER keeps the ca.pem to trust (default: %(const)s)",
    )
    parser.add_argument("--port", type=_port, default=8700, help="0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--batch-seconds", type=float, default=0.0, metavar="N", help="seconds from a batch's creation to its end"
    )
    parser.add_argument("--latency", type=float, default=0.0, metavar="N", help="seconds added to every response")
    parser.add_argument(
        "--queue-limit", type=int, metavar="N", help="most requests in the processing queue; more get a 429"
    )
    _add_message_options(parser)
    parser.add_argument(
        "--model", action="append", default=[], metavar="ID", help="take another model too; '*': any. May be repeated"
    )
    parser.add_argument(
        "--beta", action="append", default=[], metavar="NAME", help="take another beta too; '*': any. May be repeated"
    )
    parser.add_argument(
        "--keys",
        type=_keys,
        metavar="JSON",
        help='accepted keys and their workspaces, {"sk-…": "wrkspc_…"}, or a file with it (default: any sk-…)',
    )
    parser.add_argument(
        "--platform",
        choices=["anthropic", "aws", "google"],
        default="anthropic",
        help="aws: calls must be signed for Claude Platform on AWS, or carry a key, and name a workspace; google: "
        "calls must carry an access token of Google's (any ya29.…), and have project and workspace in the path",
    )
    parser.add_argument("--region", default=REGION, help="with --platform aws (default: %(default)s)")
    parser.add_argument(
        "--aws-keys",
        type=_aws_keys,
        metavar="JSON",
        help='access keys and their secrets, {"AKIA…": "…"}, or a file with it (default: one, which is printed)',
    )
    parser.add_argument(
        "--answers",
        type=_answers,
        default=[],
        metavar="FILE",
        help="canned answers, a JSON object on each line; the first that matches a request is its answer",
    )
    parser.add_argument(
        "--unmatched",
        choices=["default", "error"],
        default="default",
        help="what a request gets that no canned answer matches (default: %(default)s, as without canned answers)",
    )
    parser.add_argument(
        "--default-thinking",
        action="store_true",
        help="answers of models that think unless told otherwise begin with a thinking block",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the row order, of unfinished requests and of ids")
    parser.add_argument(
        "--ids",
        choices=["random", "seed"],
        default="random",
        help="seed: the same ids in every run; use an empty results_path then (default: %(default)s)",
    )
    parser.add_argument("--manual-clock", action="store_true", help="the clock only moves by POST /_simulator/clock")
    return parser


def _add_message_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--message-seconds", type=float, default=0.0, metavar="N", help="seconds from a direct request to its answer"
    )
    rates = MessageRates()
    parser.add_argument(
        "--messages-rpm",
        type=_rate,
        default=rates.requests,
        metavar="N",
        help="direct requests (POST /v1/messages) per minute and model; more get a 429 (default: %(default)s)",
    )
    parser.add_argument(
        "--messages-itpm",
        type=_rate,
        default=rates.input_tokens,
        metavar="N",
        help="their input tokens per minute and model (default: %(default)s)",
    )
    parser.add_argument(
        "--messages-otpm",
        type=_rate,
        default=rates.output_tokens,
        metavar="N",
        help="their output tokens per minute and model; a request reserves its max_tokens (default: %(default)s)",
    )


def _rate(option: str) -> int:
    if not option.isdecimal() or int(option) < 1:
        raise argparse.ArgumentTypeError(f"{option!r} is not a number from 1")
    return int(option)


def _port(option: str) -> int:
    if not option.isdecimal() or int(option) > 65535:
        raise argparse.ArgumentTypeError(f"{option!r} is not a port, a number from 0 to 65535")
    return int(option)


def _host_name(option: str) -> str:
    try:
        return host_name(option)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _keys(option: str) -> Keys:
    return _json_option(option, dict[str, str | list[str]], "keys and workspaces")


def _aws_keys(option: str) -> Mapping[str, str]:
    return _json_option(option, dict[str, str], "access keys and secrets")


def _json_option(option: str, kind: type[T], what: str) -> T:
    """Read an option that is JSON, or a file with it. Errors never repeat its text."""
    try:
        text = option if option.lstrip().startswith("{") else Path(option).read_text(encoding="utf-8")
        return msgspec.json.decode(text, type=kind)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"the file cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise argparse.ArgumentTypeError(f"not a JSON object of {what}: {error}") from None


def _answers(option: str) -> list[CannedAnswer]:
    try:
        return read_answers_file(option)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
