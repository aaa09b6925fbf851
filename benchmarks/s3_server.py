"""An S3 server in a process of its own, by moto, that counts what goes over its sockets.

``GET /_traffic`` returns bytes written and read, and calls, by kind of file.
"""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.bulk import own_module
from benchmarks.counted_folder import Traffic

BUCKET = "bucket"
TRAFFIC = "/_traffic"
Environ = dict[str, Any]
App = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


def file_system(endpoint: str) -> Any:
    """Connect as a new process does, with credentials that any test server takes."""
    from s3fs import S3FileSystem

    return S3FileSystem(key="test", secret="test", endpoint_url=endpoint, skip_instance_cache=True)  # noqa: S106


def place_of(folder: str | Path) -> str:
    """Return where the submission of a local folder is in the bucket, different for each."""
    return f"{BUCKET}{folder}"


def traffic(endpoint: str) -> dict[str, list[int]]:
    """Return what was counted so far, as ``Traffic.by_file``."""
    with urllib.request.urlopen(f"{endpoint}{TRAFFIC}", timeout=60) as response:
        return dict(json.load(response))


@contextmanager
def s3_server() -> Iterator[str]:
    """Serve an empty bucket on a free port until the end of the block. Yields the endpoint."""
    with subprocess.Popen(own_module("s3_server"), stdout=subprocess.PIPE, text=True) as process:
        try:
            endpoint = process.stdout.readline().strip()
            file_system(endpoint).mkdir(BUCKET)
            yield endpoint
        finally:
            process.terminate()


def counting(app: App) -> App:
    """Count the bodies of requests as written and those of responses as read, under the name of the object."""
    counted = Traffic()

    def respond(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == TRAFFIC:
            start_response("200 OK", [("content-type", "application/json")])
            return [json.dumps(counted.by_file).encode()]
        name = _name_of(environ)
        body = b"".join(app(environ, start_response))
        received = 0 if environ["REQUEST_METHOD"] == "HEAD" else len(body)
        counted.add(name, written=int(environ.get("CONTENT_LENGTH") or 0), read=received, calls=1)
        return [body]

    return respond


def _name_of(environ: Environ) -> str:
    if environ["REQUEST_METHOD"] == "GET" and "list-type" in environ["QUERY_STRING"]:
        return "(listing)"
    return str(environ["PATH_INFO"]).rpartition("/")[2]


def main() -> None:
    """Serve, and print the endpoint."""
    import logging

    from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = counting(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
