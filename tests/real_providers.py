"""Providers of Airflow that are not installed with the tests: all tests would find them, and they require much.

A few wheels are enough for a hook, and only a process of its own sees them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import asyncio, json
from airflow_claude_batch.hooks import ClaudeHook

hook = ClaudeHook()
works, message = hook.test_connection()

async def on_event_loop():
    async with await ClaudeHook().get_async_client() as client:
        return len((await client.list_batches(limit=1)).data)

listed = asyncio.run(on_event_loop()) if works else None
is_equal = works and hook.read_config_again() == hook.get_config()
print(json.dumps({"works": works, "message": message, "listed": listed, "is_equal": is_equal}))
"""


def unpack_wheels(folder: Path, *requirements: str) -> Path:
    """Download wheels, without what they require, and unpack them. Skips the test where they cannot be had."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), *requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != len(requirements):
        pytest.skip(f"{requirements[0]} cannot be had here")
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    return folder


def try_connections(provider: Path, connections: Mapping[str, Any]) -> dict[str, Any]:
    """Test the connection ``claude_default`` in a process that has the provider, and list batches on an event loop.

    :param connections: by their ids.
    """
    path = os.pathsep.join([*sys.path, str(provider)])
    variables = {f"AIRFLOW_CONN_{name.upper()}": json.dumps(fields) for name, fields in connections.items()}
    environ = {**os.environ, **variables, "PYTHONPATH": path}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said
