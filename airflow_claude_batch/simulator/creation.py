"""The body of a create: what is checked at once, with the messages the API was seen to give."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from airflow_claude_batch.simulator.errors import Refusal
from airflow_claude_batch.simulator.exchange import Body

MAX_REQUESTS = 100_000  # batch-processing docs, 2026-10-08
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_OPEN_BRACE = ord("{")


class Item(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One element of ``requests``; its params stay undecoded until they are needed."""

    custom_id: str
    params: msgspec.Raw

    def read_params(self) -> dict[str, Any]:
        params: dict[str, Any] = msgspec.json.decode(self.params)
        return params


class _Create(msgspec.Struct, forbid_unknown_fields=True):
    requests: list[Item]


_decoder = msgspec.json.Decoder(_Create)


class StoredRequests:
    """The requests of one batch, kept as the bytes that arrived and decoded anew for each reading.

    :raises Refusal: 400, if the body is not what a create may be. Params are only checked to be an object.
    """

    def __init__(self, body: Body) -> None:
        self._body = body
        items = _parse(body)
        _check_custom_ids(items)
        self._count = len(items)

    def __len__(self) -> int:
        return self._count

    def items(self) -> list[Item]:
        return _decoder.decode(self._body).requests


def not_json(error: Exception) -> Refusal:
    """The refusal of a body that cannot be read as JSON."""
    return Refusal(400, f"The request body is not valid JSON: {error}")


def _parse(body: Body) -> list[Item]:
    try:
        items = _decoder.decode(body).requests
    except (msgspec.DecodeError, UnicodeDecodeError):
        # msgspec words its complaints differently, so look again for what the API would name.
        raise _diagnosis(body) from None
    if not items:
        raise Refusal(400, "requests: List should have at least 1 item after validation, not 0")
    if len(items) > MAX_REQUESTS:
        message = f"requests: List should have at most {MAX_REQUESTS} items after validation, not {len(items)}"
        raise Refusal(400, message)
    return items


def _diagnosis(body: Body) -> Refusal:
    try:
        content = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        return Refusal(400, "Input should be a valid dictionary or object to extract fields from")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return not_json(error)
    if "requests" not in content:
        return Refusal(400, "requests: Field required")
    extra = next((key for key in content if key != "requests"), None)
    if extra is not None:
        return Refusal(400, f"{extra}: Extra inputs are not permitted")
    try:
        elements = msgspec.json.decode(content["requests"], type=list[msgspec.Raw])
    except msgspec.ValidationError:
        return Refusal(400, "requests: Input should be a valid list")
    problems = (_item_problem(f"requests.{index}", element) for index, element in enumerate(elements))
    return Refusal(400, next(filter(None, problems), "requests: Input should be a valid list"))


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


def _check_custom_ids(items: list[Item]) -> None:
    fullmatch = _CUSTOM_ID.fullmatch
    for index, item in enumerate(items):
        if fullmatch(item.custom_id) is None:
            raise Refusal(400, f"requests.{index}.custom_id: {_custom_id_problem(item.custom_id)}")
        if memoryview(item.params)[0] != _OPEN_BRACE:
            raise Refusal(400, f"requests.{index}.params: Input should be a valid dictionary")
    seen: set[str] = set()
    for item in items:
        if item.custom_id in seen:
            message = (
                f"requests: custom_id's must be unique within a batch. Duplicate custom_id found: {item.custom_id}"
            )
            raise Refusal(400, message)
        seen.add(item.custom_id)


def _custom_id_problem(custom_id: str) -> str:
    if not custom_id:
        return "String should have at least 1 character"
    if len(custom_id) > 64:
        return "String should have at most 64 characters"
    return "String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"
