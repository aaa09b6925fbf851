"""Get the keys of AWS that sign requests, from a session of botocore or boto3 that renews them.

Keys of a role end after minutes or hours. botocore fetches new ones ten to fifteen minutes before, when somebody asks
for them. That is a blocking call to AWS, so it runs in a thread of its own, once for all callers that wait.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, Final, Literal, Protocol

from airflow_claude_batch.api.aws_signature import AwsKeys
from airflow_claude_batch.api.redaction import shorten

#: Seconds to wait for keys: longer than STS and the metadata service take, and short enough for a poll.
KEYS_TIMEOUT: Final = 30.0
#: Seconds after which keys without an expiry are looked up again.
REOPEN_SECONDS: Final = 300.0

# Statuses and codes by which STS asks to try again later; botocore, retries/standard.py.
_THROTTLED: Final = frozenset({"Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException"})


class Session(Protocol):
    """The part of a session of botocore or boto3 that is used here."""

    def get_credentials(self) -> Any: ...


class NoKeys(Exception):  # noqa: N818  (the credential that signs raises the error)
    """No keys could be had. The message says why.

    :param kind: AWS refused to give keys; or no source has any; or they cannot be had at the moment.
    """

    def __init__(self, reason: str, kind: Literal["refused", "missing", "unavailable"]) -> None:
        super().__init__(reason)
        self.kind: Final = kind


class KeySource:
    """Keys of AWS, as a session has them at the moment.

    Two sources of the same name are equal, so that a connection which is read again keeps its client.

    :param open_session: opens a session. It is called in a thread, and may talk to AWS.
    :param name: what the keys depend on.
    :param is_machines: the keys are those that the machine has, and not those of an Airflow connection.
    :param clock: monotonic seconds.
    """

    def __init__(
        self,
        open_session: Callable[[], Session],
        *,
        name: Hashable,
        is_machines: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.is_machines: Final = is_machines
        self._open_session = open_session
        self._name = name
        self._clock = clock
        self._credentials: Any = None
        self._opened_at = 0.0
        self._lock = threading.Lock()
        self._running: Future[AwsKeys] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeySource) and self._name == other._name

    def __hash__(self) -> int:
        return hash(self._name)

    def keys(self, seconds: float) -> AwsKeys:
        """Return the keys.

        :raises NoKeys: there are none, or not within that time.
        """
        try:
            return self._fetching().result(seconds)
        except TimeoutError:
            raise _too_slow(seconds) from None

    async def akeys(self, seconds: float) -> AwsKeys:
        """Return the keys, from an event loop. See :meth:`keys`."""
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._fetching()), seconds)
        except TimeoutError:
            raise _too_slow(seconds) from None

    def _fetching(self) -> Future[AwsKeys]:
        with self._lock:
            if self._running is None:
                self._running = Future()
                # A running future cannot be canceled. So a caller that stops waiting does not stop the others.
                self._running.set_running_or_notify_cancel()
                threading.Thread(target=self._fetch, args=(self._running,), name="aws-keys", daemon=True).start()
            return self._running

    def _fetch(self, result: Future[AwsKeys]) -> None:
        fetched: AwsKeys | Exception
        try:
            fetched = self._read()
        except NoKeys as reason:
            fetched = reason
        except Exception as error:  # custom session factories and credential processes raise anything
            fetched = _reason_of(error)
        with self._lock:
            self._running = None
        if isinstance(fetched, AwsKeys):
            result.set_result(fetched)
        else:
            result.set_exception(fetched)

    def _read(self) -> AwsKeys:
        if self._credentials is None or self._may_be_rotated():
            self._credentials, self._opened_at = self._open_session().get_credentials(), self._clock()
        if self._credentials is None:
            raise NoKeys("no credentials of AWS were found", "missing")
        frozen = self._credentials.get_frozen_credentials()
        if not (frozen.access_key and frozen.secret_key):
            raise NoKeys("the credentials of AWS lack a key", "missing")
        return AwsKeys(frozen.access_key, frozen.secret_key, frozen.token or None)

    def _may_be_rotated(self) -> bool:
        """Tell whether to look the keys up again. Keys without an expiry may be replaced at any time."""
        renews_itself = hasattr(self._credentials, "refresh_needed")
        return not renews_itself and self._clock() - self._opened_at >= REOPEN_SECONDS


def _too_slow(seconds: float) -> NoKeys:
    return NoKeys(f"no answer within {seconds:.0f} s", "unavailable")


def _reason_of(error: Exception) -> NoKeys:
    """Tell whether AWS refused to give keys. botocore's own classes are not imported for that."""
    text = f"{type(error).__name__}: {shorten(str(error), 300)}".rstrip(": ")
    response: Any = getattr(error, "response", None)
    if not isinstance(response, dict):
        return NoKeys(text, "unavailable")
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = response.get("Error", {}).get("Code", "")
    refused = 400 <= status < 500 and status not in (408, 429) and code not in _THROTTLED
    return NoKeys(text, "refused" if refused else "unavailable")
