"""MariaDB from Debian's packages, as a process on loopback, with its data in a temporary folder."""

from __future__ import annotations

import getpass
import os
import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.services import ServiceError, find, require, wait_for_port

from demo.ports import HOST, free_ports
from demo.processes import ChildProcess, stop

DATABASE = "warehouse"
CREATE_DATABASE = f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4"
USER = "airflow"


@dataclass(frozen=True, slots=True)
class MariaDb:
    """A running server. Its user may do everything, and has a random password."""

    port: int
    password: str


@contextmanager
def running_mariadb(logs: Path) -> Iterator[MariaDb]:
    """Run a database server with an empty database until the end of the block.

    :raises ServiceError: when it is missing and cannot be installed, or does not start.
    """
    require("mariadbd")
    (port,) = free_ports(1)
    server = MariaDb(port, secrets.token_urlsafe())
    with tempfile.TemporaryDirectory(prefix="mariadb-") as folder:
        child = None
        try:
            child = _start(Path(folder), server, logs)
            yield server
        finally:
            if child is not None:
                stop([child.session])
                child.popen.wait()


def _start(folder: Path, server: MariaDb, logs: Path) -> ChildProcess:
    data = folder / "data"
    # As root, the user must be named. A server that starts removes temporary tables, also of others in the same folder.
    common = ["--no-defaults", f"--user={getpass.getuser()}", f"--datadir={data}", f"--tmpdir={folder}"]
    _create(data, common)
    (folder / "init.sql").write_text(
        f"{CREATE_DATABASE};\n"
        f"CREATE USER {USER}@'{HOST}' IDENTIFIED BY '{server.password}';\n"
        f"GRANT ALL ON *.* TO {USER}@'{HOST}';\n"
    )
    options = {
        "bind-address": HOST,
        "port": server.port,
        "socket": folder / "socket",
        "pid-file": folder / "pid",
        "init-file": folder / "init.sql",
        "max-allowed-packet": "256M",
        "innodb-buffer-pool-size": "64M",
        "innodb-flush-log-at-trx-commit": 0,  # the data need not survive a crash
    }
    command = [_program("mariadbd"), *common, "--skip-name-resolve"]
    command += [f"--{name}={value}" for name, value in options.items()]
    child = ChildProcess.start("mariadb", command, env=os.environ, cwd=folder, log_path=logs / "mariadb.log")
    wait_for_port(child, server.port)
    return child


def _create(data: Path, common: list[str]) -> None:
    command = [_program("mariadb-install-db"), *common, "--skip-test-db", "--skip-name-resolve"]
    command.append("--auth-root-authentication-method=normal")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServiceError(f"mariadb-install-db failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")


def _program(name: str) -> str:
    found = find(name)
    if found is None:
        raise ServiceError(f"The program {name} of MariaDB is missing.\nInstall the package mariadb-server.")
    return str(found)
