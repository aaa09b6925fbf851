"""Formats are asserted when answers land, and in the same way with every set of installed libraries."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_claude_batch.batch.input.output_schema import read_schema
from airflow_claude_batch.batch.input.schema_adapter import FORMATS as SENT_FORMATS
from airflow_claude_batch.batch.land.formats import FORMATS
from airflow_claude_batch.batch.land.validate_output import OutputValidator

VALID = {
    "date": ["2026-11-29", "2024-02-29", "0001-01-01"],
    "time": ["09:30:00Z", "09:30:00z", "23:59:60Z", "09:30:00.123456+02:00", "09:30:00-0330", "09:30:00", "09:30"],
    "date-time": ["2026-11-29T09:30:00Z", "2026-11-29 09:30:00+01:00", "2026-11-29T09:30:00", "2026-11-29t09:30:00.5z"],
    "duration": ["P1D", "PT36H", "P1Y2M3DT4H5M6S", "P2W", "PT1.5S", "-P1D", "P1DT12H"],
    "email": ["a@example.com", "a.b+c@mail.example.com", '"a b"@example.com', "jörg@example.com", "a@localhost"],
    "hostname": ["example.com", "a-b.example", "localhost", "xn--mnchen-3ya.de", "example.com."],
    "uri": [
        "https://example.com/a?b=c#d",
        "mailto:a@example.com",
        "urn:isbn:0",
        "https://example.com/ä",
        "s3://b/k%20l",
    ],
    "uuid": ["00000000-0000-4000-8000-000000000000", "ABCDEF00-0000-4000-8000-000000000000"],
    "ipv4": ["192.0.2.1", "0.0.0.0"],
    "ipv6": ["2001:db8::1", "::", "::ffff:192.0.2.1"],
}
INVALID = {
    "date": [
        "yesterday",
        "2026-13-01",
        "2026-02-29",
        "2026-1-1",
        "20261129",
        "29.11.2026",
        "2026-11-29T00:00:00",
        "\u0662\u0660\u0662\u0666-\u0661\u0661-\u0662\u0669",
    ],
    "time": ["noon", "24:00:00Z", "09:60:00Z", "09:30:61Z", "9:30", "09:30:00+25:00", "09:30:00 Z", "093000"],
    "date-time": ["2026-11-29", "2026-11-29T", "2026-11-29T25:00:00Z", "2026-02-30T00:00:00Z", "1764408600", "now"],
    "duration": ["P", "PT", "P1DT", "1 day", "1D", "PT1H30", "P1H"],
    "email": ["a", "a@", "@example.com", "a b@example.com", "a@example .com", "a@b@example.com", "a\n@example.com"],
    "hostname": [
        "",
        "-a.example",
        "a-.example",
        "a_b.example",
        "a..b",
        "a b",
        "a" * 64,
        ".".join(["a" * 60] * 5),
        "a\n",
    ],
    "uri": [
        "example.com/a",
        "/a",
        "https://example.com/a b",
        "https://[::1",
        "http://example.com/%zz",
        "1a:b",
        "a:b\n",
    ],
    "uuid": ["0" * 32, "00000000-0000-4000-8000-00000000000", "g0000000-0000-4000-8000-000000000000", "x"],
    "ipv4": ["256.0.0.1", "192.0.2", "192.0.2.1/24", "192.0.2.01", "2001:db8::1"],
    "ipv6": ["192.0.2.1", "2001:db8::1::", "fe80::1%eth0", "g::"],
}


def is_valid(schema: Any, answer: Any) -> bool:
    return OutputValidator(read_schema(schema)).read(json.dumps(answer), "end_turn")[1] is None


def test_every_format_that_is_sent_is_asserted() -> None:
    assert FORMATS.checkers.keys() == SENT_FORMATS == VALID.keys() == INVALID.keys()


@pytest.mark.parametrize("name", VALID)
def test_text_of_the_format_is_valid_and_others_are_not(name: str) -> None:
    schema = {"type": "string", "format": name}
    assert [text for text in VALID[name] if not is_valid(schema, text)] == []
    assert [text for text in INVALID[name] if is_valid(schema, text)] == []


def test_format_says_nothing_of_other_types_and_other_formats_say_nothing() -> None:
    assert is_valid({"type": ["integer", "string"], "format": "date"}, 3)
    assert is_valid({"type": "string", "format": "binary"}, "anything")


def test_reason_names_the_place_and_the_format() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "format": "date"}}}
    error = OutputValidator(read_schema(schema)).read('{"a": "s3cret"}', "end_turn")[1]
    assert error == {"type": "invalid_output", "message": '$.a does not satisfy format: "date"', "path": "$.a"}
