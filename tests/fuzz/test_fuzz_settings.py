"""What people configure: connections, output schemas, prices. A wrong one is refused by name, before anything is sent."""

from __future__ import annotations

import json
import warnings
from decimal import Decimal
from typing import Any

import pytest
from fuzzing import fuzzed, json_values, mutated, texts
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_claude_batch.api.client import ClaudeClient
from airflow_claude_batch.api.wire import Usage
from airflow_claude_batch.batch.input.output_schema import read_schema
from airflow_claude_batch.batch.land.validate_output import OutputValidator
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.connection.settings import ConnectionValues, config_from_connection
from airflow_claude_batch.exceptions import ConfigurationError, OutputSchemaError
from airflow_claude_batch.provider_info import CONNECTION_FIELDS

# ---------------------------------------------------------------- connections

known_keys = st.sampled_from([*CONNECTION_FIELDS, "platform", "workload_identity", "anthropic_client_kwargs", "host"])
odd_texts = texts | st.sampled_from(
    [
        "http://[",
        "http://u:p@h:x",
        "http://h:99999",
        "//",
        "1e308",
        "1e999",
        "9" * 5000,
        "\n",
        "x\r\ny: z",
        "é",
        "http://",
    ]
)
extras = st.dictionaries(known_keys | texts, json_values | odd_texts, max_size=4)
SECRET = "hush-hush-hush"


@fuzzed
@given(
    extra=extras.map(json.dumps) | odd_texts | st.just("[" * 5000) | st.just('{"a":' * 5000),
    host=st.none() | odd_texts | st.just("https://gateway.example"),
    port=st.none() | st.integers(),
    schema=st.none() | st.sampled_from(["http", "https", "x"]) | texts,
    password=st.none() | texts | st.just(SECRET),
    environ=st.dictionaries(
        st.sampled_from(
            ["ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_IDENTITY_TOKEN"]
        ),
        texts,
        max_size=2,
    ),
)
@example(extra='{"proxy":"http://["}', host=None, port=None, schema=None, password="k", environ={})
@example(extra='{"write_timeout":1e308}', host=None, port=None, schema=None, password="k", environ={})
@example(extra="{}", host="http://[", port=80, schema=None, password="k", environ={})
def test_any_connection_is_a_configuration_or_is_refused_by_name(
    extra: str, host: Any, port: Any, schema: Any, password: Any, environ: dict[str, str]
) -> None:
    values = ConnectionValues(conn_id="c", host=host, port=port, schema=schema, password=password, extra=extra)
    try:
        settings = config_from_connection(values, environ)
    except ConfigurationError as error:
        assert str(error).startswith("Connection 'c': ")
        assert SECRET not in str(error)
        return
    assert SECRET not in repr(settings)
    config = settings.config
    assert max(config.connect_timeout, config.read_timeout, config.write_timeout) * 1000 < 2**31
    for header, text in config.fixed_headers().items():
        assert header.isascii()
        assert text.isprintable()
    if config.verify is True:
        try:
            ClaudeClient(config).close()
        except ConfigurationError as error:
            assert SECRET not in str(error)


# ---------------------------------------------------------------- output schemas

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "pattern": "^a", "enum": ["Abc", "abd"]},
        "size": {"anyOf": [{"type": "integer", "minimum": 3}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/Tag"}, "uniqueItems": True, "minItems": 1},
        "more": {"allOf": [{"$ref": "#/$defs/Tag"}], "description": "d"},
    },
    "required": ["name"],
    "$defs": {"Tag": {"type": "object", "properties": {"t": {"const": "x"}}, "additionalProperties": False}},
}
keywords = st.sampled_from(
    [
        "type",
        "enum",
        "const",
        "anyOf",
        "oneOf",
        "allOf",
        "not",
        "if",
        "then",
        "else",
        "$ref",
        "$defs",
        "definitions",
        "properties",
        "required",
        "items",
        "prefixItems",
        "additionalProperties",
        "patternProperties",
        "pattern",
        "format",
        "minItems",
        "maxItems",
        "minimum",
        "multipleOf",
        "contains",
        "$dynamicRef",
        "dependentRequired",
        "dependentSchemas",
        "propertyNames",
        "unevaluatedItems",
        "uniqueItems",
        "title",
        "default",
        "$schema",
        "$id",
    ]
)
references = st.sampled_from(
    ["#", "#/$defs/Tag", "#/$defs/no", "http://127.0.0.1:9/x", "x.json", "#/properties/name", "#a", "urn:x", "http://["]
)
leaves = (
    st.sampled_from(["string", "integer", "object", "array", "null", "number", "boolean", "[", "(a+)+$", "email"])
    | references
    | st.sampled_from([0, 1, 1.0, 0.1, 1e-308, -1, True, False, None, 10**30])
    | texts
)
schemas = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keywords | texts, inner, max_size=4),
    max_leaves=12,
)
dialects = st.sampled_from(
    [f"http://json-schema.org/draft-0{n}/schema#" for n in (3, 4, 6, 7)] + ["http://unknown", ""]
)


def odd_schema(data: st.DataObject) -> Any:
    made: Any = mutated(SCHEMA, data.draw, schemas)
    for _ in range(data.draw(st.integers(0, 2))):
        made = mutated(made, data.draw, schemas)
    if isinstance(made, dict) and data.draw(st.booleans()):
        made = {**made, "$schema": data.draw(dialects)}
    if isinstance(made, dict) and data.draw(st.booleans()):
        made = {**made, data.draw(keywords): data.draw(schemas)}
    return made


answers = st.sampled_from(
    [
        "",
        "null",
        "3",
        '"abc"',
        '"ABC"',
        "[]",
        "[{}]",
        '{"name":"abc"}',
        '{"name":"ABC","tags":[{"t":"X"}],"size":1}',
        "[" * 3000,
        "9" * 400,
        "1e999",
        '{"name":"abc","more":{"t":"x"}}',
        '{"a":{"b":[1,2,{"c":null}]}}',
    ]
) | json_values.map(json.dumps)


@fuzzed
@given(data=st.data())
def test_any_output_schema_is_refused_or_validates_every_answer(data: st.DataObject) -> None:
    given_schema = odd_schema(data)
    check_schema_and_answers(given_schema, [data.draw(answers) for _ in range(3)])


@pytest.mark.parametrize(
    "inner",
    [
        pytest.param({"not": {"$ref": "#/$defs/no"}}, id="reference to nothing"),
        pytest.param({"not": {"$ref": "#"}}, id="reference to itself"),
        pytest.param({"not": {"$ref": "http://127.0.0.1:9/x"}}, id="reference to a server"),
        pytest.param({"contains": {"$dynamicRef": "#no"}}, id="dynamic reference"),
        pytest.param({"not": {"type": "string", "pattern": "["}}, id="no pattern"),
        pytest.param({"propertyNames": {"pattern": "(?P<"}}, id="no pattern for names"),
    ],
)
def test_what_only_validation_would_meet_is_refused_with_the_schema(inner: dict[str, Any]) -> None:
    check_schema_and_answers({**SCHEMA, **inner}, ['{"name":"abd"}', '{"name":"abd","tags":[{"t":"x"}]}'])
    named = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}, **inner}}}
    check_schema_and_answers(named, ['{"a":["b"]}', '{"a":{}}', '{"a":[]}'])


def check_schema_and_answers(given_schema: Any, texts_of_answers: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            schema = read_schema(given_schema)
        except OutputSchemaError as error:
            assert str(error).startswith("output_schema")
            return
        json.dumps(schema.format)
        validator = OutputValidator(schema)
        for text in texts_of_answers:
            value, problem = validator.read(text, "end_turn")
            assert problem is None or (value is None and json.dumps(problem))


# ---------------------------------------------------------------- prices

OVERRIDES = {
    "batch_factor": "0.4",
    "models": {
        "claude-opus-5-5": {"rates": {"input": "3.60", "output": 18.5}, "aliases": ["our-opus"]},
        "our-model": {
            "rates": {"input": 1, "cache_write_5m": 1, "cache_write_1h": 1, "cache_read": 1, "output": 1},
            "max_tokens": 10,
            "refuses": ["prefill"],
            "retires_on": "2027-01-01",
        },
    },
}
amounts = (
    st.sampled_from(
        ["1e999999", "1e-999999", "1e400", "NaN", "Infinity", "-0", "0", "1e30", "0.1", 0.1, 1e300, 1e-300, ""]
    )
    | st.decimals().map(str)
    | json_values
)
usages = st.builds(
    Usage,
    input_tokens=st.integers(0, 10**9),
    output_tokens=st.integers(0, 10**9),
    cache_read_input_tokens=st.none() | st.integers(0, 10**9),
)


@fuzzed
@given(data=st.data(), usage=usages)
def test_any_overrides_are_refused_by_name_or_price_every_answer(data: st.DataObject, usage: Usage) -> None:
    overrides = mutated(OVERRIDES, data.draw, amounts)
    for _ in range(data.draw(st.integers(0, 2))):
        overrides = mutated(overrides, data.draw, amounts)
    try:
        table = PriceTable.load(overrides)
    except ConfigurationError as error:
        assert "price overrides are wrong at" in str(error)
        return
    for model in ("claude-opus-5-5", "our-model", "our-opus", "another"):
        cost, digits = table.usage_cost(usage, model), table.charge(usage, model).usd
        assert (cost is None) is (digits is None)
        if cost is not None and digits is not None:
            assert Decimal(digits) == cost.usd
            assert len(digits) < 100
