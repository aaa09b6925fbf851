"""Airflow's API for tasks, in the process of a test: what does not differ between two calls is made once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def prepare_execution_api_once() -> None:
    """Keep the API of ``dag.test()``, as later Airflows than 3.0 do, and what FastAPI finds out about its dependencies.

    FastAPI examines the dependencies of a route for each call as soon as any is overridden, as they are there. What it
    finds depends on the arguments alone, and takes more time than the call itself.
    """
    from airflow.sdk.execution_time import supervisor
    from fastapi.dependencies import utils

    supervisor.in_process_api_server = functools.cache(supervisor.in_process_api_server)
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
