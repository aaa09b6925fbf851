"""A path of an answer store that turns out wrong on the worker: nothing is sent then, and what was sent stays."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_claude_batch._airflow.answer_store import open_answer_store
from airflow_claude_batch._airflow.options import StoreOptions
from airflow_claude_batch.exceptions import ConfigurationError


@pytest.mark.parametrize(("path", "why"), [("answers", "it is a relative path"), ("", "it is empty")])
def test_error_of_a_rendered_path_does_not_deny_batches_of_an_earlier_try(path: str, why: str) -> None:
    options: Any = SimpleNamespace(task_id="send", answer_store=StoreOptions(path=path))
    with pytest.raises(ConfigurationError) as caught:
        open_answer_store(options)
    first, money, _ = str(caught.value).split("\n")
    assert first.startswith(f"send: answer_store is {path!r}: {why}")
    assert money == "Nothing was sent now. Batches that were sent before are not affected."
