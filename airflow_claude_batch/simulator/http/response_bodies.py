"""Compress the bodies of responses for clients that ask for it, as the API does with JSON (recordings of 2026-08)."""

from __future__ import annotations

import gzip
from dataclasses import replace

from airflow_claude_batch.simulator.http.exchange import Request, Response


def compressed(response: Response, request: Request) -> Response:
    """Compress a JSON body, if the client takes gzip. Bodies that are sent in pieces stay as they are."""
    if not isinstance(response.body, bytes) or response.headers.get("content-type") != "application/json":
        return response
    headers = {**response.headers, "vary": "Accept-Encoding"}
    body = response.body
    if body and _takes_gzip(request.headers.get("accept-encoding", "")):
        headers["content-encoding"] = "gzip"
        body = gzip.compress(body, compresslevel=1, mtime=0)
    return replace(response, headers=headers, body=body)


def _takes_gzip(accepted: str) -> bool:
    for each in accepted.lower().split(","):
        name, _, quality = each.partition(";")
        if name.strip() in ("gzip", "x-gzip", "*"):
            return quality.replace(" ", "").rstrip("0").rstrip(".") != "q="
    return False
