"""The forms in which authors have schemas: each is taken as what it means, or refused with the remedy."""

from __future__ import annotations

import copy
import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from batch.input.schemas import NUMBER, TEXT, Address, obj
from pydantic import TypeAdapter

from airflow_claude_batch.batch.input.output_schema import SCHEMA_FILE, load_schema, read_schema
from airflow_claude_batch.batch.land.validate_output import OutputValidator
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.exceptions import OutputSchemaError
from airflow_claude_batch.simulator.messages.schemas import schema_problem

SCHEMA = obj(a=TEXT)
NULL = {"type": "null"}
INTEGER = {"type": "integer"}
DRAFT_7 = {"$schema": "http://json-schema.org/draft-07/schema#"}


def sent(given: Any) -> dict[str, Any]:
    schema: dict[str, Any] = read_schema(given).format["schema"]
    assert schema_problem(schema) is None
    return schema


def is_valid(given: Any, answer: Any) -> bool:
    return OutputValidator(read_schema(given)).read(json.dumps(answer), "end_turn")[1] is None


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"type": "json_schema", "schema": SCHEMA}, id="the API's format"),
        pytest.param({"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}, id="the API's params"),
        pytest.param({"name": "n", "strict": True, "schema": SCHEMA}, id="OpenAI's json_schema"),
        pytest.param(
            {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": SCHEMA}},
            id="OpenAI's format",
        ),
        pytest.param(
            {"type": "json_schema", "name": "n", "strict": True, "schema": SCHEMA}, id="of OpenAI's responses"
        ),
        pytest.param({"name": "n", "input_schema": SCHEMA}, id="a tool"),
        pytest.param({"name": "n", "inputSchema": SCHEMA}, id="a tool of a MCP server"),
        pytest.param({"type": "function", "function": {"name": "n", "parameters": SCHEMA}}, id="OpenAI's tool"),
        pytest.param(json.dumps(SCHEMA), id="text"),
        pytest.param("\ufeff" + json.dumps({"type": "json_schema", "schema": SCHEMA}), id="text of a wrapper"),
        pytest.param(json.dumps(SCHEMA).encode(), id="bytes"),
    ],
)
def test_schema_in_another_form_is_the_schema(given: Any) -> None:
    assert read_schema(given) == read_schema(SCHEMA)


def test_wrapper_may_hold_a_type() -> None:
    assert read_schema({"type": "json_schema", "schema": Address}) == read_schema(Address)
    assert read_schema({"type": "json_schema", "schema": list[Address]}) == read_schema(TypeAdapter(list[Address]))


def test_description_of_a_wrapper_is_kept() -> None:
    assert sent({"name": "n", "description": "outside", "input_schema": SCHEMA})["description"] == "outside"
    inside = {**SCHEMA, "description": "inside"}
    assert sent({"name": "n", "description": "outside", "input_schema": inside})["description"] == "inside"


def test_properties_may_have_the_names_of_keywords() -> None:
    names = ("schema", "format", "nullable", "$ref", "$id", "$anchor", "items", "default", "const", "parameters")
    schema = obj(**dict.fromkeys(names, TEXT))
    assert sent(schema) == schema


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param("schema.json", "'schema.json' is a path, not a schema.", id="the name of a file"),
        pytest.param(Path("/etc/schema.json"), "'/etc/schema.json' is a path, not a schema.", id="a path"),
        pytest.param("s3://bucket/schema", "'s3://bucket/schema' is a path, not a schema.", id="a URI"),
        pytest.param('{"type": "object",', "a text that is not JSON (", id="JSON that breaks off"),
        pytest.param("[{}]", "a text with a JSON array", id="an array"),
        pytest.param("{{ params.schema }}", "is not a type or a schema, but a template.", id="a template"),
        pytest.param(
            {"type": "json_schema"}, "a wrapper of the type json_schema without a schema.", id="empty wrapper"
        ),
        pytest.param({"type": "json_object"}, ".type: 'json_object' is not a JSON Schema type.", id="JSON mode"),
        pytest.param({"a": "string"}, "the type of the value is missing.", id="names and types"),
        pytest.param({}, "the type of the value is missing.", id="nothing"),
        pytest.param(
            {"properties": {"a": {"type": "str"}}}, ".properties.a.type: 'str' is not a JSON Schema type.", id="type"
        ),
    ],
)
def test_value_that_is_no_schema_is_refused_with_the_remedy(given: Any, message: str) -> None:
    with pytest.raises(OutputSchemaError) as error:
        read_schema(given)
    first, remedy = str(error.value).split("\n")
    assert message in first
    assert first.startswith("output_schema")
    assert len(first) <= 120
    assert remedy.endswith(".")


def test_wrong_type_name_is_answered_with_the_right_one() -> None:
    with pytest.raises(OutputSchemaError, match=r"Here: integer\."):
        read_schema({"type": "int"})


@pytest.mark.parametrize(
    "inner",
    [
        pytest.param({}, id="no type"),
        pytest.param({"type": "object"}, id="free names"),
        pytest.param({"$ref": "https://example.com/schemas/of/somebody/else.json"}, id="reference"),
        pytest.param({"type": 7}, id="not a schema"),
        pytest.param({"allOf": [obj(a=TEXT), obj(b=TEXT)]}, id="contradiction"),
        pytest.param(obj(b={"$ref": "#"}), id="recursion"),
    ],
)
def test_error_about_a_place_deep_inside_keeps_to_one_line(inner: dict[str, Any]) -> None:
    schema = inner
    for _ in range(9):
        schema = obj(a_property_with_a_long_name=schema)
    with pytest.raises(OutputSchemaError) as error:
        read_schema(schema)
    first, remedy = str(error.value).split("\n")
    assert first.startswith("output_schema…")
    assert len(first) <= 120
    assert remedy.endswith(".")


def test_required_beside_the_value_is_explained() -> None:
    with pytest.raises(OutputSchemaError, match="List the names of the required properties"):
        read_schema({"properties": {"a": {"type": "string", "required": True}}})


# ------------------------------------------------------------------ references


@pytest.mark.parametrize(
    ("reference", "definitions"),
    [
        pytest.param("#/$defs/A%20B", {"A B": INTEGER}, id="percent-encoded"),
        pytest.param("#/%24defs/A", {"A": INTEGER}, id="percent-encoded section"),
        pytest.param("#/$defs/A%20B", {"A%20B": INTEGER}, id="a name that looks percent-encoded"),
        pytest.param("#/$defs/100%", {"100%": INTEGER}, id="a percent sign"),
        pytest.param("#/$defs/Pair%3Cint%3E", {"Pair<int>": INTEGER, "Pair_int_": TEXT}, id="a generic"),
        pytest.param("#/$defs/caf%C3%A9", {"café": INTEGER}, id="UTF-8"),
        pytest.param("#/$defs/a~1b", {"a/b": INTEGER}, id="a slash"),
        pytest.param("#/$defs/a~0b", {"a~b": INTEGER}, id="a tilde"),
        pytest.param("#/$defs/a~1b%25", {"a/b%": INTEGER}, id="all at once"),
        pytest.param("#here", {"A": {"$anchor": "here", **INTEGER}}, id="$anchor"),
        pytest.param("#here", {"A": {"$id": "#here", **INTEGER}}, id="an anchor of draft 7"),
        pytest.param("item.json", {"A": {"$id": "item.json", **INTEGER}}, id="relative $id"),
        pytest.param("/schemas/item", {"A": {"$id": "/schemas/item", **INTEGER}}, id="absolute path"),
        pytest.param(
            "https://example.com/dir/item.json", {"A": {"$id": "item.json", **INTEGER}}, id="of the root's $id"
        ),
        pytest.param("https://example.com/dir/root.json#/$defs/A", {"A": INTEGER}, id="the root's own $id"),
        pytest.param("item.json#here", {"A": {"$id": "item.json", "$anchor": "here", **INTEGER}}, id="$id and $anchor"),
        pytest.param(
            "urn:example:item#/$defs/in",
            {"A": {"$id": "urn:example:item", **TEXT, "$defs": {"in": INTEGER}}},
            id="a place in an embedded resource",
        ),
        pytest.param(
            "item.json",
            {"A": {"$id": "item.json", "$ref": "#/$defs/in", "$defs": {"in": INTEGER}}},
            id="a reference in an embedded resource",
        ),
        pytest.param("#/$defs/A/anyOf/1", {"A": {"anyOf": [TEXT, INTEGER]}}, id="an element of a list"),
    ],
)
def test_reference_leads_to_its_target(reference: str, definitions: dict[str, Any]) -> None:
    root = {"$id": "https://example.com/dir/root.json", **obj(a={"$ref": reference}), "$defs": definitions}

    adapted = sent(root)

    assert not any(f'"{name}"' in json.dumps(adapted) for name in ("$id", "$anchor"))
    assert not re.search("%[0-9]", json.dumps(adapted))
    assert is_valid(root, {"a": 1})
    assert not is_valid(root, {"a": "1"})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The addresses that a connection was asked for. None is made."""
    addresses: list[Any] = []

    def connect(_: socket.socket, address: Any) -> None:
        addresses.append(address)
        raise OSError("no connection")

    monkeypatch.setattr(socket.socket, "connect", connect)
    return addresses


@pytest.mark.parametrize(
    "reference",
    [
        pytest.param("https://127.0.0.1:9/a.json", id="a server"),
        pytest.param("file:///etc/a.json", id="a file"),
        pytest.param("other.json", id="a relative one"),
        pytest.param("https://json-schema.org/draft/2020-12/schema", id="the dialect"),
        pytest.param("#/$defs/nothing", id="a definition that is not there"),
        pytest.param("#/$defs/A%2", id="half an escape"),
        pytest.param("#/$defs/A/type", id="a text"),
        pytest.param("#nothing", id="an anchor that is not there"),
        pytest.param("http://[", id="no URI"),
    ],
)
@pytest.mark.parametrize("place", ["here", "not", "contains"])
def test_reference_out_of_the_schema_is_refused_and_never_fetched(reference: str, place: str, asked: list[Any]) -> None:
    inner = {"$ref": reference}
    value = inner if place == "here" else {"type": "array", "items": TEXT, place: inner}
    with pytest.raises(OutputSchemaError, match=r"output_schema\.properties\.a.* refers to .*not in the schema"):
        read_schema({**obj(a=value), "$defs": {"A": TEXT}})
    assert asked == []


def test_reference_in_a_stored_schema_of_earlier_releases_is_never_fetched(tmp_path: Path, asked: list[Any]) -> None:
    stored = {"schema": obj(a={"$ref": "http://127.0.0.1:9/a"}), "format": {}}
    (tmp_path / SCHEMA_FILE).write_text(json.dumps(stored))
    loaded = load_schema(LocalFolder(tmp_path))
    assert loaded is not None

    value, error = OutputValidator(loaded).read('{"a": 1}', "end_turn")

    assert asked == []
    assert value is None
    assert error is not None
    assert "could not be applied" in error["message"]


def test_stored_schema_of_earlier_releases_is_read_as_it_was_meant(tmp_path: Path) -> None:
    schema = {**DRAFT_7, "type": "array", "items": {"$ref": "#/definitions/A"}, "definitions": {"A": INTEGER}}
    (tmp_path / SCHEMA_FILE).write_text(json.dumps({"schema": schema, "format": {"type": "json_schema"}}))

    loaded = load_schema(LocalFolder(tmp_path))

    assert loaded is not None
    assert loaded.format == {"type": "json_schema"}
    assert OutputValidator(loaded).read("[1]", "end_turn") == ([1], None)
    assert OutputValidator(loaded).read('["a"]', "end_turn")[0] is None


def test_anchor_of_the_whole_schema_is_known() -> None:
    schema = {"$anchor": "all", "type": "array", "items": TEXT, "not": {"contains": {"not": {"$ref": "#all"}}}}
    assert read_schema(schema).schema["not"] == {"contains": {"not": {"$ref": "#"}}}


def test_definition_may_be_joined_twice_if_it_does_not_contain_itself() -> None:
    named = {"type": "object", "properties": {"n": TEXT}}
    schema = {
        "allOf": [{"$ref": "#/$defs/N"}, {"$ref": "#/$defs/N"}],
        "properties": {"x": {"$ref": "#/$defs/N"}},
        "$defs": {"N": named},
    }
    assert set(sent(schema)["properties"]) == {"n", "x"}


def test_dynamic_reference_to_one_place_is_a_reference() -> None:
    schema = {**obj(a={"$dynamicRef": "#A"}), "$defs": {"A": {"$dynamicAnchor": "A", **INTEGER}}}
    assert sent(schema)["properties"]["a"] == {"$ref": "#/$defs/A"}
    twice = copy.deepcopy(schema)
    twice["$defs"]["B"] = {"$id": "other.json", "$dynamicAnchor": "A", **TEXT}
    with pytest.raises(OutputSchemaError, match="may be one of several places"):
        read_schema(twice)


def test_openapi_document_is_not_said_in_words() -> None:
    components = {"schemas": {"A": obj(b={"$ref": "#/components/schemas/B"}), "B": TEXT}}
    assert sent({"$ref": "#/components/schemas/A", "components": components}) == obj(b=TEXT)


# ------------------------------------------------------------------ shared definitions

PARTY = {"type": "object", "properties": {f"p{n}": TEXT for n in range(7)}}


@pytest.mark.parametrize(
    "use",
    [
        pytest.param({"$ref": "#/$defs/Party", "description": "who"}, id="description"),
        pytest.param({"$ref": "#/$defs/Party", "title": "Who", "default": None}, id="title and default"),
        pytest.param({"allOf": [{"$ref": "#/$defs/Party"}], "description": "who"}, id="allOf"),
    ],
)
def test_definitions_stay_references_where_copies_would_be_too_many(use: dict[str, Any]) -> None:
    schema = {**obj(a=use, b=use, c=use, d=use), "$defs": {"Party": PARTY}}

    adapted = sent(schema)

    assert adapted["properties"] == {name: {"$ref": "#/$defs/Party"} for name in "abcd"}
    assert list(adapted["$defs"]) == ["Party"]
    assert ("who" in adapted.get("description", "")) == ("description" in use)


def test_words_beside_a_shared_definition_are_said_where_its_value_belongs_to() -> None:
    use = {"$ref": "#/$defs/Party", "description": "who pays"}
    schema = {
        **obj(a={**use, "minProperties": 1}, b={"type": "array", "items": use}, c={"anyOf": [use, NULL]}, d=use),
        "$defs": {"Party": PARTY},
    }

    adapted = sent(schema)

    assert adapted["description"] == '{properties: {"a": "who pays\\n\\n{minProperties: 1}", "d": "who pays"}}'
    assert adapted["properties"]["b"]["description"] == '{items: "who pays"}'
    assert adapted["properties"]["c"]["description"] == '{anyOf: ["who pays", ""]}'
    assert not is_valid(schema, {"a": {}, "b": [], "c": None, "d": {}})  # minProperties
    assert is_valid(schema, {"a": {"p0": "x"}, "b": [], "c": None, "d": {}})


def test_places_that_are_used_often_become_definitions() -> None:
    uses = {name: {"$ref": "#/components/schemas/a%20party", "description": name} for name in "bcde"}

    adapted = sent({**obj(**uses), "components": {"schemas": {"a party": PARTY}}})

    assert adapted["properties"] == {name: {"$ref": "#/$defs/a_party"} for name in "bcde"}
    assert list(adapted["$defs"]) == ["a_party"]


def test_copies_of_copies_end() -> None:
    """Each level refers to the next one four times: 4 to the 12th copies."""
    levels = {
        f"L{n}": obj(**{name: {"$ref": f"#/$defs/L{n + 1}", "description": name} for name in "abcd"}) for n in range(12)
    }
    schema = {"$ref": "#/$defs/L0", "$defs": {**levels, "L12": TEXT}}
    assert len(sent(schema)["$defs"]) == 12


# ------------------------------------------------------------------ dialects


@pytest.mark.parametrize(
    ("value", "adapted", "valid", "invalid"),
    [
        pytest.param({**TEXT, "nullable": True}, {"type": ["string", "null"]}, [None, "x"], [1], id="a type"),
        pytest.param({**TEXT, "x-nullable": True}, {"type": ["string", "null"]}, [None, "x"], [1], id="of Swagger"),
        pytest.param(
            {**TEXT, "enum": ["x"], "nullable": True}, {"enum": ["x", None]}, [None, "x"], ["y"], id="an enum"
        ),
        pytest.param({"enum": ["x", None], "nullable": True}, {"enum": ["x", None]}, [None], ["y"], id="null in enum"),
        pytest.param({"const": "x", "nullable": True}, {"enum": ["x", None]}, [None, "x"], ["y"], id="const"),
        pytest.param(
            {"$ref": "#/$defs/I", "nullable": True, "description": "d"},
            {"anyOf": [{"$ref": "#/$defs/I"}, NULL], "description": "d"},
            [None, 1],
            ["x"],
            id="a reference",
        ),
        pytest.param(
            {"allOf": [{"$ref": "#/$defs/I"}], "nullable": True},
            {"anyOf": [INTEGER, NULL]},
            [None, 1],
            ["x"],
            id="allOf",
        ),
        pytest.param(
            {"oneOf": [TEXT, INTEGER], "nullable": True}, {"anyOf": [TEXT, INTEGER, NULL]}, [None, 1], [1.5], id="oneOf"
        ),
        pytest.param(
            {**obj(x=TEXT), "nullable": True}, {"anyOf": [obj(x=TEXT), NULL]}, [None, {"x": "y"}], [{}], id="an object"
        ),
        pytest.param(
            {**TEXT, "nullable": False}, {**TEXT, "description": "{nullable: false}"}, ["x"], [None], id="false"
        ),
        pytest.param(
            {"type": "array", "items": [TEXT, INTEGER], "additionalItems": False},
            {
                "type": "array",
                "items": {"anyOf": [TEXT, INTEGER]},
                "description": '{prefixItems: [{"type": "string"}, {"type": "integer"}]}',
            },
            [["x", 1], ["x"]],
            [[1, "x"], ["x", 1, 2]],
            id="a tuple of draft 7",
        ),
        pytest.param(
            {"items": [TEXT], "additionalItems": INTEGER},
            {
                "type": "array",
                "items": {"anyOf": [TEXT, INTEGER]},
                "description": '{prefixItems: [{"type": "string"}]}',
            },
            [["x", 1, 2]],
            [["x", "y"]],
            id="a tuple and more",
        ),
        pytest.param(
            {**NUMBER, "minimum": 0, "exclusiveMinimum": True},
            {**NUMBER, "description": "{exclusiveMinimum: 0}"},
            [1],
            [0],
            id="an exclusive bound of draft 4",
        ),
        pytest.param(
            {**NUMBER, "maximum": 1, "exclusiveMaximum": False},
            {**NUMBER, "description": "{maximum: 1}"},
            [1],
            [2],
            id="an inclusive one",
        ),
    ],
)
def test_keyword_of_another_dialect_has_its_meaning(
    value: dict[str, Any], adapted: dict[str, Any], valid: list[Any], invalid: list[Any]
) -> None:
    schema = {**obj(a=value), "$defs": {"I": INTEGER}}

    assert sent(schema)["properties"]["a"] == adapted
    assert all(is_valid(schema, {"a": answer}) for answer in valid)
    assert not any(is_valid(schema, {"a": answer}) for answer in invalid)


def test_references_follow_what_a_dialect_is_rewritten_to() -> None:
    schema = obj(
        a={**obj(x=INTEGER), "nullable": True},
        b={"$ref": "#/properties/a/properties/x"},
        c={"items": [INTEGER]},
        d={"$ref": "#/properties/c/items/0"},
        e={"$ref": "#/properties/a"},
    )
    assert sent(schema)["properties"]["d"] == INTEGER
    assert is_valid(schema, {"a": None, "b": 1, "c": [1], "d": 1, "e": None})
    for wrong in ({"b": "x"}, {"d": "x"}, {"e": 1}):
        assert not is_valid(schema, {"a": None, "b": 1, "c": [1], "d": 1, "e": None, **wrong})


def test_dependencies_of_draft_7_are_enforced() -> None:
    schema = {**DRAFT_7, "type": "object", "properties": {"a": TEXT, "b": TEXT}, "dependencies": {"a": ["b"]}}
    assert is_valid(schema, {"a": "x", "b": "y"})
    assert not is_valid(schema, {"a": "x"})


def test_values_that_are_objects_or_lists_are_said_in_words() -> None:
    schema = obj(a={"type": "array", "enum": [[1, 1], [2, 1]]})
    assert sent(schema)["properties"]["a"] == {"type": "array", "description": "{enum: [[1, 1], [2, 1]]}"}
    assert is_valid(schema, {"a": [2, 1]})
    assert not is_valid(schema, {"a": [3, 1]})
