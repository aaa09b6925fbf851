"""Stand-ins of Google's metadata server and of its token endpoint, on loopback.

They issue numbered tokens, ``ya29.token-1`` and so on. The metadata server answers only calls with the header
``Metadata-Flavor: Google``. The token endpoint verifies the signed assertion of a service account.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

ACCOUNT = "batches@example-project.iam.gserviceaccount.com"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"


class GoogleServer:
    """What both servers share: the tokens that they issued, and how the next calls fail.

    :param lifetime: seconds of each token.
    """

    def __init__(self, lifetime: float = 3600) -> None:
        self.lifetime = lifetime
        self.issued: list[str] = []
        self.calls: list[str] = []
        self.called = threading.Event()
        self.failures: list[tuple[int, str]] = []
        self.hold: threading.Event | None = None
        self.key: dict[str, Any] = {}

    def issue(self) -> dict[str, Any]:
        self.issued.append(f"ya29.token-{len(self.issued) + 1}")
        return {"access_token": self.issued[-1], "expires_in": self.lifetime, "token_type": "Bearer"}

    def respond(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        raise NotImplementedError

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Serve on loopback. Returns host and port."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class MetadataServer(GoogleServer):
    """The metadata server of a machine with a service account."""

    def respond(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if headers.get("Metadata-Flavor") != "Google":
            return 403, {}, b"Missing Metadata-Flavor:Google header."
        flavor = {"Metadata-Flavor": "Google"}
        as_json = flavor | {"Content-Type": "application/json"}
        match urlsplit(path).path.removeprefix("/computeMetadata/v1"):
            case "/":
                return 200, flavor, b""
            case "/project/project-id":
                return 200, flavor | {"Content-Type": "application/text"}, b"machine-project"
            case "/instance/service-accounts/default/":
                account = {"aliases": ["default"], "email": ACCOUNT, "scopes": [SCOPE]}
                return 200, as_json, json.dumps(account).encode()
            case "/instance/service-accounts/default/token":
                return 200, as_json, json.dumps(self.issue()).encode()
        return 404, flavor, b"not found"


class TokenEndpoint(GoogleServer):
    """``oauth2.googleapis.com/token`` for one service account, whose key is of this process."""

    def respond(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        fields = parse_qs(body.decode())
        problem = _problem_of(fields)
        status, answer = (400, {"error": "invalid_grant", "error_description": problem}) if problem else (200, None)
        return status, {"Content-Type": "application/json"}, json.dumps(answer or self.issue()).encode()


class NewestTokens:
    """Accepts the tokens of a server that are among its newest two: the one before may be on its way."""

    def __init__(self, *servers: GoogleServer) -> None:
        self._servers = servers

    def __contains__(self, token: object) -> bool:
        return any(token in server.issued[-2:] for server in self._servers)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _problem_of(fields: dict[str, list[str]]) -> str | None:
    """Say what is wrong with a call of the token endpoint, as RFC 7523 and Google's page on service accounts ask."""
    from google.auth import jwt

    if fields.get("grant_type") != ["urn:ietf:params:oauth:grant-type:jwt-bearer"]:
        return "Unsupported grant type."
    try:
        # The audience is the real endpoint's, wherever the key's token_uri leads.
        claims = jwt.decode(fields["assertion"][0], certs=_public_pem(), audience="https://oauth2.googleapis.com/token")
    except ValueError:
        return "Invalid JWT Signature."
    if claims["iss"] != ACCOUNT:
        return "Invalid grant: account not found"
    if claims.get("scope") != SCOPE or claims["exp"] > time.time() + 3700:
        return "Invalid JWT."
    return None


def service_account_key(token_host: str) -> dict[str, Any]:
    """Return the content of a key's file that leads to a token endpoint of the tests."""
    return {
        "type": "service_account",
        "project_id": "example-project",
        "private_key_id": "key-1",
        "private_key": _key()
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode(),
        "client_email": ACCOUNT,
        "client_id": "1",
        "token_uri": f"http://{token_host}/token",
    }


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _public_pem() -> bytes:
    public = _key().public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def metadata_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MetadataServer]:
    """Let this process run on a machine of Google's with this metadata server, and without other credentials."""
    from google.auth.compute_engine import _metadata

    server = MetadataServer()
    with server.serve() as host:
        for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "NO_GCE_CHECK"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("CLOUDSDK_CONFIG", "/nonexistent")  # no login of gcloud's
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("GCE_METADATA_HOST", host)
        monkeypatch.setenv("GCE_METADATA_IP", host)
        monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", host)  # read when the library is imported
        yield server


@pytest.fixture
def token_endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenEndpoint]:
    """A token endpoint. ``token_endpoint.key`` is the key of its service account."""
    server = TokenEndpoint()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with server.serve() as host:
        server.key = service_account_key(host)
        yield server


def _handler(server: GoogleServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            server.calls.append(f"{self.command} {urlsplit(self.path).path}")
            server.called.set()
            if server.hold is not None:
                server.hold.wait(20)
            if server.failures and "token" in self.path:
                status, text = server.failures.pop(0)
                headers, content = {"Content-Type": "application/json"}, text.encode()
            else:
                status, headers, content = server.respond(self.command, self.path, self.headers, body)
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815  (the name that http.server calls)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
