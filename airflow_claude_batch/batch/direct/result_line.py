"""Write what came of a direct request as a line of a message batch's results: so it is journaled and landed."""

from __future__ import annotations

import contextlib

import msgspec

from airflow_claude_batch.api.lenient_json import is_too_deep
from airflow_claude_batch.api.message_response import MessageResponse
from airflow_claude_batch.api.wire import decode_result_line
from airflow_claude_batch.exceptions import APIError, MalformedResponseError


def result_line(custom_id: str, result: MessageResponse | APIError) -> bytes:
    """Write a result as a line of a message batch's results. What cannot be read again is left out.

    :param result: the response, or why it was lost.
    """
    if isinstance(result, APIError):
        words = f"The response was lost, so the request may be billed: {result.summary}"
        error = {"type": "error", "error": {"type": "response_lost", "message": words}, "request_id": None}
        return msgspec.json.encode({"custom_id": custom_id, "result": {"type": "errored", "error": error}})
    line = result.result_line(custom_id)
    with contextlib.suppress(MalformedResponseError):
        decode_result_line(line)
        if not is_too_deep(line):
            return line
    return msgspec.json.encode({"custom_id": custom_id, "result": {"type": "succeeded"}})
