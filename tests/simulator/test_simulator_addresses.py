"""How clients reach the simulator: addresses and names, https, and the connection that Airflow uses."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from simulated import KEY, VERSION, Api, requests

from airflow_claude_batch.simulator import Fault, Simulator
from airflow_claude_batch.simulator.__main__ import main

HEADERS = {"x-api-key": KEY, "anthropic-version": VERSION, "content-type": "application/json"}
TABLE = [
    pytest.param("127.0.0.1", [], "127.0.0.1", None, id="loopback"),
    pytest.param("localhost", [], "localhost", None, id="localhost"),
    pytest.param("::1", [], "[::1]", None, id="ipv6"),
    pytest.param("[::1]", [], "[::1]", None, id="ipv6-in-brackets"),
    pytest.param("127.0.0.1", ["simulator"], "simulator", {"allow_http": True}, id="container"),
    pytest.param("127.0.0.1", ["my_simulator.", "127.0.0.1"], "my_simulator", {"allow_http": True}, id="names"),
    pytest.param("127.0.0.1", ["192.0.2.2"], "192.0.2.2", {"allow_http": True}, id="address-of-another-network"),
    pytest.param("127.0.0.1", ["fd00::2"], "[fd00::2]", {"allow_http": True}, id="ipv6-of-another-network"),
    pytest.param("127.0.0.1", ["localhost"], "localhost", None, id="own-name"),
    pytest.param("127.0.0.1", ["höst.example"], "xn--hst-sna.example", {"allow_http": True}, id="not-ascii"),
]


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the name "simulator" be this machine, as the network of containers does."""
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        return real("127.0.0.1" if host in ("simulator", b"simulator") else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize(("host", "names", "reached_at", "extra"), TABLE)
def test_a_server_names_the_connection_that_reaches_it(
    simulator: Simulator, host: str, names: list[str], reached_at: str, extra: dict[str, Any] | None
) -> None:
    with simulator.serve(host, names=names) as server:
        assert server.url.rpartition(":")[0] == f"http://{reached_at}"
        connection = server.connection()
    assert connection == {"conn_type": "claude", "password": "sk-simulator", "host": server.url} | (
        {} if extra is None else {"extra": extra}
    )


@pytest.mark.parametrize(("host", "names", "reached_at", "extra"), TABLE)
def test_a_server_with_tls_names_the_certificate_to_trust(
    tmp_path: Path, simulator: Simulator, host: str, names: list[str], reached_at: str, extra: dict[str, Any] | None
) -> None:
    with simulator.serve(host, names=names, tls_folder=tmp_path) as server:
        assert server.url.rpartition(":")[0] == f"https://{reached_at}"
        assert server.connection()["extra"] == {"ca_file": str(tmp_path / "ca.pem")}
        certificate = _certificate_for(server.url, server.host, tmp_path / "ca.pem")
    assert ("DNS", "localhost") in certificate["subjectAltName"]


def _certificate_for(url: str, name: str, ca_file: Path) -> dict[str, Any]:
    """Connect to the server on this machine, check that its certificate is for the name, and return it."""
    context = ssl.create_default_context(cafile=ca_file)
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # what Python 3.13 checks
    own = "::1" if "[::1]" in url else "127.0.0.1"
    with (
        socket.create_connection((own, int(url.rpartition(":")[2]))) as sock,
        context.wrap_socket(sock, server_hostname=name) as encrypted,
    ):
        certificate: Any = encrypted.getpeercert()
    return dict(certificate)


@pytest.mark.parametrize("name", ["http://simulator", "simulator:8700", "a b", "", "a..b", "-x", "[::1]:8700"])
def test_what_is_no_host_name_is_refused(simulator: Simulator, name: str) -> None:
    with pytest.raises(ValueError, match="is not a host name or an address"):
        simulator.serve(names=[name])


class TestTLS:
    @pytest.fixture
    def server(self, simulator: Simulator, tmp_path: Path) -> Iterator[Any]:
        with simulator.serve(tls_folder=tmp_path) as server:
            yield server

    @pytest.fixture
    def client(self, server: Any) -> Iterator[httpx.Client]:
        context = ssl.create_default_context(cafile=server.ca_file)
        with httpx.Client(base_url=server.url, headers=HEADERS, verify=context, trust_env=False) as client:
            yield client

    def test_calls_of_any_size_are_served(self, client: httpx.Client) -> None:
        api = Api(client)
        batch = api.created(*({**each, "custom_id": f"r{index}"} for index, each in enumerate(requests(3000))))
        assert api.retrieve(batch).json()["results_url"].startswith(str(client.base_url))
        assert len(api.rows(batch)) == 3000

    def test_faults_of_connections_happen(self, simulator: Simulator, client: httpx.Client) -> None:
        api = Api(client)
        batch = api.created(*requests(3))
        simulator.inject(
            Fault(on="list", do="drop_before_accept"), Fault(on="list", do="drop_before_accept", reset=True)
        )
        for _ in range(2):
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                api.list()
        simulator.inject(Fault(do="cut"))
        with pytest.raises(httpx.RemoteProtocolError):
            api.results(batch)
        assert api.list().status_code == 200

    def test_plain_http_is_told_to_use_https(self, server: Any) -> None:
        answer = httpx.get(server.url.replace("https:", "http:"), trust_env=False)
        assert answer.status_code == 400
        assert "https://" in answer.text

    def test_a_client_without_its_certificate_is_not_served(self, server: Any, simulator: Simulator) -> None:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"{server.url}/v1/models", headers=HEADERS, trust_env=False)
        assert simulator.calls()["models"] == 0

    def test_the_authority_outlives_servers_and_names(self, simulator: Simulator, tmp_path: Path, server: Any) -> None:
        before = (tmp_path / "ca.pem").read_bytes()
        with simulator.serve(tls_folder=tmp_path, names=["other"]) as second:
            assert _certificate_for(second.url, "other", tmp_path / "ca.pem")
        assert (tmp_path / "ca.pem").read_bytes() == before
        assert (tmp_path / "ca-key.pem").stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("damaged", ["ca.pem", "ca-key.pem"])
    def test_a_damaged_authority_is_made_anew(self, simulator: Simulator, tmp_path: Path, damaged: str) -> None:
        simulator.serve(tls_folder=tmp_path).start().stop()
        (tmp_path / damaged).write_text("nonsense")
        with simulator.serve(tls_folder=tmp_path) as server:
            assert _certificate_for(server.url, "localhost", tmp_path / "ca.pem")

    def test_a_folder_that_cannot_be_used_is_named(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").touch()
        assert main(["--port", "0", "--tls", str(tmp_path / "file")]) == 1
        said = capsys.readouterr().err
        assert f"Cannot keep a certificate in {tmp_path / 'file'}" in said
        assert "--tls" in said.splitlines()[1]


class TestCommandLine:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--port", "70000"], "'70000' is not a port"),
            (["--port", "-1"], "--port"),
            (["--port", "x"], "'x' is not a port"),
            (["--name", "http://simulator"], "'http://simulator' is not a host name"),
        ],
    )
    def test_options_that_cannot_be_used_are_named(
        self, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            main(options)
        assert words in capsys.readouterr().err

    def test_an_address_of_another_machine_is_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--host", "192.0.2.77", "--port", "0"]) == 1
        assert "Cannot listen on 192.0.2.77:0" in capsys.readouterr().err


@pytest.mark.usefixtures("resolved")
@pytest.mark.parametrize("tls", [True, False], ids=["tls", "http"])
def test_the_printed_connection_leads_a_client_to_it(tls: bool, simulator: Simulator, tmp_path: Path) -> None:
    from airflow_claude_batch.api.client import ClaudeClient
    from airflow_claude_batch.connection.settings import ConnectionValues, config_from_connection

    with simulator.serve(names=["simulator"], tls_folder=tmp_path if tls else None) as server:
        printed = json.loads(json.dumps(server.connection()))
        values = ConnectionValues(
            conn_id="claude_default",
            host=printed["host"],
            password=printed["password"],
            extra=json.dumps(printed["extra"]),
        )
        with ClaudeClient(config_from_connection(values, {}).config) as client:
            assert client.list_batches(limit=1).has_more is False
    assert simulator.calls()["list"] == 1
