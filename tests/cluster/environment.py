"""The cluster's environment in .venvs/: Airflow with Celery and PostgreSQL, and the built wheel."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from demo.errors import DemoError

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venvs" / "cluster"
PACKAGES = ("apache-airflow[celery,postgres]==3.3.2",)
CONSTRAINTS = ("constraints.txt", "tests/cluster/constraints.txt")


def prepare() -> Path:
    """Create the environment, unless an up-to-date one exists, and install the wheel of this checkout.

    :raises DemoError: when an installation fails. The message says why.
    """
    stamp, recipe = VENV / "made-from", _recipe()
    if not (stamp.is_file() and stamp.read_text() == recipe):
        print(f"Installing {', '.join(PACKAGES)} into {VENV.relative_to(ROOT)} ...", flush=True)
        _uv("venv", "--clear", "--python", sys.executable, str(VENV))
        limits = [part for path in CONSTRAINTS for part in ("-c", path)]
        _uv("pip", "install", "--python", str(VENV), *limits, *PACKAGES)
        stamp.write_text(recipe)
    with tempfile.TemporaryDirectory() as folder:
        _uv("build", "--wheel", "--out-dir", folder)
        (wheel,) = Path(folder).glob("*.whl")
        _uv("pip", "install", "--python", str(VENV), "--no-deps", "--reinstall", str(wheel))
    return VENV


def _recipe() -> str:
    digest = hashlib.sha256(b"".join((ROOT / path).read_bytes() for path in CONSTRAINTS))
    return f"{sys.version_info[:2]} {PACKAGES} {digest.hexdigest()}\n"


def _uv(*arguments: str) -> None:
    uv = Path(sys.executable).with_name("uv")
    environ = {**os.environ, "UV_COMPILE_BYTECODE": "1"}  # the cluster starts Airflow many times
    done = subprocess.run(
        [uv, *arguments, "--quiet"], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DemoError(f"Could not create {VENV}: `uv {' '.join(arguments[:2])}` failed.\n{done.stderr.strip()}")
