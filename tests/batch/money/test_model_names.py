"""Names that people write for models, and the models that they may mean."""

from __future__ import annotations

import pytest

from airflow_claude_batch.batch.money.model_names import may_be_alias, suggest_models

KNOWN = [
    "claude-fable-5-1",
    "claude-haiku-5-5",
    "claude-sonnet-5-5",
    "claude-opus-5-5",
    "claude-sonnet-5",
    "claude-opus-4-6",
    "claude-sonnet-4-5-20250929",
    "claude-haiku-4-5-20251001",
]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("claude-haiku-55", "claude-haiku-5-5"),
        ("claude-opus-5.5", "claude-opus-5-5"),
        ("Claude Opus 5.5", "claude-opus-5-5"),
        ("claude_opus_5_5", "claude-opus-5-5"),
        (" claude-opus-5-5\n", "claude-opus-5-5"),
        ("claude-5-5-opus", "claude-opus-5-5"),
        ("claude-opsu-5-5", "claude-opus-5-5"),
        ("anthropic/claude-sonnet-5", "claude-sonnet-5"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5-20250929"),
        ("claude-haiku-4-5@20251001", "claude-haiku-4-5-20251001"),
        ("claude-opus-5-5-20260801", "claude-opus-5-5"),
        ("claude-sonnet-5[1m]", "claude-sonnet-5"),
        ("claude-haiku-5-5-latest", "claude-haiku-5-5"),
        ("opus", "claude-opus-5-5"),
        ("sonnet", "claude-sonnet-5-5"),
        ("claude-4.6-opus", "claude-opus-4-6"),
    ],
)
def test_model_that_is_meant_is_suggested(name: str, meant: str) -> None:
    assert suggest_models(name, KNOWN)[:1] == [meant]


@pytest.mark.parametrize("name", ["gpt-4o", "gemini-2.5-pro", "Why is the sky blue?", "", "claude", "x" * 5000, "模型"])
def test_nothing_is_suggested_for_a_name_like_none(name: str) -> None:
    assert suggest_models(name, KNOWN) == []


@pytest.mark.parametrize(
    ("name", "is_alias"),
    [
        ("claude-haiku-4-5", True),
        ("claude-haiku-4-5-latest", True),
        ("claude-opus-5-5-latest", True),
        ("claude-sonnet-5-0", True),
        ("claude-haiku-4", False),
        ("claude-opus-5-5-20260801", False),
        ("claude-haiku-55", False),
    ],
)
def test_names_in_the_form_of_an_alias_are_known(name: str, is_alias: bool) -> None:
    assert may_be_alias(name, KNOWN) is is_alias
