"""Run tests on every supported minor of Airflow, and the newest on every supported Python that is here.

Each environment lives in .venvs/, is made in seconds and kept. What is tested is the built wheel, installed as a user
would have it. Airflow's own constraint files are not on the package index, so an older Airflow is resolved as of the
day its last patch was current.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UV = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
OLDEST_PYTHON = "3.11"
TOOLS = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis")

# Airflow's own deprecations are not ours to mend, on versions that get no fixes any more; ours stay errors.
WARNINGS = ("-o", "filterwarnings=default", "-W", "error:::airflow_claude_batch")


class MatrixError(Exception):
    """An environment cannot be made."""


@dataclass(frozen=True, slots=True)
class Environment:
    """One Airflow on one Python.

    :param resolution: how the index is to be resolved.
    :param more: further packages that belong to the scene.
    """

    airflow: str
    python: str
    resolution: tuple[str, ...]
    more: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        return self.airflow if self.python == OLDEST_PYTHON else f"{self.airflow}-py{self.python}"

    @property
    def name(self) -> str:
        return f"airflow-{self.version}"

    @property
    def packages(self) -> tuple[str, ...]:
        return (f"apache-airflow=={self.airflow}", *TOOLS, *self.more)


NEWEST = ("-c", "constraints.txt")

ENVIRONMENTS = (
    # Airflow 3.0 draws a connection's form only if wtforms is there.
    Environment("3.0.6", OLDEST_PYTHON, ("--exclude-newer", "2025-09-10"), ("wtforms",)),
    Environment("3.1.8", OLDEST_PYTHON, ("--exclude-newer", "2026-03-25")),
    Environment("3.2.2", OLDEST_PYTHON, ("--exclude-newer", "2026-06-30")),
    Environment("3.3.2", OLDEST_PYTHON, NEWEST),
    Environment("3.3.2", "3.12", NEWEST),
    Environment("3.3.2", "3.13", NEWEST),
)


def main() -> int:
    options, pytest_options = _options()
    wanted = [each for each in ENVIRONMENTS if each.version.startswith(tuple(options.only or [""]))]
    if not wanted:
        return _fail(f"No environment begins with {' or '.join(options.only)}. There are: {_names()}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            wheel = _wheel(Path(folder))
            outcomes = {each.name: _run(each, wheel, pytest_options) for each in wanted}
    except MatrixError as error:
        return _fail(str(error))
    print("\n" + "\n".join(f"{name:24} {outcome}" for name, outcome in outcomes.items()))
    return int(any(outcome.startswith("FAILED") for outcome in outcomes.values()))


def _options() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Everything else goes to pytest.")
    parser.add_argument(
        "--only", action="append", metavar="VERSION", help=f"the begin of a version; there are: {_names()}"
    )
    options, pytest_options = parser.parse_known_args()
    paths = [option for option in pytest_options if (ROOT / option.partition("::")[0]).exists()]
    return options, ["-q", "-n", "2", "--dist", "loadfile", *pytest_options, *([] if paths else ["tests/provider"])]


def _names() -> str:
    return ", ".join(each.version for each in ENVIRONMENTS)


def _run(environment: Environment, wheel: Path, pytest_options: list[str]) -> str:
    interpreter = _interpreter(environment.python)
    if interpreter is None:
        return f"skipped: no Python {environment.python} here"
    with _alone(environment):
        return _run_alone(environment, interpreter, wheel, pytest_options)


def _run_alone(environment: Environment, interpreter: str, wheel: Path, pytest_options: list[str]) -> str:
    begun = time.monotonic()
    python = _prepared(environment, interpreter)
    _uv("pip", "install", "--python", str(python), "--no-deps", "--reinstall", str(wheel), what="install the wheel")
    print(f"\n{environment.name}: ready after {time.monotonic() - begun:.0f} s", flush=True)
    # `pytest`, not `python -m pytest`: the latter would put the checkout before the installed wheel.
    command = [python.with_name("pytest"), "-p", "no:cacheprovider", *WARNINGS, *pytest_options]
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    return f"{'passed' if status == 0 else 'FAILED'} in {time.monotonic() - begun:.0f} s"


@contextmanager
def _alone(environment: Environment) -> Iterator[None]:
    """Wait for another run that uses this environment: each installs its own wheel into it."""
    lock = ROOT / ".venvs" / f"{environment.name}.lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _prepared(environment: Environment, interpreter: str) -> Path:
    """Make the environment, unless it is there already and was made the same way; gives its Python."""
    folder = ROOT / ".venvs" / environment.name
    stamp = folder / "made-from"
    recipe = _recipe(environment, interpreter)
    if not (stamp.is_file() and stamp.read_text() == recipe):
        print(f"\n{environment.name}: installing ...", flush=True)
        what = f"install Airflow {environment.airflow}"
        _uv("venv", "--clear", "--python", interpreter, str(folder), what=what)
        python = str(folder / "bin" / "python")
        _uv("pip", "install", "--python", python, *environment.resolution, *environment.packages, what=what)
        stamp.write_text(recipe)
    return folder / "bin" / "python"


def _recipe(environment: Environment, interpreter: str) -> str:
    constraints = hashlib.sha256((ROOT / "constraints.txt").read_bytes()).hexdigest()
    return f"{interpreter} {environment.resolution} {environment.packages} {constraints}\n"


def _wheel(folder: Path) -> Path:
    _uv("build", "--wheel", "--out-dir", str(folder), what="build the wheel")
    return next(folder.glob("*.whl"))


def _interpreter(version: str) -> str | None:
    found = subprocess.run(
        [UV or "uv", "python", "find", "--no-project", "--system", version],
        env=_environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() if found.returncode == 0 else None


def _uv(*arguments: str, what: str) -> None:
    done = subprocess.run(
        [UV or "uv", *arguments, "--quiet"], cwd=ROOT, env=_environ(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise MatrixError(
            f"{done.stderr.strip()}\n\nCould not {what} (the lines above say why). It needs a package index that "
            "tells when a release was uploaded: check the network, or uv's settings."
        )


def _environ() -> dict[str, str]:
    """Let uv find every Python that pyenv has: its shims answer only for the versions that are switched on."""
    environ = dict(os.environ)
    if pyenv := shutil.which("pyenv"):
        listed = subprocess.run([pyenv, "versions", "--bare"], capture_output=True, text=True, check=False)
        environ["PYENV_VERSION"] = ":".join(reversed(listed.stdout.split()))
    return environ


def _fail(message: str) -> int:
    print(message, file=sys.stderr)
    return 1


if __name__ == "__main__":
    if UV is None:
        sys.exit("uv is missing; `make matrix` installs it first.")
    sys.exit(main())
