"""Schemas, types and a value of them, for tests of what is asked and of what is answered."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

TEXT = {"type": "string"}
NUMBER = {"type": "number"}


def obj(required: list[str] | None = None, /, **properties: Any) -> dict[str, Any]:
    """Return the schema of a closed object. All properties are required unless some are named."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class Address(BaseModel):
    street: str = Field(min_length=1)
    postcode: str = Field(pattern=r"^\d{5}$")


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=1, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    good: bool


@dataclass
class Point:
    x: float


class Named(TypedDict):
    name: str


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int | None = None
    color: Color = Color.RED
    home: Address = Field(description="where the mail goes")
    work: Address | None
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]]
    position: tuple[float, float]
    tags: set[str] = Field(max_length=3)


PERSON = {
    "name": "Ada",
    "age": None,
    "color": "green",
    "home": {"street": "Main", "postcode": "12345"},
    "work": None,
    "pets": [{"kind": "cat", "lives": 7}, {"kind": "dog", "good": True}],
    "position": [1.5, 2.0],
    "tags": ["a"],
}
