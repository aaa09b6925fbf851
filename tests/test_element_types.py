"""mypy accepts DAGs whose ``messages`` are right, and refuses those that would fail when they run."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import Row

pytest.importorskip("mypy")

ROOT = Path(__file__).parent.parent
HEAD = """\
from collections.abc import Iterator
from pathlib import Path
from airflow_claude_batch.elements import ApiElement, ConversationElement, Element, Message, Messages, PromptElement


def yielded() -> Iterator[PromptElement]:
    yield {"key": ("any", 1), "prompt": "a", "max_tokens": 9, "params": {"thinking": {"type": "adaptive"}}}


def send(messages: Messages) -> None: ...


elements: list[Element] = ["a"]
"""
RIGHT = [
    '["a", "b"]',
    '("a",)',
    '[f"question {number}" for number in range(3)]',
    '[{"key": number, "prompt": f"question {number}"} for number in range(3)]',
    '[{"role": "user", "content": "a"}]',
    '[[{"role": "user", "content": "a"}, {"role": "assistant", "content": [{"type": "text", "text": "b"}]}]]',
    '[{"messages": [{"role": "user", "content": "a"}], "system": "s", "model": "m"}]',
    '[{"custom_id": "a", "params": {"messages": []}}, "b"]',
    '"/data/messages.jsonl"',
    'Path("/data/messages.jsonl")',
    "yielded()",
    "elements",
    '{"a": "b"}.values()',
]
WRONG = [
    "None",
    "7",
    'b"a"',
    '{"a", "b"}',
    '{"prompt": "a"}',
    "[None]",
    "[7]",
    '[("id", 7)]',
    '[{"promt": "a"}]',
    '[{"key": 7}]',
    '[{"prompt": 7}]',
    '[{"id": 7, "prompt": "a"}]',
    '[{"role": "human", "content": "a"}]',
    '[{"prompt": "a", "max_tokens": "9"}]',
]


def test_types_accept_right_messages_and_refuse_wrong_ones(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(HEAD + "".join(f"send({messages})\n" for messages in RIGHT + WRONG))

    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", f"--cache-dir={ROOT / '.mypy_cache'}", str(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    refused = {int(line.split(":")[1]) for line in ran.stdout.splitlines() if ": error: " in line}
    first = HEAD.count("\n") + 1
    lines = dict(zip(range(first, first + len(RIGHT) + len(WRONG)), RIGHT + WRONG, strict=True))
    assert [lines.get(number, ran.stdout) for number in sorted(refused)] == WRONG, ran.stdout + ran.stderr


def test_operator_takes_these_types() -> None:
    annotation = inspect.signature(SendMessageBatchOperator.__init__).parameters["messages"].annotation

    assert annotation == "Messages | XComArg | Sequence[Element | XComArg] | None"
    assert Row.__doc__
