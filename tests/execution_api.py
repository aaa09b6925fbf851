"""Airflow's API for tasks, in the process of a test: what it does anew for each call is done once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def prepare_dependencies_once() -> None:
    """Keep what FastAPI finds out about the dependencies of a route.

    It does so for each call as soon as any dependency is overridden, as in a task of ``dag.test()``. Its answers depend
    on the arguments alone, and take more time than the call itself.
    """
    from fastapi.dependencies import utils

    utils.get_dependant = _kept(utils.get_dependant)


def _kept(function: Callable[..., Any]) -> Callable[..., Any]:
    """Keep the results of a function whose arguments are hashable, or lists of what is hashable."""
    results: dict[Any, Any] = {}

    @functools.wraps(function)
    def kept(**arguments: Any) -> Any:
        key = tuple(
            (name, tuple(value) if isinstance(value, list) else value) for name, value in sorted(arguments.items())
        )
        if key not in results:
            results[key] = function(**arguments)
        return results[key]

    return kept
