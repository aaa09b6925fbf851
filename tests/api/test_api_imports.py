from __future__ import annotations

import subprocess
import sys

import pytest

LIGHT = [
    "limits",
    "line_splitter",
    "wire",
    "evidence",
    "retry",
    "base_url",
    "http",
    "responses",
    "credentials",
    "config",
    "endpoints",
    "listing",
]


@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [(LIGHT, ["httpx", "airflow", "asgiref"]), (["transport", "client"], ["airflow"])],
    ids=["all but the transport", "transport"],
)
def test_nothing_heavier_than_needed_is_imported(modules, forbidden):
    names = ", ".join(f"airflow_claude_batch.api.{name}" for name in modules)
    code = f"import sys; import {names}; print(*[name for name in {forbidden!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.split() == []
