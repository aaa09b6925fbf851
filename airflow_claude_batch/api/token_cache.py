"""Cache of one access token, shared by threads and event loops. Only one exchange runs at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

# Both from the SDK, lib/credentials/_constants.py.
RETRY_PAUSE_SECONDS: Final = 5.0  # after a failed early refresh
REFRESH_LATEST_SECONDS: Final = 30.0  # before expiry: nobody uses the old token any more


@dataclass(frozen=True, slots=True)
class Token:
    """An access token. After ``refresh_at`` one caller fetches a new one, after ``unusable_at`` nobody uses it."""

    value: str = field(repr=False)
    refresh_at: float
    unusable_at: float

    @classmethod
    def lasting(cls, value: str, seconds: float, started: float, *, refresh_early: float) -> Token:
        """Make a token of its lifetime. The margins before its end are smaller for a short-lived one.

        :param started: when the fetch began, on the caller's clock.
        :param refresh_early: seconds before the end from which on a new token is fetched.
        """
        return cls(
            value,
            refresh_at=started + seconds - min(refresh_early, seconds / 2),
            unusable_at=started + seconds - min(REFRESH_LATEST_SECONDS, seconds / 4),
        )


@dataclass(frozen=True, slots=True)
class Exchange:
    """A token exchange under way.

    :param is_mine: this caller makes the exchange. Otherwise it waits for ``result``.
    :param is_early: the old token is still usable.
    """

    is_mine: bool
    is_early: bool
    result: Future[str]


class ExchangeCanceled(Exception):  # noqa: N818  (not an error: another caller has to make the exchange)
    """The caller that made the exchange was canceled."""


class TokenCache:
    """Holds an identity's token and lets one caller at a time fetch a new one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._result: Future[str] | None = None
        self._pause_until = float("-inf")

    def get(self, now: float) -> str | Exchange:
        """Return a usable token, or the exchange to make or to wait for."""
        with self._lock:
            usable = self._token if self._token and now < self._token.unusable_at else None
            if usable and (now < usable.refresh_at or self._result or now < self._pause_until):
                return usable.value
            if self._result:
                return Exchange(is_mine=False, is_early=False, result=self._result)
            self._result = Future()
            # A running future cannot be canceled. So a waiting task that is canceled does not cancel the others.
            self._result.set_running_or_notify_cancel()
            return Exchange(is_mine=True, is_early=usable is not None, result=self._result)

    @contextmanager
    def failing(self, exchange: Exchange, clock: Callable[[], float]) -> Iterator[None]:
        """Pass on an error of the exchange, or its cancellation, to the callers that wait for it."""
        try:
            yield
        except BaseException as error:
            with self._lock:
                self._result = None
                self._pause_until = clock() + RETRY_PAUSE_SECONDS
            exchange.result.set_exception(error if isinstance(error, Exception) else ExchangeCanceled())
            raise

    def put(self, exchange: Exchange, token: Token) -> str:
        """Store a new token and pass it to the callers that wait for it."""
        with self._lock:
            self._result = None
            self._token = token
        exchange.result.set_result(token.value)
        return token.value

    def drop(self, value: str) -> None:
        """Drop the token if it is still this one. Another caller may have fetched a new one already."""
        with self._lock:
            if self._token and self._token.value == value:
                self._token = None
