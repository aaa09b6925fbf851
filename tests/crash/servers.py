"""Servers that can be forked with all that they hold: nobody is in them while their ``at_rest`` is held."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from airflow_claude_batch.simulator import Simulator
from airflow_claude_batch.simulator.http.exchange import Request, Response


class RestingSimulator(Simulator):
    """The simulator, which holds none of its locks while ``at_rest`` is held."""

    def __init__(self, **options: Any) -> None:
        self.at_rest = threading.Lock()
        super().__init__(**options)

    def handle(self, request: Request) -> Response:
        with self.at_rest:
            return super().handle(request)


class Bucket:
    """An S3 server, by moto. What moto stores is in this process."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import create_backend_app

        self.at_rest = threading.Lock()
        self._respond = create_backend_app("s3")

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Serve on a free port of the loopback interface. Yield the endpoint."""
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Silent(WSGIRequestHandler):
            def log(self, *_: Any) -> None:
                """Log nothing."""

        server = make_server("127.0.0.1", 0, self._handle, threaded=True, request_handler=Silent)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.port}"
        server.shutdown()
        thread.join()
        server.server_close()

    def _handle(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with self.at_rest:
            return list(self._respond(environ, start_response))
