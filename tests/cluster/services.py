"""PostgreSQL and Redis from Debian's packages, in processes on loopback, with their data in a temporary folder."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.airflow_api import wait_for
from demo.errors import DemoError
from demo.ports import HOST, free_ports
from demo.processes import ChildProcess, stop

START_SECONDS = 60
DATABASE = "airflow"
PACKAGES = {"postgres": "postgresql", "redis-server": "redis-server", "mariadbd": "mariadb-server"}
#: PostgreSQL refuses to run as root. Debian's package creates this user.
POSTGRES_USER = "postgres"


class ServiceError(DemoError):
    """A service that the cluster needs is missing, or did not start."""


@dataclass(frozen=True, slots=True)
class Services:
    """The URLs of the running services, for SQLAlchemy and Celery."""

    database_url: str
    broker_url: str

    @property
    def celery_result_url(self) -> str:
        return self.database_url.replace("postgresql+psycopg2", "db+postgresql")


@contextmanager
def running_services(logs: Path) -> Iterator[Services]:
    """Run both services, empty, until the end of the block.

    :raises ServiceError: when one is missing and cannot be installed, or does not start.
    """
    require("postgres", "redis-server")
    postgres_port, redis_port = free_ports(2)
    with tempfile.TemporaryDirectory(prefix="cluster-services-") as folder:
        started: list[ChildProcess] = []
        try:
            started.append(_start_redis(Path(folder), redis_port, logs))
            started.append(_start_postgres(Path(folder), postgres_port, logs))
            database = f"postgresql+psycopg2://{database_user()}@{HOST}:{postgres_port}/{DATABASE}"
            yield Services(database, f"redis://{HOST}:{redis_port}/0")
        finally:
            stop(child.session for child in started)
            for child in started:
                child.popen.wait()


@contextmanager
def running_postgres(logs: Path) -> Iterator[int]:
    """Run a database server with an empty database until the end of the block. Yield its port.

    :raises ServiceError: when it is missing, or does not start.
    """
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        child = None
        try:
            child = _start_postgres(Path(folder), port, logs)
            yield port
        finally:
            if child is not None:
                stop([child.session])
                child.popen.wait()


def require(*programs: str) -> None:
    """Install missing programs from Debian's packages.

    :raises ServiceError: when this machine or user cannot install them.
    """
    missing = [PACKAGES[program] for program in programs if find(program) is None]
    if not missing:
        return
    remedy = f"apt-get install {' '.join(missing)}"
    if shutil.which("apt-get") is None:
        raise ServiceError(f"This needs {' and '.join(missing)}, and there is no apt-get.\nInstall by hand.")
    if os.geteuid() != 0:
        raise ServiceError(f"The cluster needs {' and '.join(missing)}, and only root can install: {remedy}")
    print(f"Installing {' and '.join(missing)} ...", flush=True)
    # A run level at which Debian starts no services: the cluster starts its own.
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-qq", "--no-install-recommends", *missing]):
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    absent = [program for program in programs if find(program) is None]
    if absent:
        raise ServiceError(
            f"`{remedy}` did not install {' and '.join(absent)}:\n{done.stdout[-1000:]}{done.stderr[-1000:]}"
        )


def find(program: str) -> Path | None:
    """Find a program on the path, in /usr/sbin or in Debian's folders of PostgreSQL, which may contain versions."""
    if found := shutil.which(program) or shutil.which(program, path="/usr/sbin"):
        return Path(found)
    versions = Path("/usr/lib/postgresql").glob(f"*/bin/{program}")
    return max(versions, key=lambda path: float(path.parts[-3]), default=None)


def _start_redis(folder: Path, port: int, logs: Path) -> ChildProcess:
    command = [_program("redis-server"), "--bind", HOST, "--port", str(port), "--save", "", "--appendonly", "no"]
    child = ChildProcess.start("redis", command, env=os.environ, cwd=folder, log_path=logs / "redis.log")
    wait_for_port(child, port)
    return child


def _start_postgres(folder: Path, port: int, logs: Path) -> ChildProcess:
    """Create and start a database server that is reachable on loopback only, without a password."""
    data = folder / "postgres"
    data.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(data, POSTGRES_USER)
        folder.chmod(0o711)
    _run(["initdb", "-D", data, "-A", "trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"], cwd=data)
    options = {
        "listen_addresses": HOST,
        "unix_socket_directories": str(data),
        "max_connections": "200",
        "fsync": "off",  # the data need not survive a crash
    }
    command = [_program("postgres"), "-D", data, "-p", str(port)]
    command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    log = logs / "postgres.log"
    child = ChildProcess.start("postgres", [*_as_user(), *command], env=os.environ, cwd=data, log_path=log)
    wait_for_port(child, port)
    create = ["createdb", "-h", HOST, "-p", str(port), "-U", database_user(), DATABASE]
    wait_for(lambda: _runs(create, cwd=data), seconds=START_SECONDS, what=f"PostgreSQL to respond (its log is {log})")
    return child


def _as_user() -> list[str]:
    return ["runuser", "-u", POSTGRES_USER, "--"] if os.geteuid() == 0 else []


def database_user() -> str:
    """Return the user that owns the databases."""
    return POSTGRES_USER if os.geteuid() == 0 else getpass.getuser()


def _program(name: str) -> Path:
    found = find(name)
    if found is None:
        raise ServiceError(f"The program {name} of PostgreSQL is missing.\nInstall the package postgresql.")
    return found


def _run(command: Sequence[str | Path], *, cwd: Path) -> None:
    program, *arguments = command
    done = subprocess.run(
        [*_as_user(), _program(str(program)), *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ServiceError(f"{program} failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")


def _runs(command: Sequence[str | Path], *, cwd: Path) -> bool:
    try:
        _run(command, cwd=cwd)
    except ServiceError:
        return False
    return True


def wait_for_port(child: ChildProcess, port: int) -> None:
    """Wait until a service listens.

    :raises ServiceError: when it stops instead.
    """

    def open_() -> bool:
        if child.exit_code is not None:
            raise ServiceError(f"The {child.name} stopped unexpectedly. The end of its log:\n{child.tail()}")
        with socket.socket() as client:
            return client.connect_ex((HOST, port)) == 0

    wait_for(open_, seconds=START_SECONDS, what=f"{child.name} to listen (its log is {child.log_path})")


if __name__ == "__main__":
    require("postgres", "mariadbd")
