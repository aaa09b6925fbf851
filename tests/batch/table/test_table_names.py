from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.batch.table.names import parse_table_name


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("labels", ("labels",)),
        ("a.labels", ("a", "labels")),
        ("db.a.labels", ("db", "a", "labels")),
        ('"a.b"."c ""d"""', ("a.b", 'c "d"')),
        ("`a``b`.c", ("a`b", "c")),
        ("[dbo].[my labels]", ("dbo", "my labels")),
        ("my labels", ("my labels",)),
        (" labels ", ("labels",)),
        ("labels-2026", ("labels-2026",)),
    ],
)
def test_name_has_parts(text: str, parts: tuple[str, ...]) -> None:
    assert parse_table_name(text) == parts


@pytest.mark.parametrize("text", ["", " ", ".", "a.", ".a", "a..b", "a.b.c.d", '"a', 'a"b', '""', "a\0b", "[a"])
def test_text_that_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"A table is named table or schema\.table"):
        parse_table_name(text)


@given(st.lists(st.text(st.characters(exclude_characters="\0"), min_size=1).filter(str.strip), min_size=1, max_size=3))
def test_quoted_parts_come_back(parts: list[str]) -> None:
    text = ".".join('"' + part.replace('"', '""') + '"' for part in parts)
    assert parse_table_name(text) == tuple(parts)
