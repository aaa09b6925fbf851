"""The demo from its first line to its last."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from demo.airflow_processes import USERNAME, AirflowProcesses, airflow_version
from demo.dag_run import DagRun
from demo.errors import DemoError
from demo.live import forget_connection, read_plan
from demo.ports import is_free
from demo.processes import SessionFile, stop
from demo.results import Results, write_report
from demo.screen import Screen
from demo.settings import Settings
from demo.simulator import KEY, SimulatorProcess

DAG_ID = "describe_options"
TASK_IDS = ("read_options", "send", "wait", "write_report")
CONNECTION_ID = "claude_default"
DEFAULT_PORT = 8080
BATCH_SECONDS = 20  # long enough to see the deferral
SIMULATED_RUN_SECONDS = 300
SETTINGS = {"AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "10"}
SIMULATED_SETTINGS = SETTINGS | {"AIRFLOW__CLAUDE_BATCH__POLL_INTERVAL": "10"}
LIVE_RUN_SECONDS = 26 * 3600  # the API gives a batch 24 h, the sensor waits 25


class Demonstration:
    """One run of the example on an Airflow that is started for it.

    :param root: the checkout; what is made goes into its ``.airflow``.
    """

    def __init__(self, settings: Settings, screen: Screen, root: Path) -> None:
        self._settings, self._screen, self._root = settings, screen, root
        self._home = home(root, live=settings.live)
        self._run_file = self._home / "unfinished_run"
        self._simulator: SimulatorProcess | None = None

    def run(self) -> None:
        """Do it all, and leave nothing running unless that was asked for.

        :raises DemoError: says what went wrong, with the end of the log that tells why.
        """
        if self._settings.live and self._unfinished_run() is None and not self._is_agreed():
            return
        stop_leftovers(self._home, self._screen)
        airflow = self._make_airflow()
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
            self._leave(airflow, keep=keep)
            if self._unfinished_run():
                self._screen.say("What was sent goes on at the API and is billed; `make demo LIVE=1` takes it up again")

    def _is_agreed(self) -> bool:
        """Say what will go to the real API, and ask."""
        plan = read_plan(self._root / "dags" / f"{DAG_ID}.py")
        self._screen.say(f"LIVE: {plan}; {self._settings.base_url or 'https://api.anthropic.com'}.")
        agreed = self._settings.yes or self._screen.ask("Send it? y/N ")
        if not agreed:
            self._screen.say("Nothing was sent.")
        return agreed

    def _make_airflow(self) -> AirflowProcesses:
        port = self._settings.port
        if port and not is_free(port):
            raise DemoError(f"Port {port} is in use. Give another PORT, or none to have a free one chosen.")
        if port is None and is_free(DEFAULT_PORT):
            port = DEFAULT_PORT
        settings = SETTINGS if self._settings.live else SIMULATED_SETTINGS
        return AirflowProcesses(self._home, dags_folder=self._root / "dags", port=port, settings=settings)

    def _start(self, airflow: AirflowProcesses) -> None:
        self._screen.say(f"Airflow {airflow_version()} in {self._home}")
        with self._screen.doing("Making Airflow's database"):
            if airflow.migrate():
                self._screen.say("Airflow's database made")
        if not self._settings.live:
            self._start_simulator(airflow)
        airflow.start("api-server", "dag-processor")
        with self._screen.doing("Starting Airflow's api-server"):
            airflow.wait_until_healthy("api-server")
        self._screen.say(f"Airflow's UI and API up at {airflow.url}")
        self._prepare_database(airflow)
        airflow.start("scheduler", "triggerer")
        with self._screen.doing("Starting the scheduler and the triggerer"):
            airflow.wait_for_dag(DAG_ID)
            airflow.wait_until_healthy()
        self._screen.say("Scheduler, triggerer and dag-processor up")

    def _start_simulator(self, airflow: AirflowProcesses) -> None:
        with self._screen.doing("Starting the simulator"):
            self._simulator = SimulatorProcess.start(self._home, batch_seconds=BATCH_SECONDS)
        airflow.adopt(self._simulator.process)
        self._screen.say(f"Simulator of the API up at {self._simulator.url}; a batch takes {BATCH_SECONDS} s")

    def _prepare_database(self, airflow: AirflowProcesses) -> None:
        """What must be there before a task can run: the connection, and no runs whose simulator is gone."""
        host, key = self._settings.base_url, self._settings.api_key
        if self._simulator:
            host, key = self._simulator.url, KEY
        airflow.api.put_connection(
            {"connection_id": CONNECTION_ID, "conn_type": "claude", "host": host, "password": key}
        )
        self._screen.say(f"Connection {CONNECTION_ID} stored in Airflow's database")
        if not self._settings.live and airflow.api.dag(DAG_ID):
            for run_id in airflow.api.unfinished_runs(DAG_ID):
                airflow.api.fail_run(DAG_ID, run_id)

    def _begin(self, airflow: AirflowProcesses) -> DagRun:
        """Trigger the DAG; in live mode go on with the run that an earlier demo left, if there is one."""
        run_id = self._unfinished_run() or f"demo__{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}"
        if self._settings.live:
            self._run_file.write_text(run_id)
        if airflow.api.trigger(DAG_ID, run_id):
            self._screen.say(f"DAG {DAG_ID} triggered, run {run_id}")
        else:
            self._screen.say(f"Going on with run {run_id}: what it has sent is not sent again")
            if airflow.api.run_state(DAG_ID, run_id) == "failed":
                airflow.api.clear_failed(DAG_ID, run_id)
        return DagRun(airflow, DAG_ID, run_id, TASK_IDS)

    def _unfinished_run(self) -> str | None:
        return self._run_file.read_text() if self._settings.live and self._run_file.exists() else None

    def _finish(self, run: DagRun) -> None:
        """Follow the run to its end, check what it made and show it."""
        run.follow(self._screen, seconds=LIVE_RUN_SECONDS if self._settings.live else SIMULATED_RUN_SECONDS)
        self._run_file.unlink(missing_ok=True)
        manifest = run.returned("wait")
        results = Results.read(run.returned("read_options"), manifest)
        results.check()
        self._screen.rows(results.samples())
        self._screen.say(f"{len(results.rows)} of {len(results.messages)} options answered, in order")
        if self._simulator:
            books = self._simulator.books()
            self._screen.say(
                f"The API's books: {len(books['batches'])} batch, {books['billed_requests']} answers billed"
            )
        if told := results.told_cost():
            self._screen.say(f"Cost      {told}" + " (of simulated usage)" * bool(self._simulator))
        self._screen.say(f"Options   {run.returned('write_report')}")
        self._screen.say(f"Results   {manifest['results_path']}")
        self._screen.say(f"Manifest  {manifest['results_path'].rpartition('/')[0]}/manifest.json")
        self._screen.say(f"Report    {write_report(manifest, self._home)}")

    def _leave(self, airflow: AirflowProcesses, *, keep: bool) -> None:
        if keep:
            self._screen.say(f"Airflow stays up at {airflow.url}, user {USERNAME}, password {airflow.password}")
            self._screen.say(f"The run    {airflow.url}/dags/{DAG_ID}")
            self._screen.say("Stop it with: make demo-stop")
            return
        with self._screen.doing("Stopping everything"):
            airflow.stop()
        forget_connection(self._home, CONNECTION_ID)
        self._screen.say("Everything stopped")


def home(root: Path, *, live: bool) -> Path:
    """The AIRFLOW_HOME of a mode; two, so that a paid run and a simulated one never meet."""
    return root / ".airflow" / ("live" if live else "simulated")


def stop_leftovers(home: Path, screen: Screen) -> bool:
    """Stop what an earlier demo kept up, or left when it was killed; answers whether there was anything."""
    file = SessionFile(home / "sessions.json")
    with screen.doing("Stopping what an earlier demo left"):
        names = stop(file.read())
    file.write([])
    forget_connection(home, CONNECTION_ID)
    if names:
        screen.say(f"Stopped what an earlier demo left up: {', '.join(names)}")
    return bool(names)
