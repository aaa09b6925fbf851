"""Check the operator's arguments, when the DAG is parsed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_claude_batch._airflow.check_arguments import (
    check_allow_failed,
    check_answer_store,
    check_approval,
    check_choice,
    check_direct,
    check_flags,
    check_output_schema,
    check_repair_rounds,
    check_results_path,
    parse_usd,
)
from airflow_claude_batch._airflow.check_requests import (
    check_cache_system,
    check_max_tokens,
    check_model,
    check_prompt_text,
    check_request_params,
    if_given,
)
from airflow_claude_batch._airflow.check_rows import check_input, check_templates
from airflow_claude_batch._airflow.rendering import has_templates
from airflow_claude_batch.exceptions import ConfigurationError

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.options import SubmissionOptions

#: Arguments that are True or False.
FLAGS: Final = (
    "wait_for_completion",
    "deferrable",
    "cancel_on_kill",
    "repair_invalid",
    "reuse_answers",
    "deduplicate",
    "canary",
    "warm_cache",
    "cache_system",
    "delete_batches",
    "dry_run",
)


def check_operator(options: SubmissionOptions, *, is_written: bool) -> None:
    """Check what is written in the DAG file. What templates and upstream tasks give is checked when the task runs.

    :param is_written: all arguments are what the author wrote, and neither mapped nor of a function.
    :raises ConfigurationError: names the task, the argument and what it may be.
    :raises OutputSchemaError: the API does not support ``output_schema``.
    """
    task_id = options.task_id
    check_choice(task_id, "on_timeout", options.on_timeout, ("cancel", "leave", "ask_directly"))
    check_direct(options)
    check_choice(task_id, "on_lost", options.on_lost, ("stop", "resend"))
    check_choice(task_id, "on_empty", options.on_empty, ("fail", "skip", "succeed"))
    check_choice(task_id, "on_rejected", options.on_rejected, ("fail", "skip"))
    check_choice(task_id, "results_format", options.results_format, ("jsonl", "parquet", "csv"))
    check_allow_failed(task_id, options.allow_failed)
    check_answer_store(task_id, options.answer_store)
    check_repair_rounds(task_id, options.repair_rounds)
    check_flags(task_id, {name: getattr(options, name) for name in FLAGS})
    if isinstance(options.results_path, str) and options.results_path and not has_templates(options.results_path):
        check_results_path(f"{task_id}: results_path", options.results_path)
    if options.max_cost is not None:
        parse_usd(f"{task_id}: max_cost", options.max_cost)
    check_approval(task_id, options.approve_above, options.sample)
    if options.repair_invalid and (options.output_schema is None or not options.repair_rounds):
        raise ConfigurationError(f"{task_id}: repair_invalid needs output_schema, and repair_rounds above 0.")
    _check_requests(options, is_written=is_written)


def _check_requests(options: SubmissionOptions, *, is_written: bool) -> None:
    task_id = options.task_id
    if is_written:
        check_input(options)
    for name in ("system", "prompt"):
        check_prompt_text(task_id, name, getattr(options, name))
    check_templates(options)
    check_model(task_id, options.model)
    check_max_tokens(task_id, options.max_tokens)
    check_request_params(
        task_id,
        model=options.model,
        max_tokens=if_given(options.max_tokens),
        system=options.system,
        request_params=options.request_params,
        output_format=check_output_schema(task_id, options.output_schema),
    )
    if options.cache_system:
        check_cache_system(task_id, options.system, options.request_params)
