"""Base of credentials whose access token is fetched, kept, and renewed before it ends.

However many threads and tasks share a credential, one fetch runs at a time and serves them all.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from airflow_claude_batch.api.credentials import AsyncSend, Clock, HeaderCredentials, Send
from airflow_claude_batch.api.http import CallFailed
from airflow_claude_batch.api.token_cache import Exchange, ExchangeCanceled, Token, TokenCache
from airflow_claude_batch.exceptions import ConfigurationError


class RenewedToken(HeaderCredentials):
    """A bearer token that its class knows how to fetch."""

    __slots__ = ()

    _cache: TokenCache

    @abstractmethod
    def _fetch(self, send: Send, clock: Clock) -> Token:
        """Fetch a new token.

        :raises CallFailed: no token came.
        :raises ConfigurationError: what proves the identity cannot be used.
        """

    @abstractmethod
    async def _afetch(self, send: AsyncSend, clock: Clock) -> Token:
        """Fetch a new token, from an event loop. See :meth:`_fetch`."""

    def headers(self, send: Send, clock: Clock) -> Mapping[str, str]:
        """Return the header with a usable token. This fetches one, or waits for another caller's, if there is none."""
        while True:
            cached = self._cache.get(clock())
            if isinstance(cached, str):
                return _bearer(cached)
            with _trying_again(cached):
                token = self._exchange(cached, send, clock) if cached.is_mine else cached.result.result()
                return _bearer(token)

    async def aheaders(self, send: AsyncSend, clock: Clock) -> Mapping[str, str]:
        """Return the header with a usable token, from an event loop. See :meth:`headers`."""
        while True:
            cached = self._cache.get(clock())
            if isinstance(cached, str):
                return _bearer(cached)
            with _trying_again(cached):
                waiting = self._aexchange(cached, send, clock) if cached.is_mine else asyncio.wrap_future(cached.result)
                return _bearer(await waiting)

    def forget(self, headers: Mapping[str, str]) -> bool:
        """Drop the token in these headers. A new one may be accepted."""
        self._cache.drop(headers["authorization"].removeprefix("Bearer "))
        return True

    def _exchange(self, exchange: Exchange, send: Send, clock: Clock) -> str:
        with self._cache.failing(exchange, clock):
            return self._cache.put(exchange, self._fetch(send, clock))

    async def _aexchange(self, exchange: Exchange, send: AsyncSend, clock: Clock) -> str:
        with self._cache.failing(exchange, clock):
            return self._cache.put(exchange, await self._afetch(send, clock))


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@contextmanager
def _trying_again(exchange: Exchange) -> Iterator[None]:
    """Use the old token if an early refresh fails. Ask the cache again if the caller that fetched was canceled."""
    try:
        yield
    except ExchangeCanceled:
        pass
    except (CallFailed, ConfigurationError):
        if not exchange.is_early:
            raise
