"""A production-like Airflow: PostgreSQL, Redis, Celery workers, two triggerers, each in its own process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from cluster.services import Services
from cluster.workload import SHORT_VARIABLE, queue_limit, workloads

from demo.airflow_processes import AirflowProcesses
from demo.processes import Session
from demo.simulator import KEY, SimulatorProcess

TESTS = Path(__file__).resolve().parents[1]
DAGS = Path(__file__).resolve().parent / "dags"
CONNECTION_ID = "claude_default"
BATCH_SECONDS = 20.0
WORKERS = ("worker-1", "worker-2")
TRIGGERERS = ("triggerer-1", "triggerer-2")
COMMANDS = {
    "api-server": ("api-server",),
    "dag-processor": ("dag-processor",),
    "scheduler": ("scheduler",),
    **{name: ("celery", "worker", "-H", f"{name}@%h", "--skip-serve-logs") for name in WORKERS},
    **dict.fromkeys(TRIGGERERS, ("triggerer", "--skip-serve-logs")),
}
HEARTBEAT_TIMEOUT_SECONDS = "20"  # minutes by default

SETTINGS = {
    "PYTHONPATH": str(TESTS),
    "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
    "AIRFLOW__CORE__PARALLELISM": "16",
    "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "3",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE": "10",
    "AIRFLOW__CLAUDE_BATCH__POLL_INTERVAL": "5",
    "AIRFLOW__CLAUDE_BATCH__LOST_CREATE_GRACE": "120",  # the simulator lists a batch at once
    "AIRFLOW__CELERY__WORKER_CONCURRENCY": "4",
    "AIRFLOW__CELERY__SYNC_PARALLELISM": "1",
    "AIRFLOW__CELERY__OPERATION_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": HEARTBEAT_TIMEOUT_SECONDS,
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": HEARTBEAT_TIMEOUT_SECONDS,
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    # Tasks that a killed worker had taken from the queue and not started are queued again.
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES": "50",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": HEARTBEAT_TIMEOUT_SECONDS,
}


@dataclass
class Cluster:
    """The running processes by name, and the simulator of their connection."""

    airflow: AirflowProcesses
    simulator: SimulatorProcess
    sessions: list[Session] = field(default_factory=list)
    down: set[str] = field(default_factory=set)

    def start(self, *names: str) -> None:
        for name in names:
            self.airflow.start_as(name, *COMMANDS[name])
            self.down.discard(name)
        known = {session.pid for session in self.sessions}
        self.sessions += [session for session in self.airflow.session_file.read() if session.pid not in known]

    def kill(self, name: str) -> None:
        """Kill a process and its children, as the loss of a machine would."""
        self.down.add(name)
        self.airflow.kill(name)

    def kill_parent(self, name: str) -> None:
        """Kill only the process. Its children continue."""
        self.down.add(name)
        self.airflow.kill_parent(name)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process and its children, for example to freeze them as a paused machine."""
        for process in self._session(name).members():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def leftovers(self) -> list[str]:
        """Return the processes of this cluster that are still running."""
        ours = {process.pid: process for session in self.sessions for process in session.members()}
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if process.environ().get("AIRFLOW_HOME") == str(self.airflow.home):
                    ours[process.pid] = process
        return [_describe(process) for process in ours.values()]

    def _session(self, name: str) -> Session:
        return next(session for session in self.airflow.session_file.read() if session.name == name)


@contextmanager
def running_cluster(folder: Path, venv: Path, services: Services, *, short: bool) -> Iterator[Cluster]:
    """Start everything. Stop it at the end of the block."""
    settings = SETTINGS | {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": services.database_url,
        "AIRFLOW__CELERY__BROKER_URL": services.broker_url,
        "AIRFLOW__CELERY__RESULT_BACKEND": services.celery_result_url,
        "AIRFLOW__CLAUDE_BATCH__RESULTS_PATH": str(folder / "results"),
        SHORT_VARIABLE: "1" if short else "",
    }
    with AirflowProcesses(folder / "home", dags_folder=DAGS, venv=venv, settings=settings) as airflow:
        airflow.migrate()
        program = ("-m", "cluster.failing_simulator", "--queue-limit", str(queue_limit()))
        simulator = SimulatorProcess.start(airflow.home, batch_seconds=BATCH_SECONDS, program=program)
        airflow.supervise(simulator.process)
        cluster = Cluster(airflow, simulator)
        cluster.start("api-server", "dag-processor")
        airflow.wait_until_healthy("api-server")
        airflow.api.put_connection(
            {"connection_id": CONNECTION_ID, "conn_type": "claude", "host": simulator.url, "password": KEY}
        )
        cluster.start("scheduler", *TRIGGERERS, *WORKERS)
        for workload in workloads():
            airflow.wait_for_dag(workload.dag_id)
        airflow.wait_until_healthy("api-server", "dag-processor", "scheduler", "triggerer")
        yield cluster


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())}"
    except psutil.NoSuchProcess:
        return f"{process.pid}, has ended"
