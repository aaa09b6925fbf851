"""MySQL and MariaDB."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Final

from airflow_claude_batch.batch.table.column import (
    Column,
    Kind,
    Table,
    UniqueIndex,
    integer_range,
    kind_of_type,
)
from airflow_claude_batch.batch.table.databases.database import Database, Values, has_class

#: Rows in one statement. More do not make it faster.
_ROWS_PER_STATEMENT: Final = 500
#: Codes of the client and the server for a connection that is gone.
_LOST: Final = frozenset({0, 1053, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2003, 2006, 2013, 2014, 2055, 4031})
#: Codes of values that a column does not take. Drivers give some of them the class of other errors.
_VALUES: Final = frozenset({1048, 1062, 1216, 1264, 1265, 1292, 1364, 1366, 1406, 1452, 3140, 3156, 3819, 4025})


#: Characters that drivers escape.
_ESCAPED: Final = "\0\n\r\x1a\"'\\"
#: What a statement has besides the row.
_STATEMENT_BYTES: Final = 100_000


class MySql(Database):
    """A connection of mysqlclient, PyMySQL or MySQL's own driver."""

    name = "MySQL"
    any_index_conflicts = True
    table_options = " DEFAULT CHARACTER SET utf8mb4"  # the server's default may lack most characters
    types: ClassVar = {
        Kind.BOOLEAN: "boolean",
        Kind.INTEGER: "bigint",
        Kind.NUMBER: "decimal(38, 12)",
        Kind.FLOAT: "double",
        Kind.TEXT: "longtext",
        Kind.DATE: "date",
        Kind.TIME: "time(6)",
        Kind.TIMESTAMP: "datetime(6)",
        Kind.TIMESTAMP_TZ: "datetime(6)",
        Kind.JSON: "json",
    }
    # Without this collation, keys that differ in case or accents are equal.
    key_text_type = "varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"

    def prepare(self) -> None:
        if callable(self.connection.autocommit):
            self.connection.autocommit(False)
        else:
            self.connection.autocommit = False
        if hasattr(self.connection, "set_character_set"):
            self.connection.set_character_set("utf8mb4")
        # Times are written as UTC. Without the strict mode, values that do not fit are cut.
        self.execute("SET time_zone = '+00:00', sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')")
        self._most_bytes = int(self.query("SELECT @@max_allowed_packet")[0][0])

    def describe(self, name: Sequence[str]) -> Table | None:
        *schema, table = name
        at = schema[-1] if schema else None
        engines = self.query(
            "SELECT engine FROM information_schema.tables"
            " WHERE table_schema = COALESCE(%s, DATABASE()) AND table_name = %s",
            (at, table),
        )
        if not engines:
            return None
        is_json = self._json_columns(at, table)
        found = self.query(
            "SELECT column_name, column_type, is_nullable, column_default, extra, character_maximum_length,"
            " collation_name FROM information_schema.columns"
            " WHERE table_schema = COALESCE(%s, DATABASE()) AND table_name = %s ORDER BY ordinal_position",
            (at, table),
        )
        columns = {row[0]: _column(row, is_json=row[0] in is_json) for row in found}
        engine = str(engines[0][0] or "").lower()
        return Table(
            self.quote_table(name),
            columns,
            self._unique_indexes(at, table),
            is_transactional=engine not in ("myisam", "aria", "memory", "csv", "archive", "merge", "mrg_myisam"),
        )

    def _json_columns(self, schema: str | None, table: str) -> set[str]:
        """Return MariaDB's JSON columns. They are of a type of text, with a check of what they get."""
        if "mariadb" not in str(self.query("SELECT version()")[0][0]).lower():
            return set()
        found = self.query(
            "SELECT check_clause FROM information_schema.check_constraints"
            " WHERE constraint_schema = COALESCE(%s, DATABASE()) AND table_name = %s",
            (schema, table),
        )
        clauses = [str(clause) for (clause,) in found]
        return {each[12:-2].replace("``", "`") for each in clauses if each.startswith("json_valid(`")}

    def _unique_indexes(self, schema: str | None, table: str) -> tuple[UniqueIndex, ...]:
        found = self.query(
            "SELECT index_name, column_name, sub_part FROM information_schema.statistics"
            " WHERE table_schema = COALESCE(%s, DATABASE()) AND table_name = %s AND non_unique = 0",
            (schema, table),
        )
        columns: dict[str, set[str]] = {}
        for index, column, sub_part in found:
            # An index over the beginning of a text is none over the column. An expression has no column.
            part = str(column) if column is not None and sub_part is None else f"{column}({sub_part})"
            columns.setdefault(index, set()).add(part)
        return tuple(UniqueIndex(frozenset(each), is_primary=index == "PRIMARY") for index, each in columns.items())

    def table_names(self, name: Sequence[str]) -> list[str]:
        *schema, _ = name
        sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = COALESCE(%s, DATABASE())"
        return [str(each) for (each,) in self.query(sql, (schema[-1] if schema else None,))]

    def insert(self, table: Table, columns: Sequence[str], rows: Sequence[Values]) -> None:
        self._insert(table, columns, rows, "")

    def upsert(self, table: Table, columns: Sequence[str], key: Sequence[str], rows: Sequence[Values]) -> None:
        changed = [self.quote(column) for column in columns if column not in key] or [self.quote(key[0])]
        updates = ", ".join(f"{each} = VALUES({each})" for each in changed)
        self._insert(table, columns, rows, f" ON DUPLICATE KEY UPDATE {updates}")

    def insert_missing(self, table: Table, columns: Sequence[str], key: Sequence[str], rows: Sequence[Values]) -> int:
        # INSERT IGNORE would ignore values that do not fit, too.
        same = self.quote(key[0])
        return self._insert(table, columns, rows, f" ON DUPLICATE KEY UPDATE {same} = {table.sql}.{same}")

    def _insert(self, table: Table, columns: Sequence[str], rows: Sequence[Values], ending: str) -> int:
        start = f"INSERT INTO {table.sql} ({self.quoted(columns)}) VALUES ".replace("%", "%%")  # noqa: S608  # names, quoted
        places = f"({', '.join(['%s'] * len(columns))})"
        inserted = 0
        for some in self._statements(rows):
            sql = start + ", ".join([places] * len(some)) + ending.replace("%", "%%")
            inserted += self.execute(sql, [value for row in some for value in row])
        return inserted

    def delete_keys(self, table: Table, key: Sequence[str], keys: Sequence[Values]) -> int:
        start = f"DELETE FROM {table.sql} WHERE ({self.quoted(key)}) IN ".replace("%", "%%")  # noqa: S608  # names, quoted
        places = f"({', '.join(['%s'] * len(key))})"
        deleted = 0
        for some in self._statements(keys):
            sql = f"{start}({', '.join([places] * len(some))})"
            deleted += self.execute(sql, [value for row in some for value in row])
        return deleted

    def _statements(self, rows: Sequence[Values]) -> Iterator[list[Values]]:
        """Cut rows into statements that are shorter than the longest packet, as texts with every character escaped."""
        some: list[Values] = []
        size = 0
        for row in rows:
            row_size = sum(8 * len(value) if isinstance(value, str) else 40 for value in row)
            if some and (len(some) == _ROWS_PER_STATEMENT or size + row_size > self._most_bytes // 2):
                yield some
                some, size = [], 0
            some.append(row)
            size += row_size
        if some:
            yield some

    def is_too_large(self, row: Values) -> bool:
        texts = [value for value in row if isinstance(value, str)]
        if 8 * sum(map(len, texts)) < self._most_bytes // 2:  # an escaped character has at most 8 bytes
            return False
        escaped = sum(len(text.encode()) + sum(map(text.count, _ESCAPED)) for text in texts)
        return escaped + _STATEMENT_BYTES > self._most_bytes

    def is_lost(self, error: Exception) -> bool:
        return _code(error) in _LOST and has_class(error, "OperationalError", "InterfaceError")

    def is_about_values(self, error: Exception) -> bool:
        return _code(error) in _VALUES or has_class(error, "DataError", "IntegrityError")

    def code(self, error: Exception) -> str:
        return f"{type(error).__name__} {_code(error)}"

    def reason(self, error: Exception) -> str:
        # Messages about values quote them.
        return "" if self.is_about_values(error) else str(error.args[-1] if error.args else "")

    def quote(self, name: str) -> str:
        return "`" + name.replace("`", "``") + "`"


def _code(error: Exception) -> Any:
    return getattr(error, "errno", None) or (error.args[0] if error.args else None)


def _column(row: tuple[Any, ...], *, is_json: bool) -> Column:
    name, type_, nullable, default, extra, length, collation = row
    type_ = type_.decode() if isinstance(type_, bytes) else str(type_)
    kind = Kind.JSON if is_json else kind_of_type(type_)
    fills_in = default is not None or "auto_increment" in extra.lower() or "GENERATED" in extra.upper()
    return Column(
        name=name,
        type=type_,
        kind=kind,
        is_nullable=nullable == "YES",
        must_be_given=nullable == "NO" and not fills_in,
        is_generated="GENERATED" in extra.upper() and "DEFAULT_GENERATED" not in extra.upper(),
        max_length=length if kind is Kind.TEXT and "char" in type_ else None,
        integers=integer_range(type_),
        folded=_folding(str(collation or "")),
    )


def _folding(collation: str) -> Callable[[str], str]:
    """Return what makes texts equal that a collation takes for equal. Most ignore blanks at the end."""
    if not collation.endswith("_ci"):
        return lambda text: text.rstrip(" ")
    if collation.endswith("_as_ci"):
        return lambda text: text.casefold().rstrip(" ")
    return _without_accents


def _without_accents(text: str) -> str:
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(part for part in parts if not unicodedata.combining(part)).rstrip(" ")
