"""Make's messages on a machine that lacks something, and the settings that it passes to the installer."""

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
    """Run a make command with a shell script in place of Python."""

    def run(*arguments: str, python: str | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
        command = ["make", *arguments]
        if python is not None:
            script = checkout / "python"
            script.write_text(f"#!/bin/sh\n{python}\n")
            script.chmod(0o755)
            command.append(f"PYTHON={script}")
        bare = {"PATH": os.environ["PATH"], "HOME": str(checkout), "PIP_CONFIG_FILE": os.devnull}
        return subprocess.run(
            command, cwd=checkout, env=bare | environ, capture_output=True, text=True, timeout=300, check=False
        )

    return run


def test_unknown_command_lists_the_commands(make: Make) -> None:
    done = make("dmeo")

    assert done.returncode != 0
    assert done.stdout.startswith("There is no command 'make dmeo'. The commands are:")
    assert "make demo " in done.stdout


def test_missing_python_is_named(make: Make) -> None:
    done = make("test", "PYTHON=python-of-nobody")

    assert done.returncode != 0
    assert done.stdout == (
        "'python-of-nobody' was not found. Python 3.11 or newer is needed. Choose one: make PYTHON=python3.12\n"
    )


def test_too_old_python_is_named_with_its_version(make: Make) -> None:
    done = make("test", python='test "$1" = --version && echo Python 3.9.2 && exit; echo SyntaxError >&2; exit 1')

    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stdout
    assert "is Python 3.9.2. Try: make PYTHON=python3.12" in done.stdout
    assert "SyntaxError" not in done.stderr


def test_bytecode_is_written_where_the_environment_forbids_it(make: Make) -> None:
    done = make("test", python='echo "forbidden: $PYTHONDONTWRITEBYTECODE."; exit 1', PYTHONDONTWRITEBYTECODE="1")

    assert "forbidden: .\n" in done.stdout


# Debian's Python without its venv package: leaves an incomplete environment.
INCOMPLETE = (
    'test "$1" = -c && exit; mkdir -p .venv/bin; echo "exit 1" > .venv/bin/python; chmod +x .venv/bin/python; exit 1'
)


def test_incomplete_environment_is_not_reused(make: Make) -> None:
    first, second = make("test", python=INCOMPLETE), make("test", python=INCOMPLETE)

    for done in (first, second):
        assert done.returncode != 0
        assert done.stdout == "Could not create .venv. On Debian and Ubuntu: apt-get install python3-venv\n"


# Creates an environment whose uv prints its settings. Other calls of pip go to the real one.
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
    ("environ", "uv_settings"),
    [
        pytest.param({}, "index= old= cert=", id="nothing is set"),
        pytest.param(
            {"PIP_INDEX_URL": "https://mirror.example/simple", "PIP_CERT": "/ca.pem"},
            "index=https://mirror.example/simple old= cert=/ca.pem",
            id="pip has settings",
        ),
        pytest.param(
            {
                "PIP_INDEX_URL": "https://a.example/",
                "UV_DEFAULT_INDEX": "https://b.example/",
                "SSL_CERT_FILE": "/b.pem",
            },
            "index=https://b.example/ old= cert=/b.pem",
            id="uv has its own setting",
        ),
        pytest.param(
            {"PIP_INDEX_URL": "https://a.example/", "UV_INDEX_URL": "https://c.example/", "PIP_CERT": "/a.pem"},
            "index= old=https://c.example/ cert=/a.pem",
            id="uv has its own setting under the older name",
        ),
        pytest.param({"PIP_EXTRA_INDEX_URL": "https://x.example/"}, "index= old= cert=", id="one more index is none"),
    ],
)
def test_installer_uses_the_index_that_pip_is_configured_with(
    make: Make, environ: dict[str, str], uv_settings: str
) -> None:
    done = make("test", python=RECORDER.replace("REAL", sys.executable), **environ)

    assert uv_settings in done.stdout.splitlines()
    assert "Installing failed" in done.stdout


def test_unreachable_index_is_named_as_the_problem(make: Make) -> None:
    offline = {"PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_RETRIES": "0"}
    done = make("test", python=f'exec {sys.executable} "$@"', **offline)

    assert done.returncode != 0
    assert "Installing failed, as the lines above say. The first run needs a package index" in done.stdout
    assert "No matching distribution found for uv" in done.stderr
