"""The operations of the API, each from a checked call to an answer."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from airflow_claude_batch.simulator.batches import Batch, Draft, MessageBatches, Rules
from airflow_claude_batch.simulator.books import params_digest
from airflow_claude_batch.simulator.catalogue import MODELS, find_model
from airflow_claude_batch.simulator.creation import StoredRequests, not_json
from airflow_claude_batch.simulator.credentials import Credentials
from airflow_claude_batch.simulator.errors import Refusal
from airflow_claude_batch.simulator.exchange import Answer, Body, Request, json_answer
from airflow_claude_batch.simulator.faults import Fault
from airflow_claude_batch.simulator.outcomes import ParsedResult
from airflow_claude_batch.simulator.params import Conditions, count_problem, params_problem
from airflow_claude_batch.simulator.prompts import prompt_tokens
from airflow_claude_batch.simulator.replies import Replies
from airflow_claude_batch.simulator.results import result_lines, stream

POLL_HINT = "10"  # seconds; observed on retrieve while a batch is in progress
_CACHE_MARK = b'"cache_control"'
_LIFECYCLES = ("active", "deprecated", "retired")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call whose headers have been checked.

    :param subject: the batch or model id of the path, if it has one.
    :param body: decoded from its Content-Encoding.
    """

    request: Request
    subject: str
    workspace: str
    conditions: Conditions
    body: Body
    faults: dict[str, Fault]


class Operations:
    """Carries out calls."""

    def __init__(self, *, batches: MessageBatches, credentials: Credentials, replies: Replies, rules: Rules) -> None:
        self._batches = batches
        self._credentials = credentials
        self._replies = replies
        self._rules = rules
        self.by_name: dict[str, Callable[[Call], Answer]] = {
            "create": self._create,
            "retrieve": self._retrieve,
            "list": self._list,
            "cancel": self._cancel,
            "delete": self._delete,
            "results": self._results,
            "count_tokens": self._count_tokens,
            "models": self._models,
        }

    def token(self, request: Request) -> Answer:
        """Exchange an identity token; the one operation without a credential."""
        return json_answer(self._credentials.exchange(bytes(request.body or b"")))

    def _create(self, call: Call) -> Answer:
        return json_answer(self._wire(self._batches.create(self._draft(call)), call))

    def _draft(self, call: Call) -> Draft:
        """Everything that takes time with a large body, done before the books are touched."""
        requests = StoredRequests(call.body)
        problems: dict[int, ParsedResult] = {}
        cached: list[int] = []
        items = requests.items()
        for position, item in enumerate(items):
            try:
                problem = params_problem(item.read_params(), call.conditions)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise not_json(error) from None
            if problem is not None:
                problems[position] = problem
            elif _CACHE_MARK in bytes(item.params):
                cached.append(position)
        lag = call.faults.get("listing_lag")
        digests = [params_digest(item.params) for item in items] if self._batches.counts_attempts else None
        return Draft(
            workspace=call.workspace,
            requests=requests,
            conditions=call.conditions,
            problems=problems,
            cached=cached,
            digests=digests,
            unlisted_seconds=(lag and lag.seconds) or 0.0,
            unlisted_calls=(lag and lag.calls) or 0,
        )

    def _retrieve(self, call: Call) -> Answer:
        batch = self._get(call)
        in_progress = batch.processing_status == "in_progress"
        return json_answer(self._wire(batch, call), headers={"retry-after": POLL_HINT} if in_progress else None)

    def _list(self, call: Call) -> Answer:
        limit, after_id, before_id = _paging(call.request)
        page = self._batches.page(call.workspace, limit=limit, after_id=after_id, before_id=before_id)
        data = [self._wire(batch, call) for batch in page.batches]
        return json_answer(_page(data, has_more=page.has_more))

    def _cancel(self, call: Call) -> Answer:
        batch = self._get(call)
        self._batches.cancel(batch)
        return json_answer(self._wire(batch, call))

    def _delete(self, call: Call) -> Answer:
        batch = self._get(call)
        self._batches.delete(batch)
        return json_answer({"id": batch.id, "type": "message_batch_deleted"})

    def _results(self, call: Call) -> Answer:
        batch = self._get(call)
        if batch.ended_at is None or batch.archived_at(call.conditions.now) is not None:
            raise Refusal(404, f"Message Batch {batch.id} has no available results.")
        batch.downloads += 1
        seed = f"{self._rules.seed}:{batch.number}:{batch.downloads}"
        dice = random.Random(seed) if self._rules.shuffle else None
        lines = result_lines(batch, replies=self._replies, dice=dice)
        headers = {
            "content-type": "application/x-jsonl",
            "content-disposition": f"attachment; filename*=utf-8''{batch.id}_results.jsonl",
        }
        if "no_content_type" in call.faults:
            del headers["content-type"]
        if "gzip" in call.faults:
            headers["content-encoding"] = "gzip"
        return Answer(headers=headers, body=stream(lines, call.faults, rows=batch.request_count))

    def _count_tokens(self, call: Call) -> Answer:
        try:
            params: Any = msgspec.json.decode(call.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise not_json(error) from None
        problem = count_problem(params, call.conditions)
        if problem is not None:
            status = 404 if problem.error_type == "not_found_error" else 400
            raise Refusal(status, problem.message)
        return json_answer({"input_tokens": prompt_tokens(params)})

    def _models(self, call: Call) -> Answer:
        now = call.conditions.now
        if call.subject:
            model = find_model(call.subject)
            if model is None:
                raise Refusal(404, f"model: {call.subject}")
            return json_answer(model.info(now))
        limit, after_id, before_id = _paging(call.request)
        wanted = _lifecycles(call.request)
        infos = [model.info(now) for model in MODELS if model.lifecycle(now) in wanted]
        data, has_more = _slice(infos, limit=limit, after_id=after_id, before_id=before_id)
        return json_answer(_page(data, has_more=has_more))

    def _get(self, call: Call) -> Batch:
        return self._batches.get(call.subject, workspace=call.workspace)

    def _wire(self, batch: Batch, call: Call) -> dict[str, Any]:
        base_url = self._rules.results_base_url or call.request.base_url
        return batch.wire(now=call.conditions.now, base_url=base_url)


def _paging(request: Request) -> tuple[int, str | None, str | None]:
    written = request.query_value("limit")
    try:
        limit = 20 if written is None else int(written)
    except ValueError:
        message = "limit: Input should be a valid integer, unable to parse string as an integer"
        raise Refusal(400, message) from None
    if limit < 1:
        raise Refusal(400, "limit: Input should be greater than or equal to 1")
    if limit > 1000:
        raise Refusal(400, "limit: Input should be less than or equal to 1000")
    after_id, before_id = request.query_value("after_id"), request.query_value("before_id")
    if after_id and before_id:
        raise Refusal(400, "before_id and after_id cannot be used together")
    return limit, after_id or None, before_id or None


def _lifecycles(request: Request) -> tuple[str, ...]:
    wanted = tuple(value for name, value in request.query if name in ("lifecycle[]", "lifecycle"))
    for value in wanted:
        if value not in _LIFECYCLES:
            raise Refusal(400, "lifecycle: Input should be 'active', 'deprecated' or 'retired'")
    return wanted or ("active", "deprecated")


def _slice(
    data: list[dict[str, Any]], *, limit: int, after_id: str | None, before_id: str | None
) -> tuple[list[dict[str, Any]], bool]:
    cursor = after_id or before_id
    ids = [element["id"] for element in data]
    if cursor is not None and cursor not in ids:
        raise Refusal(400, f"Invalid cursor: {cursor} not found.")
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
