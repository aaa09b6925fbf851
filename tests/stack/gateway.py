"""A company's gateway in front of the API: another address, another header, its own key."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from demo.loopback import LOOPBACK

PREFIX = "/models/claude"
GATEWAY_KEY = "gateway-key-1"
FORWARDED_HEADERS = ("content-type", "content-encoding", "anthropic-version", "anthropic-beta", "accept")


class Gateway(ThreadingHTTPServer):
    """Serves the API of ``upstream`` under a path prefix, to callers with the gateway's key in ``x-api-key``."""

    def __init__(self, upstream: str, upstream_key: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream, self.upstream_key = upstream, upstream_key
        self.forwarded = self.refused = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{PREFIX}"

    @contextmanager
    def serving(self) -> Iterator[Gateway]:
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Gateway

    def do_GET(self) -> None:
        self._forward()

    def do_POST(self) -> None:
        self._forward()

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        is_allowed = self.path.startswith(f"{PREFIX}/v1/") and self.headers.get("x-api-key") == GATEWAY_KEY
        if not is_allowed or "authorization" in self.headers:
            self.server.refused += 1
            self._respond(403, {"content-type": "text/plain"}, b"forbidden")
            return
        self.server.forwarded += 1
        headers = {name: self.headers[name] for name in FORWARDED_HEADERS if name in self.headers}
        headers["x-api-key"] = self.server.upstream_key
        address = self.server.upstream + self.path.removeprefix(PREFIX)
        response = httpx.request(self.command, address, headers=headers, content=body, **LOOPBACK)
        self._respond(response.status_code, dict(response.headers), response.content)

    def _respond(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name in ("content-type", "request-id", "retry-after"):
            if name in headers:
                self.send_header(name, headers[name])
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Do not log requests."""
