"""What the vendor's SDK makes of a schema, and the API takes, is taken here too.

Three kinds of schema are not: those whose meaning the SDK changes (an object with free names becomes one with none),
those that no answer can satisfy, and those with contradictions or conditions, which the SDK only says in words.
"""

from __future__ import annotations

import copy
import datetime
import decimal
import enum
import ipaddress
import uuid
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, TypeVar

import pytest
from anthropic import transform_schema
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, ConfigDict, EmailStr, Field, Json, RootModel, TypeAdapter, create_model
from typing_extensions import TypedDict

from airflow_claude_batch.batch.input.output_schema import OutputSchema, read_schema
from airflow_claude_batch.batch.land.validate_output import OutputValidator
from airflow_claude_batch.exceptions import OutputSchemaError
from airflow_claude_batch.simulator.messages.schema_instances import schema_instance
from airflow_claude_batch.simulator.messages.schemas import schema_problem

# ------------------------------------------------------------------ JSON Schemas

WORDS = st.sampled_from([{}, {"title": "T"}, {"description": "d"}, {"default": None}, {"x-note": "of another tool"}])
LEAVES = st.one_of(
    st.sampled_from(
        [
            {"enum": ["a", 1, None]},
            {"type": "string", "enum": ["a", "b"]},
            {"type": "array", "enum": [["a"], ["b"]]},
            {"type": "array", "const": [1]},
            {"const": "c"},
            {"type": "boolean"},
            {"type": "null"},
            {"type": "array"},
            {"type": "object", "properties": {}},
            {"type": "string", "format": "date-time"},
            {"type": "string", "format": "binary"},
            {"type": "string", "pattern": "^a+$"},
            {"$ref": "#/$defs/A"},
            {"$ref": "#/$defs/B"},
            {"$ref": "#/$defs/A", "minLength": 2},
        ]
    ),
    st.builds(lambda n: {"type": "integer", "minimum": n, "maximum": n + 5}, st.integers(-9, 9)),
    st.builds(lambda n: {"type": "string", "minLength": n, "maxLength": n + 60}, st.integers(0, 9)),
    st.builds(lambda n: {"type": "number", "multipleOf": n}, st.integers(1, 3)),
)


def objects(inner: st.SearchStrategy[Any], names: str, *closings: Any) -> st.SearchStrategy[dict[str, Any]]:
    closed = st.sampled_from([{}, *({"additionalProperties": closing} for closing in closings)])
    properties = st.dictionaries(st.sampled_from(names), inner, min_size=1)
    return st.builds(
        lambda named, required, more: {
            "type": "object",
            "properties": named,
            "required": sorted(required & named.keys()),
            **more,
        },
        properties,
        st.sets(st.sampled_from(names)),
        closed,
    )


def described(schemas: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda schema, words: {**schema, **words}, schemas, WORDS)


SCHEMAS = st.recursive(
    described(LEAVES),
    lambda inner: described(
        st.one_of(
            objects(inner, "abcd", True, False),
            st.builds(lambda items, n: {"type": "array", "items": items, "minItems": n}, inner, st.integers(0, 3)),
            st.builds(lambda one, other: {"type": "array", "prefixItems": [one, other]}, inner, inner),
            st.builds(lambda kind, one, other: {kind: [one, other]}, st.sampled_from(["anyOf", "oneOf"]), inner, inner),
            st.builds(lambda one: {"allOf": [one]}, inner),
            st.builds(lambda one, two: {"allOf": [one, two]}, objects(inner, "ab", True), objects(inner, "cd")),
        )
    ),
    max_leaves=8,
)
DEFINITIONS = st.fixed_dictionaries(
    {
        "A": st.sampled_from([{"type": "string"}, {"type": "object", "properties": {"x": {"type": "string"}}}]),
        "B": st.sampled_from([{"enum": ["x"]}, {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}}]),
    }
)


@settings(max_examples=40)
@given(st.builds(lambda schema, definitions: {**schema, "$defs": definitions}, SCHEMAS, DEFINITIONS))
def test_schema_that_the_sdk_transforms_is_taken(schema: dict[str, Any]) -> None:
    theirs = transform_schema(copy.deepcopy(schema))
    if schema_problem(theirs) is not None:
        return
    ours = read_schema(schema)
    assert schema_problem(ours.format["schema"]) is None
    answer = schema_instance(ours.format["schema"], seed=1, text="text")
    sent = OutputValidator(OutputSchema(ours.format["schema"], {}))
    assert sent.check(answer) == (answer, None)


# ------------------------------------------------------------------ types


class Tone(enum.Enum):
    WARM = "warm"
    COLD = "cold"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Shape(enum.Enum):
    SQUARE = (1, 1)
    WIDE = (2, 1)


class Nothing(BaseModel):
    """A model without fields."""


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str


class Part(BaseModel):
    name: str = Field(description="what it is called", max_length=20, examples=["bolt"])
    sizes: list[Annotated[int, Field(ge=1)]] = Field(min_length=1, max_length=5)
    tone: Tone = Field(Tone.WARM, description="how it sounds")
    made: datetime.date | None = Field(None, description="when it was made")


class Cat(BaseModel):
    kind: Literal["cat"]
    part: Part


class Dog(BaseModel):
    kind: Literal["dog"]
    part: Part = Field(description="the dog's")


T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    content: T
    others: list[T] = []


class Names(RootModel[list[str]]):
    """A list at the top."""


class Root(RootModel[Part]):
    """A model at the top, by reference."""


@dataclass
class Pair:
    left: Part
    right: Part | None = None


class Movie(TypedDict):
    title: str
    year: NotRequired[Annotated[int, Field(ge=1888)]]


class Place(NamedTuple):
    lat: float
    lon: float = 0.0


class Formats(BaseModel):
    a: datetime.datetime
    b: datetime.time
    c: datetime.timedelta
    d: uuid.UUID
    e: AnyUrl
    f: ipaddress.IPv4Address
    g: ipaddress.IPv6Address
    h: EmailStr
    i: decimal.Decimal
    j: bytes
    k: Json[list[int]]


class Aliased(BaseModel):
    from_: str = Field(alias="from")


class Kitchen(BaseModel):
    pet: Cat | Dog = Field(discriminator="kind", description="the pet")
    pets: dict[str, Part] | None = None


UserId = NewType("UserId", int)
#: Each part has two optional properties and a union: 14 copies would be too many, one definition is not.
MANY_PARTS = create_model("ManyParts", **{f"p{n}": (Part, Field(description=f"part {n}")) for n in range(14)})  # type: ignore[call-overload]

TYPES = [
    *(Part, Open, Nothing, Root, Names, Pair, Movie, Place, Formats, Aliased, Tone, Level, Shape, Cat, MANY_PARTS),
    *(Box[int], Box[Part], Box[Box[Tone]], list[Part], list[Box[str]], set[Level], frozenset[Tone], UserId),
    *(Cat | Dog, Part | None, list[Part] | None, Literal["a", 1, None], tuple[int, str], tuple[Part, ...]),
    *(Annotated[Cat | Dog, Field(discriminator="kind")], Annotated[str, Field(pattern="^a+$")], list[Movie | Place]),
    *(str, int, float, bool, None, datetime.date, TypeAdapter(list[Cat | Dog]), TypeAdapter(Part)),
]


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: str(kind)[-40:])
def test_type_that_the_sdk_transforms_is_taken(kind: Any) -> None:
    adapter = kind if isinstance(kind, TypeAdapter) else TypeAdapter(kind)
    assert schema_problem(transform_schema(copy.deepcopy(adapter.json_schema()))) is None

    ours = read_schema(kind)

    assert schema_problem(ours.format["schema"]) is None


@pytest.mark.parametrize("kind", [Kitchen, dict[str, int], Any], ids=str)
def test_type_that_may_be_anything_is_refused(kind: Any) -> None:
    """The SDK makes an object without any property of a dict, and its answer would always be empty."""
    with pytest.raises(OutputSchemaError, match="output_schema"):
        read_schema(kind)
