"""Read canned answers from JSON lines, or from dicts. Mistakes are refused with the line and the remedy."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from airflow_claude_batch.simulator.messages.canned_answers import CannedAnswer
from airflow_claude_batch.simulator.messages.canned_messages import MessageError, message_fields
from airflow_claude_batch.simulator.messages.outcomes import Outcome

_CONDITIONS = ("custom_id", "custom_id_pattern", "index", "prompt", "attempt")
_ANSWERS = ("text", "json", "message", "outcome", "result")
_FIELDS = (*_CONDITIONS, *_ANSWERS, "thinking")
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_SYNONYMS = {"answer": "text", "content": "message", "pattern": "prompt", "error": "outcome", "position": "index"}


class CannedAnswersError(ValueError):
    """Canned answers that cannot be understood."""

    def __init__(self, place: str, problem: str, remedy: str) -> None:
        super().__init__(f"{place}: {problem}\n{remedy}")


def read_answers_file(path: str | Path) -> list[CannedAnswer]:
    """Read a file of canned answers, one JSON object on each line.

    :raises CannedAnswersError: when the file cannot be read or understood.
    """
    try:
        content = Path(path).expanduser().read_bytes()
    except OSError as error:
        remedy = "Give the path of a file with one JSON object on each line."
        raise CannedAnswersError(str(path), f"cannot be read ({error.strerror}).", remedy) from None
    return read_answers(content, source=Path(path).name)


def read_answers(content: bytes, *, source: str) -> list[CannedAnswer]:
    """Read JSON lines, or one JSON array.

    :param source: names them in errors.
    :raises CannedAnswersError: when they cannot be understood.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise CannedAnswersError(f"{source}, line {line}", "is no UTF-8.", "Save the file as UTF-8.") from None
    answers = [_answer(place, value) for place, value in _values(text, source)]
    if not answers:
        raise CannedAnswersError(source, "has no answers.", 'Write one on each line, such as {"text": "yes"}.')
    return answers


def read_answer_dicts(values: Iterable[Any], *, source: str = "answers") -> list[CannedAnswer]:
    """Read canned answers that are dicts already.

    :raises CannedAnswersError: when one cannot be understood.
    """
    return [_answer(f"{source}[{position}]", value) for position, value in enumerate(values)]


def _values(text: str, source: str) -> Iterable[tuple[str, Any]]:
    if text.lstrip().startswith("["):
        whole = _decode(source, text)
        return [(f"{source}[{position}]", value) for position, value in enumerate(whole)]
    # Not splitlines(): JSON strings may hold U+2028 as it is.
    lines = [(f"{source}, line {number}", line) for number, line in enumerate(text.split("\n"), start=1)]
    return [(place, _decode(place, line)) for place, line in lines if line.strip()]


def _decode(place: str, text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except ValueError as error:
        remedy = "Write each answer as one JSON object on a line of its own."
        raise CannedAnswersError(place, f"is no JSON ({error}).", remedy) from None
    except RecursionError:
        raise CannedAnswersError(place, "is nested too deeply.", "Nest it less.") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice!r} is there twice")
    return dict(pairs)


def _answer(place: str, value: Any) -> CannedAnswer:
    if not isinstance(value, Mapping):
        remedy = 'Write an object, such as {"prompt": "charged", "text": "billing"}.'
        raise CannedAnswersError(place, f"is of type {type(value).__name__}, not an object.", remedy)
    _check_names(place, value)
    _check_json(place, value)
    given = [name for name in _ANSWERS if name in value]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        remedy = f"Give exactly one of {', '.join(_ANSWERS)}."
        raise CannedAnswersError(place, f"needs one answer, and has {found}.", remedy)
    name = given[0]
    return CannedAnswer(
        place=place, **_conditions(place, value), **_thinking(place, value), **_given(place, name, value)
    )


def _check_names(place: str, value: Mapping[str, Any]) -> None:
    unknown = next((name for name in value if name not in _FIELDS), None)
    if unknown is None:
        return
    if unknown == "key":
        raise CannedAnswersError(
            place,
            'a "key" cannot be matched, because the API is not sent it.',
            'Use "index", the place in the input from 0 on, or "prompt", a pattern of the text.',
        )
    close = difflib.get_close_matches(str(unknown), _FIELDS, n=1)
    meant = _SYNONYMS.get(str(unknown)) or (close[0] if close else None)
    hint = f"Did you mean {meant!r}? " if meant else ""
    raise CannedAnswersError(place, f"there is no field {unknown!r}.", f"{hint}The fields are {', '.join(_FIELDS)}.")


def _check_json(place: str, value: Mapping[str, Any]) -> None:
    """Refuse what no response can hold, such as NaN, half a character pair, or a date of Python."""
    try:
        # Each of the two refuses something that the other writes.
        msgspec.json.encode(json.loads(json.dumps(dict(value), allow_nan=False, default=_pattern_text)))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CannedAnswersError(place, f"cannot be written as JSON ({error!s:.60}).", "Give JSON values.") from None


def _pattern_text(value: Any) -> str:
    if isinstance(value, re.Pattern):
        return str(value.pattern)
    raise TypeError(f"it has a value of type {type(value).__name__}")


def _conditions(place: str, value: Mapping[str, Any]) -> dict[str, Any]:
    custom_id = _typed(place, value, "custom_id", str)
    if custom_id is not None and _CUSTOM_ID.fullmatch(custom_id) is None:
        remedy = 'A custom_id is 1 to 64 of a-z, A-Z, 0-9, "_" and "-". For a pattern, use "custom_id_pattern".'
        raise CannedAnswersError(place, f"no request can have the custom_id {custom_id[:70]!r}.", remedy)
    return {
        "custom_id": custom_id,
        "custom_id_pattern": _pattern(place, value, "custom_id_pattern"),
        "index": _number(place, value, "index", least=0),
        "prompt": _pattern(place, value, "prompt"),
        "attempt": _number(place, value, "attempt", least=1),
    }


def _typed(place: str, value: Mapping[str, Any], name: str, kind: type) -> Any:
    """Return the value of a field. None: it is not there.

    :raises CannedAnswersError: when it has another type, and when it is null.
    """
    if name not in value:
        return None
    found = value[name]
    if not isinstance(found, kind) or isinstance(found, bool):
        noun = {str: "text", int: "a whole number"}[kind]
        raise CannedAnswersError(place, f"{name!r} is {found!r:.60}.", f"Give {noun}, or leave {name!r} out.")
    return found


def _pattern(place: str, value: Mapping[str, Any], name: str) -> re.Pattern[str] | None:
    if isinstance(value.get(name), re.Pattern):
        return value[name]  # type: ignore[no-any-return]
    pattern = _typed(place, value, name, str)
    if pattern is None:
        return None
    try:
        return re.compile(pattern)
    except re.error as error:
        remedy = (
            f"{name!r} is a regular expression of Python. Put \\ (in JSON \\\\) before a character that means itself."
        )
        raise CannedAnswersError(place, f"{name!r} is no pattern ({error}).", remedy) from None


def _number(place: str, value: Mapping[str, Any], name: str, *, least: int) -> int | None:
    number: int | None = _typed(place, value, name, int)
    if number is not None and number < least:
        raise CannedAnswersError(place, f"{name!r} is {number}.", f"It counts from {least} on.")
    return number


def _thinking(place: str, value: Mapping[str, Any]) -> dict[str, Any]:
    thinking = _typed(place, value, "thinking", str)
    if thinking is not None and not {"text", "json"} & set(value):
        remedy = 'It goes with "text" or "json". Put a thinking block into the content of a "message".'
        raise CannedAnswersError(place, '"thinking" has no text to go before.', remedy)
    return {"thinking": thinking}


def _given(place: str, name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    match name:
        case "text":
            text = _typed(place, value, "text", str)
            return {"answer": text or {"content": []}}  # a model that says nothing returns no block
        case "json":
            return {"answer": json.dumps(value["json"], ensure_ascii=False)}
        case "message":
            return {"answer": _message(place, "message", value["message"])}
        case "outcome":
            return {"outcome": _outcome(place, value["outcome"])}
        case _:
            return _result(place, value["result"])


def _message(place: str, name: str, value: Any) -> dict[str, Any]:
    try:
        return message_fields(value)
    except MessageError as error:
        problem, _, remedy = str(error).partition("\n")
        raise CannedAnswersError(place, f"{name}{problem}", remedy) from None


def _outcome(place: str, value: Any) -> Outcome:
    if isinstance(value, Mapping):
        return _result(place, value, name="outcome")["outcome"]  # type: ignore[no-any-return]
    try:
        return Outcome.parse(value)
    except (ValueError, AttributeError):
        remedy = 'Give "expired", "canceled", "errored:<type>[:<message>]", "refusal[:<category>]" or a stop reason.'
        raise CannedAnswersError(place, f"{value!r:.60} is no outcome.", remedy) from None


def _result(place: str, value: Any, *, name: str = "result") -> dict[str, Any]:
    """Read a ``result`` as the API writes it, so that recorded results can be answers."""
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind in ("expired", "canceled"):
        return {"outcome": Outcome(str(kind))}
    if kind == "succeeded" and "message" in value:
        return {"answer": _message(place, f"{name}.message", value["message"])}
    error = value.get("error") if kind == "errored" else None
    if isinstance(error, Mapping) and isinstance(error.get("error"), Mapping):
        error = error["error"]  # in recorded results the error is one level deeper
    if isinstance(error, Mapping) and isinstance(error.get("type"), str):
        message = error.get("message")
        return {"outcome": Outcome.parse(f"errored:{error['type']}:{message if isinstance(message, str) else ''}")}
    remedy = (
        'Give {"type": "succeeded", "message": {…}}, {"type": "errored", "error": {"type": "…", "message": "…"}}, '
        '{"type": "expired"} or {"type": "canceled"}.'
    )
    raise CannedAnswersError(place, f"{name!r} is no result of the API.", remedy)
