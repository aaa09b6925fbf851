"""Run a Python snippet: in a DAG of its own, with what the snippets above it on its page import and define."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

_CARRIED = (ast.Import, ast.ImportFrom, ast.ClassDef)


def load(path: Path, text: str, *, above: Iterable[str] = (), names: Mapping[str, Any]) -> ModuleType:
    """Write a snippet to a file and import it; tasks that it makes outside of a DAG are in one named ``snippet``.

    :param above: the snippets before it on the same page.
    :param names: what the snippet may use without defining it.
    """
    path.write_text(ast.unparse(_module(text, above)), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    vars(module).update(names)
    spec.loader.exec_module(module)
    return module


def used_names(text: str) -> set[str]:
    """Every name that a snippet reads or writes."""
    return {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}


def _module(text: str, above: Iterable[str]) -> ast.Module:
    carried = [node for each in above for node in ast.parse(each).body if isinstance(node, _CARRIED)]
    body = ast.parse(text).body
    for number, node in enumerate(body):
        _name_dag(node, number)
    around = ast.parse(f"from airflow.sdk import DAG as _DAG\nwith _DAG({'snippet'!r}) as _dag:\n    pass")
    block = around.body[1]
    assert isinstance(block, ast.With)
    block.body = body
    return ast.Module([*carried, *around.body], type_ignores=[])


def _name_dag(node: ast.stmt, number: int) -> None:
    """Let the module keep a DAG to which the snippet gives no name."""
    if isinstance(node, ast.With) and node.items[0].optional_vars is None:
        call = node.items[0].context_expr
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "DAG":
            node.items[0].optional_vars = ast.Name(f"_dag_{number}", ast.Store())
            ast.fix_missing_locations(node)
