"""A call as values: the request that goes out, the answer that comes back, the failure of it. No socket here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from airflow_claude_batch.api.base_url import host_of
from airflow_claude_batch.api.evidence import Effect, Failure, http_date
from airflow_claude_batch.api.request_body import RequestBody
from airflow_claude_batch.exceptions import APIError

# Of an error's body; what the API says fits many times over, and a proxy's page need not be read whole.
MAX_ERROR_BYTES: Final = 64 * 1024


_PUBLIC_HEADERS: Final = frozenset(
    {
        "accept",
        "anthropic-beta",
        "anthropic-user-profile-id",
        "anthropic-version",
        "anthropic-workspace-id",
        "content-type",
    }
)
_SHORTEST_SECRET: Final = 8  # characters; hiding "true" would hide what an answer says


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRequest:
    """What to put on the wire, and what to say if it fails.

    :param what: completes "could not …" in messages.
    :param effect: what sending it twice does.
    :param read_timeout: seconds to wait for the next bytes of the answer.
    :param write_timeout: seconds to wait until the next bytes of the body have left.
    :param credential_remedy: what to check when the credential is refused.
    :param missing_remedy: what to check after a 404.
    :param max_answer_bytes: more than that is no answer of the API.
    :param secret_in_body: what must not be repeated, besides the headers.
    """

    what: str
    effect: Effect
    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: RequestBody | None = field(default=None, repr=False)
    read_timeout: float
    write_timeout: float
    credential_remedy: str
    not_found_remedy: str = ""
    max_response_bytes: int
    secret_in_body: str = field(default="", repr=False)

    @property
    def host(self) -> str:
        return host_of(self.url)

    def redact(self, text: str) -> str:
        """The text without what this request holds of secrets: some gateways repeat what they refuse."""
        held = (value.removeprefix("Bearer ") for name, value in self.headers.items() if name not in _PUBLIC_HEADERS)
        for secret in (*held, self.secret_in_body):
            if len(secret) >= _SHORTEST_SECRET:
                text = re.sub(re.escape(secret), "***", text, flags=re.IGNORECASE)
        return text


@dataclass(frozen=True, slots=True)
class HTTPResponse:
    """What came back; header names are lower-case."""

    status_code: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def server_time(self) -> datetime | None:
        """The server's clock when it answered, in whole seconds."""
        return http_date(self.headers.get("date"))

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status_code < 300


class CallFailed(Exception):  # noqa: N818  (never leaves this floor: the error in it does)
    """One attempt failed: ``failure`` is for the policy, ``error`` for the caller."""

    def __init__(self, failure: Failure, error: APIError, effect: Effect) -> None:
        super().__init__(str(error))
        self.failure = failure
        self.error = error
        self.effect = effect
