"""Routes calls to operations, and checks and adds the headers that all of them share."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from airflow_claude_batch.simulator.clock import Clock
from airflow_claude_batch.simulator.endpoints.betas import KNOWN_BETAS
from airflow_claude_batch.simulator.endpoints.credentials import ORGANIZATION, Credentials
from airflow_claude_batch.simulator.endpoints.operations import Call, Operations
from airflow_claude_batch.simulator.endpoints.rate_limit import RateLimit
from airflow_claude_batch.simulator.faults import Fault, FaultScript
from airflow_claude_batch.simulator.http.errors import APIError, error_type, proxy_too_large_response
from airflow_claude_batch.simulator.http.exchange import Body, ConnectionDropped, Request, Response
from airflow_claude_batch.simulator.http.outages import html_error_response
from airflow_claude_batch.simulator.http.request_bodies import decode_body
from airflow_claude_batch.simulator.ids import Ids
from airflow_claude_batch.simulator.messages.catalogue import ANY, BUILT_IN, Catalogue
from airflow_claude_batch.simulator.messages.params import Conditions

VERSIONS = ("2023-06-01", "2026-10-21")
BATCH_BODY_BYTES = 256_000_000  # "256 MB" read as decimal, the stricter reading
OTHER_BODY_BYTES = 32_000_000
_PATHS = (
    ("POST", re.compile(r"/v1/messages/batches"), "create"),
    ("GET", re.compile(r"/v1/messages/batches"), "list"),
    ("GET", re.compile(r"/v1/messages/batches/([^/]+)"), "retrieve"),
    ("DELETE", re.compile(r"/v1/messages/batches/([^/]+)"), "delete"),
    ("POST", re.compile(r"/v1/messages/batches/([^/]+)/cancel"), "cancel"),
    ("GET", re.compile(r"/v1/messages/batches/([^/]+)/results"), "results"),
    ("POST", re.compile(r"/v1/messages/count_tokens"), "count_tokens"),
    ("POST", re.compile(r"/v1/messages"), "message"),
    ("GET", re.compile(r"/v1/models"), "models"),
    ("GET", re.compile(r"/v1/models/(.+)"), "models"),
    ("POST", re.compile(r"/v1/oauth/token"), "token"),
)
_RATE_LIMITED = ("create", "retrieve", "list", "cancel", "delete", "results")
_RATE_HEADERS_ON = ("create", "retrieve", "results")
_JSON_BODIES = ("create", "count_tokens", "message")
_BROKEN_JSON = b'{"id":"msgbatch_01'
_GATEWAY_PAGES = {
    "html": ("text/html", b"<html><head><title>Gateway</title></head><body>\nplease wait\n</body></html>\n"),
    "empty": ("text/plain", b""),
    "json": ("application/json", b'{"error":{"code":"E17","message":"please wait"}}'),
}
_BETA_REMEDY = "Please consult our documentation at platform.claude.com/docs or try again without the header."
_CHARSETS = ("utf-8", "utf8", "iso-8859-1", "latin-1", "us-ascii", "ascii")


@dataclass(frozen=True, slots=True)
class _Arrival:
    request: Request
    operation: str
    subject: str
    faults: dict[str, Fault]


class Routes:
    """Responds to the calls of the API. ``calls`` counts all of them by operation, including failed ones."""

    def __init__(
        self,
        *,
        clock: Clock,
        credentials: Credentials,
        operations: Operations,
        faults: FaultScript,
        rate_limit: RateLimit,
        ids: Ids,
        batch_body_bytes: int = BATCH_BODY_BYTES,
        catalogue: Catalogue = BUILT_IN,
        betas: Iterable[str] = (),
    ) -> None:
        self.calls: Counter[str] = Counter()
        self._calls_lock = threading.Lock()
        self._cached_listings: dict[Fault, Response] = {}
        self._clock = clock
        self._credentials = credentials
        self._operations = operations
        self._faults = faults
        self._rate_limit = rate_limit
        self._ids = ids
        self._batch_body_bytes = batch_body_bytes
        self._catalogue = catalogue
        self._betas = KNOWN_BETAS.union(betas)

    def body_limit(self, path: str) -> int:
        """Return the largest body that the API's proxy passes on to that path, in bytes."""
        return self._batch_body_bytes if path == "/v1/messages/batches" else OTHER_BODY_BYTES

    def handle(self, request: Request) -> Response:
        """Respond to one call.

        :raises TransportFailure: when a fault prevents the response.
        """
        operation, subject = _operation(request)
        with self._calls_lock:
            self.calls[operation] += 1
        if request.body is None:
            return proxy_too_large_response()
        faults = self._faults.take(operation, request)
        arrival = _Arrival(request, operation, subject, faults)
        request_id = self._ids.new("req_011C")
        try:
            if "response" in faults:
                response = self._perform_with_fault(arrival)
            else:
                response = self._perform(arrival)
                response.headers["request-id"] = request_id
        except APIError as error:
            response = error.response(request_id)
        if "slow" in faults:
            response.delay_seconds += faults["slow"].seconds or 0.0
        if (cached := faults.get("cached_listing")) is not None:
            response = self._cached(cached, response)
        if (odd_date := faults.get("odd_date")) is not None:
            response.date_offset_seconds = odd_date.seconds
        return response

    def _cached(self, fault: Fault, response: Response) -> Response:
        """Return a copy of the first response that the fault happened to."""
        first = self._cached_listings.setdefault(fault, response)
        return Response(status=first.status, headers=dict(first.headers), body=first.body)

    def _perform_with_fault(self, arrival: _Arrival) -> Response:
        """Replace the response by that of the fault, before or after the call takes effect."""
        fault = arrival.faults["response"]
        match fault.do:
            case "drop_before_accept":
                raise ConnectionDropped(reset=fault.reset)
            case "status":
                raise _fault_error(fault)
            case "html":
                return html_error_response()
            case "page" if not fault.accepted:
                return _gateway_page(fault)
            case "not_found_blip":
                raise APIError(404, f"Message Batch {arrival.subject} not found.")
        with suppress(APIError):
            self._perform(arrival)
        match fault.do:
            case "drop_after_accept":
                raise ConnectionDropped(reset=fault.reset)
            case "status_after_accept":
                raise _fault_error(fault)
            case "page":
                return _gateway_page(fault)
            case "wrong_batch":
                return self._perform(_oldest_batch(arrival))
            case _:
                return Response(headers={"content-type": "application/json"}, body=_BROKEN_JSON)

    def _perform(self, arrival: _Arrival) -> Response:
        request, operation = arrival.request, arrival.operation
        if operation == "unknown":
            raise _unknown_path(request)
        if operation == "token":
            return self._operations.token(request)
        betas = _betas(request.headers)
        workspace = self._credentials.authorize(request, operation, betas)
        identity_headers = {"anthropic-organization-id": ORGANIZATION, "anthropic-workspace-id": workspace}
        try:
            limits = self._rate_limit.count() if operation in _RATE_LIMITED else {}
            call = self._call(arrival, workspace, self._conditions(request, betas))
            response = self._operations.by_name[operation](call)
        except APIError as error:
            error.headers.update(identity_headers)
            raise
        response.headers.update(identity_headers)
        if operation in _RATE_HEADERS_ON:
            response.headers.update(limits)
        return response

    def _conditions(self, request: Request, betas: frozenset[str]) -> Conditions:
        version = request.headers.get("anthropic-version")
        if version is None:
            raise APIError(400, "anthropic-version: header is required")
        if version not in VERSIONS:
            raise APIError(400, f'anthropic-version: "{version}" is not a valid version')
        unknown = ", ".join(f"`{beta}`" for beta in sorted(self._unknown(betas)))
        if unknown:
            raise APIError(400, f"Unexpected value(s) {unknown} for the `anthropic-beta` header. {_BETA_REMEDY}")
        return Conditions(
            version=version,
            betas=betas,
            user_profile_id=request.headers.get("anthropic-user-profile-id"),
            now=self._clock.now(),
            catalogue=self._catalogue,
        )

    def _unknown(self, betas: frozenset[str]) -> frozenset[str]:
        return frozenset() if ANY in self._betas else betas - self._betas

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
        body = decode_body(body, request.headers.get("content-encoding"), limit=self.body_limit(request.path))
        if charset in ("iso-8859-1", "latin-1"):
            return bytes(body).decode("latin-1").encode()
        return body


def _operation(request: Request) -> tuple[str, str]:
    for method, pattern, operation in _PATHS:
        found = pattern.fullmatch(request.path)
        if found is not None and method == request.method:
            return operation, found[1] if pattern.groups else ""
    return "unknown", ""


def _unknown_path(request: Request) -> APIError:
    if any(pattern.fullmatch(request.path) for _, pattern, _ in _PATHS):
        return APIError(405, "Method Not Allowed")
    return APIError(404, "Not found")


def _betas(headers: Mapping[str, str]) -> frozenset[str]:
    values = (value.strip() for value in headers.get("anthropic-beta", "").split(","))
    return frozenset(value for value in values if value)


def _charset(content_type: str) -> str:
    """Return the charset of a JSON body.

    :raises APIError: 400, when the body has another type, or a charset that the API does not read.
    """
    kind, *parameters = (part.strip().lower() for part in content_type.split(";"))
    if kind != "application/json":
        raise APIError(400, "content-type: must be application/json")
    values = (parameter.partition("=")[2].strip('"') for parameter in parameters if parameter.startswith("charset="))
    charset = next(values, "utf-8")
    if charset not in _CHARSETS:
        raise APIError(400, f"Unsupported charset '{charset}'.", code="unsupported_charset")
    return charset


def _oldest_batch(arrival: _Arrival) -> _Arrival:
    """Return the call that asks for the oldest batch of the workspace."""
    return replace(arrival, operation="oldest", faults={})


def _gateway_page(fault: Fault) -> Response:
    content_type, body = _GATEWAY_PAGES[fault.page]
    return Response(status=fault.status, headers={"content-type": content_type}, body=body)


def _fault_error(fault: Fault) -> APIError:
    headers = {}
    if fault.retry_after is not None:
        headers["retry-after"] = str(fault.retry_after)
    if fault.retry_after_ms is not None:
        headers["retry-after-ms"] = str(fault.retry_after_ms)
    kind = fault.type or error_type(fault.status)
    message = fault.message or f"Simulated {kind}"
    return APIError(fault.status, message, kind=kind, code=fault.code, headers=headers)
