"""Only a few modules of the package import Airflow. Most of it is reached by way of ``compat``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import airflow_claude_batch

PACKAGE = Path(airflow_claude_batch.__file__).parent
#: What tasks use, hooks of two other providers, what servers read of the database, the api-server, Airflow's classes of
#: plugins and commands, and tests of users.
IMPORTERS = (
    "_airflow/compat.py",
    "_airflow/aws_connection.py",
    "_airflow/google_connection.py",
    "_airflow/servers.py",
    "_airflow/api_server.py",
    "_airflow/command_line.py",
    "plugin.py",
    "simulator/dag_runs.py",
)


def imported_modules(path: Path) -> Iterator[str]:
    """Every module that a file imports, at its top or within a function or class."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def imports_airflow(path: Path) -> bool:
    return any(name.split(".")[0] == "airflow" for name in imported_modules(path))


def test_only_a_few_modules_import_airflow() -> None:
    modules = list(PACKAGE.rglob("*.py"))
    assert len(modules) > 100

    found = {path.relative_to(PACKAGE).as_posix() for path in modules if imports_airflow(path)}
    assert found == set(IMPORTERS)
