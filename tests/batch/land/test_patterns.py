"""Patterns of an output schema: asserted as Python's ``re`` would, in bounded time."""

from __future__ import annotations

import json
import logging
import re
import string
import time
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, StringConstraints

from airflow_claude_batch.batch.input.output_schema import read_schema
from airflow_claude_batch.batch.land.patterns import PatternMatcher
from airflow_claude_batch.batch.land.validate_output import OutputValidator

LONG = 200_000
NESTED = "(a+)+$"
LOOK_AHEAD = r"^(?!\s*$).+"


def is_valid(schema: Any, value: Any) -> bool:
    return OutputValidator(read_schema(schema)).read(json.dumps(value), "end_turn")[1] is None


def text(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern}


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        pytest.param(r"^\d{5}$", "89073", "8907", id="digits"),
        pytest.param("^ä+$", "ää", "äa", id="accents"),
        pytest.param("b", "abc", "ac", id="found anywhere"),
        pytest.param(r"^\w+\Z", "abc", "a c", id="end as Python writes it"),
        pytest.param(LOOK_AHEAD, " a", "   ", id="look-ahead"),
        pytest.param(r"^(?!000)\d{3}-(?!00)\d{2}-(?!0000)\d{4}$", "123-45-6789", "000-45-6789", id="look-aheads"),
        pytest.param(r"^(\w)\1$", "aa", "ab", id="back reference"),
        pytest.param(r"^(?=.*\d)(?=.*[a-z]).{8,}$", "abcdefg1", "abcdefgh", id="password"),
        pytest.param("^.{1,5000}$", "x" * 5000, "x" * 5001, id="long text"),
        pytest.param(
            r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", f"{'0' * 8}{'-0000' * 3}-{'0' * 12}", "0", id="id"
        ),
    ],
)
def test_pattern_is_asserted(pattern: str, good: str, bad: str) -> None:
    assert is_valid(text(pattern), good)
    assert not is_valid(text(pattern), bad)


@pytest.mark.parametrize(
    ("pattern", "answer"),
    [
        pytest.param(NESTED, "a" * 60 + "!", id="nested"),
        pytest.param(NESTED, "a" * LONG + "!", id="nested, long"),
        pytest.param("^(a|aa)+$", "a" * LONG + "!", id="alternatives"),
        pytest.param("(.*)(.*)(.*)(.*)x", "a" * LONG, id="polynomial"),
        pytest.param(r"\s+$", " " * LONG + "!", id="quadratic"),
        pytest.param(r"^(?=(a+)+$)", "a" * 60 + "!", id="nested in a look-ahead"),
        pytest.param(r"(x+x+)+y(?=z)", "x" * 60, id="nested before a look-ahead"),
        pytest.param(r"(?x) (?=a) (a+) +$", "a" * 60 + "!", id="nested, written with spaces"),
        pytest.param(r"(?:a?){60}(?=a)b", "a" * 60, id="counted"),
        pytest.param(r"(\w+)+\1$", "a" * 60 + "!", id="nested, with a back reference"),
        pytest.param(r"(?=a)a*a*a*a*a*b", "a" * LONG, id="polynomial with a look-ahead"),
        pytest.param("(" * 20 + "a?" * 30 + ")" * 20 + "(?=b)" + "a" * 30, "a" * 60, id="options"),
        pytest.param("a[ab]{10000}c", "ab" * LONG, id="too many places"),
        pytest.param(r"((\w{1,30}){1,30}){1,30}$", "a" * 500 + "!", id="too large"),
    ],
)
def test_no_pattern_hangs_a_landing(pattern: str, answer: str) -> None:
    started = time.process_time()
    is_valid(text(pattern), answer)
    is_valid({"type": "array", "items": text(pattern)}, [answer])
    assert time.process_time() - started < 4


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"type": "string", "allOf": [text(NESTED)]}, id="allOf"),
        pytest.param({"anyOf": [text(NESTED), {"type": "null"}]}, id="anyOf"),
        pytest.param({"$ref": "#/$defs/a", "$defs": {"a": text(NESTED)}}, id="reference"),
        pytest.param({"$schema": "http://json-schema.org/draft-07/schema#", **text(NESTED)}, id="dialect"),
        pytest.param(
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "$ref": "#/$defs/a",
                "$defs": {"a": {"$schema": "http://json-schema.org/draft-07/schema#", **text(NESTED)}},
            },
            id="dialect of a definition",
        ),
    ],
)
def test_pattern_is_bounded_and_asserted_wherever_it_stands(schema: Any) -> None:
    assert not is_valid(schema, "a" * 60 + "!")
    assert is_valid(schema, "a" * 60)


@pytest.mark.parametrize(
    "beside",
    [
        pytest.param({"propertyNames": {"pattern": NESTED}}, id="propertyNames"),
        pytest.param({"not": {"patternProperties": {NESTED: False}, "required": ["b"]}}, id="patternProperties"),
        pytest.param({"not": {"patternProperties": {NESTED: {}}, "additionalProperties": False}}, id="additional"),
        pytest.param(
            {"not": {"allOf": [{"patternProperties": {NESTED: {}}}], "unevaluatedProperties": False}}, id="unevaluated"
        ),
    ],
)
def test_names_of_properties_are_bounded_too(beside: dict[str, Any]) -> None:
    name = "a" * 60 + "!"
    is_valid({"type": "object", "properties": {name: {"type": "string"}}, **beside}, {name: "x"})


def test_patterns_of_properties_are_asserted() -> None:
    schema = {"type": "object", "properties": {"ab": {"type": "string"}, "b": {"type": "string"}}}
    inner = {"not": {"patternProperties": {"^a": {"const": "x"}}, "additionalProperties": False}}
    assert not is_valid({**schema, **inner}, {"ab": "x"})
    assert is_valid({**schema, **inner}, {"ab": "y"})


def test_pattern_of_a_pydantic_model_is_bounded_and_asserted() -> None:
    class Label(BaseModel):
        name: Annotated[str, StringConstraints(pattern=NESTED)] = Field(description="Letters.")

    assert is_valid(Label, {"name": "aaa"})
    assert not is_valid(Label, {"name": "a" * LONG + "!"})


def test_pattern_that_is_not_asserted_is_named_once_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    matcher = PatternMatcher()
    with caplog.at_level(logging.WARNING):
        assert matcher.matches("^(?=(a+)+$)", "a" * 60 + "!")
        assert matcher.matches("^(?=(a+)+$)", "a" * 61 + "!")

    assert [record.getMessage() for record in caplog.records] == [
        "Answers are not checked for the pattern '^(?=(a+)+$)' of output_schema where that could take too long."
    ]


def test_lone_surrogate_is_a_character_like_others() -> None:
    assert PatternMatcher().matches("^a.$", "a\ud800")
    assert not PatternMatcher().matches("^a.$", "b\ud800")


_ATOMS = st.sampled_from(["a", "b", ".", r"\w", r"\d", "[ab]", "[^a]", "(?:ab)", "(a)", "(?=a)", "(?!b)", "(?<=a)"])
_REPEATS = st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,3}", "{2,}", "*?"])


@given(
    atoms=st.lists(st.tuples(_ATOMS, _REPEATS), min_size=1, max_size=5),
    ends=st.tuples(st.sampled_from(["", "^"]), st.sampled_from(["", "$", "|b"])),
    searched=st.text(string.ascii_lowercase[:3] + "1", max_size=12),
)
def test_short_text_matches_as_re_says(atoms: list[tuple[str, str]], ends: tuple[str, str], searched: str) -> None:
    pattern = ends[0] + "".join(atom + ("" if atom.startswith("(?") else repeat) for atom, repeat in atoms) + ends[1]
    expected = re.search(pattern, searched) is not None
    assert PatternMatcher().matches(pattern, searched) in (expected, True)
    if not re.search(r"\)[*+{]", pattern):
        assert PatternMatcher().matches(pattern, searched) == expected
