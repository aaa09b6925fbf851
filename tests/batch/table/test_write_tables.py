from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from table_rows import Target, answered, failed

from airflow_claude_batch.exceptions import ResultsError, TableError

LABELS = "CREATE TABLE labels (id INTEGER PRIMARY KEY, label VARCHAR(32), note VARCHAR(32))"


def test_upsert_inserts_new_rows_and_updates_old_ones_and_leaves_other_columns(target: Target) -> None:
    target.execute(LABELS, "INSERT INTO labels VALUES (1, 'old', 'mine')")

    result = target.write([answered(1, "new"), answered(2)])

    assert target.query("SELECT id, label, note FROM labels ORDER BY id") == [(1, "new", "mine"), (2, "spam", None)]
    assert (result.rows_written, result.rows_failed, result.rows_skipped) == (2, 0, 0)


def test_insert_leaves_rows_whose_key_is_there_and_counts_the_new_ones(target: Target) -> None:
    target.execute(LABELS, "INSERT INTO labels VALUES (1, 'old', 'mine')")

    result = target.write([answered(1, "new"), answered(2)], mode="insert")

    assert target.query("SELECT id, label FROM labels ORDER BY id") == [(1, "old"), (2, "spam")]
    assert result.rows_written == 1


def test_replace_deletes_the_rows_with_the_same_keys_first(target: Target) -> None:
    target.execute("CREATE TABLE labels (id INTEGER, label VARCHAR(32))")
    target.execute("INSERT INTO labels VALUES (1, 'old'), (1, 'older'), (3, 'other')")

    result = target.write([answered(1, "new"), answered(2)], mode="replace")

    assert target.query("SELECT id, label FROM labels ORDER BY id") == [(1, "new"), (2, "spam"), (3, "other")]
    assert (result.rows_written, result.rows_deleted) == (2, 2)


def test_replace_of_a_partition_deletes_what_is_not_there_any_more(target: Target) -> None:
    target.execute("CREATE TABLE labels (id INTEGER, label VARCHAR(32), day DATE)")
    target.execute("INSERT INTO labels VALUES (1, 'old', '2026-11-29'), (9, 'gone', '2026-11-29')")
    target.execute("INSERT INTO labels VALUES (1, 'other day', '2026-11-28')")
    options: dict[str, Any] = {
        "mode": "replace",
        "replace_where": "day = '2026-11-29' -- today",
        "constants": {"day": "2026-11-29"},
    }

    target.write([answered(1, "new"), answered(2)], **options)
    result = target.write([answered(1, "new"), answered(2)], **options)

    assert [row[:2] for row in target.query("SELECT id, label FROM labels ORDER BY day, id")] == [
        (1, "other day"),
        (1, "new"),
        (2, "spam"),
    ]
    assert result.rows_deleted == 2


def test_replace_refuses_new_rows_that_the_next_run_would_not_delete(target: Target) -> None:
    target.execute("CREATE TABLE labels (id INTEGER, label VARCHAR(32), day DATE)")
    target.execute("INSERT INTO labels VALUES (9, 'old', '2026-11-29')")

    with pytest.raises(TableError, match="labels: replace_where selects 0 of 2 new rows"):
        target.write([answered(1), answered(2)], mode="replace", replace_where="day = '2026-11-29'")

    assert target.query("SELECT id, label FROM labels") == [(9, "old")]


def test_percent_sign_in_a_condition_and_in_names_stands_for_itself(target: Target) -> None:
    q = target.quote
    target.execute(f"CREATE TABLE labels ({q}i%d{q} INTEGER PRIMARY KEY, {q}100%s{q} VARCHAR(9))")
    columns = {"i%d": "key", "100%s": "output.label"}

    target.write([answered(1, "50%")], columns=columns, key=("i%d",))
    target.write(
        [answered(2, "60%")],
        columns=columns,
        key=("i%d",),
        mode="replace",
        replace_where=f"{q}100%s{q} LIKE '%0%'",
    )

    assert target.query("SELECT * FROM labels") == [(2, "60%")]


def test_names_with_quotes_spaces_and_reserved_words_are_quoted(target: Target) -> None:
    q = target.quote
    table, column = f"order {q}x; DROP", f"select {q}'"
    quoted = [f"{q}{name.replace(q, q * 2)}{q}" for name in (table, column)]
    target.execute(f"CREATE TABLE {quoted[0]} (id INTEGER, {quoted[1]} VARCHAR(32), UNIQUE (id, {quoted[1]}))")
    name = f"{q}{table.replace(q, q * 2)}{q}"
    options: dict[str, Any] = {"columns": {"id": "key", column: "output.label"}, "key": ("id", column), "table": name}

    for mode in ("upsert", "insert", "replace"):
        target.write([answered(1, "a"), answered(2, "b")], mode=mode, **options)

    assert target.query(f"SELECT id FROM {quoted[0]} ORDER BY id") == [(1,), (2,)]


def test_several_columns_are_the_key(target: Target) -> None:
    target.execute("CREATE TABLE labels (id INTEGER, lang VARCHAR(2), label VARCHAR(9), PRIMARY KEY (lang, id))")
    columns = {"id": "key.id", "lang": "key.lang", "label": "output.label"}

    for label in ("a", "b"):
        target.write([answered({"id": 1, "lang": lang}, label) for lang in ("de", "en")], columns=columns)

    assert target.query("SELECT lang, label FROM labels ORDER BY lang") == [("de", "b"), ("en", "b")]


def test_failed_rows_are_written_with_nulls_and_the_reason(target: Target) -> None:
    target.execute(LABELS, "INSERT INTO labels VALUES (2, 'yesterday', NULL)")

    result = target.write(
        [answered(1), failed(2, "too long")], columns={"id": "key", "label": "output.label", "note": "error.message"}
    )

    assert target.query("SELECT id, label, note FROM labels ORDER BY id") == [(1, "spam", None), (2, None, "too long")]
    assert (result.rows_written, result.rows_failed, result.rows_skipped) == (2, 1, 0)


def test_failed_rows_are_left_out(target: Target) -> None:
    target.execute("CREATE TABLE labels (id INTEGER PRIMARY KEY, label VARCHAR(32) NOT NULL)")

    result = target.write([answered(1), failed(2)], skip_failed=True)

    assert target.query("SELECT id FROM labels") == [(1,)]
    assert (result.rows_written, result.rows_failed, result.rows_skipped) == (1, 1, 1)


def test_values_get_the_types_of_their_columns(target: Target) -> None:
    json_type = "JSON" if target.driver != "psycopg" else "JSONB"
    target.execute(
        "CREATE TABLE labels (id BIGINT PRIMARY KEY, usd DECIMAL(20, 10), ok BOOLEAN, score DOUBLE PRECISION,"
        f" day DATE, at_local TIMESTAMP NULL, tags {json_type}, body TEXT)"
    )
    output = {
        "ok": True,
        "score": 0.5,
        "day": "2026-11-29",
        "at": "2026-11-29T10:30:00.250000+01:00",
        "tags": ["a", {"b": 'quo"te\\ \t\n'}],
        "body": {"x": [1, None]},
    }
    columns = {"id": "key", "usd": "cost_usd", "at_local": "output.at"} | {
        name: f"output.{name}" for name in ("ok", "score", "day", "tags", "body")
    }

    target.write([answered("17", output=output, cost_usd="0.0123456789")], columns=columns)

    cast = {"sqlite": "json(tags)", "pymysql": "JSON_COMPACT(tags)"}.get(target.driver, "tags::text")
    as_text = {"pymysql": "CHAR"}.get(target.driver, "TEXT")
    ((id_, usd, ok, score, day, at, tags, body),) = target.query(
        f"SELECT id, CAST(usd AS {as_text}), ok, score, CAST(day AS {as_text}), CAST(at_local AS {as_text}), {cast},"
        " body FROM labels"
    )
    assert (id_, Decimal(usd), bool(ok), score, day) == (17, Decimal("0.0123456789"), True, 0.5, "2026-11-29")
    assert at.startswith("2026-11-29 09:30:00")
    assert json.loads(tags) == output["tags"]
    assert body == '{"x":[1,null]}'


@pytest.mark.parametrize("target", ["psycopg2", "psycopg"], indirect=True)
def test_types_of_postgresql_alone(target: Target) -> None:
    target.execute("CREATE TYPE mood AS ENUM ('good', 'bad')")
    target.execute("CREATE DOMAIN short AS varchar(3)")
    target.execute(
        "CREATE TABLE labels (id uuid PRIMARY KEY, tags text[], grid int[], at timestamptz, m mood, s short)"
    )
    output = {
        "tags": ["a", 'q"\\,{}', None, "NULL", ""],
        "grid": [[1, 2], [3, 4]],
        "at": "2026-11-29T10:30:00",
        "m": "good",
        "s": "abc",
    }
    key = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
    columns = {"id": "key"} | {name: f"output.{name}" for name in output}

    target.write([answered(key, output=output)], columns=columns)

    ((id_, tags, grid, at, mood),) = target.query("SELECT id::text, tags, grid, at, m::text FROM labels")
    assert (id_, tags, grid, mood) == (key, output["tags"], output["grid"], "good")
    assert at == datetime.datetime(2026, 11, 29, 10, 30, tzinfo=datetime.UTC)
    with pytest.raises(TableError, match="a text of 4 characters for the column s of type"):
        target.write([answered(key, output={**output, "s": "abcd"})], columns=columns)


def test_text_with_every_odd_character_comes_back(target: Target) -> None:
    charset = " CHARACTER SET utf8mb4" if target.driver == "pymysql" else ""
    target.execute(f"CREATE TABLE labels (id INTEGER PRIMARY KEY, label TEXT{charset})")
    odd = "".join(map(chr, range(1, 0x180))) + "\\N \\. \u2028 😀 %s ? :x {y} '' \"\" ;--\r\n\t"

    target.write([answered(1, odd), answered(2, "\\."), answered(3, "\\N"), answered(4, "")])

    assert [row[1] for row in target.query("SELECT id, label FROM labels ORDER BY id")] == [odd, "\\.", "\\N", ""]


def test_nul_characters_are_kept_or_replaced_and_the_log_says_where(
    target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    target.execute("CREATE TABLE labels (id INTEGER PRIMARY KEY, label TEXT)")

    target.write([answered(1), answered(7, "a\0b"), answered(8, "\0")])

    is_replaced = target.driver.startswith("psycopg")
    expected = "\ufffd" if is_replaced else "\0"
    assert target.query("SELECT label FROM labels ORDER BY id")[1:] == [(f"a{expected}b",), (expected,)]
    says = "by U+FFFD in 2 values: 2 of column label. The first is in the row with key 7."
    assert (says in caplog.text) == is_replaced


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("INTEGER", "spam", "the row with key 7 has a text for the column label of type int"),
        ("SMALLINT", 40000, "the row with key 7 has an integer out of its range for the column label of type smallint"),
        (
            "DATE",
            "tomorrow",
            "the row with key 7 has a text that is no ISO 8601 date for the column label of type date",
        ),
        ("BOOLEAN", "yes", "the row with key 7 has a text for the column label of type (boolean|tinyint)"),
    ],
)
def test_value_that_does_not_fit_names_row_column_and_type(target: Target, column: str, value: Any, says: str) -> None:
    if (target.driver, column) == ("sqlite", "SMALLINT"):
        pytest.skip("SQLite's integers have 64 bits, whatever the column is called")
    target.execute(f"CREATE TABLE labels (id INTEGER PRIMARY KEY, label {column})")

    with pytest.raises(TableError, match=f"(?i)labels: {says}") as error:
        target.write([answered(1, None), answered(7, value), answered(8, None)])

    assert str(value) not in str(error.value)
    assert target.query("SELECT count(*) FROM labels") == [(0,)]


def test_value_that_the_database_refuses_names_the_row_and_keeps_earlier_batches(target: Target) -> None:
    target.execute("CREATE TABLE labels (id INTEGER PRIMARY KEY, label VARCHAR(32), CHECK (length(label) < 5))")
    rows = [answered(number, "a secret" if number == 17 else "fine") for number in range(30)]

    with pytest.raises(TableError, match="labels: the row with key 17 was refused by the database") as error:
        target.write(rows, batch_rows=10)

    assert "a secret" not in str(error.value)
    assert "What was written before stays (10 rows)" in str(error.value)
    assert target.query("SELECT count(*), max(id) FROM labels") == [(10, 9)]


def test_replace_that_fails_changes_nothing(target: Target) -> None:
    target.execute("CREATE TABLE labels (id INTEGER PRIMARY KEY, label VARCHAR(32), CHECK (label <> 'bad'))")
    target.execute("INSERT INTO labels VALUES (1, 'old'), (2, 'old')")
    rows = [answered(number, "bad" if number == 17 else "fine") for number in range(30)]

    with pytest.raises(TableError, match="the row with key 17") as error:
        target.write(rows, batch_rows=10, mode="replace", replace_where="1 = 1", create_table=True)

    assert "The transaction was rolled back, so the table is as it was." in str(error.value)
    assert target.query("SELECT id, label FROM labels ORDER BY id") == [(1, "old"), (2, "old")]


@pytest.mark.parametrize("mode", ["upsert", "insert"])
def test_table_without_a_unique_constraint_is_refused_with_the_statement_that_adds_it(
    target: Target, mode: str
) -> None:
    target.execute("CREATE TABLE labels (id INTEGER, label VARCHAR(32))")
    target.execute("CREATE UNIQUE INDEX other ON labels (id, label)")

    with pytest.raises(TableError, match="labels has no unique constraint on id") as error:
        target.write([answered(1)], mode=mode)
    assert target.query("SELECT count(*) FROM labels") == [(0,)]

    remedy = str(error.value).rpartition("Run ")[2].partition(". Or use")[0]
    target.execute(remedy)
    if target.driver == "pymysql":
        target.execute("DROP INDEX other ON labels")
    target.write([answered(1)], mode=mode)
    assert target.query("SELECT count(*) FROM labels") == [(1,)]


@pytest.mark.parametrize("target", ["sqlite", "psycopg2"], indirect=True)
def test_index_over_some_rows_or_over_an_expression_is_no_constraint(target: Target) -> None:
    target.execute("CREATE TABLE labels (id INTEGER, label VARCHAR(32))")
    target.execute("CREATE UNIQUE INDEX one ON labels (id) WHERE label IS NULL")
    target.execute("CREATE UNIQUE INDEX two ON labels (abs(id))")

    with pytest.raises(TableError, match="labels has no unique constraint on id"):
        target.write([answered(1)])


@pytest.mark.parametrize("target", ["pymysql"], indirect=True)
def test_mysql_with_another_unique_index_is_refused(target: Target) -> None:
    target.execute("CREATE TABLE labels (id INTEGER PRIMARY KEY, label VARCHAR(32) UNIQUE)")

    with pytest.raises(TableError, match="labels has another unique index, on label"):
        target.write([answered(1)])


@pytest.mark.parametrize("target", ["pymysql"], indirect=True)
def test_mysql_index_over_the_beginning_of_a_text_is_no_constraint(target: Target) -> None:
    target.execute("CREATE TABLE labels (id VARCHAR(99), label VARCHAR(32), UNIQUE (id(3)))")

    with pytest.raises(TableError, match="labels has no unique constraint on id"):
        target.write([answered("a")])


@pytest.mark.parametrize("target", ["pymysql"], indirect=True)
def test_mysql_table_without_transactions_is_not_replaced(target: Target) -> None:
    target.execute(LABELS + " ENGINE=MyISAM")

    with pytest.raises(TableError, match="labels has no transactions"):
        target.write([answered(1)], mode="replace")
    target.write([answered(1)])

    assert target.query("SELECT id FROM labels") == [(1,)]


@pytest.mark.parametrize("target", ["pymysql"], indirect=True)
def test_mysql_keys_that_its_collation_takes_for_equal_are_refused(target: Target) -> None:
    target.execute("CREATE TABLE labels (id VARCHAR(9) COLLATE utf8mb4_general_ci PRIMARY KEY, label TEXT)")

    for other in ("Ab", "äb", "ab "):
        with pytest.raises(TableError, match=f"the row with key '{other}' has the same id as a row before it"):
            target.write([answered("ab"), answered(other)])


@pytest.fixture
def most_bytes(target: Target) -> Iterator[int]:
    """Let the server take packets of one MB instead of 16, on new connections."""
    ((before,),) = target.query("SELECT @@max_allowed_packet")
    target.execute(f"SET GLOBAL max_allowed_packet = {1 << 20}")
    yield 1 << 20
    target.execute(f"SET GLOBAL max_allowed_packet = {before}")


@pytest.mark.parametrize("target", ["pymysql"], indirect=True)
def test_mysql_row_that_is_larger_than_a_packet_is_named(target: Target, most_bytes: int) -> None:
    target.execute("CREATE TABLE labels (id INTEGER PRIMARY KEY, label LONGTEXT)")
    assert target.query("SELECT @@max_allowed_packet") == [(most_bytes,)]

    target.write([answered(1, "'" * (most_bytes // 2 - 200_000)), answered(2, "x" * (most_bytes - 200_000))])
    with pytest.raises(TableError, match="the row with key 3 is larger than the database's max_allowed_packet"):
        target.write([answered(3, "'" * (most_bytes // 2))])

    assert target.query("SELECT id FROM labels ORDER BY id") == [(1,), (2,)]


def test_auto_increment_need_not_be_given(target: Target) -> None:
    number = {"sqlite": "INTEGER PRIMARY KEY", "pymysql": "INT AUTO_INCREMENT PRIMARY KEY"}
    target.execute(
        f"CREATE TABLE labels (nr {number.get(target.driver, 'SERIAL PRIMARY KEY')}, id VARCHAR(9) UNIQUE, label TEXT)"
    )

    for label in ("a", "b"):
        target.write([answered("x", label), answered("y", label)])

    assert target.query("SELECT id, label FROM labels ORDER BY nr") == [("x", "b"), ("y", "b")]


def test_column_that_the_table_lacks_is_named_with_near_misses(target: Target) -> None:
    target.execute(LABELS)

    with pytest.raises(TableError, match=r"labels has no column 'lable'\. Did you mean 'label'\?") as error:
        target.write([answered(1)], columns={"id": "key", "lable": "output.label"})
    assert "The table has the columns id, label, note." in str(error.value)


def test_table_that_does_not_exist_is_named_with_near_misses(target: Target) -> None:
    target.execute(LABELS)

    with pytest.raises(TableError, match=r"There is no table Labels_\. Did you mean 'labels'\?"):
        target.write([answered(1)], table="Labels_")


def test_key_that_a_row_outside_of_replace_where_has_is_refused_with_the_key_to_give(target: Target) -> None:
    def write(day: str) -> None:
        columns, condition = {"id": "key", "label": "output.label"}, f"day = '{day}'"
        target.write([answered(1)], columns=columns, constants={"day": day}, mode="replace", replace_where=condition)

    target.execute("CREATE TABLE labels (id INTEGER PRIMARY KEY, label VARCHAR(32), day VARCHAR(10))")
    write("2026-11-28")
    with pytest.raises(TableError, match=r"the row with key 1 was refused(?s:.*)key=\['id', 'day'\]"):
        write("2026-11-29")


def test_column_that_must_be_given_is_named(target: Target) -> None:
    target.execute("CREATE TABLE labels (id INTEGER PRIMARY KEY, label TEXT, day DATE NOT NULL)")

    with pytest.raises(TableError, match="labels needs a value for day, which columns does not give"):
        target.write([answered(1)])


def test_null_for_a_column_that_takes_none_names_the_row(target: Target) -> None:
    target.execute("CREATE TABLE labels (id INTEGER PRIMARY KEY, label VARCHAR(32) NOT NULL)")

    with pytest.raises(TableError, match="the row with key 2 has no value for the column label") as error:
        target.write([answered(1), failed(2)])
    assert "Its status is errored. Set failed_rows='skip'" in str(error.value)


def test_row_without_a_key_is_refused_since_each_run_would_add_it(target: Target) -> None:
    target.execute("CREATE TABLE labels (id VARCHAR(9), label VARCHAR(32), UNIQUE (id))")

    with pytest.raises(TableError, match="the row with key None has no value for the column id"):
        target.write([answered(None)])


def test_two_rows_with_the_same_key_are_refused_also_in_different_batches(target: Target) -> None:
    target.execute(LABELS)

    with pytest.raises(TableError, match="the row with key 3 has the same id as a row before it"):
        target.write([answered(number % 7) for number in [*range(7), 10]], batch_rows=2)


def test_computed_column_is_refused(target: Target) -> None:
    stored = "GENERATED ALWAYS AS (id + 1) STORED"
    target.execute(f"CREATE TABLE labels (id INTEGER PRIMARY KEY, label INTEGER {stored})")

    with pytest.raises(TableError, match="the column label is computed by the database"):
        target.write([answered(1)])


# ------------------------------------------------------------------ new tables


def test_new_table_has_types_that_take_all_values(target: Target) -> None:
    outputs: list[dict[str, Any]] = [
        {"n": None, "x": 1, "ok": True, "t": "a", "j": {"a": [1]}, "big": 2**70, "mixed": 1},
        {"n": 5, "x": 0.5, "ok": False, "t": "b", "j": None, "big": 1, "mixed": "one"},
    ]
    columns = {"id": "key", "usd": "cost_usd", "nothing": "stop_reason"} | {
        name: f"output.{name}" for name in outputs[0]
    }
    rows = [answered(f"k{number}", output=each, cost_usd="0.000125") for number, each in enumerate(outputs)]

    for _ in range(2):
        target.write(rows, columns=columns, create_table=True, column_types={"t": "varchar(5)"})

    found = target.query("SELECT id, n, x, ok, t, mixed FROM labels ORDER BY id")
    assert [tuple(row) for row in found] == [("k0", None, 1.0, True, "a", "1"), ("k1", 5, 0.5, False, "b", "one")]
    if target.driver.startswith("psycopg"):
        types = dict(
            target.query(
                "SELECT column_name::text, data_type::text FROM information_schema.columns WHERE table_name = 'labels'"
            )
        )
        assert types == {
            "id": "text", "usd": "numeric", "nothing": "text", "n": "bigint", "x": "double precision",
            "ok": "boolean", "t": "character varying", "j": "jsonb", "big": "numeric", "mixed": "text",
        }  # fmt: skip
        assert target.query("SELECT big, usd FROM labels ORDER BY id")[0] == (2**70, Decimal("0.000125"))


def test_new_table_gets_the_types_of_kept_columns(target: Target) -> None:
    row = answered(1, input={"day": "2026-11-29"})

    target.write([row], columns={"id": "key", "day": "input.day"}, create_table=True, kept_types={"day": "date"})

    found = target.query("SELECT day FROM labels")[0][0]
    assert str(found) == "2026-11-29"
    assert target.driver == "sqlite" or isinstance(found, datetime.date)


def test_new_table_of_mysql_tells_keys_apart_by_case_and_accents(target: Target) -> None:
    target.write([answered("a", "1"), answered("A", "2"), answered("ä", "3")], create_table=True)

    assert sorted(target.query("SELECT id FROM labels")) == [("A",), ("a",), ("ä",)]


# ------------------------------------------------------------------ paths


def test_path_that_no_row_has_is_refused_before_anything_is_written(target: Target) -> None:
    target.execute(LABELS)

    with pytest.raises(
        TableError, match=r"columns\['label'\] is 'output.lable', but no row has 'output.lable'"
    ) as error:
        target.write([answered(1), failed(2)], columns={"id": "key", "label": "output.lable"})
    assert "output has 'label'. Did you mean 'label'?" in str(error.value)
    assert target.query("SELECT count(*) FROM labels") == [(0,)]


# ------------------------------------------------------------------ connections


def test_autocommit_of_a_connection_does_not_split_the_transaction(target: Target) -> None:
    target.execute("CREATE TABLE labels (id INTEGER PRIMARY KEY, label VARCHAR(9), CHECK (label <> 'bad'))")
    target.execute("INSERT INTO labels VALUES (1, 'old')")
    connection = target.connect()
    if target.driver == "pymysql":
        connection.autocommit(True)
    elif target.driver == "sqlite":
        connection.isolation_level = None
    else:
        connection.autocommit = True

    with pytest.raises(TableError):
        target.write([answered(1), answered(2, "bad")], connection, mode="replace")

    assert target.query("SELECT id, label FROM labels") == [(1, "old")]


@pytest.mark.parametrize("target", ["psycopg2", "psycopg", "pymysql"], indirect=True)
def test_lost_connection_says_what_stays_and_asks_for_another_run(target: Target) -> None:
    target.execute(LABELS)
    connection = target.connect()

    def rows() -> Any:
        for number in range(30):
            if number == 25:
                _end_other_connections(target)
            yield answered(number)

    with pytest.raises(ResultsError, match="labels: the connection to the database was lost") as error:
        target.write(rows, connection, batch_rows=10)
    assert not isinstance(error.value, TableError)
    assert "What was written before stays (20 rows)" in str(error.value)

    target.write([answered(number) for number in range(30)])
    assert target.query("SELECT count(*) FROM labels") == [(30,)]


def _end_other_connections(target: Target) -> None:
    if target.driver != "pymysql":
        target.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        return
    for (thread,) in target.query(
        "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND command <> 'Daemon'"
    ):
        target.execute(f"KILL {thread}")


@pytest.mark.parametrize("target", ["psycopg2", "psycopg"], indirect=True)
def test_right_that_is_missing_is_told_in_the_databases_words(target: Target) -> None:
    target.execute(
        LABELS, "DROP ROLE IF EXISTS reader", "CREATE ROLE reader LOGIN", "GRANT USAGE ON SCHEMA public TO reader"
    )
    connection = target.connect()
    connection.cursor().execute("SET SESSION AUTHORIZATION reader")
    connection.commit()

    with pytest.raises(ResultsError, match="labels: the database refused a statement") as error:
        target.write([answered(1)], connection)
    assert "It says: permission denied" in str(error.value)
