"""Lines of results.jsonl for tests of tables: one by one, and random ones with a schema and kept columns."""

from __future__ import annotations

import datetime
import json
from typing import Any

import msgspec
from hypothesis import strategies as st

from airflow_claude_batch.batch.input.output_schema import OutputSchema, read_schema
from airflow_claude_batch.batch.land.row_layout import RowLayout
from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.exceptions import OutputSchemaError


def line_of(index: int = 0, *, key: Any = 0, kept: Any = None, body: bytes | None = None, **fields: Any) -> bytes:
    """Return a line of results.jsonl. Raw fields stay as they are."""
    row = {"index": index, "key": key, **({"input": kept} if kept is not None else {}), "status": "succeeded", **fields}
    return msgspec.json.encode(row) + b"\n"


def rows_of(lines: list[bytes]) -> list[Row]:
    return [msgspec.json.decode(line, type=Row) for line in lines]


def layout_of_lines(lines: list[bytes], schema: Any = None, kept_types: dict[str, str] | None = None) -> RowLayout:
    """Choose the layout as the landing does."""
    return RowLayout.of(
        keys=[bytes(msgspec.json.decode(line, type=dict[str, msgspec.Raw])["key"]) for line in lines],
        kept_types=kept_types or {},
        kept=[msgspec.json.encode(json.loads(line).get("input") or {}) for line in lines],
        schema=schema if isinstance(schema, OutputSchema | None) else read_schema(schema),
    )


names = st.sampled_from(["a", "b", "Ä", "x.y", "A", "", "text"]) | st.text(max_size=3)
leaves = st.sampled_from(
    [
        *({"type": name} for name in ("string", "integer", "number", "boolean", "null")),
        {"type": "string", "format": "date"},
        {"type": "string", "format": "date-time"},
        {"enum": ["a", "b", None]},
        {"enum": [1, 2.5]},
        {"const": "c"},
        {"type": ["integer", "null"]},
        {"anyOf": [{"type": "string"}, {"type": "number"}]},
    ]
)


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(names, inner, max_size=4).flatmap(
        lambda properties: st.sets(st.sampled_from(sorted(properties)) if properties else st.nothing()).map(
            lambda required: {
                "type": "object",
                "properties": properties,
                "required": sorted(required),
                "additionalProperties": False,
            }
        )
    )


schemas = st.recursive(
    leaves,
    lambda inner: (
        _objects(inner)
        | st.builds(lambda items: {"type": "array", "items": items}, inner)
        | st.builds(lambda branch: {"anyOf": [branch, {"type": "null"}]}, inner)
    ),
    max_leaves=8,
)
numbers = (
    st.integers()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(allow_nan=False, allow_infinity=False, places=25).map(lambda value: msgspec.Raw(str(value).encode()))
)
anything = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
dates = st.dates().map(str) | st.datetimes(timezones=st.just(datetime.UTC)).map(lambda value: value.isoformat())


def values_of(schema: Any) -> st.SearchStrategy[Any]:
    """Return values that satisfy a schema, mostly."""
    if "anyOf" in schema:
        return st.one_of(*map(values_of, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    if schema["type"] == "object":
        return st.fixed_dictionaries(
            {name: values_of(schema["properties"][name]) for name in schema["required"]},
            optional={
                name: values_of(value) for name, value in schema["properties"].items() if name not in schema["required"]
            },
        )
    if schema["type"] == "array":
        return st.lists(values_of(schema["items"]), max_size=3)
    if schema["type"] == "string":
        return dates if "format" in schema else st.text(max_size=5)
    if isinstance(schema["type"], list):
        return st.none() | numbers
    return {"boolean": st.booleans(), "null": st.none()}.get(schema["type"], numbers)


errors = st.none() | st.fixed_dictionaries(
    {"type": st.sampled_from(["invalid_output", "api_error", "missing"]), "message": st.none() | st.text(max_size=5)},
    optional={"path": st.none() | st.just("$.a"), "request_id": st.none() | st.just("req_1"), "more": anything},
)
usages = st.none() | st.fixed_dictionaries(
    {"input_tokens": numbers}, optional={"cache_creation": anything, "output_tokens": st.integers(0, 9), "x": anything}
)
WORDS = ["boolean", "integer", "number", "decimal", "text", "date", "time", "timestamp", "timestamp_tz", "json", "new"]
kept_words = st.dictionaries(names, st.sampled_from(WORDS), max_size=4)


def values_of_word(word: str) -> st.SearchStrategy[Any]:
    texts = {
        "decimal": st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str) | st.just("1e400"),
        "date": st.dates().map(str),
        "timestamp": st.datetimes().map(lambda value: value.isoformat()),
        "timestamp_tz": st.datetimes(timezones=st.timezones()).map(lambda value: value.isoformat()),
        "time": st.times().map(lambda value: value.isoformat()),
    }
    return st.none() | texts.get(word, anything) | anything


@st.composite
def tables(draw: st.DrawFn) -> tuple[OutputSchema | None, dict[str, str], list[bytes]]:
    schema = draw(st.none() | schemas)
    words = draw(kept_words)
    kept = st.none() | st.fixed_dictionaries({name: values_of_word(word) for name, word in words.items()})
    outputs = st.none() | (anything if schema is None else values_of(schema)) | anything
    keys = draw(st.sampled_from([st.integers(), st.text(max_size=3), anything, st.fixed_dictionaries({"a": anything})]))
    texts = st.none() | st.text(max_size=5)
    lines = []
    for index in range(draw(st.integers(0, 4))):
        usage = draw(usages)
        message = draw(st.none() | st.just({"id": "m", "usage": usage}) | st.just({"content": []}))
        optional = {"replaced": draw(st.none() | st.just([{"status": "invalid_output"}])), "raw": None}
        lines.append(
            line_of(
                index,
                **{"key": draw(keys), "kept": draw(kept), "text": draw(texts), "output": draw(outputs)},
                **{
                    "usage": usage,
                    "cost_usd": draw(st.sampled_from([None, "0", "0.1", "0.10", "1e-7", "9" * 30])),
                },
                **{"error": draw(errors), "message": message, "custom_id": draw(texts), **optional},
            )
        )
    try:
        return None if schema is None else read_schema(schema), words, lines
    except OutputSchemaError:  # the API does not take every schema
        return None, words, lines
