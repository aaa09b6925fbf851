"""``compat`` is the only module of the package that imports Airflow, besides the runner of DAGs in users' tests."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import airflow_claude_batch

PACKAGE = Path(airflow_claude_batch.__file__).parent
COMPAT = PACKAGE / "_airflow" / "compat.py"
DAG_RUNS = PACKAGE / "simulator" / "dag_runs.py"


def imported_modules(path: Path) -> Iterator[str]:
    """Every module that a file imports, at its top or within a function or class."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def imports_airflow(path: Path) -> bool:
    return any(name.split(".")[0] == "airflow" for name in imported_modules(path))


def test_only_compat_imports_airflow() -> None:
    modules = list(PACKAGE.rglob("*.py"))
    assert len(modules) > 100

    assert [path for path in modules if imports_airflow(path) and path != DAG_RUNS] == [COMPAT]
