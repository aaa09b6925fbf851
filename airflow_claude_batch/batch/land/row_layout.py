"""The layout of a table of rows: the columns that stand for ``key``, ``input`` and ``output``, with their types."""

from __future__ import annotations

import contextlib
import decimal
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from airflow_claude_batch.batch.land.output_types import output_type
from airflow_claude_batch.batch.land.rows import Row, Status
from airflow_claude_batch.batch.land.table_types import (
    JSON,
    ColumnType,
    DecimalType,
    ScalarType,
    StructField,
    StructType,
    has_usable_names,
    to_column,
)

if TYPE_CHECKING:
    from airflow_claude_batch.batch.input.output_schema import OutputSchema
    from airflow_claude_batch.batch.land.landing import Landing

#: The version of the table's format.
VERSION: Final = 2
#: JSON text: the fields of the row that their columns do not hold exactly. Null in ordinary rows.
EXACT: Final = "exact"
#: Precisions that warehouses know: a decimal of 64 and one of 128 bits.
_PRECISIONS: Final = (18, 38)
_KIND_OF_KEY: Final[dict[type, ScalarType]] = {
    bool: ScalarType("boolean"),
    int: ScalarType("integer"),
    float: ScalarType("number"),
    str: ScalarType("text"),
}
_KINDS: Final = frozenset({"boolean", "integer", "number", "text", "date", "time", "timestamp", "timestamp_tz"})


class InputColumn(msgspec.Struct, frozen=True):
    """A kept column of the source rows.

    :ivar name: what the source calls it.
    :ivar column: what the table calls it: the same, or ``input_<name>`` if the table has a column of that name.
    """

    name: str
    column: str
    type: ColumnType


class RowLayout(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of one table. Without a schema there is no column ``output``.

    :ivar reused: there is a column ``reused_from``. Not stored if there is none.
    :ivar has_way: there is a column ``way``. Not stored if there is none.
    """

    version: int = VERSION
    key: ColumnType = JSON
    inputs: tuple[InputColumn, ...] = ()
    output: ColumnType | None = None
    reused: bool | msgspec.UnsetType = msgspec.UNSET
    has_way: bool | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def of(
        cls,
        *,
        keys: Iterable[bytes],
        kept_types: Mapping[str, str],
        kept: Iterable[bytes],
        schema: OutputSchema | None,
        reused: bool = False,
        has_way: bool = False,
    ) -> RowLayout:
        """Choose the layout of the rows of a submission.

        :param keys: the keys of all rows as JSON.
        :param kept_types: the kept columns, and a word for the type of each.
        :param kept: the kept columns of all rows, as JSON objects. They are read if there are decimals among them.
        :param reused: rows may have reused answers.
        :param has_way: rows may have answers of the Messages API.
        """
        return cls(
            key=_key_type(keys),
            inputs=_input_columns(kept_types, kept),
            output=None if schema is None else output_type(schema.format["schema"]),
            reused=reused or msgspec.UNSET,
            has_way=has_way or msgspec.UNSET,
        )


def layout_of(
    landing: Landing, schema: OutputSchema | None, *, has_store: bool = False, may_ask_directly: bool = False
) -> RowLayout:
    """Choose the layout of the rows of a landing. It reads no row.

    :param has_store: the submission has an answer store. Then the columns are the same whether answers were reused.
    :param may_ask_directly: the same for answers of the Messages API.
    """
    matcher = landing.matcher
    indices = range(len(matcher))
    return RowLayout.of(
        keys=map(matcher.key, indices),
        kept_types=matcher.kept_types,
        kept=map(matcher.kept, indices),
        schema=schema,
        reused=has_store or Status.REUSED in landing.statuses,
        has_way=may_ask_directly or landing.bill.direct is not None,
    )


def _key_type(keys: Iterable[bytes]) -> ColumnType:
    """Return the type of all keys that are not null, JSON if they have several types."""
    found: ColumnType | None = None
    for key in keys:
        value = msgspec.json.decode(key)
        type_ = found if value is None else _type_of_key(value)
        if found is not None and type_ != found:
            return JSON
        found = type_
    return JSON if found is None else found


def _type_of_key(value: Any) -> ColumnType:
    if not isinstance(value, dict):
        type_ = _KIND_OF_KEY.get(type(value), JSON)
        return JSON if to_column(type_)(value) is None else type_
    fields = tuple(StructField(name, _type_of_key(inner)) for name, inner in value.items())
    is_flat = all(isinstance(field.type, ScalarType) and field.type != JSON for field in fields)
    return StructType(fields) if is_flat and has_usable_names(list(value)) else JSON


def _input_columns(kept_types: Mapping[str, str], kept: Iterable[bytes]) -> tuple[InputColumn, ...]:
    decimals = _decimal_types([name for name, word in kept_types.items() if word == "decimal"], kept)
    taken = reserved_names()
    columns = []
    for name, word in kept_types.items():
        type_ = decimals[name] if name in decimals else ScalarType(word) if word in _KINDS else JSON  # type: ignore[arg-type]  # mypy does not see that it is one
        wanted = name if name and name.casefold() not in taken else f"input_{name}"
        columns.append(InputColumn(name, free_name(wanted, taken), type_))
    return tuple(columns)


def reserved_names() -> set[str]:
    """Return the names of the columns that each table has, in lower case."""
    return {name.casefold() for name in (*Row.__struct_fields__, EXACT)}


def free_name(name: str, taken: set[str]) -> str:
    """Return the name, or one with a number that no other column has, and take it. Many databases ignore the case."""
    free, number = name, 2
    while free.casefold() in taken:
        free, number = f"{name}_{number}", number + 1
    taken.add(free.casefold())
    return free


def _decimal_types(names: list[str], kept: Iterable[bytes]) -> dict[str, ColumnType]:
    """Return the type of each column of decimals: as many digits as its values have, or text if they have too many."""
    whole, places = dict.fromkeys(names, 1), dict.fromkeys(names, 0)
    for columns in kept if names else ():
        values = msgspec.json.decode(columns)
        for name in names:
            with contextlib.suppress(decimal.DecimalException, TypeError, ValueError):
                _, digits, exponent = Decimal(values.get(name)).as_tuple()
                places[name] = max(places[name], -int(exponent))
                whole[name] = max(whole[name], len(digits) + int(exponent))
    return {name: _decimal_type(whole[name], places[name]) for name in names}


def _decimal_type(whole: int, places: int) -> ColumnType:
    precision = next((precision for precision in _PRECISIONS if whole + places <= precision), None)
    return ScalarType("text") if precision is None else DecimalType(precision, places)
