"""Errors of databases as errors of this package: none quotes a parameter or a value of a row."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.exceptions import NOTHING_SENT, ClaudeBatchError, InputError, SourceError

#: Classes of SQLSTATE that the same query meets again: wrong SQL, wrong data, a feature that the database lacks.
_LASTING_STATES: Final = frozenset({"0A", "21", "22", "26", "34", "42"})
#: Classes that end: connection, transaction, resources, an operator's intervention, the system.
_PASSING_STATES: Final = frozenset({"08", "25", "28", "40", "53", "55", "57", "58"})
#: Classes of errors that DBAPI defines for what the author wrote, and those of Python for parameters that do not fit.
_LASTING_CLASSES: Final = frozenset(
    {"ProgrammingError", "NotSupportedError", "DataError", "Warning", "TypeError", "ValueError", "LookupError"}
)
#: MySQL's numbers for wrong SQL that its drivers raise as OperationalError: unknown column, and ambiguous column.
_LASTING_MYSQL: Final = frozenset({1052, 1054})
_SQLITE_ERROR: Final = 1  # wrong SQL: SQLite raises it as OperationalError as well
_LONGEST_MESSAGE: Final = 300
_PLACEHOLDERS: Final = "Placeholders are %s or %(name)s for PostgreSQL and MySQL, and ? or :name for SQLite."
_QUOTED: Final = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
#: From the first quotation mark to the last: a driver may quote SQL with the values of parameters in it.
_ALL_QUOTED: Final = re.compile(r"['\"`].*['\"`]", re.DOTALL)

_IDENTIFIER: Final = re.compile(r"[\w.]+")


def read_error(
    error: Exception, name: str, sql: str, parameters: Mapping[str, Any] | Sequence[Any] | None, count: int
) -> ClaudeBatchError:
    """Build the error about a query that the database refused, or whose rows could not all be read.

    :param name: names the query.
    :param count: the rows that were read before.
    """
    what = f"stopped after {quantity(count, 'row')}" if count else "failed"
    first = f"rows: {name} {what}: {_kind(error)}."
    said = _said(error, sql, has_parameters=bool(parameters))
    if _is_lasting(error):
        remedy = "Correct the SQL or its parameters. A source is one SELECT that the database can run as it is."
        if parameters:
            remedy += f" {_PLACEHOLDERS}"
        return InputError(first, f"{NOTHING_SENT}{said}", remedy)
    remedy = "A retry reads all rows again. If it fails too, check that this worker reaches the database."
    return SourceError(first, f"{NOTHING_SENT}{said}", remedy)


def several_statements_error(name: str) -> InputError:
    """Build the error about SQL with more than one statement."""
    return InputError(
        f"rows: {name} has several statements.",
        f"{NOTHING_SENT} What they changed was rolled back, where the database can do that.",
        "Give one SELECT. Put other statements into a task of their own before this one.",
    )


def no_rows_error(name: str) -> InputError:
    """Build the error about a statement that is no query."""
    return InputError(
        f"rows: {name} gives no rows: it is not a SELECT.",
        f"{NOTHING_SENT} What it changed was rolled back, where the database can do that.",
        "Give one SELECT. Put other statements into a task of their own before this one.",
    )


def _kind(error: Exception) -> str:
    """Name the class of an error, and its code."""
    state, number = _state(error), _number(error)
    code = f" (SQLSTATE {state})" if state else f" ({number})" if number else ""
    return f"{type(error).__name__[:40]}{code}"


def _is_lasting(error: Exception) -> bool:
    """Return True if a retry would meet the error again."""
    state = (_state(error) or "")[:2]
    if state in _LASTING_STATES or state in _PASSING_STATES:
        return state in _LASTING_STATES
    if _number(error) in _LASTING_MYSQL or getattr(error, "sqlite_errorcode", None) == _SQLITE_ERROR:
        return True
    return any(cls.__name__ in _LASTING_CLASSES for cls in type(error).__mro__)


def _state(error: Exception) -> str | None:
    """Return the SQLSTATE: an attribute of psycopg's errors, the first argument of ODBC's."""
    first = error.args[0] if error.args else None
    for state in (getattr(error, "pgcode", None), getattr(error, "sqlstate", None), first):
        if isinstance(state, str) and re.fullmatch("[0-9A-Z]{5}", state):
            return state
    return None


def _number(error: Exception) -> int | None:
    """Return MySQL's number of an error."""
    first = error.args[0] if error.args else None
    return first if isinstance(first, int) and len(error.args) > 1 else None


def _said(error: Exception, sql: str, *, has_parameters: bool) -> str:
    """Return the message of the database or the driver, as a sentence."""
    if isinstance(error, KeyError) and has_parameters:
        return f" The SQL names a parameter that is not given: {error.args[0]!s:.80}."
    diagnosis = getattr(getattr(error, "diag", None), "message_primary", None)
    text = diagnosis or next((text for text in reversed(error.args) if isinstance(text, str)), "")
    lines = text.strip().splitlines()
    if not lines:
        return ""
    words = (_ALL_QUOTED if has_parameters else _QUOTED).sub(lambda found: _shown(found.group(), sql), lines[0])
    return f" The driver's message: {words[:_LONGEST_MESSAGE].rstrip('.')}."


def _shown(quoted: str, sql: str) -> str:
    """Return what a message quotes if the query says it, which the UI shows anyway. It may be a value otherwise."""
    inside = quoted[1:-1].strip()
    name = inside.rpartition(".")[2] if _IDENTIFIER.fullmatch(inside) else inside  # MySQL adds the database
    return quoted if name and name.casefold() in sql.casefold() else f"{quoted[0]}…{quoted[-1]}"
