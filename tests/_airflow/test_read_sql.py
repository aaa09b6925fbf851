"""Queries through Airflow connections: every database, and connections that cannot be used."""

from __future__ import annotations

import json
from typing import Any

import pytest
from databases import CONN_ID, UNCHECKED_PASSWORD, Database

from airflow_claude_batch._airflow.read_sql import open_query
from airflow_claude_batch.exceptions import ClaudeBatchError, ConfigurationError, InputError, SourceError
from demo.ports import HOST, free_ports

PASSWORD = "a-password-that-must-not-appear"


def define(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(fields))


def refusal() -> ClaudeBatchError:
    with pytest.raises(ClaudeBatchError) as caught:
        list(open_query(CONN_ID, "SELECT 1 AS a", None))
    error = caught.value
    assert "Nothing was sent." in str(error)
    assert len(error.summary) <= 120
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__
    return error


def test_rows_of_each_database_come_through_its_connection(any_database: Database) -> None:
    any_database.execute(
        "CREATE TABLE tickets (id INTEGER PRIMARY KEY, title VARCHAR(20))",
        "INSERT INTO tickets VALUES (1, 'first: 100 %'), (2, 'ü 😀'), (3, NULL)",
    )
    place = ":id" if any_database.name == "sqlite" else "%(id)s"
    source = open_query(CONN_ID, f"SELECT id, title FROM tickets WHERE id > {place} ORDER BY id", {"id": 0})

    assert list(source) == [
        {"id": 1, "title": "first: 100 %"},
        {"id": 2, "title": "ü 😀"},
        {"id": 3, "title": None},
    ]
    assert source.columns == ("id", "title")


def test_query_on_a_connection_is_named_in_errors(any_database: Database) -> None:
    with pytest.raises(InputError, match=f"^rows: the query on connection '{CONN_ID}' failed: "):
        list(open_query(CONN_ID, "SELECT id FROM absent", None))


def test_postgresql_with_dictionaries_in_its_extra_gives_rows(
    postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    define(monkeypatch, **postgres_database.fields, extra={"cursor": "dictcursor"})

    assert list(open_query(CONN_ID, "SELECT 1 AS a, 2 AS b", None)) == [{"a": 1, "b": 2}]


def test_nothing_is_connected_before_the_rows_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", raising=False)

    assert open_query(CONN_ID, "SELECT 1 AS a", None).columns == ()


@pytest.mark.airflow
def test_missing_connection_is_named(airflow_db: None) -> None:
    with pytest.raises(ConfigurationError, match=r"There is no connection 'absent'.*\nNothing was sent\.\nCreate it: "):
        list(open_query("absent", "SELECT 1 AS a", None))


@pytest.mark.parametrize(
    ("type_", "package"),
    [
        ("snowflake", "apache-airflow-providers-snowflake"),
        ("redshift", "apache-airflow-providers-amazon"),
        ("mssql", "apache-airflow-providers-microsoft-mssql"),
    ],
)
def test_connection_without_its_provider_names_the_package(
    type_: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    define(monkeypatch, conn_type=type_, host=HOST, password=PASSWORD)

    error = refusal()

    assert isinstance(error, ConfigurationError)
    assert error.summary == f"Airflow has no hook for connection '{CONN_ID}', which has the type '{type_}'."
    assert f"Install {package} on every worker." in str(error)
    assert PASSWORD not in str(error)


def test_connection_of_no_database_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    define(monkeypatch, conn_type="claude", password=PASSWORD)

    error = refusal()

    assert isinstance(error, ConfigurationError)
    assert error.summary == f"Connection '{CONN_ID}' has the type 'claude', which is no SQL database."


@pytest.mark.parametrize("type_", ["postgres", "pymysql"])
def test_unreachable_database_may_be_retried(type_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    define(monkeypatch, conn_type=type_, host=HOST, port=port, login="me", password=PASSWORD, schema="x")

    error = refusal()

    assert isinstance(error, SourceError)
    assert error.summary == f"Connection '{CONN_ID}': the database was not reached: OperationalError."
    assert HOST in str(error)
    assert PASSWORD not in str(error)


def test_refused_password_is_in_no_error(mysql_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    define(monkeypatch, **{**mysql_database.fields, "password": PASSWORD})

    error = refusal()

    assert isinstance(error, SourceError)
    assert "Access denied" in str(error)
    assert PASSWORD not in str(error)


def test_message_with_a_secret_of_the_connection_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # libpq quotes an option that it does not know
    define(
        monkeypatch, conn_type="postgres", host=HOST, password=UNCHECKED_PASSWORD, extra={"sslmode": UNCHECKED_PASSWORD}
    )

    error = refusal()

    assert UNCHECKED_PASSWORD not in str(error)
    assert "driver's message" not in str(error)


def test_missing_file_of_sqlite_may_be_retried(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    define(monkeypatch, conn_type="sqlite", host=str(tmp_path / "absent" / "x.sqlite"))

    assert "unable to open database file" in str(refusal())


@pytest.mark.parametrize("parameters", ["text", b"bytes", 7, {1, 2}])
def test_parameters_of_another_type_are_refused(parameters: Any) -> None:
    with pytest.raises(InputError, match=r"rows: parameters of SqlRows is .*, not a mapping or a list"):
        open_query(CONN_ID, "SELECT 1 AS a", parameters)
