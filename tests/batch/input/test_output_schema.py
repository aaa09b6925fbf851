from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any, Literal

import pytest
from anthropic import transform_schema
from batch.input.schemas import NUMBER, TEXT, Address, Cat, Dog, Named, Person, Point, obj
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from airflow_claude_batch.batch.input.checks import check_params
from airflow_claude_batch.batch.input.elements import Defaults, read_request
from airflow_claude_batch.batch.input.output_schema import (
    SCHEMA_FILE,
    OutputSchema,
    load_schema,
    read_schema,
    write_schema,
)
from airflow_claude_batch.batch.land.validate_output import OutputValidator
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.exceptions import InvalidMessageError, OutputSchemaError, SubmissionRecordError
from airflow_claude_batch.simulator.messages.schema_instances import schema_instance
from airflow_claude_batch.simulator.messages.schemas import schema_problem


def sent(schema: Any) -> dict[str, Any]:
    """Return the schema that goes to the API. The simulator checks it by its own reading of the rules."""
    adapted: dict[str, Any] = read_schema(schema).format["schema"]
    assert schema_problem(adapted) is None
    return adapted


class TestSchemaThatTheApiTakes:
    @pytest.mark.parametrize(
        "schema",
        [
            pytest.param(obj(name=TEXT, age={"type": "integer"}), id="a flat object"),
            pytest.param(obj(["name"], name=TEXT, nick=TEXT), id="an optional property"),
            pytest.param({"type": "array", "items": TEXT, "minItems": 1}, id="an array at the top"),
            pytest.param({"type": "array"}, id="an array of anything"),
            pytest.param(obj(a={"type": ["string", "null"]}), id="several types"),
            pytest.param(obj(a={"anyOf": [TEXT, {"type": "null"}], "default": None}), id="a union with a default"),
            pytest.param(obj(a={"enum": ["x", 1, True, None]}, b={"const": "c"}), id="enum and const"),
            pytest.param(obj(a={**TEXT, "format": "date-time", "title": "When", "description": "then"}), id="a format"),
            pytest.param(
                {**obj(a={"$ref": "#/$defs/A"}, b={"$ref": "#/$defs/A"}), "$defs": {"A": obj(x=TEXT)}}, id="$defs"
            ),
            pytest.param({**obj(a={"$ref": "#/definitions/A"}), "definitions": {"A": obj(x=NUMBER)}}, id="definitions"),
        ],
    )
    def test_unchanged(self, schema: dict[str, Any]) -> None:
        assert sent(schema) == schema

    def test_order_of_properties_is_kept(self) -> None:
        assert list(sent(obj(z=TEXT, a=TEXT, m=TEXT))["properties"]) == ["z", "a", "m"]

    def test_the_authors_schema_is_not_touched(self) -> None:
        schema = {"properties": {"a": {"type": "integer", "minimum": 1}}}
        before = copy.deepcopy(schema)
        read_schema(schema)
        assert schema == before


class TestSchemaThatIsAdapted:
    @pytest.mark.parametrize(
        ("schema", "adapted"),
        [
            pytest.param(
                {"type": "integer", "minimum": 1, "maximum": 9},
                {"type": "integer", "description": "{minimum: 1, maximum: 9}"},
                id="bounds",
            ),
            pytest.param(
                {"type": "string", "maxLength": 5, "description": "A word."},
                {"type": "string", "description": "A word.\n\n{maxLength: 5}"},
                id="lengths, behind the description",
            ),
            pytest.param(
                {"type": "string", "pattern": "^ä+$"},
                {"type": "string", "description": '{pattern: "^ä+$"}'},
                id="patterns",
            ),
            pytest.param(
                {"type": "string", "format": "json-pointer"},
                {"type": "string", "description": '{format: "json-pointer"}'},
                id="formats of others",
            ),
            pytest.param(
                {"type": "array", "items": TEXT, "minItems": 2, "maxItems": 3, "uniqueItems": True},
                {
                    "type": "array",
                    "items": TEXT,
                    "minItems": 1,
                    "description": "{minItems: 2, maxItems: 3, uniqueItems: true}",
                },
                id="sizes of arrays",
            ),
            pytest.param(
                {"type": "array", "prefixItems": [NUMBER, NUMBER], "items": False},
                {
                    "type": "array",
                    "items": NUMBER,
                    "description": '{prefixItems: [{"type": "number"}, {"type": "number"}]}',
                },
                id="a tuple of equals",
            ),
            pytest.param(
                {"type": "array", "prefixItems": [NUMBER], "items": TEXT},
                {
                    "type": "array",
                    "items": {"anyOf": [NUMBER, TEXT]},
                    "description": '{prefixItems: [{"type": "number"}]}',
                },
                id="a tuple and more",
            ),
            pytest.param({"oneOf": [TEXT, NUMBER]}, {"anyOf": [TEXT, NUMBER]}, id="oneOf"),
            pytest.param({"type": ["string", "null"], "enum": ["a", None]}, {"enum": ["a", None]}, id="enum and types"),
            pytest.param({"type": ["string"]}, TEXT, id="one type in a list"),
            pytest.param(
                {"properties": {"a": TEXT}, "required": ["a"]}, obj(a=TEXT), id="an object that does not say so"
            ),
            pytest.param({"items": TEXT}, {"type": "array", "items": TEXT}, id="an array that does not say so"),
            pytest.param({**obj(a=TEXT), "additionalProperties": True}, obj(a=TEXT), id="an open object"),
            pytest.param(
                {"$schema": "https://json-schema.org/draft/2020-12/schema", "$comment": "ours", **TEXT},
                TEXT,
                id="words about the schema",
            ),
            pytest.param({"$ref": "#/$defs/A", "$defs": {"A": obj(x=TEXT)}}, obj(x=TEXT), id="a reference at the top"),
            pytest.param(
                {**obj(a={"$ref": "#/$defs/A", "description": "ours"}), "$defs": {"A": {**TEXT, "title": "T"}}},
                obj(a={**TEXT, "title": "T", "description": "ours"}),
                id="a reference with a description",
            ),
            pytest.param(obj(a=TEXT, b={"$ref": "#/properties/a"}), obj(a=TEXT, b=TEXT), id="a reference to elsewhere"),
            pytest.param(
                {"allOf": [{"$ref": "#/$defs/A"}], "$defs": {"A": obj(x=TEXT)}}, obj(x=TEXT), id="allOf of a reference"
            ),
            pytest.param(
                {"allOf": [{"properties": {"a": TEXT}, "required": ["a"]}, {"properties": {"b": NUMBER}}]},
                obj(["a"], a=TEXT, b=NUMBER),
                id="allOf of objects is one object",
            ),
            pytest.param(
                {
                    "allOf": [
                        {"properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"]},
                        {"properties": {"a": {"type": "integer", "maximum": 9}}},
                    ]
                },
                obj(a={"type": "integer", "description": "{minimum: 1, maximum: 9}"}),
                id="allOf about the same property",
            ),
            pytest.param(
                {"type": "string", "anyOf": [{"format": "date"}, {"format": "time"}]},
                {"anyOf": [{**TEXT, "format": "date"}, {**TEXT, "format": "time"}]},
                id="keywords beside anyOf hold for each branch",
            ),
        ],
    )
    def test_without_a_change_of_meaning(self, schema: dict[str, Any], adapted: dict[str, Any]) -> None:
        assert sent(schema) == adapted

    def test_branches_that_add_properties_get_those_of_the_whole(self) -> None:
        schema = {
            "type": "object",
            "properties": {"kind": TEXT},
            "required": ["kind"],
            "anyOf": [{"properties": {"a": TEXT}, "required": ["a"]}, {"properties": {"b": NUMBER}}],
        }
        assert sent(schema) == {"anyOf": [obj(kind=TEXT, a=TEXT), obj(["kind"], kind=TEXT, b=NUMBER)]}

    def test_unused_definitions_are_left_out(self) -> None:
        assert "$defs" not in sent({**TEXT, "$defs": {"A": TEXT}})


def level(depth: int) -> dict[str, Any]:
    return obj(next=level(depth - 1)) if depth else TEXT


REFUSED = [
    pytest.param({"type": "object"}, "output_schema: an object with properties of any name", id="no properties"),
    pytest.param(
        obj(a={"type": "object", "additionalProperties": NUMBER}),
        "output_schema.properties.a: an object with properties of any name",
        id="a map",
    ),
    pytest.param(
        obj(a={**obj(x=TEXT), "patternProperties": {"^p": TEXT}}),
        "output_schema.properties.a: an object with properties of any name",
        id="names",
    ),
    pytest.param(obj(a={}), "output_schema.properties.a: the type of the value is missing.", id="no type"),
    pytest.param(
        obj(a=True), "output_schema.properties.a: true does not describe a value.", id="a boolean for a schema"
    ),
    pytest.param(
        obj(a={"minimum": 1}), "output_schema.properties.a: the type of the value is missing.", id="bounds of no type"
    ),
    pytest.param(
        obj(a={"enum": [{"x": 1}]}),
        "output_schema.properties.a: enum or const lists an object, an array or nothing.",
        id="objects in enum",
    ),
    pytest.param(
        obj(a={"const": []}),
        "output_schema.properties.a: enum or const lists an object, an array or nothing.",
        id="an array for const",
    ),
    pytest.param(obj(["b"], a=TEXT), "output_schema: requires 'b'", id="required but not listed"),
    pytest.param(
        obj(a={"$ref": "https://example.com/a.json"}), "output_schema.properties.a: refers to 'https", id="external"
    ),
    pytest.param(obj(a={"$ref": "#/$defs/A"}), "output_schema.properties.a: refers to '#/$defs/A'", id="unresolved"),
    pytest.param(obj(a={"$ref": "#A"}), "output_schema.properties.a: refers to '#A'", id="an anchor"),
    pytest.param(
        obj(["v"], v=TEXT, next={"$ref": "#"}), "output_schema.properties.next.properties.next: contains itself", id="#"
    ),
    pytest.param(
        {
            **obj(tree={"$ref": "#/$defs/Tree"}),
            "$defs": {"Tree": obj(of={"type": "array", "items": {"$ref": "#/$defs/Tree"}})},
        },
        "output_schema.$defs.Tree.properties.of.items: contains itself, by #/$defs/Tree",
        id="recursive",
    ),
    pytest.param(
        {
            **obj(a={"$ref": "#/$defs/A"}),
            "$defs": {
                "A": obj(b={"$ref": "#/$defs/B", "description": "inlined"}),
                "B": {"allOf": [{"$ref": "#/$defs/A"}]},
            },
        },
        "contains itself, by #/$defs/A",
        id="recursive by a detour",
    ),
    pytest.param(
        {"allOf": [{"type": "integer", "minimum": 1}, {"type": "integer", "minimum": 2}]},
        "output_schema: 'minimum' is given twice",
        id="contradictions in allOf",
    ),
    pytest.param({"allOf": [obj(a=TEXT), obj(b=TEXT)]}, "output_schema: joins an object without", id="allOf of closed"),
    pytest.param(
        {**obj([], a=TEXT), "anyOf": [{"properties": {"b": TEXT}}]},
        "output_schema.anyOf[0]: joins",
        id="closed and anyOf",
    ),
    pytest.param(
        {**obj(a=TEXT), "if": {"properties": {"a": {"const": "x"}}}},
        "output_schema: conditions (if, dependentSchemas) cannot be sent.",
        id="if",
    ),
    pytest.param(
        {"type": "objekt"},
        "output_schema.type: 'objekt' is not a JSON Schema type.\nUse object, array, string,",
        id="an unknown type",
    ),
    pytest.param({"type": ["text"]}, "output_schema.type: not a JSON Schema", id="an unknown type of several"),
    pytest.param({"type": "string", "pattern": "("}, "output_schema.pattern: not a JSON Schema", id="a broken pattern"),
    pytest.param({"type": "string", "enum": {1, 2}}, "output_schema: not JSON", id="not JSON"),
    pytest.param(obj([], **{f"p{n}": TEXT for n in range(25)}), "25 properties are optional; .* 24", id="optional"),
    pytest.param(
        obj(**{f"p{n}": {"type": ["string", "null"]} for n in range(17)}), "17 values are unions", id="unions"
    ),
]


@pytest.mark.parametrize(("schema", "message"), REFUSED)
def test_schema_whose_meaning_would_change_is_refused_with_the_place(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(OutputSchemaError, match=message if ".*" in message else re.escape(message)) as error:
        read_schema(schema)
    first, remedy = str(error.value).split("\n")
    assert first.startswith("output_schema")
    assert first.endswith(".")
    assert len(first) <= 120
    assert remedy.endswith(".")


def test_largest_schema_that_the_api_takes_is_accepted() -> None:
    unions = {f"u{n}": {"type": ["string", "null"]} for n in range(16)}
    optional = {f"o{n}": TEXT for n in range(24)}
    sent(obj(list(unions), **unions, **optional))


def test_definitions_that_are_used_often_count_once() -> None:
    inner = obj([], **{f"p{n}": TEXT for n in range(20)})
    sent({**obj(a={"$ref": "#/$defs/A"}, b={"$ref": "#/$defs/A"}), "$defs": {"A": inner}})


class TestTypes:
    def test_a_pydantic_model_with_everything(self) -> None:
        adapted = sent(Person)
        properties = adapted["properties"]

        assert adapted["required"] == ["name", "home", "work", "pets", "position", "tags"]
        assert properties["color"] == {"enum": ["red", "green"], "title": "Color", "default": "red"}
        assert properties["home"]["description"] == "where the mail goes"
        assert properties["home"]["additionalProperties"] is False
        assert properties["work"]["anyOf"][0] == {"$ref": "#/$defs/Address"}
        assert properties["pets"]["items"] == {"anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]}
        assert "discriminator" not in json.dumps(adapted)

    @pytest.mark.parametrize(
        ("kind", "adapted"),
        [
            pytest.param(list[int], {"type": "array", "items": {"type": "integer"}}, id="list"),
            pytest.param(TypeAdapter(list[int]), {"type": "array", "items": {"type": "integer"}}, id="TypeAdapter"),
            pytest.param(Literal["yes", "no"], {"enum": ["yes", "no"]}, id="Literal"),
            pytest.param(int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}, id="a union"),
        ],
    )
    def test_other_types_that_pydantic_understands(self, kind: Any, adapted: dict[str, Any]) -> None:
        assert sent(kind) == adapted

    def test_dataclasses_and_typed_dicts(self) -> None:
        assert set(sent(Point)["properties"]) == {"x"}
        assert set(sent(list[Named])["$defs"]["Named"]["properties"]) == {"name"}

    @pytest.mark.parametrize("given", ["a schema", "Person2", 7, {1}, Address(street="a", postcode="12345")], ids=repr)
    def test_value_that_is_not_a_type_is_refused(self, given: Any) -> None:
        with pytest.raises(OutputSchemaError, match="Give a pydantic model"):
            read_schema(given)

    @pytest.mark.parametrize(
        "kind",
        [
            pytest.param(dict[str, int], id="a map"),
            pytest.param(Any, id="anything"),
            pytest.param(list[dict[str, Any]], id="a list of maps"),
        ],
    )
    def test_type_that_the_api_does_not_take_is_refused(self, kind: Any) -> None:
        with pytest.raises(OutputSchemaError, match="output_schema"):
            read_schema(kind)


def test_schema_from_the_vendors_sdk_is_sent_unchanged() -> None:
    """Where both adapt, both say the same: ours only inlines more and keeps defaults."""
    for model in (Cat, Dog):
        assert sent(model) == transform_schema(model)
    assert sent(transform_schema(Person)) == transform_schema(Person)


# ------------------------------------------------------------------ requests

FORMAT = read_schema(obj(a=TEXT)).format
DOCUMENT = {"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}}
ASKING = Defaults(
    model="claude-haiku-5-5", max_tokens=64, params={"output_config": {"effort": "low"}}, output_format=FORMAT
)


@pytest.mark.parametrize(
    ("element", "config"),
    [
        pytest.param("a prompt", {"effort": "low", "format": FORMAT}, id="a prompt"),
        pytest.param(
            {"custom_id": "x", "params": {"messages": [{"role": "user", "content": "hi"}]}},
            {"effort": "low", "format": FORMAT},
            id="the API's own shape",
        ),
        pytest.param(
            {"prompt": "hi", "params": {"output_config": {"effort": "high"}}},
            {"effort": "high", "format": FORMAT},
            id="an effort of its own",
        ),
        pytest.param(
            {"prompt": "hi", "params": {"output_config": {"format": {"type": "json_schema", "schema": TEXT}}}},
            {"format": {"type": "json_schema", "schema": TEXT}},
            id="a format of its own",
        ),
        pytest.param({"prompt": "hi", "params": {"output_config": {"format": None}}}, {"format": None}, id="no format"),
    ],
)
def test_every_request_without_a_format_of_its_own_asks_for_the_schema(element: Any, config: dict[str, Any]) -> None:
    request = read_request(element, 0, ASKING)

    check_params(request, api_version="2023-06-01")
    assert request.params["output_config"] == config


@pytest.mark.parametrize(
    ("element", "message"),
    [
        pytest.param(
            [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "{"}],
            "ends with an assistant's turn",
            id="prefill",
        ),
        pytest.param(
            [{"role": "user", "content": [{**DOCUMENT, "citations": {"enabled": True}}]}],
            "citations",
            id="cited",
        ),
        pytest.param(
            {"prompt": "hi", "params": {"output_config": "json"}}, "must be a mapping, not str", id="no config"
        ),
    ],
)
def test_request_that_does_not_go_with_a_schema_is_refused(element: Any, message: str) -> None:
    with pytest.raises(InvalidMessageError, match=rf"messages\[0\].*{message}"):
        check_params(read_request(element, 0, ASKING), api_version="2023-06-01")


# ------------------------------------------------------------------ properties


def schemas() -> st.SearchStrategy[dict[str, Any]]:
    leaves = st.one_of(
        st.builds(lambda n: {"type": "integer", "minimum": n, "maximum": n + 5}, st.integers(-9, 9)),
        st.builds(lambda n: {"type": "string", "minLength": n, "maxLength": n + 60}, st.integers(0, 9)),
        st.sampled_from([{"enum": ["a", "B c"]}, {"const": 1}, {"type": "boolean"}, {"type": ["number", "null"]}]),
    )
    names = st.sampled_from("abcd")
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.dictionaries(names, inner, min_size=1).flatmap(
                lambda properties: st.builds(
                    lambda required: {"type": "object", "properties": properties, "required": sorted(required)},
                    st.sets(st.sampled_from(sorted(properties))),
                )
            ),
            st.builds(
                lambda items, n: {"type": "array", "items": items, "minItems": n, "maxItems": n + 2},
                inner,
                st.integers(0, 3),
            ),
            st.builds(lambda a, b: {"oneOf": [a, {"type": "array", "items": b}]}, leaves, inner),
            st.builds(lambda a: {"allOf": [a], "description": "the same"}, inner),
        ),
        max_leaves=6,
    )


@settings(deadline=None)  # the first call imports, which may take a second
@given(schemas(), st.integers(0, 99))
def test_answer_that_satisfies_the_schema_satisfies_the_sent_one(schema: dict[str, Any], seed: int) -> None:
    """The schema that the API gets excludes nothing that the author's schema accepts."""
    try:
        output_schema = read_schema(schema)
    except OutputSchemaError as error:
        assert "the API takes" in str(error)  # noqa: PT017  # too many of them
        return
    assert schema_problem(output_schema.format["schema"]) is None
    answer = schema_instance(schema, seed=seed, text="text")
    value, error = OutputValidator(output_schema).read(json.dumps(answer), "end_turn")
    if error is None:
        sent_validator = OutputValidator(OutputSchema(output_schema.format["schema"], {}))
        assert sent_validator.read(json.dumps(value), "end_turn") == (value, None)


# ------------------------------------------------------------------ the folder


def test_a_schema_comes_back_from_its_folder_as_it_was(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    assert load_schema(folder) is None

    schema = read_schema(Person)
    write_schema(folder, schema)

    assert load_schema(folder) == schema
    assert list(load_schema(folder).format["schema"]["properties"]) == list(schema.format["schema"]["properties"])


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b'{"schema": {', id="cut"),
        pytest.param(b'{"schema":{"title":"\xff"},"format":{}}', id="not UTF-8"),
        pytest.param(b'{"schema":{"type":"objekt"},"format":{}}', id="no schema any more"),
        pytest.param(b'{"schema":' * 5000, id="nested without end"),
    ],
)
def test_damaged_schema_is_never_read_as_no_schema(content: bytes, tmp_path: Path) -> None:
    (tmp_path / SCHEMA_FILE).write_bytes(content)
    with pytest.raises(SubmissionRecordError, match="cannot be validated"):
        load_schema(LocalFolder(tmp_path))


@pytest.mark.parametrize(
    "inner",
    [
        pytest.param({"not": {"$ref": "#/$defs/nothing"}}, id="to nothing"),
        pytest.param({"not": {"$ref": "http://127.0.0.1:9/schema"}}, id="to a server"),
        pytest.param({"contains": {"$dynamicRef": "#nothing"}}, id="dynamic"),
    ],
)
def test_reference_that_only_validation_would_follow_is_refused_with_the_schema(inner: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}, **inner}}}
    with pytest.raises(OutputSchemaError, match=r"output_schema\.properties\.a.* refers to .*not in the schema"):
        read_schema(schema)


def test_reference_in_a_value_is_none() -> None:
    schema = {"type": "object", "properties": {"a": {"enum": ["x", "#"], "default": {"$ref": "http://example.com"}}}}

    assert read_schema(schema).schema == schema


@pytest.mark.parametrize(
    "given_schema", [pytest.param({"$schema": []}, id="dialect that is no text"), pytest.param("", id="no name at all")]
)
def test_value_that_the_libraries_do_not_foresee_is_an_output_schema_error(given_schema: Any) -> None:
    with pytest.raises(OutputSchemaError, match="output_schema"):
        read_schema(given_schema)
