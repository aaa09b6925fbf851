"""Decide whether a message batch may be brought into a submission, and say why not. Pure functions."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.adopt.compare import Comparison
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.exceptions import AdoptionError

#: How long the API keeps results after the creation of their batch; batch-processing docs, 2026-10-08.
RESULTS_KEPT: Final = timedelta(days=29)
_NOTHING_CHANGED: Final = "Nothing was changed, and nothing was sent."


def check_ended(batch: MessageBatch, *, has_open_creates: bool) -> None:
    """Check that the results of a batch can be read.

    :param has_open_creates: the task has create calls whose responses were lost.
    :raises AdoptionError: it has not ended, or the API does not keep its results any more.
    """
    if not batch.ended:
        expiry = "" if batch.expires_at is None else f", at {batch.expires_at:%Y-%m-%d %H:%M:%S} UTC at the latest"
        remedies = [f"Run the command again once it has ended{expiry}. Do not clear the task before: it may pay again."]
        if has_open_creates:
            remedies = ["If it is the batch of this task's create call without a response: a retry finds it by itself."]
        raise AdoptionError(
            f"{batch.id} still runs, so nobody can tell yet whose requests it has.",
            f"{_NOTHING_CHANGED} It goes on, and is billed for what it answers.",
            *remedies,
        )
    if batch.archived_at is not None:
        raise missing_results_error(batch)


def check_comparison(batch: MessageBatch, found: Comparison) -> None:
    """Check that a batch has answers to requests of the submission.

    :raises AdoptionError: it has none.
    """
    if found.is_foreign:
        raise AdoptionError(
            f"{batch.id} was not sent by this package: its custom_ids have another form.",
            f"{_NOTHING_CHANGED} It has {quantity(found.answers, 'answer')}, which are paid for.",
            f'Land them with a task of their own: MessageBatchSensor(task_id="land", batch=["{batch.id}"]).',
        )
    if not found.answers:
        raise AdoptionError(
            f"{batch.id} has no answer: none of its {quantity(found.rows, 'request')} was answered.",
            f"{_NOTHING_CHANGED} Requests without an answer are not billed.",
            "Clear the task to send them.",
        )
    if found.requests is not None and not found.matched:
        raise AdoptionError(
            f"{batch.id} answers no request of this task: it has {quantity(found.answers, 'answer')} to others.",
            f"{_NOTHING_CHANGED} It belongs to another task, or the task's input has changed since it was sent.",
            f'Name the task that has sent it. Or land it as it is: MessageBatchSensor(batch=["{batch.id}"]).',
        )


def missing_batch_error(batch_id: str) -> AdoptionError:
    """Build the error for a batch that the API does not find."""
    return AdoptionError(
        f"The API finds no message batch {batch_id} in the workspace of this connection.",
        f"{_NOTHING_CHANGED} It was deleted, or another workspace has it, or the API does not find it for a moment.",
        "Name a connection of its workspace with --conn-id, or ask again in ten minutes. Then it can be believed.",
    )


def missing_results_error(batch: MessageBatch) -> AdoptionError:
    """Build the error for a batch whose results the API does not find.

    They are gone for certain if the batch is archived, or too old. Otherwise one such answer proves nothing.
    """
    age = timedelta() if batch.server_time is None else batch.server_time - batch.created_at
    if batch.archived_at is None and age < RESULTS_KEPT:
        return AdoptionError(
            f"The API does not find the results of {batch.id} just now.",
            f"{_NOTHING_CHANGED} What was answered was billed.",
            "Run the command again in ten minutes, before you clear the task: one such answer proves nothing.",
        )
    return AdoptionError(
        f"The API has no results of {batch.id} any more: it keeps them for {RESULTS_KEPT.days} days.",
        f"{_NOTHING_CHANGED} What was answered is lost, although it was billed.",
        "Clear the task to send its requests again.",
    )
