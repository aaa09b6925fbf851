"""Check what an author wrote, when the DAG is parsed. Every error names the task and the argument.

It imports nothing heavy: a DAG file is parsed every few seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.exceptions import ConfigurationError, OutputSchemaError

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.options import SubmissionOptions

_PATH_REMEDY = "Give an absolute path that all workers share, or a URI such as s3://aws_default@my-bucket/claude-batch."
#: A scheme, as RFC 3986 defines it, and what follows the colon.
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
#: Schemes of a path on the worker's own disk, and of object stores, where a bucket must come first.
_LOCAL_SCHEMES = ("file", "local")
_BUCKET_SCHEMES = ("s3", "s3a", "gs", "gcs")
#: Longer ones leave the range of datetime when they are added to the present.
_LONGEST = timedelta(days=365_000)
#: Requests that may be asked directly at the same time.
MOST_AT_ONCE = 64
#: The ledger names each request of a sample.
LARGEST_SAMPLE = 1000


def check_results_path(name: str, value: Any) -> None:
    """Check that ``results_path`` names the same place for every process, whatever its working directory.

    :param name: of the argument or setting, for the error.
    :raises ConfigurationError: it is relative, a Windows path, or a URI with a mistake.
    """
    if reason := wrong_path(value):
        raise ConfigurationError(f"{name} is {_shown(value)}: {reason}.", "Nothing was sent or landed.", _PATH_REMEDY)


def wrong_path(value: Any) -> str | None:
    """Return why a path or URI does not name the same place for every process. None if it does."""
    if not isinstance(value, str):
        return "it is not a text"
    if re.match(r"[A-Za-z]:[\\/]|\\\\", value):
        return "workers do not run on Windows"
    uri = _URI.fullmatch(value)
    if uri is None:
        return None if value.startswith(("/", "~")) else "it is a relative path, another place for each process"
    scheme, rest = uri[1].lower(), uri[2]
    if not rest.startswith("//"):
        return f"after {uri[1]}: there must be //"
    if scheme in _LOCAL_SCHEMES and not rest.startswith("///"):
        return f"after {uri[1]}:// there must be an absolute path, as in {uri[1]}:///data"
    if scheme in _BUCKET_SCHEMES and not rest[2:].partition("/")[0].rpartition("@")[2]:
        return f"after {uri[1]}:// there must be a bucket"
    return None


def check_choice(task_id: str, name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Check that an argument is one of the choices.

    :raises ConfigurationError: it is not.
    """
    if value not in choices:
        *others, last = map(repr, choices)
        raise ConfigurationError(f"{task_id}: {name} must be {', '.join(others)} or {last}, not {_shown(value)}.")


def parse_timeout(task_id: str, value: Any, *, at_least: timedelta = timedelta(microseconds=1)) -> timedelta:
    """Read ``timeout``: seconds, or a timedelta.

    :raises ConfigurationError: it is neither, or too short or too long.
    """
    timeout = _parse_duration(value)
    if timeout is None or not at_least <= timeout <= _LONGEST:
        above = " above zero" if at_least else ""
        raise ConfigurationError(
            f"{task_id}: timeout must be seconds or a timedelta{above}, not {_shown(value)}.",
            "Write timeout=timedelta(hours=25), or seconds such as 3600.",
        )
    return timeout


def parse_approval_timeout(task_id: str, value: Any) -> timedelta:
    """Read ``approval_timeout``: seconds, or a timedelta.

    :raises ConfigurationError: it is neither, or not above zero.
    """
    timeout = _parse_duration(value)
    if timeout is None or not timedelta() < timeout <= _LONGEST:
        raise ConfigurationError(
            f"{task_id}: approval_timeout must be seconds or a timedelta above zero, not {_shown(value)}.",
            "Write approval_timeout=timedelta(hours=24), or seconds such as 3600.",
        )
    return timeout


def parse_direct_reserve(task_id: str, value: Any) -> timedelta:
    """Read ``direct_reserve``: seconds, or a timedelta.

    :raises ConfigurationError: it is neither, or not above zero.
    """
    reserve = _parse_duration(value)
    if reserve is None or not timedelta() < reserve <= _LONGEST:
        raise ConfigurationError(
            f"{task_id}: direct_reserve must be seconds or a timedelta above zero, not {_shown(value)}.",
            "Write direct_reserve=timedelta(minutes=30), or seconds such as 1800.",
        )
    return reserve


def check_direct(options: SubmissionOptions) -> None:
    """Check ``on_timeout="ask_directly"`` and what belongs to it.

    :raises ConfigurationError: an argument cannot be right, or does not go with another one.
    """
    task_id, concurrency = options.task_id, options.direct_concurrency
    if type(concurrency) is not int or not 1 <= concurrency <= MOST_AT_ONCE:
        raise ConfigurationError(
            f"{task_id}: direct_concurrency must be a whole number from 1 to {MOST_AT_ONCE}, not "
            f"{_shown(concurrency)}.",
            "So many requests are asked at the same time, and so many are paid twice at most when a worker is killed.",
        )
    if options.on_timeout != "ask_directly":
        return
    if not options.wait_for_completion and not options.dry_run:
        raise ConfigurationError(
            f"{task_id}: on_timeout='ask_directly' needs wait_for_completion=True.",
            "Nothing was sent. Only the task that sends the requests can ask them directly; a sensor cannot.",
            "Let the operator wait: wait_for_completion=True, with deferrable=True to hold no worker.",
        )
    if options.direct_reserve >= options.timeout:
        raise ConfigurationError(
            f"{task_id}: direct_reserve ({options.direct_reserve}) must be shorter than timeout ({options.timeout}).",
            "Nothing was sent. The message batches have only the time before the reserve.",
            "Write a longer timeout, or a shorter direct_reserve. Of execution_timeout, nine tenths count as timeout.",
        )


def check_sensor_keywords(task_id: str, kwargs: Mapping[str, Any]) -> None:
    """Check that a sensor is not told what only the operator can do at its timeout.

    :raises ConfigurationError: it is.
    """
    for name in ("on_timeout", "direct_reserve", "direct_concurrency"):
        if name in kwargs:
            raise ConfigurationError(
                f"{task_id}: the sensor has no argument {name}.",
                "Nothing is canceled or sent by a sensor: it does not own the requests of its batches.",
                f"Give {name} to the operator, with wait_for_completion=True, and leave the sensor out.",
            )


def check_approval(task_id: str, approve_above: Any, sample: Any) -> None:
    """Check ``approve_above`` and ``sample``.

    :raises ConfigurationError: one of them cannot be right, or this Airflow cannot ask anybody.
    """
    if isinstance(sample, bool) or not isinstance(sample, int) or not 0 <= sample <= LARGEST_SAMPLE:
        raise ConfigurationError(
            f"{task_id}: sample must be a whole number of requests up to {LARGEST_SAMPLE:,}, not {_shown(sample)}.",
            "Write sample=20, or 0 for no sample.",
        )
    if approve_above is None:
        if sample:
            raise ConfigurationError(
                f"{task_id}: sample needs approve_above.",
                "A sample is sent before a person is asked to approve the rest. Without a question it has no use.",
            )
        return
    parse_usd(f"{task_id}: approve_above", approve_above)
    from airflow_claude_batch._airflow.compat import ASKING_SUPPORTED

    if not ASKING_SUPPORTED:
        raise ConfigurationError(
            f"{task_id}: approve_above needs Airflow 3.1 or newer: this one cannot ask a person.",
            "Nothing was sent.",
            "Limit the cost with max_cost instead, or upgrade Airflow.",
        )


def parse_poll_interval(task_id: str, value: Any) -> float | None:
    """Read ``poll_interval``: seconds, or a timedelta. None stays None.

    :raises ConfigurationError: it is neither, or not above zero.
    """
    interval = _parse_duration(value)
    if value is not None and (interval is None or not timedelta() < interval <= _LONGEST):
        raise ConfigurationError(
            f"{task_id}: poll_interval must be seconds or a timedelta above zero, not {_shown(value)}.",
            "Write seconds such as 60, or timedelta(minutes=1).",
        )
    return interval if interval is None else interval.total_seconds()


def parse_max_age(value: Any) -> timedelta | None:
    """Read ``max_age`` of an answer store: seconds, or a timedelta. None stays None.

    :raises ConfigurationError: it is neither, or not above zero.
    """
    age = _parse_duration(value)
    if value is not None and (age is None or not timedelta() < age <= _LONGEST):
        raise ConfigurationError(
            f"AnswerStore: max_age must be a timedelta or seconds above zero, not {_shown(value)}.",
            "Nothing was sent.",
            "Write max_age=timedelta(days=90), or leave it out to reuse answers of any age.",
        )
    return age


def check_answer_store(task_id: str, value: Any) -> None:
    """Check that ``answer_store`` is an AnswerStore, None or False.

    :param value: the store as options, or what the author gave instead.
    :raises ConfigurationError: it is something else.
    """
    from airflow_claude_batch._airflow.options import StoreOptions

    if value is None or value is False or isinstance(value, StoreOptions):
        return
    shown = f"{value!r:.60}" if isinstance(value, str) else "'s3://aws_default@my-bucket/answers'"
    raise ConfigurationError(
        f"{task_id}: answer_store must be an AnswerStore, None or False, not {_shown(value)}.",
        "Nothing was sent.",
        f"Write answer_store=AnswerStore({shown}), with: from airflow_claude_batch.answers import AnswerStore",
    )


def _parse_duration(value: Any) -> timedelta | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value if isinstance(value, timedelta) else None
    try:
        return timedelta(seconds=value)
    except (OverflowError, ValueError):  # infinite, not a number
        return None


def check_repair_rounds(task_id: str, value: Any) -> None:
    """Check that ``repair_rounds`` is a whole number from 0.

    :raises ConfigurationError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigurationError(
            f"{task_id}: repair_rounds must be a whole number, 0 for no repair, not {_shown(value)}."
        )


def check_allow_failed(task_id: str, value: Any) -> None:
    """Check that ``allow_failed`` is a number of rows, or a share of them.

    :raises ConfigurationError: it is neither.
    """
    if type(value) is int and value >= 0:
        return
    from airflow_claude_batch.batch.allow_failed import check_form

    try:
        check_form(value)
    except ValueError as error:
        raise ConfigurationError(
            f"{task_id}: allow_failed must be a number of rows, or a share of them, not {_shown(value)}.", str(error)
        ) from None


def check_flags(task_id: str, flags: Mapping[str, Any]) -> None:
    """Check that no flag is a text: "False" would count as true, and a template would not be rendered.

    :raises ConfigurationError: one is.
    """
    for name, value in flags.items():
        if isinstance(value, str):
            raise ConfigurationError(
                f"{task_id}: {name} must be True or False, not the text {_shown(value)}.",
                f"{name} is not templated, and any text would count as True.",
            )


def check_output_schema(task_id: str, output_schema: Any) -> Mapping[str, Any] | None:
    """Check that the API accepts the schema. Return the format that requests ask for, None if there is no schema.

    :raises OutputSchemaError: it does not; names the place in the schema and the remedy.
    """
    if output_schema is None:
        return None
    from airflow_claude_batch.batch.input.output_schema import read_schema

    try:
        return read_schema(output_schema).format
    except OutputSchemaError as error:
        raise OutputSchemaError(f"{task_id}: {error}") from error.__cause__


def parse_usd(name: str, value: Any) -> Decimal:
    """Read an amount of US dollars.

    :param name: of the argument or setting, for the error.
    :raises ConfigurationError: it is not a number, is negative or not finite.
    """
    try:
        usd = Decimal(str(value))
    except ArithmeticError:
        usd = Decimal("NaN")
    if not usd.is_finite() or usd < 0:
        raise ConfigurationError(f"{name} must be an amount of US dollars such as 12.50, not {_shown(value)}.")
    return usd


def _shown(value: Any) -> str:
    """Return a value as an error shows it: short enough for one line."""
    return f"{value!r:.40}"
