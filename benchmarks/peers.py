"""Installs the peers into an environment of their own: Apache's two providers for Claude, and the SDK that both use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PEERS = ROOT / ".venvs" / "peers"
PACKAGES = (
    "apache-airflow-providers-anthropic==1.2.0",
    "apache-airflow-providers-common-ai==1.0.0",
    "anthropic>=1",
    "steadybatch==0.2.1",  # has no Airflow: compared for money (tests/peers), not for time
)


def install_peers() -> Path:
    """Create the environment unless it has these packages already. Return its interpreter."""
    python, installed = PEERS / "bin" / "python", PEERS / "installed.txt"
    wanted = "\n".join(PACKAGES)
    if not installed.exists() or installed.read_text() != wanted:
        if not python.exists():
            uv("venv", "-q", "--python", sys.executable, PEERS)
        uv("pip", "install", "-q", "--python", python, "-c", ROOT / "constraints.txt", *PACKAGES)
        installed.write_text(wanted)
    return python


def uv(*arguments: str | Path) -> None:
    """Run uv from the environment of the tests."""
    if subprocess.run([Path(sys.executable).with_name("uv"), *arguments], check=False).returncode:
        sys.exit("Could not install the peers (the lines above say why). Check the network, or uv's settings.")
