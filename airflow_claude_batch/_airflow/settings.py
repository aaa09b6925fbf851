"""The deployment's settings: every option of ``[claude_batch]`` is read here and nowhere else.

``provider_info`` describes them to Airflow.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Final

from airflow_claude_batch._airflow.check_arguments import parse_usd
from airflow_claude_batch._airflow.compat import conf
from airflow_claude_batch.api.config import MIN_BATCH_BYTES, ClientConfig
from airflow_claude_batch.api.limits import MAX_BATCH_BYTES, MAX_REQUESTS
from airflow_claude_batch.batch.money.prices import merge
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.policy import lost_create_grace as lost_create_grace_of
from airflow_claude_batch.exceptions import ConfigurationError

SECTION: Final = "claude_batch"
_DAY_SECONDS: Final = 86_400
#: An octal mode in which the owner may read and write, and nobody may execute.
_FILE_MODE: Final = re.compile(r"(0o)?0?6[0246][0246]", re.ASCII)
MAX_COST: Final = f"[{SECTION}] max_cost_per_submission"
MAX_COST_PER_DAY: Final = f"[{SECTION}] max_cost_per_day"
MAX_COST_PER_DAG_PER_DAY: Final = f"[{SECTION}] max_cost_per_dag_per_day"


def poll_interval(of_task: float | None = None) -> float:
    """Return the task's own interval, else ``poll_interval``: the most seconds between two polls. Default: 60.

    :raises ConfigurationError: the option is not a number of seconds above zero.
    """
    if of_task is not None:
        return float(of_task)
    text = conf.get(SECTION, "poll_interval", fallback=None)
    try:
        seconds = float(text or 60.0)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _DAY_SECONDS:
        raise ConfigurationError(
            f"[{SECTION}] poll_interval is {text!r:.40}, which is not a number of seconds above zero, up to a day.",
            "Batches that run go on, and are billed for what they answer.",
            "Leave it empty for 60, or give seconds such as 30.",
        )
    return seconds


def results_path() -> str | None:
    """Read ``results_path``: the folder or URI above all submissions. Default: None, a folder under AIRFLOW_HOME."""
    path: str | None = conf.get(SECTION, "results_path", fallback=None)
    return path or None


def answer_store() -> str | None:
    """Read ``answer_store``: the path or URI of the answer store of tasks that name none. Default: None, no store."""
    path: str | None = conf.get(SECTION, "answer_store", fallback=None)
    return path or None


def max_cost_per_submission() -> Decimal | None:
    """Read ``max_cost_per_submission``: US dollars that one submission may cost at most. Default: None, no limit.

    :raises ConfigurationError: it is not an amount.
    """
    value = conf.get(SECTION, "max_cost_per_submission", fallback=None)
    return parse_usd(MAX_COST, value) if value else None


def max_cost_per_day() -> Decimal | None:
    """Read ``max_cost_per_day``: US dollars that all submissions of a day (UTC) may cost. Default: None, no limit.

    :raises ConfigurationError: it is not an amount.
    """
    value = conf.get(SECTION, "max_cost_per_day", fallback=None)
    return parse_usd(MAX_COST_PER_DAY, value) if value else None


def max_cost_per_dag_per_day() -> Decimal | None:
    """Read ``max_cost_per_dag_per_day``: US dollars that each DAG's submissions of a day (UTC) may cost. Default: None.

    :raises ConfigurationError: it is not an amount.
    """
    value = conf.get(SECTION, "max_cost_per_dag_per_day", fallback=None)
    return parse_usd(MAX_COST_PER_DAG_PER_DAY, value) if value else None


def lost_create_grace(read_timeout: float) -> timedelta:
    """Read ``lost_create_grace``: seconds to search for the batch of a create call without a response. Default: 3600.

    :param read_timeout: the connection's, in seconds. A long one makes the default longer.
    :raises ConfigurationError: it is not a number of seconds.
    """
    text = conf.get(SECTION, "lost_create_grace", fallback=None)
    if not text:
        return lost_create_grace_of(read_timeout)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _DAY_SECONDS:
        raise ConfigurationError(
            f"[{SECTION}] lost_create_grace is {text!r}, which is not a number of seconds up to a day.",
            "Nothing was sent.",
            "Leave it empty, or give seconds such as 3600.",
        )
    return timedelta(seconds=seconds)


def batch_limits(config: ClientConfig) -> tuple[int, int]:
    """Return how many bytes and how many requests one create call may carry. The lowest of all limits wins.

    The API's are the highest. ``max_batch_bytes`` and ``max_batch_requests``, of this section and of the connection,
    lower them for gateways. Both default to None, the API's limit.

    :raises ConfigurationError: an option is no whole number, or too low for a single request.
    """
    return (
        min(MAX_BATCH_BYTES, config.max_batch_bytes, _limit("max_batch_bytes", at_least=MIN_BATCH_BYTES)),
        min(MAX_REQUESTS, config.max_batch_requests, _limit("max_batch_requests", at_least=1)),
    )


def _limit(option: str, *, at_least: int) -> int:
    text = conf.get(SECTION, option, fallback=None)
    if not text:
        return sys.maxsize
    if not text.strip().isdecimal() or int(text) < at_least:
        raise ConfigurationError(
            f"[{SECTION}] {option} is {text!r:.40}, which is not a whole number of at least {at_least:,}.",
            "Nothing was sent.",
            "Leave it empty for the API's own limit, or give a number that the gateway accepts.",
        )
    return int(text)


def max_inline_bytes() -> int:
    """Read ``max_inline_bytes``: up to this many bytes, rows travel in the manifest. Default: 49152 (48 KiB)."""
    return int(conf.getint(SECTION, "max_inline_bytes", fallback=48 * 1024))


def results_mode() -> int:
    """Read ``results_mode``: the mode of files below ``results_path`` on a disk. Default: 0o600, their owner only.

    :raises ConfigurationError: it is not the mode of a file that its owner can read and write.
    """
    text = conf.get(SECTION, "results_mode", fallback=None) or "0600"
    if not _FILE_MODE.fullmatch(text):
        raise ConfigurationError(
            f"[{SECTION}] results_mode is {text!r:.40}, which is not the mode of a file.",
            "Nothing was sent.",
            "Set 0600 for the owner alone, 0640 if its group may read, or 0660 if its group may write too.",
        )
    return int(text.removeprefix("0o"), 8)


def require_shared_results() -> bool:
    """Read ``require_shared_results``: refuse the default results folder unless one machine runs all tasks."""
    return bool(conf.getboolean(SECTION, "require_shared_results", fallback=False))


def allow_connection_token_files() -> bool:
    """Read ``allow_connection_token_files``: see ``config_from_connection``. Default: False."""
    return bool(conf.getboolean(SECTION, "allow_connection_token_files", fallback=False))


def price_table() -> PriceTable:
    """Return the bundled prices, overridden by ``prices_path`` (a JSON file), then by ``prices`` (JSON text).

    Both default to None, the bundled prices alone.

    :raises ConfigurationError: the overrides cannot be read; names the setting, the file and the entry.
    """
    table, overrides = PriceTable.load(), dict[str, Any]()
    for source, read in _price_sources():
        try:
            found = json.loads(read())
            overrides = merge(overrides, found) if isinstance(found, Mapping) else found
            table = PriceTable.load(overrides)
        except ConfigurationError as error:
            raise ConfigurationError(f"{source}: {error}") from None
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{source} cannot be read: {error}.",
                "Nothing was sent.",
                "Give JSON in the form of the package's prices.json.",
            ) from None
    return table


def _price_sources() -> Iterator[tuple[str, Callable[[], str]]]:
    if path := conf.get(SECTION, "prices_path", fallback=None):
        yield f"[{SECTION}] prices_path: {path}", partial(Path(path).read_text, encoding="utf-8")
    if text := conf.get(SECTION, "prices", fallback=None):
        yield f"[{SECTION}] prices", lambda: text
