"""What every database does for the writing of rows, and what each does in its own way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import closing
from typing import Any, ClassVar

from airflow_claude_batch.batch.table.column import Kind, Table, kind_of_type

Values = Sequence[Any]


class Database(ABC):
    """A connection to a database, and the statements that it understands.

    Statements hold names and placeholders only: no value of a row becomes part of their text.
    """

    #: The database's name, for messages.
    name: ClassVar[str]
    #: True if there are statements that insert a row or update it by its key.
    has_upsert: ClassVar[bool] = True
    #: False if it is not known whether a transaction that was rolled back leaves nothing behind.
    rolls_back: ClassVar[bool] = True
    #: True if an error can be traced to a row: what a batch wrote can be undone within the transaction.
    has_savepoints: ClassVar[bool] = True
    #: True if an upsert also updates a row that has the same values in another unique index than the key's.
    any_index_conflicts: ClassVar[bool] = False
    #: True if a text with the character NUL is refused.
    refuses_nul: ClassVar[bool] = False
    #: The types of columns in a new table.
    types: ClassVar[dict[Kind, str]]
    #: The type of a text column that is part of the key.
    key_text_type: ClassVar[str] = "text"

    #: What follows the columns of a new table.
    table_options: ClassVar[str] = ""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    # ------------------------------------------------------------------ transactions

    @abstractmethod
    def prepare(self) -> None:
        """Set what the statements rely on, once: transactions, time zone, strictness."""

    def begin(self) -> None:  # noqa: B027  # only SQLite needs it
        """Start a transaction. Most drivers start one with the first statement."""

    def commit(self) -> None:
        """Make what was written last."""
        self.connection.commit()

    def rollback(self) -> None:
        """Undo what was written since the last commit."""
        self.connection.rollback()

    def set_savepoint(self) -> None:
        """Mark the place to which :meth:`undo` goes back."""
        self.execute("SAVEPOINT claude_batch_rows")

    def undo(self) -> None:
        """Undo what was written since the savepoint."""
        self.execute("ROLLBACK TO SAVEPOINT claude_batch_rows")

    # ------------------------------------------------------------------ tables

    @abstractmethod
    def describe(self, name: Sequence[str]) -> Table | None:
        """Describe a table. None if there is none.

        :param name: the parts of its name.
        """

    @abstractmethod
    def table_names(self, name: Sequence[str]) -> list[str]:
        """Return the names of tables beside it, for a suggestion. May be empty."""

    def kind_of_type(self, type_name: str) -> Kind:
        """Return what values a type takes, which an author may have written."""
        return kind_of_type(type_name)

    def create_table(self, name: Sequence[str], columns: dict[str, str], key: Sequence[str]) -> None:
        """Create a table if it does not exist.

        :param columns: the type of each column.
        :param key: the columns of its primary key, which may be none.
        """
        parts = [f"{self.quote(column)} {type_name}" for column, type_name in columns.items()]
        if key:
            parts.append(f"PRIMARY KEY ({self.quoted(key)})")
        self.execute(f"CREATE TABLE IF NOT EXISTS {self.quote_table(name)} ({', '.join(parts)}){self.table_options}")
        self.commit()

    # ------------------------------------------------------------------ rows

    @abstractmethod
    def insert(self, table: Table, columns: Sequence[str], rows: Sequence[Values]) -> None:
        """Insert rows."""

    def upsert(self, table: Table, columns: Sequence[str], key: Sequence[str], rows: Sequence[Values]) -> None:
        """Insert rows, and update those whose key is there."""
        raise NotImplementedError

    def insert_missing(self, table: Table, columns: Sequence[str], key: Sequence[str], rows: Sequence[Values]) -> int:
        """Insert the rows whose key is not there. Return how many these were."""
        raise NotImplementedError

    def is_too_large(self, row: Values) -> bool:
        """Tell whether the server would not take a statement with a row, and end the connection."""
        return False

    @abstractmethod
    def delete_keys(self, table: Table, key: Sequence[str], keys: Sequence[Values]) -> int:
        """Delete rows by their keys. Return how many there were."""

    def delete_where(self, table: Table, condition: str) -> int:
        """Delete the rows that a condition selects. Return how many there were, -1 if the driver does not tell."""
        # The condition has lines of its own, in case it ends with a comment.
        return self.execute(f"DELETE FROM {table.sql} WHERE (\n{condition}\n)")  # noqa: S608  # the author's own SQL

    def count_where(self, table: Table, condition: str) -> int:
        """Count the rows that a condition selects."""
        sql = f"SELECT count(*) FROM {table.sql} WHERE (\n{condition}\n)"  # noqa: S608  # the author's own SQL
        return int(self.query(sql)[0][0])

    # ------------------------------------------------------------------ errors

    def is_lost(self, error: Exception) -> bool:
        """Tell whether the connection is gone."""
        return False

    def is_about_values(self, error: Exception) -> bool:
        """Tell whether a value of a row is the reason."""
        return has_class(error, "DataError", "IntegrityError")

    def code(self, error: Exception) -> str:
        """Return the error's class and its code, such as ``UniqueViolation 23505``. It quotes no values."""
        return type(error).__name__

    def reason(self, error: Exception) -> str:
        """Return the database's own words, if they quote no values of rows. Else an empty text."""
        return ""

    # ------------------------------------------------------------------ statements

    @abstractmethod
    def quote(self, name: str) -> str:
        """Quote a name."""

    def quoted(self, names: Sequence[str]) -> str:
        """Quote names, with commas between them."""
        return ", ".join(map(self.quote, names))

    def quote_table(self, name: Sequence[str]) -> str:
        """Quote the parts of a table's name."""
        return ".".join(map(self.quote, name))

    def execute(self, sql: str, parameters: Sequence[Any] | None = None) -> int:
        """Execute a statement. Return how many rows it changed."""
        with closing(self.connection.cursor()) as cursor:
            # Without parameters a percent sign stands for itself.
            cursor.execute(sql) if parameters is None else cursor.execute(sql, parameters)
            return int(cursor.rowcount)

    def query(self, sql: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Return all rows of a query, as tuples, whatever rows the connection makes."""
        with closing(self.connection.cursor()) as cursor:
            cursor.execute(sql) if parameters is None else cursor.execute(sql, parameters)
            return [tuple(row.values() if isinstance(row, dict) else row) for row in cursor.fetchall()]


def is_driver_error(error: Exception) -> bool:
    """Tell whether a driver raised an error. Every driver has a class ``Error`` above all of its errors (PEP 249)."""
    return has_class(error, "Error", "DatabaseError", "InterfaceError")


def has_class(error: Exception, *names: str) -> bool:
    """Tell whether an error is of one of these classes, by their names: each driver has its own."""
    return any(cls.__name__ in names for cls in type(error).__mro__)
