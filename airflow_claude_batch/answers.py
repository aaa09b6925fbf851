"""Where answers are kept, so that an unchanged request is not paid for again::

from airflow_claude_batch.answers import AnswerStore
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

from airflow_claude_batch._airflow.check_arguments import parse_max_age, wrong_path
from airflow_claude_batch._airflow.compat import ResolveMixin
from airflow_claude_batch._airflow.options import StoreOptions
from airflow_claude_batch._airflow.rendering import has_templates
from airflow_claude_batch._airflow.templated_argument import TemplatedArgument
from airflow_claude_batch.exceptions import ConfigurationError

__all__ = ["AnswerStore"]


@dataclass(repr=False)
class AnswerStore(TemplatedArgument):
    """Keeps the answers of all runs and tasks that name it. A request that it knows is not sent, and costs nothing.

    Before anything is sent, each request is looked up by what it asks: model, parameters, prompt and API version. Marks
    of the prompt cache, ``metadata`` and the order of JSON properties do not count. An answer is reused if it is valid
    for today's ``output_schema``, young enough, and of the model that the request's name of a model stands for now. Its
    row has ``reused_from``, costs ``"0"``, and counts as succeeded.

    Only complete answers are stored. What was refused, cut off at ``max_tokens`` or ``invalid_output`` is asked anew.
    The answers of each workspace of the API are in a folder of their own. Runs at the same time do not see each other's
    new answers: both may pay for the same request.

    Example::

        from datetime import timedelta

        from airflow_claude_batch.answers import AnswerStore
        from airflow_claude_batch.operators import SendMessageBatchOperator

        SendMessageBatchOperator(
            task_id="label",
            messages=["Is this review positive or negative? 'Great service!'"],
            answer_store=AnswerStore("s3://aws_default@my-bucket/answers", max_age=timedelta(days=90)),
        )

    :param path: an absolute path that all workers share, or a URI that Airflow's object storage reaches, with the
        connection before the ``@``. A template.
    :param max_age: ask anew what was answered longer ago: a timedelta, or seconds. Default: any age counts.
    :param version: any text. Another one asks everything anew, for example after a change of what counts as a good
        answer. A template.
    :raises ConfigurationError: when the DAG is parsed, if an argument cannot be right.
    """

    path: str | os.PathLike[str] | Any
    max_age: timedelta | float | None = None
    version: str | Any = ""

    template_fields: ClassVar[Sequence[str]] = ("path", "version")

    def __post_init__(self) -> None:
        self.max_age = parse_max_age(self.max_age)
        if isinstance(self.path, os.PathLike):
            self.path = os.fspath(self.path)
        if not isinstance(self.path, ResolveMixin) and not (isinstance(self.path, str) and has_templates(self.path)):
            self._check_path()
        if not isinstance(self.version, str | ResolveMixin):
            raise ConfigurationError(
                f"AnswerStore: version must be a text, not {type(self.version).__name__:.40}.",
                "Nothing was sent.",
                'Write it as version="2", for example.',
            )

    def __repr__(self) -> str:
        shown = [repr(str(self.path))]
        if self.max_age is not None:
            shown.append(f"max_age={self.max_age!r}")
        if self.version:
            shown.append(f"version={str(self.version)!r}")
        return f"AnswerStore({', '.join(shown)})"

    def options(self) -> StoreOptions:
        """Return the arguments as they are now, frozen, for the code that runs the task."""
        assert not isinstance(self.max_age, float | int)  # noqa: S101  # it was parsed
        return StoreOptions(path=str(self.path), max_age=self.max_age, version=self.version)

    def _check_path(self) -> None:
        if reason := wrong_path(self.path) if self.path else "it is empty":
            raise ConfigurationError(
                f"AnswerStore: path is {self.path!r:.40}: {reason}.",
                "Nothing was sent.",
                "Give an absolute path that all workers share, or a URI such as s3://aws_default@my-bucket/answers.",
            )


if __name__ == "__main__":
    import sys

    from airflow_claude_batch._airflow.answers_command import run

    sys.exit(run())
