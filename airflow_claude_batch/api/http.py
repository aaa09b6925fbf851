"""One HTTP call as values: the request, the response and the failure. No socket here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from airflow_claude_batch.api.base_url import host_of
from airflow_claude_batch.api.evidence import Effect, Failure
from airflow_claude_batch.api.headers import http_date
from airflow_claude_batch.api.redaction import mask
from airflow_claude_batch.api.request_body import RequestBody
from airflow_claude_batch.exceptions import APIError

#: What the failure of a call that creates a message batch means for money.
BATCH_MONEY: Final = (
    "The message batch may have been created, and is then billed: look for it before sending again.",
    "Nothing was created.",
)

_PUBLIC_HEADERS: Final = frozenset(
    {
        "accept",
        "anthropic-beta",
        "anthropic-user-profile-id",
        "anthropic-version",
        "anthropic-workspace-id",
        "cache-control",
        "content-type",
        "x-amz-date",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRequest:
    """One request to send, with the words for its error messages.

    :param action: completes "Could not …" in error messages.
    :param effect: what sending it twice does.
    :param read_timeout: seconds to wait for the next bytes of the response.
    :param write_timeout: seconds to wait until the next bytes of the body are sent.
    :param total_timeout: seconds for the whole attempt, from connecting to the last byte. Of a streamed response, to
        the end of its headers.
    :param credential_remedy: what to do if the credential is refused.
    :param not_found_remedy: what to do after a 404.
    :param money: what the failure of a call that is not idempotent means for money: if the call may have been
        accepted, and if it certainly was not.
    :param max_response_bytes: a longer response is not the API's.
    :param secret_in_body: masked in messages, as the values of secret headers are.
    :param platform: who serves the API: ``anthropic``, or ``aws`` or ``google`` with errors of their own.
    """

    action: str
    effect: Effect
    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: RequestBody | None = field(default=None, repr=False)
    read_timeout: float
    write_timeout: float
    total_timeout: float = 120.0
    credential_remedy: str
    not_found_remedy: str = ""
    money: tuple[str, str] = BATCH_MONEY
    max_response_bytes: int
    secret_in_body: str = field(default="", repr=False)
    platform: str = "anthropic"

    @property
    def is_single_message(self) -> bool:
        """Whether the call goes to the Messages API, not to message batches."""
        return self.url.endswith("/v1/messages")

    @property
    def host(self) -> str:
        return host_of(self.url)

    def redact(self, text: str) -> str:
        """Mask this request's secrets in a text: some gateways repeat in a response what they received."""
        values = (value.removeprefix("Bearer ") for name, value in self.headers.items() if name not in _PUBLIC_HEADERS)
        return mask(text, (*values, self.secret_in_body))


@dataclass(frozen=True, slots=True)
class HTTPResponse:
    """A response that was read whole. Header names are lower-case."""

    status_code: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def server_time(self) -> datetime | None:
        """The server's clock when it responded, in whole seconds. None if the ``Date`` header is missing."""
        return http_date(self.headers.get("date"))

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status_code < 300


class CallFailed(Exception):  # noqa: N818  (it never leaves the package api; the error in it does)
    """One attempt failed: ``failure`` is for the retry policy, ``error`` for the caller."""

    def __init__(self, failure: Failure, error: APIError, effect: Effect) -> None:
        super().__init__(str(error))
        self.failure = failure
        self.error = error
        self.effect = effect
