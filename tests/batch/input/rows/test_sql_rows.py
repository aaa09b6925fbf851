"""Rows of real databases, through each driver whose cursor differs."""

from __future__ import annotations

import gc
import sqlite3
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import psycopg2
import psycopg2.extras
import pymysql
import pytest
from databases import Database
from psycopg.rows import dict_row

from airflow_claude_batch.batch.input.rows.sql_rows import SqlRowSource
from airflow_claude_batch.batch.input.rows.values import ValueFormError, json_of
from airflow_claude_batch.exceptions import ClaudeBatchError, InputError, SourceError

SECRET = "a-value-that-must-not-appear"
NAME = "the query on connection 'warehouse'"


class Driver:
    """A driver's connections to a database. Keeps them, to look at what became of them."""

    def __init__(self, name: str, database: Database, connect: Callable[..., Any]) -> None:
        self.name = name
        self.database = database
        self.connections: list[Any] = []
        self._connect = connect

    def connect(self, **options: Any) -> Any:
        self.connections.append(self._connect(**options))
        return self.connections[-1]

    def source(self, sql: str, parameters: Any = None, **options: Any) -> SqlRowSource:
        return SqlRowSource(lambda: self.connect(**options), sql, parameters, name=NAME)

    def refusal(self, sql: str, parameters: Any = None) -> ClaudeBatchError:
        with pytest.raises(ClaudeBatchError) as caught:
            list(self.source(sql, parameters))
        assert "Nothing was sent." in str(caught.value)
        assert len(caught.value.summary) <= 120
        return caught.value

    def is_closed(self) -> bool:
        """Tell whether the last connection takes no query any more."""
        try:
            self.connections[-1].cursor().execute("SELECT 1")
        except Exception:
            return True
        return False


def account_of(database: Database, user: str, schema: str) -> dict[str, Any]:
    fields = database.fields
    names = {"host": "host", "port": "port", user: "login", "password": "password", schema: "schema"}
    return {name: fields[field] for name, field in names.items()}


@pytest.fixture(params=["psycopg2", "psycopg", "pymysql", "sqlite3"])
def driver(request: pytest.FixtureRequest) -> Any:
    if request.param == "sqlite3":
        database = request.getfixturevalue("sqlite_database")
        driver = Driver("sqlite3", database, lambda: sqlite3.connect(database.fields["host"]))
    elif request.param == "pymysql":
        database = request.getfixturevalue("mysql_database")
        account = account_of(database, "user", "database")
        driver = Driver("pymysql", database, lambda **options: pymysql.connect(**account, **options))
    else:
        database = request.getfixturevalue("postgres_database")
        account = account_of(database, "user", "dbname")
        connect = psycopg2.connect if request.param == "psycopg2" else psycopg.connect
        driver = Driver(request.param, database, lambda **options: connect(**account, **options))
    yield driver
    database.empty()


@pytest.fixture
def numbers(driver: Driver) -> Driver:
    """A driver of a database with a table of 1,000 numbers."""
    rows = ", ".join(f"({number}, 'row {number}')" for number in range(1000))
    driver.database.execute(
        "CREATE TABLE numbers (id INTEGER PRIMARY KEY, body VARCHAR(20))", f"INSERT INTO numbers VALUES {rows}"
    )
    return driver


def test_rows_come_in_order_with_their_columns(numbers: Driver) -> None:
    source = numbers.source("SELECT id, body FROM numbers ORDER BY id DESC")

    rows = list(source)

    assert rows == [{"id": number, "body": f"row {number}"} for number in reversed(range(1000))]
    assert source.columns == ("id", "body")
    assert source.place == ""
    assert numbers.is_closed()


def test_each_iteration_reads_again_on_a_connection_of_its_own(numbers: Driver) -> None:
    source = numbers.source("SELECT id FROM numbers ORDER BY id")

    assert len(list(source)) == len(list(source)) == 1000
    assert len(numbers.connections) == 2


def test_query_without_rows_has_columns(numbers: Driver) -> None:
    source = numbers.source("SELECT id, body FROM numbers WHERE id < 0")

    assert list(source) == []
    assert source.columns == ("id", "body")
    assert numbers.is_closed()


def test_percent_and_colon_are_literal_without_parameters(driver: Driver) -> None:
    sql = "SELECT '100 %s :x %(y)s ?' AS text"

    assert [row["text"] for row in driver.source(sql)] == ["100 %s :x %(y)s ?"]
    assert [row["text"] for row in driver.source(sql, {})] == ["100 %s :x %(y)s ?"]


def test_parameters_are_values_and_never_sql(driver: Driver) -> None:
    value = 'it\'s 100 % "so"; DROP TABLE x --'
    named, listed = ("SELECT :v AS v", "SELECT ? AS v") if driver.name == "sqlite3" else ("SELECT %(v)s AS v",) * 2

    assert list(driver.source(named, {"v": value})) == [{"v": value}]
    if driver.name == "sqlite3":
        assert list(driver.source(listed, [value])) == [{"v": value}]
    else:
        assert list(driver.source("SELECT %s AS v", [value])) == [{"v": value}]


def test_half_read_query_ends_its_connection_and_leaves_no_lock(numbers: Driver) -> None:
    rows = iter(numbers.source("SELECT id FROM numbers ORDER BY id"))
    assert [next(rows)["id"] for _ in range(5)] == [0, 1, 2, 3, 4]

    rows.close()  # type: ignore[attr-defined]  # a generator

    assert numbers.is_closed()
    numbers.database.execute("DROP TABLE numbers")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()  # a cursor that wants to read on raises here


def test_what_a_query_changes_is_rolled_back(numbers: Driver) -> None:
    if numbers.name.startswith("psycopg"):
        numbers.database.execute(
            "CREATE FUNCTION gone() RETURNS INTEGER LANGUAGE SQL AS 'DELETE FROM numbers RETURNING 1'"
        )
        list(numbers.source("SELECT gone() AS gone"))
    else:
        numbers.refusal("DELETE FROM numbers")

    assert numbers.database.query("SELECT count(*) FROM numbers") == [(1000,)]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        pytest.param("SELEC id FROM numbers", "SELEC", id="syntax"),
        pytest.param("SELECT id FROM numberz", "numberz", id="missing table"),
        pytest.param("SELECT idd FROM numbers", "idd", id="missing column"),
    ],
)
def test_wrong_sql_is_an_error_of_the_input_with_the_databases_words(numbers: Driver, sql: str, said: str) -> None:
    error = numbers.refusal(sql)

    assert isinstance(error, InputError)
    assert error.summary.startswith(f"rows: {NAME} failed: ")
    assert said in str(error)
    assert error.__suppress_context__
    assert numbers.is_closed()


def test_two_columns_of_one_name_are_refused_with_their_places(numbers: Driver) -> None:
    error = numbers.refusal("SELECT id, body, id FROM numbers")

    assert error.summary == f"rows: columns 1 and 3 of {NAME} have the same name, 'id'."
    assert numbers.is_closed()


def test_column_without_a_name_is_refused_with_its_place(driver: Driver) -> None:
    sql = "SELECT 1 AS a, 2" if driver.name.startswith("psycopg") else 'SELECT 1 AS a, 2 AS ""'

    assert driver.refusal(sql).summary == f"rows: column 2 of {NAME} has no name."


@pytest.mark.parametrize("sql", ["UPDATE numbers SET body = 'x'", "CREATE TABLE other (id INTEGER)"])
def test_statement_that_is_no_query_is_refused_and_changes_nothing(numbers: Driver, sql: str) -> None:
    error = numbers.refusal(sql)

    assert isinstance(error, InputError)
    assert "one SELECT" in str(error)
    assert numbers.database.query("SELECT count(*) FROM numbers WHERE body = 'x'") == [(0,)]


@pytest.mark.parametrize("second", ["SELECT 2 AS b", "DELETE FROM numbers"])
def test_second_statement_is_refused_and_changes_nothing(numbers: Driver, second: str) -> None:
    error = numbers.refusal(f"SELECT 1 AS a; {second}")

    assert isinstance(error, InputError)
    assert numbers.database.query("SELECT count(*) FROM numbers") == [(1000,)]


def test_one_statement_may_end_with_a_semicolon_and_a_comment(driver: Driver) -> None:
    assert list(driver.source("-- first\nSELECT 1 AS a; -- last")) == [{"a": 1}]


def test_second_result_of_mysql_is_refused(mysql_database: Database) -> None:
    account = account_of(mysql_database, "user", "database")
    flag = pymysql.constants.CLIENT.MULTI_STATEMENTS
    driver = Driver("pymysql", mysql_database, lambda: pymysql.connect(**account, client_flag=flag))

    assert driver.refusal("SELECT 1 AS a; SELECT 2 AS b").summary == f"rows: {NAME} has several statements."
    assert list(driver.source("SELECT 1 AS a")) == [{"a": 1}]


@pytest.mark.parametrize(
    "sql",
    [
        pytest.param("SELECT * FROM numbers WHERE body = {} LIMITT 5", id="syntax after the value"),
        pytest.param("SELECT * FROM numbers LIMITT {}", id="syntax at the value"),
        pytest.param("SELECT CAST({} AS DATE) + 'x' AS a FROM numberz", id="elsewhere"),
    ],
)
def test_values_of_parameters_are_in_no_error(numbers: Driver, sql: str) -> None:
    place = ":v" if numbers.name == "sqlite3" else "%(v)s"
    error = numbers.refusal(sql.format(place), {"v": SECRET})

    assert SECRET not in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_values_of_rows_are_in_no_error(postgres_database: Database) -> None:
    postgres_database.execute("CREATE TABLE bodies (body TEXT)", f"INSERT INTO bodies VALUES ('1'), ('{SECRET}')")
    account = account_of(postgres_database, "user", "dbname")
    try:
        for connect in (psycopg2.connect, psycopg.connect):
            source = SqlRowSource(lambda: connect(**account), "SELECT CAST(body AS INTEGER) AS n FROM bodies")  # noqa: B023
            with pytest.raises(InputError, match=r"stopped after 1 row: .*22P02") as caught:
                list(source)
            assert SECRET not in str(caught.value)
    finally:
        postgres_database.empty()


@pytest.mark.parametrize("parameters", [{"w": 1}, ["a", "b", "c"]])
def test_parameters_that_do_not_fit_are_an_error_of_the_input(driver: Driver, parameters: Any) -> None:
    sql = "SELECT :v AS v, ? AS w" if driver.name == "sqlite3" else "SELECT %(v)s AS v"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sqlite3 deprecates lists for names
        error = driver.refusal(sql, parameters)
        assert isinstance(error, InputError)
        assert "Placeholders are %s or %(name)s for PostgreSQL" in str(error)


@pytest.mark.parametrize("server", ["postgres", "mysql"])
def test_connection_lost_in_the_middle_may_be_retried(server: str, request: pytest.FixtureRequest) -> None:
    database: Database = request.getfixturevalue(f"{server}_database")
    account = account_of(database, "user", "dbname" if server == "postgres" else "database")
    if server == "postgres":
        sql, end = (
            "SELECT id, pg_backend_pid() AS pid, repeat('x', 1000) AS x FROM generate_series(1, 100000) AS id",
            ("SELECT pg_terminate_backend({})"),
        )
        drivers = [psycopg2.connect, psycopg.connect]
    else:
        sql, end = "SELECT seq AS id, connection_id() AS pid, repeat('x', 1000) AS x FROM seq_1_to_100000", "KILL {}"
        drivers = [pymysql.connect]
    for connect in drivers:
        rows = iter(SqlRowSource(lambda: connect(**account), sql, name=NAME))  # noqa: B023
        read = [next(rows)]
        pid = read[0]["pid"]
        with suppress(pymysql.err.OperationalError):  # MariaDB answers KILL with an error at times
            database.query(end.format(pid))
        with pytest.raises(SourceError) as caught:
            read.extend(rows)
        assert f"rows: {NAME} stopped after {len(read)} row" in caught.value.summary.replace(",", "")
        assert "A retry reads all rows again." in str(caught.value)
        assert not isinstance(caught.value, InputError)


def test_locked_database_of_sqlite_may_be_retried(sqlite_database: Database) -> None:
    sqlite_database.execute("CREATE TABLE t (id INTEGER)")
    path = sqlite_database.fields["host"]
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(SourceError, match="database is locked"):
            list(SqlRowSource(lambda: sqlite3.connect(path, timeout=0), "SELECT id FROM t"))
    finally:
        writer.close()


def test_autocommit_of_a_connection_does_not_matter(postgres_database: Database) -> None:
    account = account_of(postgres_database, "user", "dbname")

    def connect2() -> Any:
        connection = psycopg2.connect(**account)
        connection.autocommit = True
        return connection

    for connect in (connect2, lambda: psycopg.connect(**account, autocommit=True)):
        assert list(SqlRowSource(connect, "SELECT 1 AS a")) == [{"a": 1}]


def test_cursor_class_of_a_connection_does_not_matter(
    postgres_database: Database, mysql_database: Database, sqlite_database: Database
) -> None:
    postgres = account_of(postgres_database, "user", "dbname")
    mysql = account_of(mysql_database, "user", "database")

    def dictionaries_of_sqlite() -> Any:
        connection = sqlite3.connect(sqlite_database.fields["host"])
        connection.row_factory = lambda cursor, row: {
            column[0]: value for column, value in zip(cursor.description, row, strict=True)
        }
        return connection

    def rows_of_sqlite() -> Any:
        connection = sqlite3.connect(sqlite_database.fields["host"])
        connection.row_factory = sqlite3.Row
        return connection

    for connect in (
        lambda: psycopg2.connect(**postgres, cursor_factory=psycopg2.extras.RealDictCursor),
        lambda: psycopg2.connect(**postgres, cursor_factory=psycopg2.extras.NamedTupleCursor),
        lambda: psycopg.connect(**postgres, row_factory=dict_row),
        lambda: pymysql.connect(**mysql, cursorclass=pymysql.cursors.DictCursor),
        dictionaries_of_sqlite,
        rows_of_sqlite,
    ):
        assert list(SqlRowSource(connect, "SELECT 1 AS a, 2 AS b")) == [{"a": 1, "b": 2}]


def test_wrapped_connection_of_sqlalchemy_streams_as_well(postgres_database: Database) -> None:
    from sqlalchemy import create_engine

    fields = postgres_database.fields
    engine = create_engine(
        f"postgresql+psycopg2://{fields['login']}@{fields['host']}:{fields['port']}/{fields['schema']}"
    )
    rows = iter(SqlRowSource(engine.raw_connection, "SELECT name FROM pg_cursors"))

    assert next(rows) == {"name": "airflow_claude_batch_rows"}
    rows.close()  # type: ignore[attr-defined]  # a generator
    engine.dispose()


def test_types_of_postgresql_have_a_form(postgres_database: Database) -> None:
    account = account_of(postgres_database, "user", "dbname")
    sql = """SELECT 1.50::numeric AS "decimal", '{"a": [1, null]}'::jsonb AS "json", ARRAY[1, 2] AS "array",
        DATE '2026-11-29' AS "date", TIMESTAMPTZ '2026-11-29 10:00:00+00' AS "instant", TIME '10:00' AS "time",
        INTERVAL '1 day 2 hours' AS "interval", '5f0c4a54-0000-4000-8000-000000000000'::uuid AS "uuid",
        '10.0.0.0/8'::cidr AS "network", true AS "boolean", NULL AS "null", 0.5::float8 AS "float",
        '12 EUR'::text AS "text"
    """
    expected = {
        "decimal": "1.50",
        "json": {"a": [1, None]},
        "array": [1, 2],
        "date": "2026-11-29",
        "time": "10:00:00",
        "interval": "P1DT2H",
        "uuid": "5f0c4a54-0000-4000-8000-000000000000",
        "network": "10.0.0.0/8",
        "boolean": True,
        "null": None,
        "float": 0.5,
        "text": "12 EUR",
    }
    for connect in (psycopg2.connect, psycopg.connect):
        (row,) = SqlRowSource(lambda: connect(**account), sql)  # noqa: B023

        instant = row.pop("instant")  # type: ignore[attr-defined]  # a dict
        assert instant == datetime(2026, 11, 29, 10, tzinfo=UTC)
        assert datetime.fromisoformat(json_of(instant)) == instant
        assert {name: json_of(value) for name, value in row.items()} == expected


def test_types_of_mysql_have_a_form(mysql_database: Database) -> None:
    account = account_of(mysql_database, "user", "database")
    mysql_database.execute(
        "CREATE TABLE types (amount DECIMAL(9,2), made DATETIME, day DATE, took TIME, kinds SET('a', 'b'), "
        "mood ENUM('good', 'bad'), data JSON, year YEAR, flag BOOLEAN)",
        "INSERT INTO types VALUES (1.50, '2026-11-29 10:00:00', '2026-11-29', '26:00:00', 'a,b', 'good', "
        "'{\"a\": 1}', 2026, true)",
    )
    try:
        (row,) = SqlRowSource(lambda: pymysql.connect(**account), "SELECT * FROM types")
    finally:
        mysql_database.empty()

    assert row == {
        "amount": Decimal("1.50"),
        "made": datetime(2026, 11, 29, 10),  # noqa: DTZ001  # the database has no time zone
        "day": date(2026, 11, 29),
        "took": timedelta(hours=26),
        "kinds": "a,b",
        "mood": "good",
        "data": '{"a": 1}',
        "year": 2026,
        "flag": 1,
    }
    assert all(json_of(value) is not None for value in row.values())


def test_zero_date_of_mysql_stays_a_text(mysql_database: Database) -> None:
    account = account_of(mysql_database, "user", "database")
    mysql_database.execute(
        "SET SESSION sql_mode = ''", "CREATE TABLE zero (day DATE)", "INSERT INTO zero VALUES ('0000-00-00')"
    )
    try:
        assert list(SqlRowSource(lambda: pymysql.connect(**account), "SELECT day FROM zero")) == [{"day": "0000-00-00"}]
    finally:
        mysql_database.empty()


def test_bytes_are_read_and_refused_where_they_are_used(driver: Driver) -> None:
    literal = r"'\x0102'::bytea" if driver.name.startswith("psycopg") else "X'0102'"

    (row,) = driver.source(f"SELECT {literal} AS blob_, {time.min.hour} AS id")

    assert row["id"] == 0
    assert bytes(row["blob_"]) == b"\x01\x02"
    with pytest.raises(ValueFormError, match="bytes"):
        json_of(row["blob_"])
