"""Every error says on its first line, briefly, what happened and where; what it means and what to do follow."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import airflow_claude_batch
from airflow_claude_batch import exceptions

PACKAGE = Path(airflow_claude_batch.__file__).parent
LONGEST_LINE = 120
#: What a value that is filled in has, in characters, on the whole: a key, a count, a name.
VALUE_CHARACTERS = 8
ERRORS = {
    name
    for name, value in vars(exceptions).items()
    if inspect.isclass(value) and issubclass(value, exceptions.ClaudeBatchError)
}


def errors_made() -> Iterator[tuple[str, ast.expr]]:
    """Yield where each error of ours is made, with its first line."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and _name(node.func) in ERRORS:
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node.args[0]


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _length(text: ast.expr) -> int:
    """The characters of a text whose values have the usual length; 0 if it is made elsewhere."""
    if isinstance(text, ast.Constant):
        return len(str(text.value))
    if isinstance(text, ast.JoinedStr):
        return sum(_length(part) if isinstance(part, ast.Constant) else VALUE_CHARACTERS for part in text.values)
    return 0


def test_first_line_of_each_error_is_short() -> None:
    lengths = {where: _length(line) for where, line in errors_made()}

    assert {where: length for where, length in lengths.items() if length > LONGEST_LINE} == {}
    assert len(lengths) > 50


def test_lines_of_an_error_are_lines_of_its_message() -> None:
    error = exceptions.InputError("messages[3] is empty.", "Nothing was sent.", "Remove it.")

    assert str(error) == "messages[3] is empty.\nNothing was sent.\nRemove it."
