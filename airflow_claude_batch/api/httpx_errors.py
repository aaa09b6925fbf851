"""Map an error of httpx to how far the call had come."""

from __future__ import annotations

import ssl
from typing import Final

import httpx

from airflow_claude_batch.api.evidence import Stage
from airflow_claude_batch.api.http import CallFailed, HTTPRequest
from airflow_claude_batch.api.request_body import UploadStopped
from airflow_claude_batch.api.responses import no_response_failure
from airflow_claude_batch.api.time_limit import TooSlow

_NOT_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
_NOT_ALL_SENT: Final = (httpx.WriteError, httpx.WriteTimeout, httpx.LocalProtocolError, UploadStopped)


def call_failure(request: HTTPRequest, error: Exception) -> CallFailed:
    """Build the failure for an error of httpx, or for an upload or a wait that we stopped."""
    if isinstance(error, UploadStopped):
        return no_response_failure(request, Stage.SENDING, str(error))
    if isinstance(error, TooSlow):
        return no_response_failure(request, Stage.WAITING, str(error))
    # The text of a LocalProtocolError may quote the request's headers.
    text = "" if isinstance(error, httpx.LocalProtocolError) else str(error)
    return no_response_failure(request, _stage(error), f"{type(error).__name__}: {text}".rstrip(": "))


def _stage(error: Exception) -> Stage:
    if isinstance(error, _NOT_SENT):
        return Stage.UNTRUSTED if _is_about_trust(error) else Stage.CONNECTING
    return Stage.SENDING if isinstance(error, _NOT_ALL_SENT) else Stage.WAITING


def _is_about_trust(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
