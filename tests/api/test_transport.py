"""Both clients over real sockets, against servers that misbehave."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import ipaddress
import json
import socket
import ssl
import threading
import time

import pytest
from clients import BATCH, BATCH_ID, BODY, KEY, SyncClient, sync_only, with_clients
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from raw_server import RawServer

from airflow_claude_batch import exceptions
from airflow_claude_batch.api.client import AsyncClaudeClient
from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.api.time_limit import calls_until, time_limit
from airflow_claude_batch.api.transport import KEEPALIVE_SECONDS
from airflow_claude_batch.api.workload_identity import WorkloadIdentity

ANSWER = json.dumps(BATCH).encode()

CREATE = pytest.param(lambda client: client.create_batch(BODY), id="create")
RETRIEVE = pytest.param(lambda client: client.retrieve_batch(BATCH_ID), id="retrieve")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def config(port, scheme="http", **settings):
    base = {"credentials": ApiKey(KEY), "base_url": f"{scheme}://127.0.0.1:{port}", "max_retries": 0}
    return ClientConfig(**(base | settings))


def always(connection):
    """Answer every request with a batch."""
    while True:
        connection.request()
        connection.respond("200 OK", ANSWER)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Makes a certificate for 127.0.0.1 that vouches for itself; gives the paths of certificate and key."""
    folder = tmp_path_factory.mktemp("certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2126, 1, 1, tzinfo=datetime.UTC))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "ca.pem", folder / "key.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return public, private


@pytest.fixture
def tls(certificate):
    """A server's side of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def test_connections_are_kept_between_calls(client_class):
    with RawServer(always) as server, client_class(config(server.port)) as client:
        for _ in range(3):
            client.retrieve_batch(BATCH_ID)
        client.cancel_batch(BATCH_ID)

    assert len(server.connections) == 1
    assert KEEPALIVE_SECONDS > 60


def test_socket_options_are_set(client_class):
    with RawServer(always) as server, client_class(config(server.port, write_timeout=12)) as client:
        client.retrieve_batch(BATCH_ID)
        owner = getattr(client, "client", client)
        (connection,) = owner._transport._client._transport._pool.connections
        opened = connection._connection._network_stream.get_extra_info("socket")

        assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 12_000


def test_socket_options_that_the_system_lacks_are_left_out(client_class, monkeypatch):
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT", raising=False)
    monkeypatch.delattr(socket, "TCP_KEEPIDLE", raising=False)
    with RawServer(always) as server, client_class(config(server.port)) as client:
        assert client.retrieve_batch(BATCH_ID).id == BATCH_ID


@with_clients("call", both=[RETRIEVE], sync=[CREATE])
def test_untrusted_certificate_is_a_clear_error(client_class, tls, call):
    pauses = []
    with (
        RawServer(always, context=tls) as server,
        client_class(config(server.port, "https", max_retries=3), sleep=pauses.append) as client,
        pytest.raises(exceptions.APIConnectionError, match="certificate verify failed") as caught,
    ):
        call(client)

    assert "name the CA file" in str(caught.value)
    assert ("Nothing was created" in str(caught.value)) is (call is CREATE.values[0])
    assert caught.value.may_have_been_accepted is False
    assert pauses == []


@with_clients("call", both=[RETRIEVE], sync=[CREATE])
def test_a_ca_file_makes_it_trusted(client_class, tls, certificate, call):
    with (
        RawServer(always, context=tls) as server,
        client_class(config(server.port, "https", verify=str(certificate[0]))) as client,
    ):
        assert call(client).id == BATCH_ID


@with_clients("call", both=[RETRIEVE], sync=[CREATE])
def test_without_verification_any_certificate_is_accepted(client_class, tls, call):
    with RawServer(always, context=tls) as server, client_class(config(server.port, "https", verify=False)) as client:
        assert call(client).id == BATCH_ID


def test_a_ready_ssl_context_is_used(tls, certificate):
    context = ssl.create_default_context(cafile=str(certificate[0]))

    async def ask(port):
        async with AsyncClaudeClient(config(port, "https"), ssl_context=context) as client:
            return await client.retrieve_batch(BATCH_ID)

    with RawServer(always, context=tls) as server:
        assert asyncio.run(ask(server.port)).id == BATCH_ID


def test_empty_ca_folder_is_a_clear_error(client_class, tls, tmp_path):
    with (
        RawServer(always, context=tls) as server,
        client_class(config(server.port, "https", verify=str(tmp_path))) as client,
        pytest.raises(exceptions.APIConnectionError, match="certificate verify failed"),
    ):
        client.retrieve_batch(BATCH_ID)


@pytest.mark.parametrize("content", [None, b"no certificate"], ids=["missing", "rubbish"])
def test_unusable_ca_file_is_a_configuration_error(client_class, tmp_path, content):
    path = tmp_path / "ca.pem"
    if content:
        path.write_bytes(content)

    def ask():
        with client_class(config(1, "https", verify=str(path))) as client:
            client.retrieve_batch(BATCH_ID)

    with pytest.raises(exceptions.ConfigurationError, match=r"ca\.pem"):
        ask()


def test_many_first_calls_share_one_client():
    async def ask(port):
        async with AsyncClaudeClient(config(port, "https", verify=False)) as client:
            asking = [client.list_batches() for _ in range(5)]
            return await asyncio.gather(*asking, return_exceptions=True), client._transport._client

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    answers, made = asyncio.run(ask(port))

    assert all(isinstance(answer, exceptions.APIConnectionError) for answer in answers)
    assert made.is_closed


def test_a_client_that_was_never_used_closes(client_class):
    with client_class(config(1)):
        pass


@sync_only
def test_a_refused_connection_has_created_nothing(client_class):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        client_class(config(port)) as client,
        pytest.raises(
            exceptions.APIConnectionError, match=r"Nothing was created\.\nCheck the connection's host"
        ) as caught,
    ):
        client.create_batch(BODY)

    assert caught.value.may_have_been_accepted is False


@with_clients("call", both=[RETRIEVE], sync=[CREATE])
def test_a_name_that_does_not_exist_has_created_nothing(client_class, call):
    unknown = config(1, base_url="https://api.anthropic.invalid", verify=False)
    with client_class(unknown) as client, pytest.raises(exceptions.APIConnectionError) as caught:
        call(client)

    assert caught.value.may_have_been_accepted is False
    assert "api.anthropic.invalid" in str(caught.value)


@sync_only
@pytest.mark.parametrize(
    "serve",
    [
        pytest.param(lambda connection: connection.request(), id="closed after the request"),
        pytest.param(lambda connection: (connection.request(), connection.reset()), id="reset after the request"),
        pytest.param(lambda connection: (connection.head(), connection.reset()), id="reset during the request"),
        pytest.param(
            lambda connection: (connection.request(), connection.socket.sendall(b"HTTP/1.1 200")), id="half a head"
        ),
        pytest.param(
            lambda connection: (connection.request(), connection.respond("200 OK", ANSWER[:50], length=len(ANSWER))),
            id="half a body",
        ),
        pytest.param(
            lambda connection: (connection.request(), connection.socket.sendall(b"gibberish\r\n\r\n")), id="no HTTP"
        ),
        pytest.param(lambda connection: (connection.request(), connection.over.wait(10)), id="silence"),
    ],
)
def test_create_whose_response_is_lost_is_sent_once(client_class, serve):
    with (
        RawServer(serve) as server,
        client_class(config(server.port, read_timeout=0.3, max_retries=4)) as client,
        pytest.raises(exceptions.APIConnectionError) as caught,
    ):
        client.create_batch(BODY)

    assert caught.value.may_have_been_accepted is True
    assert "look for it before sending again" in str(caught.value)
    assert len(server.connections) == 1


class Large:
    """A body much larger than what sockets buffer."""

    content_length = 64 * 1024 * 1024

    def __init__(self):
        self.given = 0

    def chunks(self):
        for _ in range(64):
            self.given += 1
            yield b"x" * 1024 * 1024


@sync_only
def test_refusal_of_a_large_body_is_read_although_the_server_hangs_up(client_class):
    def serve(connection):
        connection.head()
        body = b'{"error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}'
        connection.respond("413 Payload Too Large", body, "connection: close")
        connection.socket.shutdown(socket.SHUT_WR)
        while connection.socket.recv(65536):
            if connection.over.wait(0):
                return

    body = Large()
    with (
        RawServer(serve) as server,
        client_class(config(server.port)) as client,
        pytest.raises(exceptions.RequestTooLargeError) as caught,
    ):
        client.create_batch(body)
    assert caught.value.may_have_been_accepted is False


@with_clients("call", both=[RETRIEVE], sync=[CREATE])
def test_an_error_that_is_cut_off_still_has_its_status(client_class, call):
    def serve(connection):
        connection.request()
        connection.respond("413 Payload Too Large", b'{"error":', length=500)

    with (
        RawServer(serve) as server,
        client_class(config(server.port)) as client,
        pytest.raises(exceptions.RequestTooLargeError),
    ):
        call(client)


@sync_only
def test_an_upload_that_stalls_is_cut_off(client_class):
    body = Large()
    with (
        RawServer(lambda connection: (connection.head(), connection.over.wait(10))) as server,
        client_class(config(server.port, write_timeout=0.3)) as client,
        pytest.raises(exceptions.APIConnectionError) as caught,
    ):
        client.create_batch(body)

    assert caught.value.may_have_been_accepted is True
    assert body.given < 64


@sync_only
def test_a_slow_upload_is_cut_off_at_its_deadline(client_class):
    body = Large()

    def trickle(connection):
        connection.head()
        while not connection.over.wait(0.01):
            connection.socket.recv(65536)

    with (
        RawServer(trickle) as server,
        client_class(config(server.port)) as client,
        pytest.raises(exceptions.APIConnectionError, match=r"the deadline for sending it has passed|WriteTimeout"),
    ):
        client.create_batch(body, deadline_seconds=0.5)
    assert body.given < 64


@sync_only
def test_a_large_body_arrives_whole(client_class):
    received = []

    def serve(connection):
        received.append(connection.request()[1])
        connection.respond("200 OK", ANSWER)

    with RawServer(serve) as server, client_class(config(server.port)) as client:
        client.create_batch(Large())
    assert received == [b"x" * Large.content_length]


@sync_only
@pytest.mark.parametrize("announced", [10, 19, 21, 20_000])
def test_body_of_a_wrong_length_may_have_been_accepted(client_class, announced):
    class Wrong(Large):
        content_length = announced

        def chunks(self):
            yield b"x" * 10
            yield b"x" * 10

    with (
        RawServer(always) as server,
        client_class(config(server.port)) as client,
        pytest.raises(exceptions.APIConnectionError, match="does not have the announced length") as caught,
    ):
        client.create_batch(Wrong())
    assert caught.value.may_have_been_accepted is True


def rows(connection, *pieces, end=b"0\r\n\r\n", headers=""):
    connection.request()
    connection.socket.sendall(f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{headers}\r\n".encode())
    for piece in pieces:
        connection.socket.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    connection.socket.sendall(end)


@sync_only
@pytest.mark.parametrize("end", ["mid line", "at a line's end", "reset"])
def test_results_that_are_cut_off_raise_after_the_whole_lines(client_class, end):
    def serve(connection):
        pieces = [b'{"a":1}\n', b'{"b":2}\n'] + ([b'{"c"'] if end == "mid line" else [])
        rows(connection, *pieces, end=b"")
        if end == "reset":
            connection.over.wait(0.2)
            connection.reset()

    seen = []

    def read(client):
        with client.stream_results(BATCH_ID) as lines:
            seen.extend(lines)

    with (
        RawServer(serve) as server,
        client_class(config(server.port)) as client,
        pytest.raises(exceptions.APIConnectionError, match=f"read the results of {BATCH_ID}") as caught,
    ):
        read(client)
    assert seen == [b'{"a":1}', b'{"b":2}']
    assert caught.value.may_have_been_accepted is False


@sync_only
def test_results_that_stop_coming_raise(client_class):
    def serve(connection):
        rows(connection, b'{"a":1}\n', end=b"")
        connection.over.wait(10)

    with (
        RawServer(serve) as server,
        client_class(config(server.port, read_timeout=0.3)) as client,
        client.stream_results(BATCH_ID) as lines,
    ):
        assert next(lines) == b'{"a":1}'
        with pytest.raises(exceptions.APIConnectionError, match="ReadTimeout"):
            next(lines)


@sync_only
def test_compressed_results_are_read(client_class):
    packed = gzip.compress(b'{"a":1}\n{"b":2}')

    with (
        RawServer(lambda connection: rows(connection, packed, headers="content-encoding: gzip\r\n")) as server,
        client_class(config(server.port)) as client,
        client.stream_results(BATCH_ID) as lines,
    ):
        assert list(lines) == [b'{"a":1}', b'{"b":2}']


@sync_only
def test_results_with_broken_compression_raise(client_class):
    with (
        RawServer(
            lambda connection: rows(connection, b"this is no gzip", headers="content-encoding: gzip\r\n")
        ) as server,
        client_class(config(server.port)) as client,
        client.stream_results(BATCH_ID) as lines,
        pytest.raises(exceptions.APIConnectionError, match="DecodingError"),
    ):
        next(lines)


@sync_only
def test_results_may_be_left_early_and_the_client_goes_on(client_class):
    def serve(connection):
        head = connection.head()
        if "/results" in head:
            connection.received += b"\r\n\r\n"
            rows(connection, b'{"a":1}\n', b'{"b":2}\n', end=b"")
            connection.over.wait(10)
        else:
            connection.respond("200 OK", ANSWER)

    with RawServer(serve) as server, client_class(config(server.port)) as client:
        with client.stream_results(BATCH_ID) as lines:
            assert next(lines) == b'{"a":1}'
        assert client.retrieve_batch(BATCH_ID).id == BATCH_ID


def test_a_proxy_of_the_connection_is_used(client_class):
    heads = []

    def proxy(connection):
        heads.append(connection.request()[0])
        connection.respond("200 OK", ANSWER)

    with RawServer(proxy) as server:
        through = config(9, proxy=f"http://user:pass@127.0.0.1:{server.port}")
        with client_class(through) as client:
            assert client.retrieve_batch(BATCH_ID).id == BATCH_ID

    assert heads[0].startswith(f"GET http://127.0.0.1:9/v1/messages/batches/{BATCH_ID} HTTP/1.1")


@with_clients("call", both=[RETRIEVE], sync=[CREATE])
def test_proxy_that_refuses_has_created_nothing(client_class, call):
    def proxy(connection):
        assert connection.head().startswith("CONNECT 127.0.0.1:9 ")
        connection.respond("407 Proxy Authentication Required")

    with RawServer(proxy) as server:
        through = config(9, "https", proxy=f"http://user:password@127.0.0.1:{server.port}", verify=False)
        with client_class(through) as client, pytest.raises(exceptions.APIConnectionError, match="407") as caught:
            call(client)

    assert "Put the proxy's credentials into the connection's proxy URL" in str(caught.value)
    assert caught.value.may_have_been_accepted is False
    assert "password" not in str(caught.value)


def test_a_proxy_of_the_environment_is_used_for_hosts_elsewhere(client_class, monkeypatch):
    heads = []

    def proxy(connection):
        heads.append(connection.head())
        connection.respond("403 Forbidden")

    with RawServer(proxy) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.port}")
        elsewhere = config(1, base_url="https://api.anthropic.invalid", verify=False)
        with client_class(elsewhere) as client, pytest.raises(exceptions.APIConnectionError, match="403"):
            client.retrieve_batch(BATCH_ID)

    assert heads[0].startswith("CONNECT api.anthropic.invalid:443 ")


def test_http_on_loopback_ignores_the_environments_proxy(client_class, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with RawServer(always) as server, client_class(config(server.port)) as client:
        assert client.retrieve_batch(BATCH_ID).id == BATCH_ID


@pytest.mark.parametrize("proxy", ["ftp://user:password@proxy", "user:password@proxy:3128", "socks5://h:1"])
def test_unusable_proxy_is_a_configuration_error(client_class, proxy):
    def ask():
        with client_class(config(1, proxy=proxy, verify=False)) as client:
            client.retrieve_batch(BATCH_ID)

    with pytest.raises(exceptions.ConfigurationError, match="proxy") as caught:
        ask()
    assert "password" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_host_that_httpx_refuses_is_a_configuration_error(client_class):
    odd = config(1, base_url="https://xn--ls8h=.example", verify=False)

    with client_class(odd) as client, pytest.raises(exceptions.ConfigurationError, match="xn--ls8h="):
        client.retrieve_batch(BATCH_ID)


def test_one_client_serves_many_threads():
    found = []
    with RawServer(always) as server, SyncClient(config(server.port)) as client:
        threads = [threading.Thread(target=lambda: found.append(client.retrieve_batch(BATCH_ID).id)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert found == [BATCH_ID] * 20


def drip(connection, data, *, seconds=0.03):
    """Send one byte at a time, much more often than any read timeout."""
    for byte in data:
        if connection.over.wait(seconds):
            return
        connection.socket.sendall(bytes([byte]))


def serve_slow_headers(connection):
    connection.request()
    drip(connection, b"HTTP/1.1 200 OK\r\nx-filler: " + b"x" * 10_000)


def serve_slow_body(connection):
    connection.request()
    connection.socket.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n")
    drip(connection, b"{" + b" " * 10_000)


def serve_slow_error(connection):
    connection.request()
    connection.socket.sendall(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 10000\r\n\r\n")
    drip(connection, b"{" + b" " * 10_000)


DRIPPING = pytest.mark.parametrize("serve", [serve_slow_headers, serve_slow_body], ids=["headers", "body"])
QUICK = [
    RETRIEVE,
    pytest.param(lambda client: client.list_batches(), id="list"),
    pytest.param(lambda client: client.cancel_batch(BATCH_ID), id="cancel"),
]
QUICK_SYNC = [
    pytest.param(lambda client: client.delete_batch(BATCH_ID), id="delete"),
    pytest.param(lambda client: client.count_tokens({"model": "m"}), id="count tokens"),
    pytest.param(lambda client: client.list_models(), id="models"),
    pytest.param(lambda client: client.retrieve_model("m"), id="model"),
]


@with_clients("call", both=QUICK, sync=QUICK_SYNC)
@DRIPPING
def test_a_response_that_drips_ends_at_the_total_deadline(client_class, serve, call):
    began = time.monotonic()
    with (
        RawServer(serve) as server,
        client_class(config(server.port, connect_timeout=0.2, read_timeout=0.2)) as client,
        pytest.raises(exceptions.APIConnectionError, match="no response from"),
    ):
        call(client)
    assert time.monotonic() - began < 1.5


@DRIPPING
def test_a_response_that_drips_over_tls_ends_at_the_total_deadline(client_class, tls, serve):
    began = time.monotonic()
    with (
        RawServer(serve, context=tls) as server,
        client_class(
            config(server.port, "https", verify=False, connect_timeout=0.2, read_timeout=0.2), sleep=lambda _: None
        ) as client,
        pytest.raises(exceptions.APIConnectionError),
    ):
        client.retrieve_batch(BATCH_ID)
    assert time.monotonic() - began < 1.5


def test_an_error_page_that_drips_still_has_its_status(client_class):
    began = time.monotonic()
    with (
        RawServer(serve_slow_error) as server,
        client_class(config(server.port, connect_timeout=0.2, read_timeout=0.2)) as client,
        pytest.raises((exceptions.ServerError, exceptions.APIConnectionError)),
    ):
        client.retrieve_batch(BATCH_ID)
    assert time.monotonic() - began < 1.5


@sync_only
@DRIPPING
def test_a_create_whose_response_drips_may_have_been_accepted(client_class, serve):
    began = time.monotonic()
    with (
        RawServer(serve) as server,
        client_class(config(server.port, connect_timeout=0.2, read_timeout=0.2, max_retries=4)) as client,
        pytest.raises(exceptions.APIConnectionError) as caught,
    ):
        client.create_batch(BODY, deadline_seconds=0.4)
    assert caught.value.may_have_been_accepted is True
    assert len(server.connections) == 1
    assert time.monotonic() - began < 2


@sync_only
def test_a_create_is_not_cut_off_by_the_limit_of_its_caller_but_does_not_begin_after_it(client_class):
    def serve(connection):
        while True:
            connection.request()
            connection.over.wait(0.3)
            connection.respond("200 OK", ANSWER)

    with RawServer(serve) as server, client_class(config(server.port)) as client:
        with time_limit(0.1):
            assert client.create_batch(BODY).id == BATCH_ID
        with (
            time_limit(0.0),
            pytest.raises(exceptions.APIConnectionError, match="no time is left") as caught,
        ):
            client.create_batch(BODY)
    assert caught.value.may_have_been_accepted is False


def test_a_proxy_that_drips_ends_at_the_total_deadline(client_class):
    def proxy(connection):
        connection.head()
        drip(connection, b"HTTP/1.1 200 OK\r\nx-filler: " + b"x" * 10_000)

    began = time.monotonic()
    with RawServer(proxy) as server:
        through = config(
            9,
            "https",
            proxy=f"http://127.0.0.1:{server.port}",
            verify=False,
            connect_timeout=0.2,
            read_timeout=0.2,
        )
        with client_class(through) as client, pytest.raises(exceptions.APIConnectionError):
            client.retrieve_batch(BATCH_ID)
    assert time.monotonic() - began < 1.5


@sync_only
def test_a_limit_of_the_caller_bounds_all_attempts_of_a_call(client_class):
    began = time.monotonic()
    with (
        RawServer(serve_slow_body) as server,
        client_class(config(server.port, max_retries=4)) as client,
        time_limit(0.3),
        pytest.raises(exceptions.APIConnectionError),
    ):
        client.retrieve_batch(BATCH_ID)
    assert time.monotonic() - began < 1.5


@sync_only
def test_results_that_drip_count_as_stalled(client_class):
    def serve(connection):
        connection.request()
        connection.socket.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + b'{"a":1}\n')
        drip(connection, b" " * 10_000)

    began = time.monotonic()
    with (
        RawServer(serve) as server,
        client_class(config(server.port, read_timeout=0.4)) as client,
        client.stream_results(BATCH_ID) as lines,
    ):
        assert next(lines) == b'{"a":1}'
        with pytest.raises(exceptions.APIConnectionError, match=r"only \d+ bytes arrived in \d s"):
            next(lines)
    assert time.monotonic() - began < 2


@sync_only
@pytest.mark.parametrize("seconds", [0.03, 3], ids=["drips", "stands still"])
def test_results_that_come_too_slowly_are_given_up_when_the_callers_time_is_up(client_class, monkeypatch, seconds):
    monkeypatch.setattr("airflow_claude_batch.api.time_limit.MIN_CALL_SECONDS", 0.3)

    def serve(connection):
        connection.request()
        connection.socket.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + b'{"a":1}\n')
        drip(connection, b" " * (60 if seconds < 1 else 1), seconds=seconds)

    with (
        RawServer(serve) as server,
        client_class(config(server.port, read_timeout=60)) as client,
        calls_until(0),
        client.stream_results(BATCH_ID) as lines,
    ):
        assert next(lines) == b'{"a":1}'
        began = time.monotonic()
        with pytest.raises(exceptions.APIConnectionError):
            next(lines)
        assert time.monotonic() - began < 1.2


@sync_only
def test_results_take_as_long_as_they_bring_bytes(client_class):
    row = b'{"a":"' + b"x" * 2000 + b'"}\n'

    def serve(connection):
        connection.request()
        connection.socket.sendall(f"HTTP/1.1 200 OK\r\ncontent-length: {10 * len(row)}\r\n\r\n".encode())
        for _ in range(10):
            connection.over.wait(0.06)
            connection.socket.sendall(row)

    with (
        RawServer(serve) as server,
        client_class(config(server.port, read_timeout=0.2, connect_timeout=0.2)) as client,
        client.stream_results(BATCH_ID) as lines,
    ):
        assert len(list(lines)) == 10


@sync_only
def test_results_end_at_the_limit_of_their_reader(client_class):
    def serve(connection):
        connection.request()
        connection.socket.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        drip(connection, b'{"a":1}\n' * 1000)

    began = time.monotonic()
    with (
        RawServer(serve) as server,
        client_class(config(server.port)) as client,
        time_limit(0.4),
        client.stream_results(BATCH_ID) as lines,
        pytest.raises(exceptions.APIConnectionError),
    ):
        list(lines)
    assert time.monotonic() - began < 1.5


def test_a_tunnel_that_the_proxy_forbids_is_named(client_class):
    with RawServer(lambda proxy: (proxy.head(), proxy.respond("403 Forbidden"))) as server:
        through = config(9, "https", proxy=f"http://127.0.0.1:{server.port}", verify=False)
        with client_class(through) as client, pytest.raises(exceptions.APIConnectionError) as caught:
            client.retrieve_batch(BATCH_ID)
    assert "Let the proxy allow tunnels (CONNECT)" in str(caught.value)


#: The SETTINGS frame with which every HTTP/2 server begins.
SETTINGS = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"


@with_clients("call", both=[RETRIEVE], sync=[CREATE])
@pytest.mark.parametrize(
    "serve",
    [
        pytest.param(lambda c: (c.request(), c.socket.sendall(SETTINGS), c.over.wait(5)), id="frames"),
        pytest.param(lambda c: (c.request(), c.socket.sendall(SETTINGS)), id="frames, then the end"),
        pytest.param(lambda c: (c.request(), c.respond("464 Incompatible")), id="464"),
        pytest.param(lambda c: (c.request(), c.respond("505 HTTP Version Not Supported")), id="505"),
        pytest.param(lambda c: (c.request(), c.respond("426 Upgrade Required", b"", "upgrade: h2c")), id="426"),
    ],
)
def test_a_server_that_speaks_only_http_2_is_named(client_class, serve, call):
    with (
        RawServer(serve) as server,
        client_class(config(server.port, read_timeout=1.0)) as client,
        pytest.raises(exceptions.APIError) as caught,
    ):
        call(client)
    assert "accepts HTTP/1.1" in str(caught.value)


def test_a_server_that_offers_only_http_2_in_tls_is_named(client_class, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.set_alpn_protocols(["h2"])
    serve = lambda c: (c.request(), c.socket.sendall(SETTINGS), c.over.wait(5))  # noqa: E731  (one server)
    with (
        RawServer(serve, context=context) as server,
        client_class(config(server.port, "https", verify=False, read_timeout=1.0)) as client,
        pytest.raises(exceptions.APIError) as caught,
    ):
        client.retrieve_batch(BATCH_ID)
    assert "accepts HTTP/1.1" in str(caught.value)


@sync_only
def test_calls_end_with_the_time_of_their_caller_but_results_and_create_calls_do_not(client_class, monkeypatch):
    monkeypatch.setattr("airflow_claude_batch.api.time_limit.MIN_CALL_SECONDS", 0.3)
    row = b'{"a":"' + b"x" * 2000 + b'"}\n'

    def serve(connection):
        head, _ = connection.request()
        if "/results" in head:
            # The server closes the connection after it; without the header, the next call may be sent on it.
            head = f"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {8 * len(row)}\r\n\r\n"
            connection.socket.sendall(head.encode())
            for _ in range(8):
                connection.over.wait(0.08)
                connection.socket.sendall(row)
        elif head.startswith("POST"):
            connection.over.wait(0.5)
            connection.respond("200 OK", ANSWER)
        else:
            connection.socket.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n")
            drip(connection, b" " * 10_000)

    with RawServer(serve) as server, client_class(config(server.port, max_retries=4)) as client, calls_until(0.0):
        with client.stream_results(BATCH_ID) as lines:
            assert len(list(lines)) == 8
        assert client.create_batch(BODY).id == BATCH_ID
        began = time.monotonic()
        with pytest.raises(exceptions.APIConnectionError):
            client.retrieve_batch(BATCH_ID)
    assert time.monotonic() - began < 1.5


def test_a_token_exchange_that_drips_ends_at_its_deadline(client_class, monkeypatch):
    monkeypatch.setattr("airflow_claude_batch.api.workload_identity.EXCHANGE_TIMEOUT", 0.3)
    began = time.monotonic()
    with RawServer(serve_slow_body) as server:
        identity = WorkloadIdentity(
            federation_rule_id="f",
            organization_id="o",
            identity_token="eyJ.eyJ.sig",
            base_url=f"http://127.0.0.1:{server.port}",
        )
        with (
            client_class(config(server.port, credentials=identity)) as client,
            pytest.raises(exceptions.APIConnectionError, match="exchange the identity token"),
        ):
            client.retrieve_batch(BATCH_ID)
    assert time.monotonic() - began < 1.5


def test_a_host_that_speaks_http_where_https_was_taken_is_named(client_class):
    serve = lambda c: (c.socket.recv(65_536), c.socket.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))  # noqa: E731
    with (
        RawServer(serve) as server,
        client_class(config(server.port, "https")) as client,
        pytest.raises(exceptions.APIConnectionError) as caught,
    ):
        client.retrieve_batch(BATCH_ID)
    assert "seems to speak http, not https" in str(caught.value)
    assert "begin the connection's host with http://" in str(caught.value)
