"""The operations of the API: each takes a call with checked headers and returns a response."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from airflow_claude_batch.simulator.accounting import params_digest
from airflow_claude_batch.simulator.batches.batch import Batch, BatchSettings, NewBatch
from airflow_claude_batch.simulator.batches.batches import MessageBatches
from airflow_claude_batch.simulator.batches.create_body import StoredRequests, invalid_json_error
from airflow_claude_batch.simulator.batches.results import result_body, result_lines
from airflow_claude_batch.simulator.endpoints.credentials import Credentials
from airflow_claude_batch.simulator.faults import Fault
from airflow_claude_batch.simulator.http.errors import APIError
from airflow_claude_batch.simulator.http.exchange import Body, Request, Response, json_response
from airflow_claude_batch.simulator.ids import Ids
from airflow_claude_batch.simulator.messages.answers import AnswerWriter
from airflow_claude_batch.simulator.messages.direct_messages import DirectMessages
from airflow_claude_batch.simulator.messages.outcomes import INTERNAL_ERROR, Outcome
from airflow_claude_batch.simulator.messages.params import Conditions, count_problem, params_problem
from airflow_claude_batch.simulator.messages.prompts import prompt_tokens

POLL_HINT = "10"  # seconds; observed on retrieve while a batch is in progress
_CACHE_MARK = b'"cache_control"'
logger = logging.getLogger(__name__)

_LIFECYCLES = ("active", "deprecated", "retired")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call with checked headers.

    :param subject: the batch or model id of the path, or "".
    :param body: without its Content-Encoding.
    """

    request: Request
    subject: str
    workspace: str
    conditions: Conditions
    body: Body
    faults: dict[str, Fault]


class Operations:
    """Performs calls."""

    def __init__(
        self,
        *,
        batches: MessageBatches,
        credentials: Credentials,
        answers: AnswerWriter,
        settings: BatchSettings,
        direct: DirectMessages,
        ids: Ids,
    ) -> None:
        self._direct = direct
        self._ids = ids
        self._batches = batches
        self._credentials = credentials
        self._answers = answers
        self._settings = settings
        self.by_name: dict[str, Callable[[Call], Response]] = {
            "create": self._create,
            "retrieve": self._retrieve,
            "list": self._list,
            "cancel": self._cancel,
            "delete": self._delete,
            "results": self._results,
            "count_tokens": self._count_tokens,
            "message": self._message,
            "models": self._models,
            "oldest": self._oldest,
        }

    def token(self, request: Request) -> Response:
        """Exchange an identity token. This is the only operation without a credential."""
        return json_response(self._credentials.exchange(bytes(request.body or b"")))

    def _create(self, call: Call) -> Response:
        new = self._read_create(call)
        batch = self._batches.create(new)
        if "create_twice" in call.faults:
            batch = self._batches.create(new)
        return json_response(self._to_json(batch, call))

    def _oldest(self, call: Call) -> Response:
        """Respond with the oldest batch of the workspace, which is not an operation of the API."""
        batches = (batch for batch in self._batches.all_batches() if batch.workspace == call.workspace)
        return json_response(self._to_json(next(batches), call))

    def _read_create(self, call: Call) -> NewBatch:
        """Read and check a create call. This takes time with a large body, so no lock is held yet."""
        requests = StoredRequests(call.body)
        problems: dict[int, Outcome] = {}
        cached: list[int] = []
        decoded = requests.items()
        for position, item in enumerate(decoded):
            try:
                problem = params_problem(item.read_params(), call.conditions)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise invalid_json_error(error) from None
            except Exception:  # an odd request must not break the others of its batch
                logger.exception("The simulator could not check the params of %r.", item.custom_id)
                problem = INTERNAL_ERROR
            if problem is not None:
                problems[position] = problem
            elif _CACHE_MARK in bytes(item.params):
                cached.append(position)
        lag = call.faults.get("listing_lag")
        digests = [params_digest(item.params) for item in decoded] if self._batches.counts_attempts else None
        return NewBatch(
            workspace=call.workspace,
            requests=requests,
            conditions=call.conditions,
            problems=problems,
            cached=cached,
            digests=digests,
            unlisted_seconds=(lag and lag.seconds) or 0.0,
            unlisted_calls=(lag and lag.calls) or 0,
        )

    def _retrieve(self, call: Call) -> Response:
        batch = self._get(call)
        in_progress = batch.processing_status == "in_progress"
        return json_response(self._to_json(batch, call), headers={"retry-after": POLL_HINT} if in_progress else None)

    def _list(self, call: Call) -> Response:
        limit, after_id, before_id = _paging(call.request)
        page = self._batches.page(call.workspace, limit=limit, after_id=after_id, before_id=before_id)
        data = [self._to_json(batch, call) for batch in page.batches]
        return json_response(_page(data, has_more=page.has_more))

    def _cancel(self, call: Call) -> Response:
        batch = self._get(call)
        self._batches.cancel(batch)
        return json_response(self._to_json(batch, call))

    def _delete(self, call: Call) -> Response:
        batch = self._get(call)
        self._batches.delete(batch)
        return json_response({"id": batch.id, "type": "message_batch_deleted"})

    def _results(self, call: Call) -> Response:
        batch = self._get(call)
        if batch.ended_at is None or batch.archived_at(call.conditions.now) is not None:
            raise APIError(404, f"Message Batch {batch.id} has no available results.")
        batch.downloads += 1
        seed = f"{self._settings.seed}:{batch.number}:{batch.downloads}"
        rng = random.Random(seed) if self._settings.shuffle else None
        lines = result_lines(batch, answers=self._answers, rng=rng, odd=call.faults.get("odd_row"))
        headers = {
            "content-type": "application/x-jsonl",
            "content-disposition": f"attachment; filename*=utf-8''{batch.id}_results.jsonl",
        }
        if "no_content_type" in call.faults:
            del headers["content-type"]
        if "gzip" in call.faults:
            headers["content-encoding"] = "gzip"
        return Response(headers=headers, body=result_body(lines, call.faults, rows=batch.request_count, ids=self._ids))

    def _message(self, call: Call) -> Response:
        params, digest = _params(call), params_digest(msgspec.Raw(bytes(call.body)))
        message, limits = self._direct.create(params, digest, workspace=call.workspace, conditions=call.conditions)
        response = json_response(message, headers=limits)
        response.delay_seconds += self._direct.seconds
        return response

    def _count_tokens(self, call: Call) -> Response:
        params = _params(call)
        problem = count_problem(params, call.conditions)
        if problem is not None:
            status = 404 if problem.error_type == "not_found_error" else 400
            raise APIError(status, problem.message)
        return json_response({"input_tokens": prompt_tokens(params)})

    def _models(self, call: Call) -> Response:
        now = call.conditions.now
        if call.subject:
            model = call.conditions.catalogue.find(call.subject)
            if model is None:
                raise APIError(404, f"model: {call.subject}")
            return json_response(model.info(now))
        limit, after_id, before_id = _paging(call.request)
        wanted = _lifecycles(call.request)
        infos = [model.info(now) for model in call.conditions.catalogue.models if model.lifecycle(now) in wanted]
        data, has_more = _slice(infos, limit=limit, after_id=after_id, before_id=before_id)
        return json_response(_page(data, has_more=has_more))

    def _get(self, call: Call) -> Batch:
        return self._batches.get(call.subject, workspace=call.workspace)

    def _to_json(self, batch: Batch, call: Call) -> dict[str, Any]:
        base_url = self._settings.results_base_url or call.request.base_url
        batch_json = batch.to_json(now=call.conditions.now, base_url=base_url)
        if (odd := call.faults.get("odd_counts") or call.faults.get("odd_create")) is not None:
            batch_json["request_counts"] = odd.counts
        return batch_json


def _params(call: Call) -> Any:
    try:
        return msgspec.json.decode(call.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid_json_error(error) from None


def _paging(request: Request) -> tuple[int, str | None, str | None]:
    value = request.query_value("limit")
    try:
        limit = 20 if value is None else int(value)
    except ValueError:
        message = "limit: Input should be a valid integer, unable to parse string as an integer"
        raise APIError(400, message) from None
    if limit < 1:
        raise APIError(400, "limit: Input should be greater than or equal to 1")
    if limit > 1000:
        raise APIError(400, "limit: Input should be less than or equal to 1000")
    after_id, before_id = request.query_value("after_id"), request.query_value("before_id")
    if after_id and before_id:
        raise APIError(400, "before_id and after_id cannot be used together")
    return limit, after_id or None, before_id or None


def _lifecycles(request: Request) -> tuple[str, ...]:
    wanted = tuple(value for name, value in request.query if name in ("lifecycle[]", "lifecycle"))
    for value in wanted:
        if value not in _LIFECYCLES:
            raise APIError(400, "lifecycle: Input should be 'active', 'deprecated' or 'retired'")
    return wanted or ("active", "deprecated")


def _slice(
    data: list[dict[str, Any]], *, limit: int, after_id: str | None, before_id: str | None
) -> tuple[list[dict[str, Any]], bool]:
    cursor = after_id or before_id
    ids = [element["id"] for element in data]
    if cursor is not None and cursor not in ids:
        raise APIError(400, f"Invalid cursor: {cursor} not found.")
    if before_id is not None:
        before = data[: ids.index(before_id)]
        return before[-limit:], len(before) > limit
    after = data if after_id is None else data[ids.index(after_id) + 1 :]
    return after[:limit], len(after) > limit


def _page(data: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    return {
        "data": data,
        "has_more": has_more,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }
