"""What make says to a stranger whose machine is not ready, and what it hands to the installer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

Make = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.fixture
def make(checkout: Path) -> Make:
    """Runs a verb with a Python of the test's own: a shell script."""

    def run(*arguments: str, python: str | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
        command = ["make", *arguments]
        if python is not None:
            script = checkout / "python"
            script.write_text(f"#!/bin/sh\n{python}\n")
            script.chmod(0o755)
            command.append(f"PYTHON={script}")
        bare = {"PATH": os.environ["PATH"], "HOME": str(checkout), "PIP_CONFIG_FILE": os.devnull}
        return subprocess.run(
            command, cwd=checkout, env=bare | environ, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def test_verb_that_does_not_exist_is_answered_with_those_that_do(make: Make) -> None:
    told = make("dmeo")

    assert told.returncode != 0
    assert told.stdout.startswith("There is no 'make dmeo'. There is:")
    assert "make demo " in told.stdout


def test_python_that_is_missing_is_named(make: Make) -> None:
    told = make("test", "PYTHON=python-of-nobody")

    assert told.returncode != 0
    assert told.stdout == (
        "There is no 'python-of-nobody' here. Python 3.11 or newer is needed; name one: make PYTHON=python3.12\n"
    )


def test_python_that_is_too_old_is_named_with_its_version(make: Make) -> None:
    told = make("test", python='test "$1" = --version && echo Python 3.9.2 && exit; echo SyntaxError >&2; exit 1')

    assert told.returncode != 0
    assert "Python 3.11 or newer is needed" in told.stdout
    assert "is Python 3.9.2. Try: make PYTHON=python3.12" in told.stdout
    assert "SyntaxError" not in told.stderr


# Debian's Python without its package for environments: leaves half of one behind.
HALF = 'test "$1" = -c && exit; mkdir -p .venv/bin; echo "exit 1" > .venv/bin/python; chmod +x .venv/bin/python; exit 1'


def test_half_an_environment_is_not_taken_for_one_the_next_time(make: Make) -> None:
    first, second = make("test", python=HALF), make("test", python=HALF)

    for told in (first, second):
        assert told.returncode != 0
        assert told.stdout == "Could not make .venv. On Debian and Ubuntu: apt-get install python3-venv\n"


# Makes an environment whose uv says what it was told. The rest of what pip is asked goes to the real one.
RECORDER = r"""test "$1" = -c && exit
mkdir -p .venv/bin
cat > .venv/bin/python <<'END'
#!/bin/sh
case "$*" in "-m pip install"*) exit;; "-m pip"*) exec REAL "$@";; esac
END
cat > .venv/bin/uv <<'END'
#!/bin/sh
echo "index=$UV_DEFAULT_INDEX old=$UV_INDEX_URL cert=$SSL_CERT_FILE"
exit 1
END
chmod +x .venv/bin/*"""


@pytest.mark.parametrize(
    ("environ", "told_uv"),
    [
        pytest.param({}, "index= old= cert=", id="nothing is set"),
        pytest.param(
            {"PIP_INDEX_URL": "https://mirror.example/simple", "PIP_CERT": "/ca.pem"},
            "index=https://mirror.example/simple old= cert=/ca.pem",
            id="pip is told",
        ),
        pytest.param(
            {
                "PIP_INDEX_URL": "https://a.example/",
                "UV_DEFAULT_INDEX": "https://b.example/",
                "SSL_CERT_FILE": "/b.pem",
            },
            "index=https://b.example/ old= cert=/b.pem",
            id="uv is told something else",
        ),
        pytest.param(
            {"PIP_INDEX_URL": "https://a.example/", "UV_INDEX_URL": "https://c.example/", "PIP_CERT": "/a.pem"},
            "index= old=https://c.example/ cert=/a.pem",
            id="uv is told by its older name",
        ),
        pytest.param({"PIP_EXTRA_INDEX_URL": "https://x.example/"}, "index= old= cert=", id="one more index is none"),
    ],
)
def test_installer_asks_the_index_that_pip_was_told_of(make: Make, environ: dict[str, str], told_uv: str) -> None:
    told = make("test", python=RECORDER.replace("REAL", sys.executable), **environ)

    assert told_uv in told.stdout.splitlines()
    assert "Installing failed" in told.stdout


def test_index_that_cannot_be_reached_is_said_to_be_the_trouble(make: Make) -> None:
    offline = {"PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_RETRIES": "0"}
    told = make("test", python=f'exec {sys.executable} "$@"', **offline)

    assert told.returncode != 0
    assert "Installing failed (the lines above say why). A first run needs a package index" in told.stdout
    assert "No matching distribution found for uv" in told.stderr
