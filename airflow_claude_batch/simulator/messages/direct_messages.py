"""Requests that are asked directly, through the Messages API: their answers, and what they are billed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from airflow_claude_batch.simulator.clock import Clock
from airflow_claude_batch.simulator.http.errors import APIError, error_status
from airflow_claude_batch.simulator.ids import Ids
from airflow_claude_batch.simulator.messages.answers import AnswerWriter
from airflow_claude_batch.simulator.messages.canned_answers import CannedAnswer, CannedAnswers
from airflow_claude_batch.simulator.messages.models import Model
from airflow_claude_batch.simulator.messages.outcomes import SUCCEEDED, Outcome, invalid
from airflow_claude_batch.simulator.messages.params import Conditions, params_problem
from airflow_claude_batch.simulator.messages.prompts import NO_CACHE_USE, Params, PromptCache, prompt_tokens
from airflow_claude_batch.simulator.messages.token_buckets import TokenBuckets

OutcomeScript = Callable[[str, Params, int], "str | None"]
#: A direct request has no custom_id.
_NO_CUSTOM_ID = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectRequest:
    """One request that was answered, and is billed at full price.

    :param digest: of its params.
    :param at: when it was accepted.
    """

    digest: bytes
    workspace: str
    at: datetime
    params: Params = field(repr=False)
    usage: dict[str, Any]


class DirectMessages:
    """Answers direct requests as the rows of a batch with the same params would be answered.

    :param outcome: the user's outcome function. None: every valid request succeeds.
    :param count_attempt: counts an attempt at params by their digest, and returns how many there were.
    :param seconds: from a request to its answer.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        answers: AnswerWriter,
        canned: CannedAnswers,
        outcome: OutcomeScript | None,
        count_attempt: Callable[[bytes], int],
        cache: PromptCache,
        buckets: TokenBuckets,
        seconds: float,
        ids: Ids,
    ) -> None:
        self.seconds = seconds
        self._clock = clock
        self._answers = answers
        self._canned = canned
        self._outcome = outcome
        self._count_attempt = count_attempt
        self._cache = cache
        self._buckets = buckets
        self._ids = ids
        self._billed: list[DirectRequest] = []
        self._lock = threading.Lock()

    def billed(self) -> list[DirectRequest]:
        """Return the requests that are billed, in the order in which they were accepted."""
        with self._lock:
            return list(self._billed)

    def create(
        self, params: Any, digest: bytes, *, workspace: str, conditions: Conditions
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Answer one request. Returns the message, and the headers that report the rate limits.

        :raises APIError: when the params are invalid, a limit is reached, or the request is to fail.
        """
        model = _check(params, conditions)
        reserved = params["max_tokens"]
        self._buckets.admit(model.id, input_tokens=prompt_tokens(params), max_tokens=reserved)
        now = self._clock.now()
        try:
            message = self._message(params, self._count_attempt(digest), model, workspace)
            reserved = max(0, reserved - message["usage"]["output_tokens"])
        finally:
            self._buckets.give_back(model.id, reserved, at=now + timedelta(seconds=self.seconds))
        request = DirectRequest(digest=digest, workspace=workspace, at=now, params=params, usage=message["usage"])
        with self._lock:
            self._billed.append(request)
        return message, self._buckets.headers(model.id)

    def _message(self, params: Params, attempt: int, model: Model, workspace: str) -> dict[str, Any]:
        canned, outcome = self._scripted(params, attempt)
        if outcome.kind == "errored":
            raise _error(outcome)
        has_marks = "cache_control" in str(params)
        use = self._cache.use(params, model=model, workspace=workspace, now=self._clock.now()) if has_marks else None
        message = self._answers.message(
            params,
            0,
            custom_id=_NO_CUSTOM_ID,
            canned=canned,
            model=model,
            outcome=outcome,
            cache_use=use or NO_CACHE_USE,
            message_id=self._ids.new("msg_011C"),
        )
        if message["usage"].get("service_tier") == "batch":
            message["usage"]["service_tier"] = "standard"
        return message

    def _scripted(self, params: Params, attempt: int) -> tuple[CannedAnswer | None, Outcome]:
        """Return the canned answer and the outcome. Only the requests of batches expire and are canceled."""
        canned = self._canned.find(_NO_CUSTOM_ID, params, attempt) if self._canned.active else None
        if canned is not None:
            outcome = canned.outcome
        else:
            text = None if self._outcome is None else self._outcome(_NO_CUSTOM_ID, params, attempt)
            outcome = SUCCEEDED if text is None else Outcome.parse(text)
        return canned, SUCCEEDED if outcome.kind in ("expired", "canceled") else outcome


def _check(params: Any, conditions: Conditions) -> Model:
    """Return the model of valid params."""
    if not isinstance(params, dict):
        raise _error(invalid("Input should be a valid dictionary or object to extract fields from"))
    problem = params_problem(params, conditions)
    model = None if problem is not None else conditions.usable_model(params["model"])
    if problem is not None or model is None:
        raise _error(problem or invalid("model: not available"))
    return model


def _error(outcome: Outcome) -> APIError:
    kind = outcome.error_type or "api_error"
    return APIError(error_status(kind), outcome.message, kind=kind)
