"""Rows that are not in the API's form, for tests of what reads them."""

from __future__ import annotations

from typing import Any

import msgspec

_MODEL = b'"model":'


def odd_row(line: bytes, form: str) -> bytes:
    """Change a row of a succeeded request, as ``Fault.form`` describes it."""
    row = msgspec.json.decode(line)
    result: dict[str, Any] = row["result"]
    match form:
        case "lone_surrogate":
            return _with_text(row, "\\ud83d")
        case "not_utf8":
            return _with_text(row, "\udcff")
        case "line_end_in_text":
            return _with_text(row, "\n")
        case "nan":
            return line.replace(_MODEL, b'"later":NaN,' + _MODEL, 1)
        case "huge_number":
            return line.replace(_MODEL, b'"later":1e999,' + _MODEL, 1)
        case "deep":
            return line.replace(_MODEL, b'"later":' + b"[" * 5000 + b"]" * 5000 + b"," + _MODEL, 1)
        case "no_custom_id":
            return msgspec.json.encode({"result": result})
        case "no_result":
            return msgspec.json.encode({"custom_id": row["custom_id"]})
        case "odd_usage":
            result["message"]["usage"] = {"input_tokens": None, "output": {"tokens": "7"}}
            return msgspec.json.encode(row)
        case "cut_row":
            return line[: len(line) // 2]
        case "error_object":
            return b'{"type":"error","error":{"type":"api_error","message":"Internal server error"}}'
        case "html":
            return b"<html><body>Bad gateway</body></html>"
        case _:
            error = {"type": "error", "error": {"type": "api_error", "message": "Internal server error"}}
            errored = {"custom_id": row["custom_id"], "result": {"type": "errored", "error": error}}
            return msgspec.json.encode(errored) + b"\n" + line


def _with_text(row: dict[str, Any], end: str) -> bytes:
    """Add raw bytes to the end of the last text of an answer."""
    blocks = row["result"]["message"]["content"]
    mark = "end of the text"
    next(block for block in reversed(blocks) if block["type"] == "text")["text"] += mark
    return msgspec.json.encode(row).replace(mark.encode(), end.encode(errors="surrogateescape"))
