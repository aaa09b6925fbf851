"""What the demo prints and does before it starts anything, and what remains after it."""

import io
import json
import socket
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Console

from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.land.rows import Row
from demo.__main__ import main, single_demo
from demo.demonstration import CONNECTION_ID, Demonstration
from demo.errors import DemoError
from demo.live import delete_stored_connection, read_plan
from demo.ports import SERVER_PORTS, free_ports, is_free
from demo.results import Results, write_report
from demo.screen import Screen
from demo.settings import Settings

EXAMPLE = Path(__file__).parents[2] / "dags" / "describe_options.py"


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_port_in_use_is_reported_before_anything_starts(tmp_path: Path, busy_port: int) -> None:
    screen = Screen(Console(file=io.StringIO()))

    with pytest.raises(DemoError, match=f"Port {busy_port} is in use"):
        Demonstration(Settings(port=busy_port), screen, tmp_path).run()

    assert not (tmp_path / ".airflow").exists()


def test_busy_port_is_not_free_and_free_ports_differ(busy_port: int) -> None:
    assert not is_free(busy_port)
    ports = free_ports(3)
    assert len({*ports, busy_port}) == 4
    assert set(ports) <= set(SERVER_PORTS)


def test_second_demo_of_a_checkout_is_refused(tmp_path: Path) -> None:
    with (
        single_demo(tmp_path),
        pytest.raises(DemoError, match="Another demo is running in this checkout"),
        single_demo(tmp_path),
    ):
        pass
    with single_demo(tmp_path):
        pass


def test_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["halt"]) == 1
    assert "no command 'halt'" in capsys.readouterr().out


def test_key_is_gone_from_the_database_after_a_live_run(tmp_path: Path) -> None:
    database = tmp_path / "airflow.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE connection (conn_id TEXT, password TEXT)")
        connection.execute("INSERT INTO connection VALUES (?, 'sk-secret'), ('other', 'kept')", (CONNECTION_ID,))

    delete_stored_connection(tmp_path, CONNECTION_ID)

    assert b"sk-secret" not in database.read_bytes()
    assert b"kept" in database.read_bytes()


def test_deleting_the_connection_without_a_database_does_nothing(tmp_path: Path) -> None:
    delete_stored_connection(tmp_path, CONNECTION_ID)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.airflow
def test_plan_of_a_live_run_names_model_count_size_and_maximum_cost() -> None:
    plan = read_plan(EXAMPLE)

    assert plan.model == "claude-haiku-5-5"
    assert plan.count > 200
    assert plan.bytes > 300 * plan.count
    assert plan.max_usd is not None
    assert Decimal("0.01") < plan.max_usd < Decimal("0.50")
    assert f"{plan.count} requests" in str(plan)


def results(usd: str, *, asked: Sequence[str] = ("a",), loaded: Sequence[str] = ("a",)) -> Results:
    """One answer, estimated to cost between 1 and 3 cents."""
    estimate = {"usd": {"lower": "0.01", "expected": "0.02", "upper": "0.03"}}
    row = Row(index=0, key="a", status="succeeded", text="yes")
    return Results(Path("none"), list(asked), [row], list(loaded), {"cost": {"usd": usd}, "estimate": estimate})


def test_cost_is_shown_with_the_estimate() -> None:
    results("0.0123").check()

    assert results("0.0123").cost_summary() == (
        "Cost of the tokens used: $0.0123. Estimate before sending: $0.0200 (between $0.0100 and $0.0300)."
    )


@pytest.mark.parametrize("usd", ["0.0099", "0.0301"])
def test_cost_outside_of_the_estimate_fails_the_demo(usd: str) -> None:
    with pytest.raises(DemoError, match="The cost is outside of the estimate"):
        results(usd).check()


def test_option_without_an_answer_fails_the_demo() -> None:
    with pytest.raises(DemoError, match="1 of 2 options have no answer, such as b"):
        results("0.02", asked=("a", "b"), loaded=("a", "b")).check()


def test_option_that_was_not_written_to_the_table_fails_the_demo() -> None:
    with pytest.raises(DemoError, match="1 of 1 options are not in the table that was written, such as a"):
        results("0.02", loaded=()).check()


@pytest.mark.airflow
def test_tables_of_the_demo_are_read_and_their_first_rows_shown(tmp_path: Path) -> None:
    database, rows = tmp_path / "warehouse.db", tmp_path / "results.jsonl"
    rows.write_text("")
    names = [f"core.option_{number}" for number in range(9)]
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE airflow_options (name text, description text)")
        connection.execute("CREATE TABLE airflow_options_explained (name text, explanation text, usd real)")
        connection.executemany("INSERT INTO airflow_options VALUES (?, 'Long. ' || ?)", [(n, "a " * 99) for n in names])
        connection.executemany(
            "INSERT INTO airflow_options_explained VALUES (?, 'Short.', 1.2e-05)", [(n,) for n in names[1:]]
        )

    read = Results.read(database, {"results_path": str(rows), "status": "ended", "responses": []})

    assert (read.asked, read.loaded) == (names, names[1:])
    samples = read.samples()
    assert [sample[0] for sample in samples] == names[1:6]
    assert samples[0][1].endswith("a a ...")
    assert samples[0][2:] == ["Short.", "0.0000120"]


@pytest.mark.airflow
def test_report_covers_all_submissions_of_the_demo_s_airflow(tmp_path: Path) -> None:
    for run in ("one", "two"):
        folder = tmp_path / "results" / "dag" / run / "send"
        folder.mkdir(parents=True)
        rows = str(folder / "results.jsonl")
        manifest = Manifest(
            submission_id=run, status="ended", batch_ids=[], request_count=1, counts={"succeeded": 1}, results_path=rows
        ).to_xcom()
        (folder / "manifest.json").write_text(json.dumps(manifest))

    page = write_report(manifest, tmp_path)

    assert "<b>2</b><span>submissions</span>" in page.read_text()
