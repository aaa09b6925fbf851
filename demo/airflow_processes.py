"""A real Airflow as processes: API server, DAG processor, scheduler and triggerer, with SQLite and LocalExecutor."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from demo.airflow_api import AirflowApi, wait_for
from demo.errors import DemoError
from demo.ports import HOST, free_ports
from demo.processes import ChildProcess, Session, SessionFile, stop

COMPONENTS = ("api-server", "dag-processor", "scheduler", "triggerer")
START_SECONDS = 600  # a busy machine with two cores needs about 30
USERNAME = "admin"
#: How long a process waits until it may write. The scheduler ends if it may not, and another process may write for
#: seconds on a busy machine.
LOCK_SECONDS = 60
#: The API server answers nothing while it waits to log a call, and it may wait for another of its own calls. Then one
#: of them has to fail, and its caller repeats it.
API_SERVER_LOCK_SECONDS = 5


class AirflowProcesses:
    """One Airflow, started and stopped as separate processes.

    :param home: its AIRFLOW_HOME. Created if missing, otherwise reused.
    :param dags_folder: folder with the DAG files.
    :param venv: virtual environment with Airflow. Default: the one of this Python.
    :param port: port of the UI and API. Default: a free one.
    :param settings: more ``AIRFLOW__SECTION__OPTION`` variables. They override the ones set here.
    """

    def __init__(
        self,
        home: Path,
        *,
        dags_folder: Path,
        venv: Path = Path(sys.prefix),
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.home, self.venv = home.resolve(), venv
        chosen, worker_log_port, trigger_log_port = free_ports(3)
        self.url = f"http://{HOST}:{port or chosen}"
        self.session_file = SessionFile(self.home / "sessions.json")
        self._children: dict[str, ChildProcess] = {}
        self._orphaned: list[Session] = []
        self._env = _environment(self.home, dags_folder.resolve(), self.url) | {
            "AIRFLOW__API__PORT": str(port or chosen),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_log_port),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_log_port),
            **(settings or {}),
        }
        self._api_server_env = self._env | _database(self.home, API_SERVER_LOCK_SECONDS) | dict(settings or {})
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.password = _password(self.home)
        self.api = AirflowApi(self.url, username=USERNAME, password=self.password)

    def migrate(self) -> bool:
        """Create or migrate the database, unless this Airflow version has done so. Returns whether it was necessary."""
        stamp, version = self.home / "migrated", airflow_version(self.venv)
        if stamp.exists() and stamp.read_text() == version:
            return False
        self.python("-m", "airflow", "db", "migrate")
        stamp.write_text(version)
        return True

    def python(self, *arguments: str) -> None:
        """Run the environment's Python with this Airflow's settings, and wait for its end.

        :raises DemoError: when it failed. The message contains the end of its output.
        """
        done = subprocess.run(  # noqa: S603  the command is ours, from no user's input
            [self._python(), *arguments], env=self._env, cwd=self.home, capture_output=True, text=True
        )
        if done.returncode:
            raise DemoError(f"python {' '.join(arguments)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    def start(self, *components: str) -> None:
        """Start the components, all by default, without waiting for them."""
        for component in components or COMPONENTS:
            self.start_as(component, component)

    def start_as(self, name: str, *arguments: str) -> None:
        """Start ``airflow`` with these arguments, under the name ``name``."""
        log = self.home / "logs" / f"{name}.log"
        command = [self._python(), "-m", "airflow", *arguments]
        env = self._api_server_env if arguments[0] == "api-server" else self._env
        self.supervise(ChildProcess.start(name, command, env=env, cwd=self.home, log_path=log))

    def supervise(self, child: ChildProcess) -> None:
        """Check this process with the others, and stop it together with Airflow."""
        self._children[child.name] = child
        self.session_file.write(self._sessions())

    def wait_until_healthy(self, *components: str) -> None:
        """Wait until each component (default: all) has sent a heartbeat since this call.

        :raises DemoError: when that takes too long. The message contains the end of their output.
        """
        since = datetime.now(UTC)
        names = components or COMPONENTS

        def healthy() -> bool:
            self.check()
            health = self.api.health()
            return all(_is_alive(health, name, since) for name in names)

        try:
            wait_for(healthy, seconds=START_SECONDS, what=f"Airflow's {', '.join(names)}")
        except DemoError as error:
            raise DemoError(f"{error}\n{self._tails(*names)}") from None

    def wait_for_dag(self, dag_id: str) -> None:
        """Wait until the DAG has been parsed. Its file has its name.

        :raises DemoError: when the file cannot be imported, or was not parsed in time.
        """

        def parsed() -> bool:
            self.check()
            if error := self.api.import_error(f"{dag_id}.py"):
                raise DemoError(f"{dag_id}.py cannot be imported:\n{error}")
            return self.api.dag(dag_id) is not None

        wait_for(parsed, seconds=START_SECONDS, what=f"the DAG processor to parse {dag_id}")

    def kill(self, component: str) -> None:
        """Kill a component and all its children, as a crash of the machine would."""
        self._children.pop(component).kill()
        self.session_file.write(self._sessions())

    def kill_parent(self, component: str) -> None:
        """Kill only a component. Its children continue until :meth:`stop`."""
        child = self._children.pop(component)
        child.popen.kill()
        child.popen.wait()
        self._orphaned.append(child.session)
        self.session_file.write(self._sessions())

    def ended(self) -> list[str]:
        """Return the names of the processes that stopped unexpectedly."""
        return [child.name for child in self._children.values() if child.exit_code is not None]

    def check(self) -> None:
        """Check that every started process is running.

        :raises DemoError: when a process stopped unexpectedly. The message contains the end of its output.
        """
        for child in list(self._children.values()):  # tests start and kill components in other threads
            if child.exit_code is not None:
                raise DemoError(
                    f"The {child.name} stopped unexpectedly with exit code {child.exit_code}.\nThe end of "
                    f"{child.log_path}:\n{child.tail()}"
                )

    def stop(self) -> None:
        """Stop every process that was started here."""
        self.api.close()
        stop(self._sessions())
        for child in self._children.values():
            child.popen.wait()
        self._children.clear()
        self._orphaned.clear()
        self.session_file.write([])

    def __enter__(self) -> AirflowProcesses:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _sessions(self) -> Iterator[Session]:
        yield from (child.session for child in self._children.values())
        yield from self._orphaned

    def _python(self) -> str:
        return str(self.venv / "bin" / "python")

    def _tails(self, *names: str) -> str:
        children = (self._children[name] for name in names if name in self._children)
        return "\n".join(f"--- the end of {child.log_path}\n{child.tail()}" for child in children)


def airflow_version(venv: Path = Path(sys.prefix)) -> str:
    """Return the version of the environment's Airflow, without importing it.

    :raises DemoError: when Airflow is not installed.
    """
    packages = [str(path) for path in venv.glob("lib/python3*/site-packages")]
    for distribution in metadata.distributions(name="apache-airflow-core", path=packages):
        return distribution.version
    raise DemoError(f"Airflow is not installed in {venv}.\nInstall the project there, as `make demo` does.")


def _environment(home: Path, dags_folder: Path, url: str) -> dict[str, str]:
    """Build the environment: the user's, without Airflow settings and API keys, plus the settings of this Airflow."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "ANTHROPIC_"))}
    return inherited | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        **_database(home, LOCK_SECONDS),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",  # the Test button of a connection, for people who use KEEP=1
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",  # only manual runs
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",  # it would need another free port
        # A call that is repeated after 5 seconds, the default, fails its task: the first one has started it.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "120",
        "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "10",
        # Airflow can fail a task whose trigger fires within this many seconds of its deferral.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore",
        "NO_COLOR": "1",
        "NO_PROXY": _no_proxy(inherited.get("NO_PROXY", inherited.get("no_proxy", ""))),
        "no_proxy": _no_proxy(inherited.get("NO_PROXY", inherited.get("no_proxy", ""))),
        # macOS kills forked processes that use its frameworks, such as a LocalExecutor's tasks.
        "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES",
    }


def _database(home: Path, lock_seconds: int) -> dict[str, str]:
    """Return the setting of the SQLite database that a process waits for so long."""
    return {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout={lock_seconds}"}


def _no_proxy(hosts: str) -> str:
    return ",".join(filter(None, [hosts, HOST, "localhost"]))


def _password(home: Path) -> str:
    """Return the password of the only user, from the file that Airflow's simple auth manager reads."""
    path = home / "simple_auth_manager_passwords.json.generated"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(json.dumps({USERNAME: secrets.token_urlsafe(9)}))
    return str(json.loads(path.read_text())[USERNAME])


def _is_alive(health: Mapping[str, Any], component: str, since: datetime) -> bool:
    if component == "api-server":  # it sent this response
        return True
    key = component.replace("-", "_")
    beat = (health.get(key) or {}).get(f"latest_{key}_heartbeat")
    return beat is not None and datetime.fromisoformat(beat) >= since
