"""What fuzz tests share: how long they try, and what strange values are made of.

Without FUZZ every run tries the same few examples, so that CI is steady. ``FUZZ=5000`` tries that many of each, other
ones every time; what fails is kept in ``.hypothesis`` and tried first the next time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FUZZ", "0"))

#: For every fuzz test: ``@fuzzed`` above ``@given``.
fuzzed = settings(
    max_examples=EXAMPLES or 60,
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)


class Array:
    """Stands for what data science puts into lists: compares by element, has no truth, and no short repr."""

    def __eq__(self, other: object) -> Any:
        return Array()

    def __bool__(self) -> bool:
        raise ValueError("The truth value of an array with more than one element is ambiguous")

    def __repr__(self) -> str:
        return "array(" + "1, " * 1000 + ")"

    __hash__ = None  # type: ignore[assignment]


class Shy:
    """Cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("not for your eyes")


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


#: Values that even Hypothesis cannot show. Strategies give their names, and ``real`` puts the values in their places.
EXTREMES: dict[str, Callable[[], Any]] = {
    "a huge number": lambda: 10**5000,
    "a hugely negative number": lambda: -(10**5000),
    "lists in lists": lambda: nested(400),
    "lists in lists, nearly too deep": lambda: nested(900),
    "lists in lists, too deep": lambda: nested(2000),
    "an array": Array,
    "what cannot be shown": Shy,
    "an object": object,
}


@dataclass(frozen=True)
class Extreme:
    name: str


def real(value: Any) -> Any:
    """The value with extremes in the places of their names."""
    if isinstance(value, Extreme):
        return EXTREMES[value.name]()
    if isinstance(value, dict):
        return {key: real(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(real, value))
    return value


extremes = st.sampled_from(sorted(EXTREMES)).map(Extreme)
numbers = (
    st.integers() | st.floats() | st.sampled_from([2**63, 2**64, -(2**63) - 1, 10**400, 1e308, 5e-324, True, False])
)
texts = st.text(max_size=12) | st.text(st.characters(categories=["Cs", "Cc", "Zl", "Zp", "Lu"]), max_size=6)

#: Whatever JSON can say, also where it should not.
json_values = st.recursive(
    st.none() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)

#: Whatever Python can say. Use ``real`` on it.
python_values = st.recursive(
    st.none() | numbers | texts | st.binary(max_size=5) | st.datetimes() | st.decimals() | st.uuids() | extremes,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.frozensets(st.integers() | st.text(max_size=3), max_size=2)
        | st.dictionaries(texts | numbers | st.none() | st.tuples(st.integers()), inner, max_size=4)
    ),
    max_leaves=8,
)


def mutated(value: Any, draw: Callable[[Any], Any], values: st.SearchStrategy[Any] = json_values) -> Any:
    """A copy of a JSON value with something in it replaced, removed or added."""
    if isinstance(value, dict) and value and draw(st.integers(0, 9)):
        name = draw(st.sampled_from(sorted(value)))
        how = draw(st.sampled_from(["deeper", "deeper", "without", "more"]))
        if how == "without":
            return {key: inner for key, inner in value.items() if key != name}
        if how == "more":
            return {**value, draw(texts): draw(values)}
        return {**value, name: mutated(value[name], draw, values)}
    if isinstance(value, list) and value and draw(st.integers(0, 9)):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], mutated(value[place], draw, values), *value[place + 1 :]]
    return draw(values)


#: What looks like JSON from afar.
POISON = [
    b'"\xff",',
    b'{"\xff":0},',
    b'"\\ud800",',
    b"1e999,",
    b"9" * 5000 + b",",
    b"NaN,",
    b"-1,",
    b"[" * 3000,
    b'{"x":1e999,"y":"\xff"},',
    b"\xe2\x80\xa8",
]


def damaged(data: bytes, draw: Callable[[Any], Any]) -> bytes:
    """The same bytes after an accident: cut, overwritten, doubled, with a stretch gone or something between."""
    if not data:
        return draw(st.binary(max_size=10))
    start = draw(st.integers(0, len(data) - 1))
    end = draw(st.integers(start, min(len(data), start + 40)))
    how = draw(
        st.sampled_from(["cut", "flip", "zeros", "gone", "twice", "insert", "poison", "poison", "line_gone", "digits"])
    )
    match how:
        case "cut":
            return data[:start]
        case "flip":
            return data[:start] + bytes([data[start] ^ (1 << draw(st.integers(0, 7)))]) + data[start + 1 :]
        case "zeros":
            return data[:start] + bytes(end - start) + data[end:]
        case "gone":
            return data[:start] + data[end:]
        case "twice":
            return data[:end] + data[start:]
        case "insert":
            return data[:start] + draw(st.binary(min_size=1, max_size=8) | st.sampled_from(POISON)) + data[start:]
        case "poison":
            values = [place + 1 for place, byte in enumerate(data) if byte in b":["]
            place = draw(st.sampled_from(values)) if values else start
            return data[:place] + draw(st.sampled_from(POISON)) + data[place:]
        case "line_gone":
            lines = data.splitlines(keepends=True)
            gone = draw(st.integers(0, len(lines) - 1))
            return b"".join(line for number, line in enumerate(lines) if number != gone)
        case _:
            numbers = [place for place, byte in enumerate(data) if 48 <= byte <= 57]
            place = draw(st.sampled_from(numbers)) if numbers else start
            return data[:place] + str(draw(st.integers(-1, 10**30))).encode() + data[place + 1 :]
