"""Match the patterns of an output schema in bounded time, whatever the pattern and the text.

jsonschema searches with Python's ``re``, which backtracks: ``(a+)+$`` takes years for a text of 60 letters. So patterns
are matched by pydantic's engine, in time proportional to the text. What that engine cannot read, such as look-ahead, is
searched with ``re`` if few steps can be needed. A pattern beyond these bounds is not asserted.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final

from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

log = logging.getLogger(__name__)

#: Steps of one search, about a second each: places in the pattern times characters, and tries of ``re``.
_LINEAR_STEPS: Final = 200_000_000
_BACKTRACKING_STEPS: Final = 20_000_000
#: Searches of one pattern that take longer than the first are slow. Together they may take the second.
_SLOW_SECONDS: Final = 0.01
_SLOW_SECONDS_TOGETHER: Final = 30.0
_LOGGED_CHARACTERS: Final = 80

_ESCAPE: Final = re.compile(r"\\.", re.DOTALL)
_CLASS: Final = re.compile(r"\[\^?\]?[^\]]*\]")
_BACK_REFERENCE: Final = re.compile(r"\\[1-9]|\(\?P=|\(\?\(")
_REPEATED_GROUP: Final = re.compile(r"\)[*+{]")
_COUNT: Final = re.compile(r"\{(\d*)(,?)(\d*)\}")
_extend: Any = extend  # jsonschema gives it no types
_VERBOSE: Final = re.compile(r"\(\?[a-zA-Z]*x")


class PatternMatcher:
    """Matches patterns, and remembers what that has cost. One for each validator. Example::

    PatternMatcher().matches("(a+)+$", "a" * 1_000_000 + "!")  # False, at once
    """

    def __init__(self) -> None:
        self._linear: dict[str, _LinearSearch | None] = {}
        self._slow_seconds: dict[str, float] = {}
        self._unasserted: set[str] = set()

    def matches(self, pattern: str, text: str) -> bool:
        """Tell whether a pattern is found in a text. True if that cannot be told within the bounds."""
        search = self._search(pattern, len(text))
        if search is None or self._slow_seconds.get(pattern, 0.0) > _SLOW_SECONDS_TOGETHER:
            self._warn(pattern)
            return True
        started = time.perf_counter()
        found = search(text)
        if (seconds := time.perf_counter() - started) > _SLOW_SECONDS:
            self._slow_seconds[pattern] = self._slow_seconds.get(pattern, 0.0) + seconds
        return found

    def validator_class(self, base: Any, schema: Any) -> Any:
        """Return jsonschema's class for a schema, with its own in place of the keywords that search for patterns."""
        keywords: dict[str, Any] = {"pattern": self._pattern}
        if '"patternProperties":' in json.dumps(schema):
            keywords["patternProperties"] = self._pattern_properties
            keywords["additionalProperties"] = _unless_beside_patterns(base.VALIDATORS["additionalProperties"])
            keywords["unevaluatedProperties"] = None  # it searches for patterns that may be anywhere in the schema
        return _extend(base, {name: keyword or _not_asserted for name, keyword in keywords.items()})

    def _search(self, pattern: str, length: int) -> Callable[[str], bool] | None:
        """Return a search whose time is bounded for texts of this length, None if there is none."""
        if pattern not in self._linear:
            self._linear[pattern] = _LinearSearch.of(pattern)
        linear = self._linear[pattern]
        if linear is not None:
            return linear.search if length <= linear.longest_text else None
        if _backtracking_steps(pattern, length) > _BACKTRACKING_STEPS:
            return None
        compiled = re.compile(pattern)
        return lambda text: compiled.search(text) is not None

    def _warn(self, pattern: str) -> None:
        if pattern not in self._unasserted:
            self._unasserted.add(pattern)
            log.warning(
                "Answers are not checked for the pattern %.*r of output_schema where that could take too long.",
                _LOGGED_CHARACTERS,
                pattern,
            )

    def _pattern(self, validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
        if isinstance(instance, str) and not self.matches(pattern, instance):
            yield ValidationError(f"the text does not match {pattern!r}")

    def _pattern_properties(self, validator: Any, patterns: Any, instance: Any, schema: Any) -> Iterator[Any]:
        for name, value in instance.items() if isinstance(instance, dict) else ():
            for pattern, inner in patterns.items():
                if self.matches(pattern, name):
                    yield from validator.descend(value, inner, path=name, schema_path=pattern)


def without_dialects(schema: Any) -> Any:
    """Copy a schema without ``$schema``: where jsonschema finds one, it goes on with a class of its own."""
    if isinstance(schema, dict):
        return {
            key: without_dialects(value)
            for key, value in schema.items()
            if not (key == "$schema" and isinstance(value, str))
        }
    return [without_dialects(value) for value in schema] if isinstance(schema, list) else schema


def _not_asserted(validator: Any, value: Any, instance: Any, schema: Any) -> tuple[()]:
    return ()


def _unless_beside_patterns(original: Any) -> Any:
    def keyword(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        return () if "patternProperties" in schema else original(validator, value, instance, schema)

    return keyword


@dataclass(frozen=True, slots=True)
class _LinearSearch:
    """A search by pydantic's engine.

    :param longest_text: characters that it searches within the bound.
    """

    is_match: Callable[[str], bool]
    longest_text: int

    @classmethod
    def of(cls, pattern: str) -> _LinearSearch | None:
        """Make the search for a pattern, None if the engine cannot read it."""
        from pydantic import StringConstraints, TypeAdapter

        try:
            adapter = TypeAdapter(Annotated[str, StringConstraints(pattern=pattern)])
        except Exception:  # pydantic has no public name for this error
            return None
        return cls(adapter.validator.isinstance_python, _LINEAR_STEPS // _places(pattern))

    def search(self, text: str) -> bool:
        return self.is_match(text) or (not text.isascii() and self.is_match(_without_surrogates(text)))


def _without_surrogates(text: str) -> str:
    """Replace lone surrogates, with which no text matches."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _places(pattern: str) -> int:
    """Return how many places in a pattern a search can be at: its length, with counted repeats written out."""
    plain = _plain(pattern)
    counts = [int(high or low or 1) for low, _, high in _COUNT.findall(plain)]
    if _REPEATED_GROUP.search(plain):
        return (len(pattern) + 1) * math.prod(counts)
    return len(pattern) + sum(counts) + 1


def _backtracking_steps(pattern: str, length: int) -> float:
    """Return the most steps that ``re`` needs for a text of this length, infinity if that may grow exponentially.

    Each start, repeat, option and alternative multiplies what can be tried.
    """
    plain = _plain(pattern)
    if _REPEATED_GROUP.search(plain) or _VERBOSE.search(plain):
        return math.inf
    is_anchored = plain.startswith("^") and "|" not in plain
    choices = [2] * (plain.count("?") - plain.count("(?") + plain.count("|"))
    for low, comma, high in _COUNT.findall(plain):
        choices.append(length + 1 if comma and not high else int(high or low or 0) - int(low or 0) + 1)
    of_any_length = plain.count("*") + plain.count("+") + len(_BACK_REFERENCE.findall(pattern)) + (not is_anchored)
    return float(min(math.prod([*choices, *[length + 1] * of_any_length]), sys.maxsize))


def _plain(pattern: str) -> str:
    """Return a pattern with one letter in place of each escape and each class."""
    return _CLASS.sub("x", _ESCAPE.sub("x", pattern))
