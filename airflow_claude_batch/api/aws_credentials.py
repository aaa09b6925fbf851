"""Credentials of Claude Platform on AWS: requests that are signed with keys of AWS.

Facts from build-with-claude/claude-platform-on-aws and the SDK's lib/aws, 2026-11. An API key is an ordinary
:class:`~airflow_claude_batch.api.credentials.ApiKey` there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar, Final

from airflow_claude_batch.api.aws_keys import KEYS_TIMEOUT, KeySource, NoKeys
from airflow_claude_batch.api.aws_signature import AwsKeys, SigningScope, hash_body, signature_headers
from airflow_claude_batch.api.credentials import AsyncSend, Clock, Send, with_headers
from airflow_claude_batch.api.evidence import ErrorResponse, NoResponse, Stage
from airflow_claude_batch.api.http import CallFailed, HTTPRequest
from airflow_claude_batch.api.request_body import UploadStopped
from airflow_claude_batch.api.responses import no_response_failure
from airflow_claude_batch.api.time_limit import seconds_left
from airflow_claude_batch.exceptions import NOTHING_SENT, APIConnectionError, AuthenticationError, ConfigurationError

AWS_SERVICE: Final = "aws-external-anthropic"

_WHERE_KEYS_ARE: Final = (
    "Name an Airflow connection of type aws in aws_conn_id, give the workers and triggerers a role, or put an API key "
    "for Claude Platform on AWS into password."
)


@dataclass(frozen=True, slots=True)
class AwsSigV4:
    """Signs each request with keys of AWS.

    :param source: where the keys come from. It renews keys that end.
    :param region: the region of the workspace.
    :param origin: names the source in error messages, such as "AWS connection 'aws_default'".
    :param now: returns the wall clock's time.
    """

    source: KeySource = field(repr=False)
    region: str
    origin: str
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC), repr=False, compare=False)

    header_names: ClassVar[tuple[str, ...]] = ("authorization", "x-amz-date", "x-amz-security-token")
    betas: ClassVar[tuple[str, ...]] = ()
    names_workspace: ClassVar[bool] = False

    @property
    def remedy(self) -> str:
        return f"Check the keys of {self.origin}: they are wrong, or they have ended."

    def sign(self, request: HTTPRequest, send: Send, clock: Clock) -> HTTPRequest:
        """Return the signed request. This may wait for keys.

        :raises CallFailed: there are no keys, or the body cannot be read. The call itself was not sent.
        :raises ConfigurationError: no source has keys.
        """
        try:
            keys = self.source.keys(_timeout())
            return self._signed(request, hash_body(request.body), keys)
        except (NoKeys, UploadStopped) as error:
            raise self._failure(request, error) from error

    async def asign(self, request: HTTPRequest, send: AsyncSend, clock: Clock) -> HTTPRequest:
        """Return the signed request, from an event loop. See :meth:`sign`."""
        try:
            keys = await self.source.akeys(_timeout())
            body_hash = await asyncio.to_thread(hash_body, request.body) if request.body else hash_body(None)
        except (NoKeys, UploadStopped) as error:
            raise self._failure(request, error) from error
        return self._signed(request, body_hash, keys)

    def forget(self, headers: Mapping[str, str]) -> bool:
        """Return False: every attempt asks the source for its keys."""
        return False

    def _signed(self, request: HTTPRequest, body_hash: str, keys: AwsKeys) -> HTTPRequest:
        headers = signature_headers(
            request.method,
            request.url,
            request.headers,
            body_hash=body_hash,
            keys=keys,
            scope=SigningScope(self.region, AWS_SERVICE),
            now=self.now(),
        )
        return with_headers(request, headers)

    def _failure(self, request: HTTPRequest, error: NoKeys | UploadStopped) -> Exception:
        if isinstance(error, UploadStopped):
            return no_response_failure(request, Stage.CONNECTING, str(error))
        if error.kind == "missing":
            return ConfigurationError(f"There are no keys in {self.origin}: {error}.", NOTHING_SENT, _WHERE_KEYS_ARE)
        what = f"Could not {request.action}: no keys from {self.origin}."
        return _refused(request, what, error) if error.kind == "refused" else _unavailable(request, what, error)


def _timeout() -> float:
    return max(0.0, min(KEYS_TIMEOUT, seconds_left()))


def _refused(request: HTTPRequest, what: str, reason: NoKeys) -> CallFailed:
    """Build the failure for keys that AWS refused to give. Nothing was sent, so it counts as the API's own refusal."""
    failure = ErrorResponse(401, error_type="authentication_error")
    error = AuthenticationError(
        what,
        NOTHING_SENT,
        f"AWS refused them: {reason}",
        "Check the role and the keys behind it, and that they may assume the role.",
        status_code=failure.status_code,
        error_type=failure.error_type,
    )
    return CallFailed(failure, error, request.effect)


def _unavailable(request: HTTPRequest, what: str, reason: NoKeys) -> CallFailed:
    lines = (what, NOTHING_SENT, f"They cannot be had now: {reason}", "Check that this machine reaches AWS STS.")
    return CallFailed(NoResponse(Stage.CONNECTING), APIConnectionError(*lines), request.effect)
