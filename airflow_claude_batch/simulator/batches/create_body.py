"""Reads the body of a create call. Its structure is checked at once, with the API's observed error messages."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from airflow_claude_batch.simulator.http.errors import APIError
from airflow_claude_batch.simulator.http.exchange import Body

MAX_REQUESTS = 100_000  # batch-processing docs, 2026-10-08
MAX_DEPTH = 200  # of the JSON parser of pydantic, whose messages the API uses
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_OPEN_BRACE = ord("{")


class BatchRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One element of ``requests``. Its params are decoded only when they are needed."""

    custom_id: str
    params: msgspec.Raw

    def read_params(self) -> dict[str, Any]:
        params: dict[str, Any] = msgspec.json.decode(self.params)
        return params


class _Create(msgspec.Struct, forbid_unknown_fields=True):
    requests: list[BatchRequest]


_decoder = msgspec.json.Decoder(_Create)


class StoredRequests:
    """The requests of one batch. Keeps the bytes that arrived and decodes them for each use.

    :raises APIError: 400, when the body is not a valid create call. Params only have to be an object here.
    """

    def __init__(self, body: Body) -> None:
        self._body = body
        items = _parse(body)
        _check_custom_ids(items)
        self._count = len(items)

    def __len__(self) -> int:
        return self._count

    def items(self) -> list[BatchRequest]:
        return _decoder.decode(self._body).requests


def invalid_json_error(error: Exception | str) -> APIError:
    """Build the error for a body that is not JSON."""
    return APIError(400, f"The request body is not valid JSON: {error}")


def _parse(body: Body) -> list[BatchRequest]:
    try:
        items = _decoder.decode(body).requests
    except RecursionError:
        raise invalid_json_error("recursion limit exceeded") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        # msgspec's messages differ from the API's, so find the problem that the API would name.
        raise _body_error(body) from None
    if not items:
        raise APIError(400, "requests: List should have at least 1 item after validation, not 0")
    if len(items) > MAX_REQUESTS:
        message = f"requests: List should have at most {MAX_REQUESTS} items after validation, not {len(items)}"
        raise APIError(400, message)
    return items


def _body_error(body: Body) -> APIError:
    try:
        content = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except RecursionError:
        return invalid_json_error("recursion limit exceeded")
    except msgspec.ValidationError:
        return APIError(400, "Input should be a valid dictionary or object to extract fields from")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return invalid_json_error(error)
    if "requests" not in content:
        return APIError(400, "requests: Field required")
    extra = next((key for key in content if key != "requests"), None)
    if extra is not None:
        return APIError(400, f"{extra}: Extra inputs are not permitted")
    try:
        elements = msgspec.json.decode(content["requests"], type=list[msgspec.Raw])
    except msgspec.ValidationError:
        return APIError(400, "requests: Input should be a valid list")
    problems = (_item_problem(f"requests.{index}", element) for index, element in enumerate(elements))
    return APIError(400, next(filter(None, problems), "requests: Input should be a valid list"))


def _item_problem(place: str, element: msgspec.Raw) -> str | None:
    try:
        item = msgspec.json.decode(element, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        return f"{place}: Input should be a valid dictionary or object to extract fields from"
    for field in ("custom_id", "params"):
        if field not in item:
            return f"{place}.{field}: Field required"
    extra = next((key for key in item if key not in ("custom_id", "params")), None)
    if extra is not None:
        return f"{place}.{extra}: Extra inputs are not permitted"
    try:
        msgspec.json.decode(item["custom_id"], type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"{place}.custom_id: Input should be a valid string"
    return None


def _check_custom_ids(items: list[BatchRequest]) -> None:
    fullmatch = _CUSTOM_ID.fullmatch
    for index, item in enumerate(items):
        if fullmatch(item.custom_id) is None:
            raise APIError(400, f"requests.{index}.custom_id: {_custom_id_problem(item.custom_id)}")
        if memoryview(item.params)[0] != _OPEN_BRACE:
            raise APIError(400, f"requests.{index}.params: Input should be a valid dictionary")
        if _may_be_deep(bytes(item.params)):
            _check_depth(item.params)
    seen: set[str] = set()
    for item in items:
        if item.custom_id in seen:
            message = (
                f"requests: custom_id's must be unique within a batch. Duplicate custom_id found: {item.custom_id}"
            )
            raise APIError(400, message)
        seen.add(item.custom_id)


def _may_be_deep(params: bytes) -> bool:
    return params.count(b"{") + params.count(b"[") > MAX_DEPTH


def _check_depth(params: msgspec.Raw) -> None:
    """Raise if values are nested more deeply than JSON parsers allow: what follows reads them recursively.

    :raises APIError: 400.
    """
    try:
        level: list[Any] = [msgspec.json.decode(params)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid_json_error(error) from None
    for _ in range(MAX_DEPTH):
        level = [child for value in level for child in _children(value)]
        if not level:
            return
    raise invalid_json_error("recursion limit exceeded")


def _children(value: Any) -> list[Any]:
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [child for child in values if isinstance(child, dict | list)]


def _custom_id_problem(custom_id: str) -> str:
    if not custom_id:
        return "String should have at least 1 character"
    if len(custom_id) > 64:
        return "String should have at most 64 characters"
    return "String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"
