"""Texts for people are right for one and for many, with a and with an, and have one full stop."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import airflow_claude_batch
from airflow_claude_batch.batch.quantity import quantity, with_article
from airflow_claude_batch.exceptions import InputError

PACKAGE = Path(airflow_claude_batch.__file__).parent
#: Words that end like a plural and are none, or are right for one, too; and what is counted above a large limit only.
NO_PLURALS = frozenset({"sends", "is", "as", "has", "was", "this", "its", "bytes", "s", "does", "characters"})


def found_in_source() -> Iterator[str]:
    """Yield where a text fills in a number before a plural, or a name after an article."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        many = {id(text) for node in ast.walk(tree) for text in texts_for_many(node)}
        for node in ast.walk(tree):
            texts: list[str] = []
            if id(node) in many:
                continue
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts = list(re.findall(r"%,?d (?:of )?([a-z]+s)\b", node.value))
                texts += re.findall(r"\b[Aa]n? %[sr]", node.value)
            elif isinstance(node, ast.JoinedStr):
                texts = list(wrong_pieces(node))
            for text in texts:
                if text not in NO_PLURALS:
                    yield f"{path.relative_to(PACKAGE)}:{node.lineno}: {text}"


def wrong_pieces(text: ast.JoinedStr) -> Iterator[str]:
    for before, value, after in zip([None, *text.values[:-1]], text.values, [*text.values[1:], None], strict=True):
        if not isinstance(value, ast.FormattedValue):
            continue
        if ast.unparse(value.value).isupper():
            continue  # a constant, whose word or number is known
        if isinstance(before, ast.Constant) and (article := re.search(r"\b[Aa]n? $", str(before.value))):
            yield f"{article[0]}{{{ast.unparse(value.value)}}}"
        word = re.match(r" ([a-z]+s)\b", str(after.value)) if isinstance(after, ast.Constant) else None
        if word and is_count(value):
            yield word[1]


def texts_for_many(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the texts of a choice that has another text for one."""
    if isinstance(node, ast.IfExp) and ast.unparse(node.test).endswith(" == 1"):
        yield from ast.walk(node.orelse)


def is_count(value: ast.FormattedValue) -> bool:
    code = ast.unparse(value.value)
    spec = ast.unparse(value.format_spec) if value.format_spec else ""
    return code.startswith("len(") or "," in spec or bool(re.search(r"(count|number|total)$", code))


def test_texts_of_the_package_leave_numbers_and_articles_to_functions() -> None:
    assert list(found_in_source()) == []


@pytest.mark.parametrize(
    ("text", "finds"),
    [
        ("f'{len(x)} rows came'", ["rows"]),
        ("f'{count:,} is'", ["is"]),
        ("f'it is a {kind}'", ["a {kind}"]),
        ("f'{quantity(3, \"row\")} came'", []),
    ],
)
def test_wrong_pieces_are_found(text: str, finds: list[str]) -> None:
    node = ast.parse(text, mode="eval").body
    assert isinstance(node, ast.JoinedStr)
    assert list(wrong_pieces(node)) == finds


@pytest.mark.parametrize(
    ("count", "noun", "says"),
    [(1, "request", "1 request"), (0, "request", "0 requests"), (2, "message batch", "2 message batches")],
)
def test_count_has_its_noun_in_the_right_form(count: int, noun: str, says: str) -> None:
    assert quantity(count, noun) == says


@pytest.mark.parametrize(("noun", "says"), [("int", "an int"), ("float", "a float"), ("UUID", "a UUID"), ("", "")])
def test_noun_has_its_article(noun: str, says: str) -> None:
    assert with_article(noun) == says


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("It failed: no response..", "It failed: no response."),
        ("It failed: no response.. Try again.", "It failed: no response. Try again."),
        ("Wait...", "Wait..."),
        ("../x is no path, nor is ..", "../x is no path, nor is .."),
        ("a..b is kept", "a..b is kept"),
    ],
)
def test_error_that_ends_with_a_quoted_sentence_has_one_full_stop(line: str, says: str) -> None:
    assert str(InputError("first line", line)) == f"first line\n{says}"
