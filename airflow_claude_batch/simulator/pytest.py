"""A pytest plugin: a simulator for each test, Airflow's connection to it, and a runner of DAGs.

Load it by name, in the ``conftest.py`` at the top of your tests::

    pytest_plugins = ["airflow_claude_batch.simulator.pytest"]

A test then names what it needs::

    from my_dags.tickets import dag


    def test_tickets_are_sorted(claude, run_dag):
        claude.add_answers({"prompt": "charged", "text": "billing"}, {"text": "other"})
        assert run_dag(dag).state == "success"
        claude.assert_billed(3)

Nothing of Airflow is imported before a test uses `run_dag`. With pytest-xdist each worker has its own simulators,
and its own Airflow home if the plugin made one.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_claude_batch.simulator import dag_runs
from airflow_claude_batch.simulator.clock import ManualClock
from airflow_claude_batch.simulator.simulator import Simulator

KEY = "sk-simulator"
_MARKER = "claude_simulator"

# Here and not in a hook, because a conftest.py or a test may import Airflow before any hook is called.
_made_home = dag_runs.choose_airflow_home()


class ClaudeSimulator(Simulator):
    """The `Simulator` of one test, serving on a socket, with assertions about what was sent and billed.

    Its clock is a `ManualClock`: ``claude.advance(3600)`` is an hour later. A batch has ended at the first poll.

    :param options: the arguments of `Simulator`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"clock": ManualClock(), **options})
        self.url = ""
        self._key = next(iter(options.get("keys") or [KEY]))

    @property
    def connection(self) -> str:
        """Airflow's connection to it, as JSON. Set it as ``AIRFLOW_CONN_<ID>`` for one more connection id."""
        return json.dumps({"conn_type": "claude", "password": self._key, "host": self.url})

    def assert_billed(self, count: int) -> None:
        """Check how many requests were billed, in batches or directly, and that none was billed twice.

        :raises AssertionError: otherwise. It lists the requests.
        """
        books = self.books()
        times = Counter(books["billed"])
        times.update(books["direct"]["billed"])
        twice = [number for number in times.values() if number > 1]
        if times.total() != count or twice:
            again = f", {len(twice)} of them more than once" if twice else ""
            raise AssertionError(f"{_were(times.total())} billed{again}, not {count}.\n{_listed(self._all())}")

    def assert_nothing_sent(self) -> None:
        """Check that no batch was created, and no request answered directly.

        :raises AssertionError: otherwise. It lists the requests.
        """
        if sent := self._all():
            raise AssertionError(f"{_were(len(sent))} sent.\n{_listed(sent)}")

    def assert_answers_used(self) -> None:
        """Check that each canned answer was the answer to a request.

        :raises AssertionError: otherwise. It names the answers, and lists the requests.
        """
        if unused := [each["answer"] for each in self.answers() if not each["matched"]]:
            raise AssertionError(f"No request matched {', '.join(unused)}.\n{_listed(self._all())}")

    def _all(self) -> list[dict[str, Any]]:
        """Return the requests of all batches, and those that were answered directly."""
        direct = self.books()["direct"]["requests"]
        return self.requests() + [
            {"prompt": request["prompt"], "outcome": "succeeded", "batch_id": None} for request in direct
        ]


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    text = f"{_MARKER}(conn_id='claude_default', **options): options of the simulator of the fixture `claude`"
    config.addinivalue_line("markers", text)


def pytest_unconfigure() -> None:
    """Remove the Airflow home that the plugin made."""
    if _made_home is not None:
        shutil.rmtree(_made_home, ignore_errors=True)


@pytest.fixture
def claude(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[ClaudeSimulator]:
    """A simulator of the Message Batches API, to which Airflow's connection ``claude_default`` leads in this test.

    ``@pytest.mark.claude_simulator(conn_id=…, batch_seconds=…, …)`` gives it other options, and another connection id.
    A file of ``answers`` is looked for beside the test's own file.
    Results are written below the test's ``tmp_path``, unless the task has its own ``results_path``.
    """
    options = _options(request)
    conn_id = options.pop("conn_id", "claude_default")
    simulator = ClaudeSimulator(**options)
    with simulator.serve() as server:
        simulator.url = server.url
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", simulator.connection)
        # A secrets backend comes before the environment, and may hold the connection that costs money.
        monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", "")
        monkeypatch.setenv("AIRFLOW__WORKERS__SECRETS_BACKEND", "")
        monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__RESULTS_PATH", str(tmp_path / "claude-batch"))
        yield simulator


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """The tables of Airflow's database, if that is a SQLite file. Override it where your tests prepare their own."""
    dag_runs.prepare_database()


@pytest.fixture
def run_dag(airflow_database: None) -> Callable[..., Any]:
    """A function that runs a DAG in this process with ``dag.test(**options)``, and returns the DAG run."""
    return dag_runs.run_dag


def _options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the options of the markers. Those of the closest win.

    :raises pytest.UsageError: when an option has no name.
    """
    options: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers(_MARKER))):
        if marker.args:
            raise pytest.UsageError(
                f"@pytest.mark.{_MARKER} has an option without a name: {marker.args[0]!r:.60}\n"
                f"Name it, as in @pytest.mark.{_MARKER}(batch_seconds=60)."
            )
        options.update(marker.kwargs)
    answers = options.get("answers")
    if isinstance(answers, str | Path):
        options["answers"] = request.path.parent / Path(answers).expanduser()
    return options


def _were(count: int) -> str:
    return "1 request was" if count == 1 else f"{count} requests were"


def _listed(requests: list[dict[str, Any]]) -> str:
    return "\n".join(["The requests that were sent:", *map(_line, requests)]) if requests else "No request was sent."


def _line(request: dict[str, Any]) -> str:
    outcome = request["outcome"] or "in progress"
    where = f"in {request['batch_id']}" if request["batch_id"] else "asked directly"
    return f"- {outcome}: “{request['prompt'][:60]}”, {where}"
