"""Columns of a table: their types, by what values they take."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Kind(Enum):
    """What values a column takes."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    #: Decimal digits, which are kept as they are.
    NUMBER = "number"
    FLOAT = "float"
    TEXT = "text"
    DATE = "date"
    TIME = "time"
    #: A date and a time without a time zone. Rows get UTC.
    TIMESTAMP = "timestamp"
    TIMESTAMP_TZ = "timestamp with time zone"
    JSON = "json"
    ARRAY = "array"
    BYTES = "bytes"
    #: A type of the database's own, which it reads from a text: uuid, enum, inet.
    OTHER = "other"
    #: Not known. The driver gets values as they are.
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    :param type: as the database names it, such as ``character varying(32)``.
    :param must_be_given: it takes no NULL, and the database fills in nothing.
    :param is_generated: the database computes it, so that nothing may be written.
    :param max_length: the most characters of a text. None if there is no limit.
    :param integers: the integers that it takes, if it takes only integers.
    :param folded: makes texts equal that the database takes for equal. None if these are the same texts.
    """

    name: str
    type: str
    kind: Kind
    is_nullable: bool = True
    must_be_given: bool = False
    is_generated: bool = False
    max_length: int | None = None
    integers: range = range(-(2**63), 2**63)
    folded: Callable[[str], str] | None = None


@dataclass(frozen=True, slots=True)
class UniqueIndex:
    """Columns whose values no two rows may share."""

    columns: frozenset[str]
    is_primary: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table as the database describes it.

    :param sql: its name, quoted for statements.
    :param unique: None if the database does not tell.
    :param is_transactional: False if the table keeps what a transaction wrote that was rolled back.
    """

    sql: str
    columns: dict[str, Column]
    unique: tuple[UniqueIndex, ...] | None
    is_transactional: bool = True


_KINDS: Final = {
    **dict.fromkeys(("boolean", "bool", "bit"), Kind.BOOLEAN),
    **dict.fromkeys(
        (
            *("smallint", "int2", "integer", "int", "int4", "bigint", "int8", "tinyint", "mediumint", "byteint"),
            *("serial", "bigserial", "smallserial", "year", "int64", "hugeint", "long", "short"),
        ),
        Kind.INTEGER,
    ),
    **dict.fromkeys(("numeric", "decimal", "number", "dec", "fixed", "bignumeric"), Kind.NUMBER),
    **dict.fromkeys(("real", "float", "float4", "float8", "float64", "double", "double precision"), Kind.FLOAT),
    **dict.fromkeys(
        (
            *("text", "varchar", "character varying", "char", "character", "bpchar", "citext", "name", "string"),
            *("tinytext", "mediumtext", "longtext", "nvarchar", "nchar", "ntext", "clob", "varchar2", "nvarchar2"),
        ),
        Kind.TEXT,
    ),
    "date": Kind.DATE,
    **dict.fromkeys(("time", "time without time zone"), Kind.TIME),
    **dict.fromkeys(
        ("timestamp", "timestamp without time zone", "datetime", "datetime2", "timestamp_ntz", "smalldatetime"),
        Kind.TIMESTAMP,
    ),
    **dict.fromkeys(
        ("timestamp with time zone", "timestamptz", "timestamp_tz", "timestamp_ltz", "datetimeoffset"),
        Kind.TIMESTAMP_TZ,
    ),
    **dict.fromkeys(("json", "jsonb", "variant", "super"), Kind.JSON),
    **dict.fromkeys(
        ("bytea", "blob", "tinyblob", "mediumblob", "longblob", "binary", "varbinary", "bytes", "image"), Kind.BYTES
    ),
}
_ADDED: Final = re.compile(r"\s*\([^)]*\)|\b(?:unsigned|zerofill)\b")


def kind_of_type(type_name: str) -> Kind:
    """Return what values a type takes.

    >>> kind_of_type("character varying(32)"), kind_of_type("timestamp(6) with time zone")
    (<Kind.TEXT: 'text'>, <Kind.TIMESTAMP_TZ: 'timestamp with time zone'>)
    """
    if type_name.rstrip().endswith("[]"):
        return Kind.ARRAY
    base = " ".join(_ADDED.sub("", type_name.lower()).split())
    return _KINDS.get(base, Kind.OTHER)


#: The bits of the integer types.
_BITS: Final = {"tinyint": 8, "smallint": 16, "int2": 16, "mediumint": 24, "int": 32, "int4": 32, "integer": 32}


def integer_range(type_name: str) -> range:
    """Return the integers that a type takes.

    >>> integer_range("tinyint(3) unsigned")
    range(0, 256)
    """
    lowered = type_name.lower()
    base = _ADDED.sub("", lowered).strip()
    bits = _BITS.get(base, 64)
    return range(2**bits) if "unsigned" in lowered else range(-(2 ** (bits - 1)), 2 ** (bits - 1))


_LENGTH: Final = re.compile(r"\b(?:var)?char(?:acter)?(?:\s+varying)?\s*\((\d+)\)", re.IGNORECASE)


def length_of_type(type_name: str) -> int | None:
    """Return the most characters of a type such as ``varchar(32)``, None if it has no limit."""
    found = _LENGTH.search(type_name)
    return int(found[1]) if found else None
