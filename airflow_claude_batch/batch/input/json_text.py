"""Reads JSON that people write: one value a line, an array, or values over several lines. Explains what is no JSON.

Nothing of the text is quoted: it may be a prompt.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NamedTuple, NoReturn

from airflow_claude_batch.batch.input.json_errors import explain

_ONE_A_LINE: Final = "Write each element as JSON on a line of its own, for example with json.dumps(element)."
_STARTS: Final = '{["'
_BLANKS: Final = re.compile(r"[\s\ufeff]*")
_TRAILING_COMMA: Final = re.compile(r",\s*[}\]]")
_STRING_OR_CONSTANT: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|NaN|-?Infinity', re.DOTALL)
_SINGLE_QUOTE: Final = re.compile(r"[\s\[{,:(]*'")
_PYTHON_WORD: Final = re.compile(r"(?:None|True|False|undefined)\b")


class TextError(NamedTuple):
    """Why a text is not JSON, after its name, and what to do. ``line`` counts from 1."""

    problem: str
    remedy: str
    line: int = 1


class NotJsonError(ValueError):
    """A text is not JSON."""

    def __init__(self, error: TextError) -> None:
        super().__init__(error.problem)
        self.error = error


class _ConstantError(ValueError):
    """NaN or Infinity, which Python's own reader would take."""


def read_values(text: str) -> list[Any]:
    """Read JSON values that stand one after the other, each over any number of lines.

    >>> read_values('{"prompt": "a"}\\n{"prompt": "b"}')
    [{'prompt': 'a'}, {'prompt': 'b'}]

    :raises NotJsonError: says why, and in which line.
    """
    decoder, values = json.JSONDecoder(parse_constant=_refuse_constant), []
    position = _skip_blanks(text, 0)
    while position < len(text):
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise NotJsonError(_explain_error(text, error)) from None
        values.append(value)
        position = _skip_blanks(text, position)
    return values


def is_beginning(line: str) -> bool:
    """Return True if a line is how JSON begins that goes on in the next lines."""
    try:
        json.loads(line)
    except json.JSONDecodeError as error:
        return line.lstrip()[:1] in ("{", "[") and error.pos >= len(line.rstrip())
    except (ValueError, RecursionError):
        return False
    return False


def explain_bytes(line: bytes) -> TextError:
    """Explain why bytes that should be one JSON value are none."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return TextError(
            f"is not UTF-8: byte {error.start + 1} is 0x{line[error.start]:02x}, so it is not JSON",
            "Write the file as UTF-8. One from Windows or Excel: iconv -f WINDOWS-1252 -t UTF-8 old.jsonl > new.jsonl",
        )
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return _explain_error(text, error)
    problem, remedy = explain(value, "value", ValueError("a number is too large"))
    return TextError(f"cannot be sent: {problem.rstrip('.')}", remedy)


def _explain_error(text: str, error: Exception) -> TextError:
    if isinstance(error, json.JSONDecodeError):
        return _explain_syntax(text, error)._replace(line=error.lineno)
    if isinstance(error, _ConstantError):
        return TextError(
            f"has {error}, so it is not JSON",
            "Write null, or leave the field out. json.dumps(element, allow_nan=False) finds such values.",
            line=_line_of_constant(text),
        )
    if isinstance(error, RecursionError):
        return TextError("is nested too deeply to be read, so it is not JSON", "Write large data as text.")
    return TextError("has a number with too many digits, so it is not JSON", "Write such numbers as text, in quotes.")


def _line_of_constant(text: str) -> int:
    """Return the line of the first NaN or Infinity that is not within a string."""
    place = next((found.start() for found in _STRING_OR_CONSTANT.finditer(text) if found[0][0] != '"'), 0)
    return text.count("\n", 0, place) + 1


def _explain_syntax(text: str, error: json.JSONDecodeError) -> TextError:
    line = text[text.rfind("\n", 0, error.pos) + 1 :].partition("\n")[0]
    rest, column = text[error.pos :], error.colno
    if "\0" in line:
        return TextError("has NUL characters, so it is not JSON", "Write the file again, whole, as UTF-8.")
    if _TRAILING_COMMA.match(text, max(text.rfind(",", 0, error.pos + 1), 0)):
        return TextError(f"is not JSON: there is a comma before the bracket at column {column}", "Leave it out.")
    if text.lstrip("\ufeff \t\r\n")[:1] == "<":
        return TextError("is not JSON: it looks like XML or HTML", _ONE_A_LINE)
    if _SINGLE_QUOTE.match(line) or _PYTHON_WORD.match(rest):
        return TextError(
            f"is not JSON: column {column} is written as Python shows it, not as JSON",
            "Write elements with json.dumps(element), not with str(element).",
        )
    if line.lstrip()[:1] not in _STARTS or (
        error.msg.startswith("Extra data") and rest[:1] in ",;\t" and rest[1:].strip()
    ):
        return _explain_table_or_text(line)
    if error.msg.startswith("Extra data"):
        if rest.strip() == ",":
            return TextError("is not JSON: it ends with a comma", "Leave the commas between lines out.")
        return TextError(f"is not JSON: another value begins at column {column}", _ONE_A_LINE)
    if "control character" in error.msg:
        return TextError(
            f"is not JSON: the text has a control character at column {column}, such as a tab or a line break",
            "Write it as an escape, \\t or \\n. json.dumps(element) does so.",
        )
    if "escape" in error.msg:
        return TextError(
            f"is not JSON: the backslash at column {column} begins no escape",
            "Write a backslash as \\\\. json.dumps(element) does so.",
        )
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
        return TextError(
            "is not JSON: it breaks off in the middle of a value", f"{_ONE_A_LINE} Write the file again, whole."
        )
    return TextError(f"is not JSON at column {column}", _ONE_A_LINE)


def _explain_table_or_text(line: str) -> TextError:
    if any(mark in line for mark in ",;\t|") and " " not in line.strip():
        return TextError(
            "is not JSON: it looks like CSV",
            "Yield an element for each row from a function (@task.claude_batch), with csv.DictReader.",
        )
    return TextError(
        "is not JSON: it is plain text",
        'Write each prompt in quotes, as json.dumps(text) does, or as {"prompt": "…"}.',
    )


def _skip_blanks(text: str, position: int) -> int:
    blanks = _BLANKS.match(text, position)
    return blanks.end() if blanks else position


def _refuse_constant(name: str) -> NoReturn:
    raise _ConstantError(name)
