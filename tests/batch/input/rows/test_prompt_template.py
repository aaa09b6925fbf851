"""A prompt template replaces the columns that it names, once, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.batch.input.rows.template import PromptTemplate
from airflow_claude_batch.batch.input.rows.values import ValueFormError
from airflow_claude_batch.exceptions import InputError

COLUMNS = ("id", "title", "body")
ROW = {"id": 7, "title": "T", "body": "B"}


def render(text: str, row: dict[str, Any] | None = None) -> str:
    row = ROW if row is None else row
    return PromptTemplate(text).bind(tuple(row))(row)


def refusal(text: str, columns: tuple[str, ...] = COLUMNS, **options: bool) -> list[str]:
    with pytest.raises(InputError) as caught:
        PromptTemplate(text).check(columns, **options)
    lines = str(caught.value).split("\n")
    assert len(lines[0]) <= 120
    assert lines[1] == "Nothing was sent."
    return lines


def test_columns_are_replaced_and_may_come_more_than_once() -> None:
    assert render("<t>{title}</t> {body} {id} {title}") == "<t>T</t> B 7 T"


def test_value_is_never_read_as_a_template() -> None:
    assert render("{a}{b}", {"a": "{b}{", "b": "a}{a}"}) == "{b}{a}{a}"


@pytest.mark.parametrize(
    "name", ["Ticket title", "a.b", "first-name", "größe", "a:b", "a!r", "0", "नाम", "count(*)", " x "]
)
def test_column_may_have_any_name_without_braces(name: str) -> None:
    assert render(f"<{{{name}}}>", {name: 1, "other": 2}) == "<1>"


@pytest.mark.parametrize(
    "text",
    [
        'Answer as {"label": "x", "score": 0.5}',
        '{"a": {"b": []}}',
        "{ spaced }",
        "{ title }",
        "p { color: red } b {color: red}",
        "{title: a short text}",
        r"^\d{3}-[a-z]{2,}(x){3}\w{1,2}.{4}$",
        r"\frac{1}{2} x^{2} x_{0} \sqrt{ x }",
        "} { }} {{ { ",
        "{\ntitle\n}",
        "{a, b}",
        "{e.g. this}",
        "{x == 1}",
        "{'a'}",
        "{0.5}",
        "{%d}",
        "",
    ],
)
def test_other_braces_stay(text: str) -> None:
    assert render(text) == text
    assert render(f"{text} {{title}}") == f"{text} T"


def test_unknown_name_is_refused_with_the_columns_and_the_one_that_was_meant() -> None:
    assert refusal("<t>{titel}</t>") == [
        "prompt: {titel} is no column of the rows.",
        "Nothing was sent.",
        "Did you mean {title}? The columns are 'id', 'title' and 'body'.",
        "To keep the braces as text, write a space after the first: { titel }",
    ]


@pytest.mark.parametrize(
    ("name", "columns", "meant"),
    [
        ("title", ("ID", "TITLE"), "{TITLE}"),
        ("ticket title", ("ticket_title", "id"), "{ticket_title}"),
        ("Ticket-Title", ("ticket title", "id"), "{ticket title}"),
        ("title ", ("title", "id"), "{title}"),
        ("gro\u0308ße", ("gr\u00f6ße", "id"), "{gr\u00f6ße}"),
        ("_boddy", ("body", "id"), "{body}"),
    ],
)
def test_name_that_was_meant_is_found(name: str, columns: tuple[str, ...], meant: str) -> None:
    assert refusal(f"{{{name}}}", columns)[2].startswith(f"Did you mean {meant}? ")


def test_name_that_resembles_no_column_has_no_guess() -> None:
    assert refusal("{customer}")[2] == "The columns are 'id', 'title' and 'body'."
    assert refusal("{customer}", ("id",))[2] == "The only column is 'id'."
    assert refusal("{customer}", ())[2] == "There are no columns."


def test_many_and_long_columns_are_cut_short() -> None:
    lines = refusal("{" + "a" * 500 + "}", tuple(f"{number}" * 100 for number in range(1, 1400)))

    assert "and 1,387 more." in lines[2]
    assert len(lines[2]) < 700


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "{} has no name"),
        ("a {0} b", "{0} is a position, but columns have names"),
        ("{12}", "{12} is a position, but columns have names"),
        ("{title.upper}", "{title.upper} selects a part of a value"),
        ("{other.part}", "{other.part} selects a part of a value"),
        ("{title[0]}", "{title[0]} selects a part of a value"),
        ("{other['a'].b:>10}", "{other['a'].b:>10} selects a part of a value"),
        ("{title!r}", "{title!r} has the conversion !r"),
        ("{other!s:>10}", "{other!s:>10} has the conversion !s"),
        ("{0!r}", "{0!r} has the conversion !r"),
        ("{title:>10}", "{title:>10} has a format"),
        ("{id:05d}", "{id:05d} has a format"),
        ("{id:}", "{id:} has a format"),
        ("f{titel}", "{titel} is no column of the rows"),
        ("{{titel}}", "{titel} is no column of the rows"),
    ],
)
def test_placeholder_of_another_language_is_refused(text: str, problem: str) -> None:
    lines = refusal(text)

    assert lines[0] == f"prompt: {problem}."
    assert lines[-1].startswith("To keep the braces as text, write a space after the first: { ")
    kept = lines[-1].partition(": ")[2]
    assert render(kept) == kept


def test_parts_and_formats_are_made_before() -> None:
    remedy = "Only whole columns are replaced. Select the part in the query or the frame, under a name of its own."
    assert refusal("{title[0]}")[2].startswith(remedy)
    assert refusal("{id:>10}")[2] == remedy.replace("Select the part", "Format the value")
    assert refusal("{id!r}")[2] == remedy.replace("Select the part", "Convert the value")


@pytest.mark.parametrize(
    "text", ["{}", "{0}", "{a!r}", "{{ ds }} {} {{ ts }}", "{% if x %}{0}{% endif %} {0}", "{#{}#}{}"]
)
def test_form_is_checked_without_the_columns(text: str) -> None:
    with pytest.raises(InputError):
        PromptTemplate(text).check_form()


@pytest.mark.parametrize(
    "text",
    [
        "{{ ds }}",
        "{% raw %}{a}{% endraw %}",
        "{# {} #}",
        "{{ {}\n }} {title}",
        "{titel} {a.b} {a:>1}",
        "{{ n }}{3}",
        r"\d{3}",
    ],
)
def test_form_may_hold_jinja_and_names(text: str) -> None:
    PromptTemplate(text).check_form()


def test_template_without_a_column_is_refused_where_it_needs_one() -> None:
    assert refusal("Classify.", needs_column=True)[0] == (
        "prompt names no column: the request of every row would be the same."
    )
    PromptTemplate("Classify.", name="system").check(COLUMNS)
    assert render("Classify.") == "Classify."


def test_error_names_the_argument() -> None:
    with pytest.raises(InputError, match=r"^system: \{titel\}"):
        PromptTemplate("{titel}", name="system").bind(COLUMNS)


def test_names_are_the_columns_that_are_used_in_their_order() -> None:
    assert PromptTemplate('{body} {id} {body} {"x": 1} { title }').names(COLUMNS) == ("body", "id")


def test_row_without_a_column_is_an_error_with_the_column() -> None:
    with pytest.raises(KeyError) as caught:
        PromptTemplate("{title}").bind(COLUMNS)({"id": 7})
    assert caught.value.args == ("title",)


def test_value_without_a_text_is_an_error_with_the_column() -> None:
    with pytest.raises(ValueFormError, match="column 'body' holds bytes") as caught:
        render("{title} {body}", {"title": "T", "body": b"%PDF"})
    assert caught.value.column == "body"
    assert "%PDF" not in str(caught.value)


NAMES = st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]), min_size=1, max_size=8)
TEXT_WITHOUT_BRACES = st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]))


@given(st.dictionaries(NAMES, st.text(), min_size=1, max_size=4), st.data())
def test_each_placeholder_is_replaced_once_and_the_rest_stays(row: dict[str, str], data: st.DataObject) -> None:
    """The expected text is put together in the same step as the template, so no second parser is needed."""
    names = data.draw(st.lists(st.sampled_from(list(row))))
    texts = data.draw(st.lists(TEXT_WITHOUT_BRACES, min_size=len(names) + 1, max_size=len(names) + 1))
    template = texts[0] + "".join(f"{{{name}}}{text}" for name, text in zip(names, texts[1:], strict=True))
    expected = texts[0] + "".join(row[name] + text for name, text in zip(names, texts[1:], strict=True))

    assert PromptTemplate(template).bind(tuple(row))(row) == expected
    assert PromptTemplate(template).names(tuple(row)) == tuple(dict.fromkeys(names))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_characters="{}")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_characters="{}")), inner, min_size=1),
)


@given(JSON, JSON, st.sampled_from([None, 2]))
def test_json_around_placeholders_stays(before: Any, after: Any, indent: int | None) -> None:
    first, second = json.dumps(before, indent=indent), json.dumps(after, indent=indent)

    assert render(f"{first} {{title}} {second} {{body}}") == f"{first} T {second} B"


@given(st.text(st.sampled_from('{}{}ab01 .[]!:r"\n\\_-')))
def test_text_is_kept_or_refused_but_never_changed(text: str) -> None:
    template = PromptTemplate(text)
    try:
        rendered = template.bind(("other",))({"other": "x"})
    except InputError:
        return
    assert rendered == text
    template.check_form()
