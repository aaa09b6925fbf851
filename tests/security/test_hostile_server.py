"""A hostile host on the way to the API: certificates, redirects, ids and bodies."""

from __future__ import annotations

import datetime
import functools
import gzip
import ipaddress
import json
import ssl
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from api.clients import BATCH, BATCH_ID, BODY, KEY, AsyncClientAdapter, SyncClient, sync_only, with_clients
from api.raw_server import Connection, RawServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from airflow_claude_batch import exceptions
from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.api.line_splitter import MAX_LINE_BYTES, LineSplitter

MEGABYTE = 1024 * 1024


@pytest.fixture(params=[SyncClient, AsyncClientAdapter], ids=["sync", "async"])
def client_class(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def config(port: int, scheme: str = "http", host: str = "127.0.0.1", **settings: Any) -> ClientConfig:
    base: dict[str, Any] = {"credentials": ApiKey(KEY), "base_url": f"{scheme}://{host}:{port}", "max_retries": 0}
    return ClientConfig(**(base | settings))


def always(*answer: Any, **options: Any) -> Callable[[Connection], None]:
    def serve(connection: Connection) -> None:
        while True:
            connection.request()
            connection.respond(*answer, **options)

    return serve


# ---------------------------------------------------------------- certificates


def certificate(folder: Path, *, name: str = "127.0.0.1", from_day: int = -1, to_day: int = 1) -> tuple[Path, Path]:
    """One that vouches for itself: paths of certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    try:
        named: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        named = x509.DNSName(name)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=from_day))
        .not_valid_after(now + datetime.timedelta(days=to_day))
        .add_extension(x509.SubjectAlternativeName([named]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "certificate.pem", folder / "key.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return public, private


def server_side(public: Path, private: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context


CREATE = pytest.param(lambda client: client.create_batch(BODY), id="create")
RETRIEVE = pytest.param(lambda client: client.retrieve_batch(BATCH_ID), id="retrieve")
RESULTS = pytest.param(lambda client: client.stream_results(BATCH_ID).__enter__(), id="results")


@with_clients("call", both=[RETRIEVE], sync=[CREATE])
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        pytest.param({"name": "api.anthropic.com"}, "(?i)IP address mismatch|not valid for", id="another host's"),
        pytest.param({"name": "127.0.0.2"}, "(?i)IP address mismatch|not valid for", id="another address's"),
        pytest.param({"from_day": -3, "to_day": -1}, "expired", id="expired"),
        pytest.param({"from_day": 1, "to_day": 3}, "not yet valid", id="of tomorrow"),
    ],
)
def test_wrong_certificate_of_a_trusted_issuer_is_refused_before_anything_is_sent(
    client_class: Any, call: Any, wrong: dict[str, Any], says: str, tmp_path: Path
) -> None:
    public, private = certificate(tmp_path, **wrong)
    received: list[str] = []

    def serve(connection: Connection) -> None:
        received.append(connection.head())

    with (
        RawServer(serve, context=server_side(public, private)) as server,
        client_class(config(server.port, "https", verify=str(public))) as client,
        pytest.raises(exceptions.APIConnectionError, match=says) as caught,
    ):
        call(client)

    assert received == []
    assert caught.value.may_have_been_accepted is False
    assert KEY not in str(caught.value)


def test_right_certificate_is_accepted(client_class: Any, tmp_path: Path) -> None:
    """Those above are refused for what is wrong with them, and for nothing else."""
    public, private = certificate(tmp_path)
    serve = always("200 OK", json.dumps(BATCH).encode())
    with (
        RawServer(serve, context=server_side(public, private)) as server,
        client_class(config(server.port, "https", verify=str(public))) as client,
    ):
        assert client.retrieve_batch(BATCH_ID).id == BATCH_ID


@pytest.mark.parametrize(
    "url", ["http://api.anthropic.com", "http://10.0.0.1", "http://localhost.example.com", "ftp://x"]
)
def test_http_is_refused_except_on_loopback(url: str) -> None:
    with pytest.raises(exceptions.ConfigurationError, match="https"):
        ClientConfig(credentials=ApiKey(KEY), base_url=url)


def test_unencrypted_server_behind_an_https_url_gets_nothing(client_class: Any) -> None:
    received: list[bytes] = []

    def serve(connection: Connection) -> None:
        received.append(connection.socket.recv(65536))

    with (
        RawServer(serve) as server,
        client_class(config(server.port, "https")) as client,
        pytest.raises(exceptions.APIConnectionError),
    ):
        client.retrieve_batch(BATCH_ID)

    assert all(KEY.encode() not in data for data in received)


# ---------------------------------------------------------------- being sent elsewhere


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@with_clients("call", both=[RETRIEVE], sync=[CREATE, RESULTS])
def test_redirect_does_not_pass_on_the_credential(client_class: Any, status: str, call: Any) -> None:
    elsewhere_serve = always("200 OK", json.dumps(BATCH).encode())
    with RawServer(elsewhere_serve) as elsewhere:
        location = f"location: http://127.0.0.1:{elsewhere.port}/v1/messages/batches"
        with (
            RawServer(always(status, b"", location)) as server,
            client_class(config(server.port)) as client,
            pytest.raises(exceptions.MalformedResponseError, match="redirect"),
        ):
            call(client)
        assert elsewhere.connections == []


@sync_only
def test_results_url_of_a_batch_is_not_followed(client_class: Any) -> None:
    received: list[str] = []
    with RawServer(always("200 OK", b"")) as elsewhere:
        batch = {**BATCH, "processing_status": "ended", "results_url": f"http://127.0.0.1:{elsewhere.port}/steal"}

        def serve(connection: Connection) -> None:
            while True:
                head, _ = connection.request()
                received.append(head.split("\r\n")[0])
                connection.respond("200 OK", b"" if "/results" in head else json.dumps(batch).encode())

        with RawServer(serve) as server, client_class(config(server.port)) as client:
            assert client.retrieve_batch(BATCH_ID).results_url == batch["results_url"]
            with client.stream_results(BATCH_ID) as lines:
                assert list(lines) == []
        assert elsewhere.connections == []
    assert received[-1] == f"GET /v1/messages/batches/{BATCH_ID}/results HTTP/1.1"


HOSTILE_IDS = ["../../../v1/organizations", "a/b", "a?b=c", "a#b", "a\r\nx-injected: 1", "a b", "%2e%2e", "", "é"]
HOSTILE_IDS += ["a" * 200, "batches/../../models", "batches//7", "/batches/7", "batches/7/", "batches/7/."]


LIST = pytest.param(lambda client: client.list_batches(), id="list")


@pytest.mark.parametrize("hostile", HOSTILE_IDS)
@with_clients("call", both=[RETRIEVE, LIST], sync=[CREATE])
def test_id_in_a_response_that_would_lead_elsewhere_is_malformed(client_class: Any, call: Any, hostile: str) -> None:
    batch = {**BATCH, "id": hostile}
    body = batch if call is not LIST.values[0] else {"data": [batch], "has_more": False}
    with (
        RawServer(always("200 OK", json.dumps(body).encode())) as server,
        client_class(config(server.port)) as client,
        pytest.raises(exceptions.MalformedResponseError) as caught,
    ):
        call(client)
    assert not hostile or hostile not in str(caught.value)


@pytest.mark.parametrize("hostile", [each for each in HOSTILE_IDS if each])
def test_cursor_in_a_response_that_would_lead_elsewhere_is_malformed(client_class: Any, hostile: str) -> None:
    page = json.dumps({"data": [BATCH], "has_more": True, "first_id": hostile, "last_id": hostile}).encode()
    with (
        RawServer(always("200 OK", page)) as server,
        client_class(config(server.port)) as client,
        pytest.raises(exceptions.MalformedResponseError),
    ):
        client.list_batches()


# ---------------------------------------------------------------- bodies without measure


@functools.cache
def zeros(megabytes: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(packer.compress(bytes(MEGABYTE)) for _ in range(megabytes)), packer.flush()])


@pytest.fixture
def peak() -> Iterator[Callable[[], float]]:
    """How many megabytes were in use at once since the test began."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    yield lambda: (tracemalloc.get_traced_memory()[1] - before) / MEGABYTE
    tracemalloc.stop()


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "503 Unavailable"])
@pytest.mark.parametrize("layers", [1, 2])
def test_compression_bomb_is_an_error_and_does_not_fill_the_memory(
    client_class: Any, status: str, layers: int, peak: Callable[[], float]
) -> None:
    body, encoding = zeros(400), "gzip"
    for _ in range(layers - 1):
        body, encoding = gzip.compress(body), f"{encoding}, gzip"
    with (
        RawServer(always(status, body, f"content-encoding: {encoding}")) as server,
        client_class(config(server.port)) as client,
        pytest.raises(exceptions.APIError),
    ):
        client.retrieve_batch(BATCH_ID)

    assert peak() < 250


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip", "x-gzip"])
def test_encoding_that_was_not_requested_is_refused(client_class: Any, encoding: str) -> None:
    asked: list[str] = []

    def serve(connection: Connection) -> None:
        head, _ = connection.request()
        asked.append(head.lower())
        connection.respond("200 OK", b"\x00" * 50, f"content-encoding: {encoding}")

    with (
        RawServer(serve) as server,
        client_class(config(server.port)) as client,
        pytest.raises(exceptions.MalformedResponseError, match="which the client does not accept"),
    ):
        client.retrieve_batch(BATCH_ID)
    assert "accept-encoding: gzip\r\n" in asked[0]


def test_error_page_without_end_is_cut_off(client_class: Any, peak: Callable[[], float]) -> None:
    def serve(connection: Connection) -> None:
        connection.request()
        connection.respond("500 Oh", b"", length=10**12)
        while True:
            connection.socket.sendall(b"x" * 65536)

    with (
        RawServer(serve) as server,
        client_class(config(server.port)) as client,
        pytest.raises(exceptions.ServerError) as caught,
    ):
        client.retrieve_batch(BATCH_ID)

    assert len(str(caught.value)) < 1000
    assert peak() < 20


def test_line_of_results_without_end_is_cut_off(peak: Callable[[], float]) -> None:
    splitter, chunk = LineSplitter(), b"x" * MEGABYTE
    for _ in range(MAX_LINE_BYTES // MEGABYTE):
        assert splitter.feed(chunk) == []
    with pytest.raises(exceptions.MalformedResponseError, match="A line of the results has more than"):
        splitter.feed(chunk)
    assert peak() < 2 * MAX_LINE_BYTES / MEGABYTE


def test_line_limit_applies_to_each_line() -> None:
    splitter, row = LineSplitter(), b"x" * MEGABYTE + b"\n"
    for _ in range(2 * MAX_LINE_BYTES // MEGABYTE):
        assert splitter.feed(row) == [row[:-1]]
