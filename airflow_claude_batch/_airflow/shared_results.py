"""Warn of a results folder that another worker may not see, or refuse it.

The ledger is in the results folder, except on Airflow 3.3. A retry on a machine that does not see it knows of no
batch, and sends and pays for everything again. The default folder is under AIRFLOW_HOME, on each worker's own disk.
"""

from __future__ import annotations

import logging
import os
import re
from typing import Final

from airflow_claude_batch._airflow import settings
from airflow_claude_batch._airflow.compat import TASK_STATE_SURVIVES_CLEAR, executors
from airflow_claude_batch._airflow.results_folder import is_default_root, results_root
from airflow_claude_batch.exceptions import ConfigurationError

log = logging.getLogger(__name__)

#: Executors whose tasks all run on the scheduler's machine.
_ONE_MACHINE: Final = frozenset({"LocalExecutor", "SequentialExecutor", "DebugExecutor"})


def check_results_shared(results_path: str | None) -> None:
    """Warn if workers may not share the results folder, although the ledger is in it.

    :raises ConfigurationError: they may not, and ``require_shared_results`` is set.
    """
    names = other_machines(executors())
    if not names or not is_default_root(results_path):
        return
    root, runs_on = results_root(results_path), ", ".join(names)
    if settings.require_shared_results():
        raise ConfigurationError(
            f"results_path is not set, and workers of {runs_on} may not share {root}.",
            "Nothing was sent. [claude_batch] require_shared_results asks for a folder that all workers see.",
            "Set [claude_batch] results_path to a shared disk or an object store.",
        )
    if not TASK_STATE_SURVIVES_CLEAR:
        log.warning(
            "The ledger of this submission is in %s, which workers of %s may not share. A retry on another worker "
            "would then send and pay for everything again. Set [claude_batch] results_path to a shared disk or an "
            "object store.",
            root,
            runs_on,
        )


def other_machines(configured: str) -> list[str]:
    """Return the executors that may run tasks on other machines than the scheduler's.

    :param configured: ``[core] executor``: one or several names or class paths, with aliases or teams.
    """
    if os.environ.get("AIRFLOW_IS_K8S_EXECUTOR_POD"):
        return ["KubernetesExecutor"]  # its pods are configured with the LocalExecutor
    names = [re.split(r"[.:=]", name.strip())[-1] for name in re.split("[,;]", configured)]
    return [name for name in dict.fromkeys(names) if name and name not in _ONE_MACHINE]
