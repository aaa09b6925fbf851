"""Run tests on every supported minor of Airflow, and both ends on every supported Python that is here.

The oldest and the newest Airflow run all tests, unless some are named; those between run the ones that import
everything, run DAGs, and end tasks of a real Airflow by hand. Each environment lives in .venvs/, is made in seconds
and kept. What is tested is the built wheel, installed as a user would have it. Airflow's own constraint files are not
on the package index, so an older Airflow is resolved as of the day its last patch was current.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Has the module that gives a Python process another date.
FAKED_DATES = ROOT / "tests" / "faked_dates"
CONSTRAINTS = ROOT / "constraints.txt"
UV = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
OLDEST_PYTHON = "3.11"
#: What the tests need besides Airflow; it must leave Airflow's own packages as they are.
TOOLS = (
    "anthropic",
    "boto3",
    "botocore",
    "google-auth",
    "hypothesis",
    "pandas",
    "playwright",
    "polars",
    "psycopg",
    "psycopg-binary",
    "pyarrow",
    "pymysql",
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "statsd",
    "time-machine",
)
#: Providers of databases, in the versions of Airflow's day.
PROVIDERS = ("apache-airflow-providers-postgres", "apache-airflow-providers-sqlite")
ALL = ("tests",)
AIRFLOW_ALONE = (
    "tests/_airflow",
    "tests/provider",
    "tests/commands",
    "tests/dags",
    "tests/stack/shared_airflow/test_approval_by_rest_api.py",
    "tests/stack/shared_airflow/test_page_access.py",
    "tests/stack/shared_airflow/test_page_in_browser.py",
    "tests/stack/shared_airflow/test_ended_by_hand.py",
    "tests/stack/shared_airflow/test_clear_or_retry.py",
    "tests/stack/shared_airflow/test_cleared_upstream.py",
    "tests/stack/shared_airflow/test_loop.py",
)

# Airflow's own deprecations cannot be fixed here, on versions that get no fixes any more; ours stay errors.
WARNINGS = ("-o", "filterwarnings=default", "-W", "error:::airflow_claude_batch")


class MatrixError(Exception):
    """An environment cannot be made."""


@dataclass(frozen=True, slots=True)
class Environment:
    """One Airflow on one Python.

    :param resolution: how the index is to be resolved.
    :param tests: what it runs when no tests are named.
    :param more: further packages that belong to the scene.
    :param preview: a release that is not final. It runs only if its version is named: what fails is for people to read.
    """

    airflow: str
    python: str
    resolution: tuple[str, ...]
    tests: tuple[str, ...] = AIRFLOW_ALONE
    more: tuple[str, ...] = ()
    preview: bool = False

    @property
    def version(self) -> str:
        return self.airflow if self.python == OLDEST_PYTHON else f"{self.airflow}-py{self.python}"

    @property
    def name(self) -> str:
        return f"airflow-{self.version}"

    @property
    def packages(self) -> tuple[str, ...]:
        return (f"apache-airflow=={self.airflow}", *PROVIDERS, *self.more)


OLDEST = ("--exclude-newer", "2025-09-10")
NEWEST = ("-c", CONSTRAINTS.name)

#: uv takes a release that is not final only if it is named.
PREVIEW_PACKAGES = ("apache-airflow-core==3.4.0b2", "apache-airflow-task-sdk==1.4.0b2")

ENVIRONMENTS = (
    # Airflow 3.0 draws a connection's form only if wtforms is there.
    Environment("3.0.6", OLDEST_PYTHON, OLDEST, ALL, more=("wtforms",)),
    Environment("3.0.6", "3.12", OLDEST),
    Environment("3.1.8", OLDEST_PYTHON, ("--exclude-newer", "2026-03-25")),
    Environment("3.2.2", OLDEST_PYTHON, ("--exclude-newer", "2026-06-30")),
    Environment("3.3.2", OLDEST_PYTHON, NEWEST, ALL),
    Environment("3.3.2", "3.12", NEWEST, ALL),
    Environment("3.3.2", "3.13", NEWEST),
    # botocore, one of the tests' tools, refuses later major versions of python-dateutil.
    Environment("3.4.0b2", OLDEST_PYTHON, (), more=(*PREVIEW_PACKAGES, "python-dateutil<3"), preview=True),
)


@dataclass(frozen=True, slots=True)
class Scene:
    """What every environment is given.

    :param wheel: the package, as a user would install it.
    :param path: a folder to import from: the demo and the benchmarks, which tests use and no wheel has.
    :param days: how many days later it is for the tests. 0 leaves today.
    """

    wheel: Path
    path: Path
    days: int = 0

    @classmethod
    def make(cls, folder: Path, days: int) -> Scene:
        _uv("build", "--wheel", "--out-dir", str(folder), what="build the wheel")
        path = folder / "path"
        path.mkdir()
        for name in ("benchmarks", "demo"):
            (path / name).symlink_to(ROOT / name)
        return cls(next(folder.glob("*.whl")), path, days)

    @property
    def environ(self) -> dict[str, str]:
        """The variables of the tests' processes."""
        paths = (FAKED_DATES, self.path) if self.days else (self.path,)
        return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "FAKED_DAYS": str(self.days or "")}


def main() -> int:
    options, pytest_options = _options()
    wanted = [each for each in ENVIRONMENTS if _is_wanted(each, options.only or [""])]
    if not wanted:
        return _fail(f"No environment begins with {' or '.join(options.only)}. There are: {_names()}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            scene = Scene.make(Path(folder), options.days)
            outcomes = {each.name: _run(each, scene, pytest_options) for each in wanted}
    except MatrixError as error:
        return _fail(str(error))
    print("\n" + "\n".join(f"{name:24} {outcome}" for name, outcome in outcomes.items()))
    words = {outcome.partition(" ")[0] for outcome in outcomes.values()}
    return int("FAILED" in words or words == {"skipped:"})


def _is_wanted(environment: Environment, begins: Sequence[str]) -> bool:
    """Whether it is one of these; where one of these is a whole version, that one alone is meant."""
    versions = [each.version for each in ENVIRONMENTS]
    if environment.preview and environment.version not in begins:
        return False
    return any(
        environment.version == begin if begin in versions else environment.version.startswith(begin) for begin in begins
    )


def _options() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Everything else goes to pytest.")
    parser.add_argument(
        "--only", action="append", metavar="VERSION", help=f"the begin of a version; there are: {_names()}"
    )
    parser.add_argument("--days", type=int, default=0, help="run the tests as if today were so many days later")
    options, pytest_options = parser.parse_known_args()
    return options, ["-q", "-n", "2", "--dist", "loadfile", *pytest_options]


def _names_tests(pytest_options: Sequence[str]) -> bool:
    return any((ROOT / option.partition("::")[0]).exists() for option in pytest_options)


def _names() -> str:
    return ", ".join(each.version for each in ENVIRONMENTS)


def _run(environment: Environment, scene: Scene, pytest_options: list[str]) -> str:
    interpreter = _interpreter(environment.python)
    if interpreter is None:
        return f"skipped: no Python {environment.python} here"
    with _alone(environment):
        return _run_alone(environment, interpreter, scene, pytest_options)


def _run_alone(environment: Environment, interpreter: str, scene: Scene, pytest_options: list[str]) -> str:
    begun = time.monotonic()
    python = _prepared(environment, interpreter)
    _uv(
        "pip",
        "install",
        "--python",
        str(python),
        "--no-deps",
        "--reinstall",
        str(scene.wheel),
        what="install the wheel",
    )
    print(f"\n{environment.name}: ready after {time.monotonic() - begun:.0f} s", flush=True)
    # `pytest`, not `python -m pytest`: the latter would put the checkout before the installed wheel.
    command = [python.with_name("pytest"), "-p", "no:cacheprovider", *WARNINGS, *pytest_options]
    command += [] if _names_tests(pytest_options) else environment.tests
    status = subprocess.run(command, cwd=ROOT, env=scene.environ, check=False).returncode
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
        # With pip in it, as a user's environment has: tests of the Makefile ask it for its settings.
        _uv("venv", "--clear", "--seed", "--python", interpreter, str(folder), what=what)
        python = str(folder / "bin" / "python")
        _uv("pip", "install", "--python", python, *environment.resolution, *environment.packages, what=what)
        _install_tools(python, folder / "installed.txt")
        stamp.write_text(recipe)
    return folder / "bin" / "python"


def _install_tools(python: str, installed: Path) -> None:
    """Today's tools in the versions that ``make test`` uses, without a change to what is there already."""
    installed.write_text(_uv("pip", "freeze", "--python", python, what="list what is installed"))
    pins = dict(line.split("==") for line in CONSTRAINTS.read_text().splitlines() if "==" in line)
    tools = [f"{tool}=={pins[tool]}" for tool in TOOLS]
    _uv("pip", "install", "--python", python, "-c", str(installed), *tools, what="install the tests' tools")


def _recipe(environment: Environment, interpreter: str) -> str:
    constraints = hashlib.sha256(CONSTRAINTS.read_bytes()).hexdigest()
    return f"with pip, {interpreter} {environment.resolution} {environment.packages} {TOOLS} {constraints}\n"


def _interpreter(version: str) -> str | None:
    found = subprocess.run(
        [UV or "uv", "python", "find", "--no-project", "--system", version],
        env=_environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() if found.returncode == 0 else None


def _uv(*arguments: str, what: str) -> str:
    done = subprocess.run(
        [UV or "uv", *arguments, "--quiet"], cwd=ROOT, env=_environ(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise MatrixError(
            f"{done.stderr.strip()}\n\nCould not {what} (the lines above say why). It needs a package index that "
            "tells when a release was uploaded: check the network, or uv's settings."
        )
    return done.stdout


def _environ() -> dict[str, str]:
    """Let uv find every Python that pyenv has: its shims answer only for the versions that are switched on."""
    environ = {**os.environ, "UV_COMPILE_BYTECODE": "1"}  # the tests start Airflow many times
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
