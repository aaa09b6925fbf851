"""The demo from start to end: start Airflow, run the example, check the results, stop Airflow."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from demo.airflow_processes import USERNAME, AirflowProcesses, airflow_version
from demo.dag_run import DagRun
from demo.errors import DemoError
from demo.live import delete_stored_connection, read_plan
from demo.ports import is_free
from demo.processes import SessionFile, stop
from demo.results import SAMPLE_QUERY, Results, write_report
from demo.screen import Screen
from demo.settings import Settings
from demo.simulator import KEY, SimulatorProcess

DAG_ID = "describe_options"
TASK_IDS = ("save_options", "send", "wait", "load", "write_report")
CONNECTION_ID = "claude_default"
WAREHOUSE_ID = "warehouse"  # of the examples that read or write tables
DEFAULT_PORT = 8080
BATCH_SECONDS = 20  # long enough to see the sensor deferred
SIMULATED_RUN_SECONDS = 300
SETTINGS = {"AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "10"}
SIMULATED_SETTINGS = SETTINGS | {
    "AIRFLOW__CLAUDE_BATCH__POLL_INTERVAL": "10",
    "AIRFLOW__CLAUDE_BATCH__LOST_CREATE_GRACE": "60",  # the simulator lists a batch at once
}
LIVE_RUN_SECONDS = 26 * 3600  # a batch ends within 24 h, and the sensor waits for 25


class Demonstration:
    """One run of the example on an Airflow that is started for it.

    :param root: the checkout. Everything that the demo creates is in its ``.airflow`` folder.
    """

    def __init__(self, settings: Settings, screen: Screen, root: Path) -> None:
        self._settings, self._screen, self._root = settings, screen, root
        self._home = airflow_home(root, live=settings.live)
        self._run_file = self._home / "unfinished_run"
        self._warehouse = self._home / "warehouse.db"
        self._simulator: SimulatorProcess | None = None

    def run(self) -> None:
        """Run the demo, and stop everything at the end unless KEEP=1 is set.

        :raises DemoError: when a step fails. The message ends with the relevant log.
        """
        if self._settings.live and self._unfinished_run() is None and not self._is_confirmed():
            return
        stop_earlier_demo(self._home, self._screen)
        airflow = self._create_airflow()
        keep = False
        try:
            self._start(airflow)
            run = self._begin(airflow)
            keep = self._settings.keep
            self._finish(run)
        except KeyboardInterrupt:
            keep = False
            raise
        finally:
            self._shut_down(airflow, keep=keep)
            if self._unfinished_run():
                self._screen.say("The batch that was sent is still running and is billed.")
                self._screen.say("Continue with it: make demo LIVE=1")

    def _is_confirmed(self) -> bool:
        """Show what will be sent to the real API and what it costs, and ask for confirmation."""
        plan = read_plan(self._root / "dags" / f"{DAG_ID}.py")
        self._screen.say(f"LIVE=1 uses the real API at {self._settings.base_url or 'https://api.anthropic.com'}.")
        self._screen.say(f"It will send {plan}.")
        confirmed = self._settings.yes or self._screen.ask("Send the requests? y/N ")
        if not confirmed:
            self._screen.say("Nothing was sent.")
        return confirmed

    def _create_airflow(self) -> AirflowProcesses:
        port = self._settings.port
        if port and not is_free(port):
            raise DemoError(f"Port {port} is in use.\nSet another PORT, or leave PORT out to use a free one.")
        if port is None and is_free(DEFAULT_PORT):
            port = DEFAULT_PORT
        settings = SETTINGS if self._settings.live else SIMULATED_SETTINGS
        return AirflowProcesses(self._home, dags_folder=self._root / "dags", port=port, settings=settings)

    def _start(self, airflow: AirflowProcesses) -> None:
        self._screen.say(f"Airflow {airflow_version()} uses the folder {self._home}.")
        with self._screen.progress("Creating Airflow's database"):
            if airflow.migrate():
                self._screen.say("Created Airflow's database.")
        if not self._settings.live:
            self._start_simulator(airflow)
        airflow.start("api-server", "dag-processor")
        with self._screen.progress("Starting Airflow's api-server"):
            airflow.wait_until_healthy("api-server")
        self._screen.say(f"Airflow's UI and API run at {airflow.url}.")
        self._prepare_database(airflow)
        airflow.start("scheduler", "triggerer")
        with self._screen.progress("Starting the scheduler and the triggerer"):
            airflow.wait_for_dag(DAG_ID)
            airflow.wait_until_healthy()
        self._screen.say("The DAG processor, the scheduler and the triggerer are running.")

    def _start_simulator(self, airflow: AirflowProcesses) -> None:
        with self._screen.progress("Starting the simulator"):
            self._simulator = SimulatorProcess.start(self._home, batch_seconds=BATCH_SECONDS)
        airflow.supervise(self._simulator.process)
        self._screen.say(f"The simulated Claude API runs at {self._simulator.url}. Its batches take {BATCH_SECONDS} s.")

    def _prepare_database(self, airflow: AirflowProcesses) -> None:
        """Store the connections, and fail the runs of an earlier demo, because their simulator is gone."""
        host, key = self._settings.base_url, self._settings.api_key
        if self._simulator:
            host, key = self._simulator.url, KEY
        airflow.api.put_connection(
            {"connection_id": CONNECTION_ID, "conn_type": "claude", "host": host, "password": key}
        )
        airflow.api.put_connection({"connection_id": WAREHOUSE_ID, "conn_type": "sqlite", "host": str(self._warehouse)})
        self._screen.say(
            f"Stored the connections {CONNECTION_ID}, and {WAREHOUSE_ID} to the SQLite database {self._warehouse}."
        )
        if not self._settings.live and airflow.api.dag(DAG_ID):
            for run_id in airflow.api.unfinished_runs(DAG_ID):
                airflow.api.fail_run(DAG_ID, run_id)

    def _begin(self, airflow: AirflowProcesses) -> DagRun:
        """Trigger the DAG. In live mode, continue an unfinished run of an earlier demo."""
        run_id = self._unfinished_run() or f"demo__{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}"
        if self._settings.live:
            self._run_file.write_text(run_id)
        if airflow.api.trigger(DAG_ID, run_id):
            self._screen.say(f"Triggered the DAG {DAG_ID} as run {run_id}.")
        else:
            self._screen.say(f"Continuing run {run_id}. Requests that it has sent are not sent again.")
            if airflow.api.run_state(DAG_ID, run_id) == "failed":
                airflow.api.clear_failed(DAG_ID, run_id)
        return DagRun(airflow, DAG_ID, run_id, TASK_IDS)

    def _unfinished_run(self) -> str | None:
        return self._run_file.read_text() if self._settings.live and self._run_file.exists() else None

    def _finish(self, run: DagRun) -> None:
        """Follow the run to its end, check its results and show them."""
        run.follow(self._screen, seconds=LIVE_RUN_SECONDS if self._settings.live else SIMULATED_RUN_SECONDS)
        self._run_file.unlink(missing_ok=True)
        manifest = run.returned("wait")
        with self._screen.progress("Reading the results"):
            results = Results.read(self._warehouse, manifest)
        results.check()
        self._screen.say(
            f"{len(results.rows)} of {len(results.asked)} options were answered, in the order of their table,"
            f" and {len(results.loaded)} rows were written to another table."
        )
        if self._simulator:
            self._screen.say("The simulator answers with the start of the prompt.")
        self._screen.say(f"{SAMPLE_QUERY};")
        self._screen.rows(results.samples())
        if self._simulator:
            books = self._simulator.books()
            batches = "1 batch" if len(books["batches"]) == 1 else f"{len(books['batches'])} batches"
            self._screen.say(f"The simulated API received {batches} and billed {books['billed_requests']} answers.")
        if summary := results.cost_summary():
            self._screen.say(summary + " Nothing was paid, because the API is simulated." * bool(self._simulator))
        self._screen.say("The files to look at:")
        self._screen.say(f"  both tables, a database of SQLite   {self._warehouse}")
        self._screen.say(f"  page: each option before and after  {run.returned('write_report')}")
        self._screen.say(f"  results, a row per option           {manifest['results_path']}")
        self._screen.say(
            f"  manifest of the run                 {manifest['results_path'].rpartition('/')[0]}/manifest.json"
        )
        self._screen.say(f"  report of costs and times           {write_report(manifest, self._home)}")

    def _shut_down(self, airflow: AirflowProcesses, *, keep: bool) -> None:
        if keep:
            self._screen.say(f"Airflow keeps running at {airflow.url}. User {USERNAME}, password {airflow.password}")
            self._screen.say(f"See the run: {airflow.url}/dags/{DAG_ID}")
            self._screen.say(f"See its batches, costs and rows: {airflow.url}/claude-batch/")
            self._screen.say(f"From a shell: AIRFLOW_HOME={self._home} {sys.executable} -m airflow_claude_batch list")
            self._screen.say("Here a DAG runs only when you trigger it: not by its schedule, and not by an event.")
            self._screen.say("Stop Airflow: make demo-stop")
            return
        with self._screen.progress("Stopping everything"):
            airflow.stop()
        delete_stored_connection(self._home, CONNECTION_ID)
        self._screen.say("Stopped Airflow and the simulator." if self._simulator else "Stopped Airflow.")


def airflow_home(root: Path, *, live: bool) -> Path:
    """Return the AIRFLOW_HOME of the demo. Live and simulated runs use different ones, so that they never mix."""
    return root / ".airflow" / ("live" if live else "simulated")


def stop_earlier_demo(home: Path, screen: Screen) -> bool:
    """Stop the processes of an earlier demo that kept running or was killed. Returns whether there were any."""
    file = SessionFile(home / "sessions.json")
    with screen.progress("Stopping an earlier demo"):
        names = stop(file.read())
    file.write([])
    delete_stored_connection(home, CONNECTION_ID)
    if names:
        screen.say(f"Stopped an earlier demo: {', '.join(names)}.")
    return bool(names)
