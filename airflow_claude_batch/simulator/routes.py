"""HTTP in and out: which operation a call means, what every call must carry and every answer carries."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from airflow_claude_batch.simulator.betas import KNOWN_BETAS
from airflow_claude_batch.simulator.bodies import decoded
from airflow_claude_batch.simulator.clock import Clock
from airflow_claude_batch.simulator.credentials import ORGANIZATION, Credentials
from airflow_claude_batch.simulator.errors import Refusal, edge_too_large, error_type
from airflow_claude_batch.simulator.exchange import Answer, Body, ConnectionDropped, Request
from airflow_claude_batch.simulator.faults import Fault, FaultScript
from airflow_claude_batch.simulator.ids import new_id
from airflow_claude_batch.simulator.operations import Call, Operations
from airflow_claude_batch.simulator.outages import html_page
from airflow_claude_batch.simulator.params import Conditions
from airflow_claude_batch.simulator.ratelimit import RateLimit

VERSIONS = ("2023-06-01", "2026-10-21")
BATCH_BODY_BYTES = 256_000_000  # "256 MB" taken as decimal, the stricter reading
OTHER_BODY_BYTES = 32_000_000
_PATHS = (
    ("POST", re.compile(r"/v1/messages/batches"), "create"),
    ("GET", re.compile(r"/v1/messages/batches"), "list"),
    ("GET", re.compile(r"/v1/messages/batches/([^/]+)"), "retrieve"),
    ("DELETE", re.compile(r"/v1/messages/batches/([^/]+)"), "delete"),
    ("POST", re.compile(r"/v1/messages/batches/([^/]+)/cancel"), "cancel"),
    ("GET", re.compile(r"/v1/messages/batches/([^/]+)/results"), "results"),
    ("POST", re.compile(r"/v1/messages/count_tokens"), "count_tokens"),
    ("GET", re.compile(r"/v1/models"), "models"),
    ("GET", re.compile(r"/v1/models/([^/]+)"), "models"),
    ("POST", re.compile(r"/v1/oauth/token"), "token"),
)
_RATE_LIMITED = ("create", "retrieve", "list", "cancel", "delete", "results")
_RATE_HEADERS_ON = ("create", "retrieve", "results")
_JSON_BODIES = ("create", "count_tokens")
_BROKEN_JSON = b'{"id":"msgbatch_01'
_CHARSETS = ("utf-8", "utf8", "iso-8859-1", "latin-1", "us-ascii", "ascii")


@dataclass(frozen=True, slots=True)
class _Arrival:
    request: Request
    operation: str
    subject: str
    faults: dict[str, Fault]


class Routes:
    """Answers the calls of the API.

    :param calls: counts every call by operation, whatever became of it.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        credentials: Credentials,
        operations: Operations,
        faults: FaultScript,
        rate_limit: RateLimit,
        batch_body_bytes: int = BATCH_BODY_BYTES,
    ) -> None:
        self.calls: Counter[str] = Counter()
        self._calls_lock = threading.Lock()
        self._clock = clock
        self._credentials = credentials
        self._operations = operations
        self._faults = faults
        self._rate_limit = rate_limit
        self._batch_body_bytes = batch_body_bytes

    def body_limit(self, path: str) -> int:
        """How many bytes the edge lets through to that path."""
        return self._batch_body_bytes if path == "/v1/messages/batches" else OTHER_BODY_BYTES

    def handle(self, request: Request) -> Answer:
        """The answer to one call.

        :raises Misfortune: if a fault says that there is none.
        """
        operation, subject = _operation(request)
        with self._calls_lock:
            self.calls[operation] += 1
        if request.body is None:
            return edge_too_large()
        faults = self._faults.take(operation, request)
        arrival = _Arrival(request, operation, subject, faults)
        request_id = new_id("req_011C")
        try:
            if "decisive" in faults:
                answer = self._perform_struck(arrival)
            else:
                answer = self._perform(arrival)
                answer.headers["request-id"] = request_id
        except Refusal as refusal:
            answer = refusal.answer(request_id)
        if "slow" in faults:
            answer.delay_seconds += faults["slow"].seconds or 0.0
        return answer

    def _perform_struck(self, arrival: _Arrival) -> Answer:
        """What a decisive fault makes of a call, before or after it has had its effect."""
        fault = arrival.faults["decisive"]
        match fault.do:
            case "drop_before_accept":
                raise ConnectionDropped(reset=fault.reset)
            case "status":
                raise _refusal(fault)
            case "html":
                return html_page()
            case "not_found_blip":
                raise Refusal(404, f"Message Batch {arrival.subject} not found.")
        with suppress(Refusal):
            self._perform(arrival)
        match fault.do:
            case "drop_after_accept":
                raise ConnectionDropped(reset=fault.reset)
            case "status_after_accept":
                raise _refusal(fault)
            case _:
                return Answer(headers={"content-type": "application/json"}, body=_BROKEN_JSON)

    def _perform(self, arrival: _Arrival) -> Answer:
        request, operation = arrival.request, arrival.operation
        if operation == "unknown":
            raise _unknown_path(request)
        if operation == "token":
            return self._operations.token(request)
        betas = _betas(request.headers)
        workspace = self._credentials.workspace(request.headers, betas)
        known = {"anthropic-organization-id": ORGANIZATION, "anthropic-workspace-id": workspace}
        try:
            limits = self._rate_limit.count() if operation in _RATE_LIMITED else {}
            call = self._call(arrival, workspace, self._conditions(request, betas))
            answer = self._operations.by_name[operation](call)
        except Refusal as refusal:
            refusal.headers.update(known)
            raise
        answer.headers.update(known)
        if operation in _RATE_HEADERS_ON:
            answer.headers.update(limits)
        return answer

    def _conditions(self, request: Request, betas: frozenset[str]) -> Conditions:
        version = request.headers.get("anthropic-version")
        if version is None:
            raise Refusal(400, "anthropic-version: header is required")
        if version not in VERSIONS:
            raise Refusal(400, f'anthropic-version: "{version}" is not a valid version')
        unknown = ", ".join(f"`{beta}`" for beta in sorted(betas - KNOWN_BETAS))
        if unknown:
            raise Refusal(400, f"Unexpected value(s) {unknown} for the `anthropic-beta` header.")
        return Conditions(
            version=version,
            betas=betas,
            user_profile_id=request.headers.get("anthropic-user-profile-id"),
            now=self._clock.now(),
        )

    def _call(self, arrival: _Arrival, workspace: str, conditions: Conditions) -> Call:
        return Call(
            request=arrival.request,
            subject=arrival.subject,
            workspace=workspace,
            conditions=conditions,
            body=self._json_body(arrival.request) if arrival.operation in _JSON_BODIES else b"",
            faults=arrival.faults,
        )

    def _json_body(self, request: Request) -> Body:
        charset = _charset(request.headers.get("content-type", ""))
        body = request.body or b""
        body = decoded(body, request.headers.get("content-encoding"), limit=self.body_limit(request.path))
        if charset in ("iso-8859-1", "latin-1"):
            return bytes(body).decode("latin-1").encode()
        return body


def _operation(request: Request) -> tuple[str, str]:
    for method, pattern, operation in _PATHS:
        found = pattern.fullmatch(request.path)
        if found is not None and method == request.method:
            return operation, found[1] if pattern.groups else ""
    return "unknown", ""


def _unknown_path(request: Request) -> Refusal:
    if any(pattern.fullmatch(request.path) for _, pattern, _ in _PATHS):
        return Refusal(405, "Method Not Allowed")
    return Refusal(404, "Not found")


def _betas(headers: Mapping[str, str]) -> frozenset[str]:
    values = (value.strip() for value in headers.get("anthropic-beta", "").split(","))
    return frozenset(value for value in values if value)


def _charset(content_type: str) -> str:
    """The charset of a JSON body.

    :raises Refusal: 400, if it is another type or a charset that the API does not read.
    """
    kind, *parameters = (part.strip().lower() for part in content_type.split(";"))
    if kind != "application/json":
        raise Refusal(400, "content-type: must be application/json")
    values = (parameter.partition("=")[2].strip('"') for parameter in parameters if parameter.startswith("charset="))
    charset = next(values, "utf-8")
    if charset not in _CHARSETS:
        raise Refusal(400, f"Unsupported charset '{charset}'.", code="unsupported_charset")
    return charset


def _refusal(fault: Fault) -> Refusal:
    headers = {}
    if fault.retry_after is not None:
        headers["retry-after"] = str(fault.retry_after)
    if fault.retry_after_ms is not None:
        headers["retry-after-ms"] = str(fault.retry_after_ms)
    kind = fault.type or error_type(fault.status)
    message = fault.message or f"Simulated {kind}"
    return Refusal(fault.status, message, kind=kind, code=fault.code, headers=headers)
