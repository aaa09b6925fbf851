"""Counts the tokens of a sample of the requests, and refuses those that the API is certain to refuse.

``count_tokens`` is free, and validates a request as the API does. So a request that it refuses, or counts beyond the
model's context window, would end as an error after up to 24 hours. But its refusal counts only if it is about the
request: the API's own 400, of a request that the endpoint knows in full, while a plain request of the same model is
counted. Whatever else goes wrong only makes the estimate coarser.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from airflow_claude_batch.api.limits import COUNT_TOKENS_FIELDS
from airflow_claude_batch.batch.money.planned_request import PlannedRequest, StratumKey
from airflow_claude_batch.batch.money.sampling import StratifiedSample
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.exceptions import (
    APIError,
    BadRequestError,
    InvalidMessageError,
    NotFoundError,
    RequestTooLargeError,
)

MAX_LONGEST: Final = 12  # of the longest requests that are counted beside the sample
#: The share of a context window, in bytes, from which on a text may fill it. No token is shorter than a byte, but the
#: API adds some of its own.
_MAY_FILL: Final = 0.9

# Params that count_tokens does not take, and that do not change whether it accepts the others.
_WITHOUT_INFLUENCE: Final = frozenset(
    {
        "inference_geo",
        "max_tokens",
        "metadata",
        "service_tier",
        "stop_sequences",
        "stream",
        "temperature",
        "top_k",
        "top_p",
        "user_profile_id",
    }
)
# Content that the endpoint has to fetch: it may fail to do so now. No text has these bytes.
_FETCHED: Final = (b'"type":"url"', b'"type":"file"')
# The code of a 400 that is about the content; SDK, _error_classes.py, 2026-10. The others are about the account.
_CONTENT_CODES: Final = frozenset({None, "image_dimensions_too_large"})


class TokenCounter(Protocol):
    """Counts tokens of a request; the API's client does."""

    def count_tokens(self, params: Mapping[str, Any], /) -> int:
        """Return the number of input tokens of these params.

        :raises APIError: they could not be counted.
        """
        ...


class TokenCount(NamedTuple):
    """The counted tokens of one request."""

    stratum: StratumKey
    bytes: int
    tokens: int


class TokenCounts(NamedTuple):
    """The answers of count_tokens. ``failure`` is the reason why not all of the sample was counted, else None."""

    counts: list[TokenCount]
    failure: str | None = None


def no_window(model: str) -> int | None:
    """Know of no model's context window."""
    return None


def count_sample(
    sample: StratifiedSample, client: TokenCounter, context_window: Callable[[str], int | None] = no_window
) -> TokenCounts:
    """Count the tokens of the sample. Stop at the first error that is not about one request alone.

    :param context_window: returns the most tokens that a prompt for a model may have, None if that is not known.
    :raises InvalidMessageError: the API is certain to refuse a request of the sample. Names it.
    """
    return _SampleCounter(client, context_window).count(sample)


class _SampleCounter:
    """Counts a sample, and remembers for which models a plain request is counted."""

    def __init__(self, client: TokenCounter, context_window: Callable[[str], int | None]) -> None:
        self._client = client
        self._context_window = context_window
        self._counts_plain: dict[str, bool] = {}

    def count(self, sample: StratifiedSample) -> TokenCounts:
        counts: list[TokenCount] = []
        too_long: list[tuple[PlannedRequest, int]] = []
        failure: str | None = None
        for request in self._select(sample):
            params = request.load()
            try:
                tokens = self._client.count_tokens(params)
            except APIError as error:
                failure = failure or f"{type(error).__name__}: {error.summary}"
                if self._is_about_request(request, params, error):
                    continue  # the next one may be counted
                break
            counts.append(TokenCount(request.stratum, request.bytes_length, tokens))
            if _fills_window(params, tokens, self._context_window(request.model)):
                too_long.append((request, tokens))
        if too_long:
            raise self._too_long_error(too_long, len(counts))
        return TokenCounts(counts, failure)

    def _select(self, sample: StratifiedSample) -> list[PlannedRequest]:
        """Select the sample, and the longest requests if these may be longer than the context window."""
        selected = sample.select()
        is_selected = {id(request) for request in selected}
        longest = [each for each in self._longest(sample) if id(each) not in is_selected]
        return [*longest[:MAX_LONGEST], *selected] if selected else []

    def _longest(self, sample: StratifiedSample) -> Iterator[PlannedRequest]:
        for model in sample.models:
            window = self._context_window(model)
            for request in sample.longest(model) if window else ():
                if window and (request.media or request.bytes_length > window * _MAY_FILL):
                    yield request

    def _is_about_request(self, request: PlannedRequest, params: Mapping[str, Any], error: APIError) -> bool:
        """Tell whether an error is about one request alone. Raise if it proves that the API would refuse the request.

        :raises InvalidMessageError: it does.
        """
        if isinstance(error, RequestTooLargeError):
            return True  # a batch takes larger ones
        if not is_content_refusal(error) or not self._is_plain_request_counted(request.model):
            return False
        if is_counted_in_full(params):
            raise InvalidMessageError(
                f"{request.name()}: the API refuses it.",
                "Nothing was sent. Its tokens cannot be counted, and a message batch would return it as an error.",
                *(line for line in str(error).split("\n") if line.startswith("Message: ")),
                "Correct this element, or leave it out. Others like it may have the same fault.",
            ) from None
        return True

    def _is_plain_request_counted(self, model: str) -> bool:
        if model not in self._counts_plain:
            try:
                self._client.count_tokens({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
            except APIError:
                self._counts_plain[model] = False
            else:
                self._counts_plain[model] = True
        return self._counts_plain[model]

    def _too_long_error(self, too_long: list[tuple[PlannedRequest, int]], counted: int) -> InvalidMessageError:
        request, tokens = max(too_long, key=lambda each: each[1])
        window = self._context_window(request.model)
        others = len(too_long) - 1
        more = f" {others:,} more of the {counted:,} counted {'is' if others == 1 else 'are'} too long, too."
        return InvalidMessageError(
            f"{request.name()}: its prompt has {quantity(tokens, 'token')}, and {request.model} takes {window:,}.",
            f"Nothing was sent.{more if others else ''}",
            "Shorten the prompt, split it into several elements, or name a model with a larger context window.",
        )


def is_content_refusal(error: APIError) -> bool:
    """Tell whether an error of count_tokens is the API's own word that it does not accept the content.

    A 400 of the account's (credit, a beta that is not enrolled in) has another class or a code, and so has one of a
    gateway's. 404 and 405 say that the endpoint or the model is not there.
    """
    return (
        isinstance(error, BadRequestError)
        and not isinstance(error, NotFoundError)
        and error.status_code == 400
        and error.error_type == "invalid_request_error"
        and error.error_code in _CONTENT_CODES
    )


def is_counted_in_full(params: Mapping[str, Any]) -> bool:
    """Tell whether count_tokens gets everything of a request that decides whether the API accepts it."""
    if params.keys() - COUNT_TOKENS_FIELDS - _WITHOUT_INFLUENCE:
        return False
    content = msgspec.json.encode([turn.get("content") for turn in params["messages"]])
    return not any(mark in content for mark in _FETCHED)


def _fills_window(params: Mapping[str, Any], tokens: int, window: int | None) -> bool:
    """Tell whether a prompt is too long. Parameters that shorten it before it is read (compaction) are not counted."""
    return window is not None and tokens > window and not params.keys() - COUNT_TOKENS_FIELDS - _WITHOUT_INFLUENCE
