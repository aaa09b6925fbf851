"""What needs real sockets and processes: control endpoints, the command, many connections, large bodies."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import httpx
import pytest
from simulated import KEY, VERSION, Api, Connect, request, requests

from airflow_claude_batch.simulator import Fault, ManualClock, Simulator
from demo.loopback import LOOPBACK

CALL = b"GET /v1/models?limit=1 HTTP/1.1\r\nhost: x\r\nx-api-key: sk-x\r\nanthropic-version: 2026-10-21\r\n\r\n"
HEADERS = {"x-api-key": KEY, "anthropic-version": VERSION, "content-type": "application/json"}


class TestControl:
    """The control endpoints need no header of the API. They also work in process."""

    @pytest.fixture(autouse=True)
    def _both_transports(self, transport: str) -> None:
        del transport

    @pytest.fixture
    def simulator(self, clock: ManualClock) -> Simulator:
        return Simulator(clock=clock, batch_seconds=60)

    @pytest.fixture
    def control(self, simulator: Simulator, connect: Connect) -> Any:
        client = connect(simulator, key=None, version=None).client

        def control(method: str, action: str, body: Any = None) -> httpx.Response:
            return client.request(method, f"/_simulator/{action}", json=body)

        return control

    def test_books_can_be_read(self, api: Api, simulator: Simulator, control: Any) -> None:
        api.created(*requests(2))
        assert control("GET", "books").json() == simulator.books()
        assert control("GET", "books?detail=false").json() == simulator.books(detail=False)

    def test_calls_are_counted(self, api: Api, control: Any) -> None:
        api.list()
        api.list()
        assert control("GET", "requests-log").json()["list"] == 2

    def test_the_clock_can_be_advanced(self, api: Api, clock: ManualClock, control: Any) -> None:
        batch = api.created()
        before = clock.now()
        answer = control("POST", "clock", {"advance": 60})
        assert answer.json() == {"now": "2026-11-22T09:01:00.000000+00:00"} == control("GET", "clock").json()
        assert clock.now() - before == timedelta(seconds=60)
        assert api.retrieve(batch).json()["processing_status"] == "ended"

    def test_the_pace_can_be_changed(self, api: Api, control: Any) -> None:
        batch = api.created()
        assert control("POST", "pace", {"batch_seconds": 0}).status_code == 200
        assert api.retrieve(batch).json()["processing_status"] == "ended"

    def test_faults_can_be_injected_and_cleared(self, api: Api, control: Any) -> None:
        assert control("POST", "faults", {"on": "list", "do": "status", "status": 500}).json() == {"injected": 1}
        assert control("POST", "faults", [{"do": "status", "times": None}] * 2).json() == {"injected": 2}
        assert [api.list().status_code for _ in range(3)] == [500, 529, 529]
        control("DELETE", "faults")
        assert api.list().status_code == 200

    def test_an_outage_does_not_affect_the_control_endpoints(self, api: Api, control: Any) -> None:
        control("POST", "outage", {"kind": "status:503", "seconds": None})
        assert api.list().status_code == 503
        assert control("DELETE", "outage").json() == {"outage": None}
        assert api.list().status_code == 200

    def test_batches_can_be_ended_and_expired(self, api: Api, control: Any) -> None:
        ended, expired, half = (api.created(*requests(4)) for _ in range(3))
        assert control("POST", f"batches/{ended}/end").json()["processing_status"] == "ended"
        assert control("POST", f"batches/{expired}/expire", {}).json()["id"] == expired
        control("POST", f"batches/{half}/expire", {"succeeded_share": 0.5})
        counts = [api.retrieve(batch).json()["request_counts"] for batch in (ended, expired, half)]
        assert [(count["succeeded"], count["expired"]) for count in counts] == [(4, 0), (0, 4), (2, 2)]

    @pytest.mark.parametrize(
        ("method", "action", "body", "status", "words"),
        [
            ("POST", "clock", {"forward": 1}, 400, "forward"),
            ("POST", "clock", {"advance": -1}, 400, "only moves forward"),
            ("POST", "faults", {"do": "explode"}, 400, "explode"),
            ("POST", "faults", {"do": "cut", "on": "list"}, 400, "can only happen on results"),
            ("POST", "outage", {"kind": "rain"}, 400, "no outage 'rain'"),
            ("POST", "outage", {"kind": "refuse"}, 400, "needs seconds"),
            ("POST", "batches/msgbatch_x/end", {}, 404, "Message Batch msgbatch_x not found."),
            ("GET", "batches/msgbatch_x/end", None, 404, "no control endpoint"),
            ("GET", "nothing", None, 404, "no control endpoint"),
        ],
    )
    def test_an_invalid_control_call_says_what_is_wrong(
        self, control: Any, method: str, action: str, body: Any, status: int, words: str
    ) -> None:
        response = control(method, action, body)
        assert response.status_code == status
        assert words in response.json()["error"]

    def test_a_real_clock_cannot_be_advanced(self, connect: Connect) -> None:
        client = connect(Simulator()).client
        response = client.post("/_simulator/clock", json={"advance": 1})
        assert response.status_code == 409
        assert "--manual-clock" in response.json()["error"]


class TestCommand:
    @pytest.fixture
    def start(self) -> Iterator[Any]:
        started: list[subprocess.Popen[str]] = []

        def start(*options: str) -> tuple[subprocess.Popen[str], str, str]:
            command = [sys.executable, "-m", "airflow_claude_batch.simulator", "--port", "0", *options]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            started.append(process)
            assert process.stdout is not None
            first, second = process.stdout.readline(), process.stdout.readline()
            return process, first.rsplit(" ", 1)[-1].strip(), second

        yield start
        for process in started:
            process.kill()
            process.communicate()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
    def test_it_serves_explains_its_use_and_stops_cleanly(self, start: Any, number: int) -> None:
        process, url, hint = start("--batch-seconds", "60", "--manual-clock", "--queue-limit", "3")
        assert url.startswith("http://127.0.0.1:")
        assert "AIRFLOW_CONN_CLAUDE_DEFAULT=" in hint
        connection = json.loads(hint.partition("'")[2].rpartition("'")[0])
        assert connection == {"conn_type": "claude", "password": "sk-simulator", "host": url}

        headers = {**HEADERS, "x-api-key": connection["password"]}
        with httpx.Client(base_url=url, headers=headers, **LOOPBACK) as client:
            api = Api(client)
            batch = api.created(*requests(3))
            assert api.create(request()).status_code == 429
            client.post("/_simulator/clock", json={"advance": 60})
            assert len(api.rows(batch)) == 3
            os.kill(process.pid, number)
            assert process.wait(timeout=10) == 0
        assert process.stderr.read() == ""

    def test_platform_aws_prints_a_connection_that_signs_and_the_keys_for_it(self, start: Any) -> None:
        process, url, hint = start("--platform", "aws", "--region", "eu-west-1")
        connection = json.loads(hint.partition("'")[2].rpartition("'")[0])
        place = {"platform": "aws", "region": "eu-west-1", "workspace_id": "wrkspc_01Simulator"}
        assert connection == {"conn_type": "claude", "host": url, "extra": {**place, "aws_conn_id": "aws_simulator"}}
        keys = process.stdout.readline()
        assert "AIRFLOW_CONN_AWS_SIMULATOR=" in keys
        assert json.loads(keys.partition("'")[2].rpartition("'")[0])["conn_type"] == "aws"

        assert httpx.get(f"{url}/v1/models", **LOOPBACK).status_code == 403

    def test_secrets_of_aws_that_are_given_are_not_printed(self, start: Any) -> None:
        process, _, hint = start("--platform", "aws", "--aws-keys", '{"AKIAMINE": "mine-only"}')

        assert "mine-only" not in hint + process.stdout.readline()

    def test_keys_can_be_given_inline_or_in_a_file(self, start: Any, tmp_path: Any) -> None:
        keys = '{"sk-mine": "wrkspc_1"}'
        (tmp_path / "keys.json").write_text(keys)
        for option in (keys, str(tmp_path / "keys.json")):
            _, url, hint = start("--keys", option)
            assert "sk-mine" not in hint
            for key, status in (("sk-mine", 200), ("sk-other", 401)):
                response = httpx.get(f"{url}/v1/models", headers={**HEADERS, "x-api-key": key}, **LOOPBACK)
                assert response.status_code == status

    @pytest.mark.parametrize("keys", ['{"sk-secret": 5}', '{"sk-secret"', "/no/such/file"])
    def test_wrong_keys_are_refused_without_being_shown(self, keys: str) -> None:
        command = [sys.executable, "-m", "airflow_claude_batch.simulator", "--keys", keys]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 2
        assert "--keys" in done.stderr
        assert "sk-secret" not in done.stderr

    def test_a_busy_port_is_named(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            command = [sys.executable, "-m", "airflow_claude_batch.simulator", "--port", port]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 1
        assert f"Cannot listen on 127.0.0.1:{port}" in done.stderr
        assert "--port" in done.stderr
        assert "Traceback" not in done.stderr


class TestSockets:
    @pytest.fixture
    def url(self, simulator: Simulator) -> Iterator[str]:
        with simulator.serve() as server:
            yield server.url

    def raw(self, url: str, data: bytes) -> bytes:
        """Send bytes and read until the server closes the connection."""
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(data)
            received = b""
            while piece := connection.recv(65536):
                received += piece
        return received

    def test_a_connection_serves_many_calls(self, simulator: Simulator, url: str) -> None:
        head = CALL.removesuffix(b"\r\n")
        received = self.raw(url, CALL * 2 + head + b"connection: close\r\n\r\n")
        assert received.count(b"HTTP/1.1 200") == 3

    def test_invalid_http_gets_a_400(self, url: str) -> None:
        assert self.raw(url, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")

    def test_an_upload_may_wait_for_100_continue(self, url: str) -> None:
        body = json.dumps({"requests": requests(1)}).encode()
        head = "POST /v1/messages/batches HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\nconnection: close\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
        head += f"content-length: {len(body)}\r\n\r\n"
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(head.encode())
            assert connection.recv(65536).startswith(b"HTTP/1.1 100")
            connection.sendall(body)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")

    def test_a_client_that_leaves_during_an_upload_creates_nothing(self, simulator: Simulator, url: str) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(b"POST /v1/messages/batches HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")
        assert httpx.get(f"{url}/_simulator/requests-log", **LOOPBACK).json()["create"] == 0

    def test_a_failing_answer_function_closes_the_connection_and_is_logged(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def answer(params: Any, n: int) -> str:
            raise ZeroDivisionError

        simulator = Simulator(answer=answer)
        with simulator.serve() as server, httpx.Client(base_url=server.url, headers=HEADERS, **LOOPBACK) as client:
            api = Api(client)
            batch = api.created()
            with pytest.raises(httpx.RemoteProtocolError):
                api.results(batch)
            assert api.list().status_code == 200
        assert "while it sent a response" in caplog.text

    def test_a_failing_outcome_function_is_a_500_and_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        simulator = Simulator(outcome=lambda *_: "expird")
        with simulator.serve() as server, httpx.Client(base_url=server.url, headers=HEADERS, **LOOPBACK) as client:
            api = Api(client)
            batch = api.created()
            assert api.retrieve(batch).status_code == 500
        assert "'expird', which is not an outcome" in caplog.text

    def test_an_occupied_port_is_an_os_error(self, simulator: Simulator) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as taken,
            pytest.raises(OSError, match="Address already in use"),
            simulator.serve(port=taken.getsockname()[1]),
        ):
            pytest.fail("it served")

    def test_stopping_ends_connections_that_wait(self, simulator: Simulator) -> None:
        simulator.inject(Fault(do="slow", seconds=60))
        server = simulator.serve().start()
        host, _, port = server.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
            server.stop()
            with suppress(ConnectionResetError):
                assert connection.recv(1) == b""


def test_two_thousand_connections_are_open_at_once(clock: ManualClock) -> None:
    count = 2000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 3 * count)), hard))
    simulator = Simulator(clock=clock)
    with simulator.serve() as server:
        heads = asyncio.run(_call_at_once(server.url, count))
    assert set(heads) == {b"HTTP/1.1 200 OK\r\n"}
    assert simulator.calls()["models"] == count


async def _call_at_once(url: str, count: int) -> list[bytes]:
    """Open all connections, then send a call on each. Returns the first line of each response."""
    host, _, port = url.removeprefix("http://").partition(":")
    streams = await asyncio.gather(*(asyncio.open_connection(host, int(port)) for _ in range(count)))
    for _, writer in streams:
        writer.write(CALL)
    heads = await asyncio.gather(*(reader.readuntil(b"\r\n") for reader, _ in streams))
    for _, writer in streams:
        writer.transport.abort()
    return heads


def test_the_in_process_transport_serves_async_clients(clock: ManualClock) -> None:
    asyncio.run(_use_the_door_of_async_clients(clock))


async def _use_the_door_of_async_clients(clock: ManualClock) -> None:
    simulator = Simulator(clock=clock)
    headers = {"x-api-key": KEY, "anthropic-version": VERSION}
    async with httpx.AsyncClient(
        transport=simulator.transport(), base_url="http://simulator.test", headers=headers, timeout=0.1
    ) as client:
        created = await client.post("/v1/messages/batches", json={"requests": requests(3)})
        batch = created.json()["id"]
        results = await client.get(f"/v1/messages/batches/{batch}/results")
        assert results.content.count(b"\n") == 3
        simulator.inject(Fault(do="cut"), Fault(on="list", do="slow", seconds=5))
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"/v1/messages/batches/{batch}/results")
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/v1/messages/batches")
        simulator.outage("hang")
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/v1/models")


class TestSize:
    def test_100_000_requests_are_created_and_answered(self, simulator: Simulator) -> None:
        count = 100_000
        seen = set()
        with simulator.serve() as server, httpx.Client(base_url=server.url, headers=HEADERS, timeout=120) as client:
            api = Api(client)
            batch = api.created(*requests(count))
            with client.stream("GET", f"/v1/messages/batches/{batch}/results") as response:
                rest = b""
                for piece in response.iter_bytes():
                    *lines, rest = (rest + piece).split(b"\n")
                    seen.update(json.loads(line)["custom_id"] for line in lines)
            assert api.retrieve(batch).json()["request_counts"]["succeeded"] == count
        assert rest == b""
        assert seen == {f"r{index}" for index in range(count)}

    def test_256_megabytes_are_accepted_and_one_byte_more_is_not(self, simulator: Simulator) -> None:
        limit = 256_000_000
        prompt = "x" * 990_000
        item = json.dumps(request("r000", prompt=prompt)).encode()
        pieces = [item.replace(b"r000", f"r{index:03}".encode()) for index in range(limit // (len(item) + 2))]
        count = len(pieces)
        size = sum(map(len, pieces)) + count - 1 + len(b'{"requests":[]}')

        def body(total: int) -> Iterator[bytes]:
            yield b'{"requests":['
            for index, piece in enumerate(pieces):
                yield piece if index == 0 else b"," + piece
            yield b"]" + b" " * (total - size) + b"}"

        with simulator.serve() as server, httpx.Client(base_url=server.url, timeout=120, **LOOPBACK) as client:
            answers = [
                client.post(
                    "/v1/messages/batches", content=body(total), headers={**HEADERS, "content-length": str(total)}
                )
                for total in (limit, limit + 1)
            ]
        assert [answer.status_code for answer in answers] == [200, 413]
        assert answers[0].json()["request_counts"]["processing"] == count
        assert "request_id" not in answers[1].json()
