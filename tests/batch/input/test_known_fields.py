"""The tables of parameters and fields are those of the vendor's SDK."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

import pytest
from typing_extensions import get_type_hints, is_typeddict

from airflow_claude_batch.batch.input.preflight import known_fields as known

anthropic = pytest.importorskip("anthropic", minversion="2.14")

from anthropic.types import message_create_params as plain  # noqa: E402
from anthropic.types.beta import message_create_params as beta  # noqa: E402

PLAIN, BETA = (module.MessageCreateParamsNonStreaming for module in (plain, beta))
#: Sent as a header, not in the body.
HEADERS = {"betas"}


def hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def objects(annotation: Any) -> Iterator[Any]:
    """Yield the TypedDicts that an annotation allows."""
    if is_typeddict(annotation):
        yield annotation
    for part in typing.get_args(annotation):
        if not isinstance(part, str):
            yield from objects(part)


def literals(annotation: Any) -> list[str]:
    parts = typing.get_args(annotation)
    return [part for part in parts if isinstance(part, str)] or [name for part in parts for name in literals(part)]


def required(kind: Any) -> set[str]:
    return {name for name, annotation in hints(kind).items() if "Required" in str(annotation).split("[")[0]} - {"type"}


def by_type(kinds: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for kind in kinds:
        for name in literals(hints(kind)["type"]) if "type" in hints(kind) else ("",):
            found.setdefault(name, []).append(kind)
    return found


def same(ours: known.Shape, theirs: list[Any]) -> None:
    assert ours.fields == set().union(*(hints(kind) for kind in theirs)) | {"type"}
    assert ours.required == set.intersection(*map(required, theirs))


def blocks(name: str | None = None, field: str = "content") -> dict[str, list[Any]]:
    """The objects in the content of messages; or in a field of the block of that name."""
    messages = [kind for module in (PLAIN, BETA) for kind in objects(hints(module)["messages"])]
    outer = [kind for message in messages for kind in objects(hints(message)["content"])]
    if name is not None:
        outer = [kind for block in by_type(outer)[name] for kind in objects(hints(block)[field])]
    return by_type(outer)


def test_parameters() -> None:
    sampling = {"temperature", "top_p", "top_k"}
    theirs = hints(PLAIN).keys() | hints(BETA).keys()

    assert theirs - HEADERS == (known.PARAMETERS - sampling) | known.BETA_PARAMETERS | (known.NOT_IN_A_BATCH & theirs)
    assert hints(BETA).keys() - hints(PLAIN).keys() >= known.BETA_PARAMETERS


@pytest.mark.parametrize("name", blocks())
def test_content_block(name: str) -> None:
    same(known.BLOCKS[name], blocks()[name])


def test_no_other_content_block() -> None:
    assert known.BLOCKS.keys() == blocks().keys()


def test_blocks_of_tool_results() -> None:
    assert known.TOOL_RESULT_BLOCKS.keys() == blocks("tool_result").keys()
    for name, kinds in blocks("tool_result").items():
        same(known.TOOL_RESULT_BLOCKS[name], kinds)


@pytest.mark.parametrize("owner", known.SOURCES)
def test_sources(owner: str) -> None:
    theirs = blocks(owner, "source")
    theirs.pop("ephemeral", None)

    assert known.SOURCES[owner].keys() == theirs.keys()
    for name, kinds in theirs.items():
        same(known.SOURCES[owner][name], kinds)


@pytest.mark.parametrize(("parameter", "ours"), [("thinking", known.THINKING), ("tool_choice", known.TOOL_CHOICES)])
def test_kinds_of_a_parameter(parameter: str, ours: dict[str, known.Shape]) -> None:
    theirs = by_type(kind for module in (PLAIN, BETA) for kind in objects(hints(module)[parameter]))

    assert ours.keys() == theirs.keys()
    for name, kinds in theirs.items():
        same(ours[name], kinds)


@pytest.mark.parametrize(
    ("parameter", "ours"),
    [("output_config", known.OUTPUT_CONFIG), ("cache_control", known.CACHE_CONTROL), ("metadata", known.METADATA)],
)
def test_fields_of_a_parameter(parameter: str, ours: frozenset[str]) -> None:
    theirs = [kind for module in (PLAIN, BETA) for kind in objects(hints(module)[parameter])]

    assert ours == set().union(*(hints(kind) for kind in theirs))


def test_efforts_and_media_types() -> None:
    (config,) = objects(hints(PLAIN)["output_config"])
    base64 = blocks("image", "source")["base64"][0]

    assert tuple(literals(hints(config)["effort"])) == known.EFFORTS
    assert tuple(literals(hints(base64)["media_type"])) == known.IMAGE_TYPES


def test_tools() -> None:
    plain_tools, beta_tools = (by_type(objects(hints(module)["tools"])) for module in (PLAIN, BETA))
    theirs = {
        name: [kind for kinds in (plain_tools, beta_tools) for kind in kinds.get(name, ()) if "type" in hints(kind)]
        for name in plain_tools.keys() | beta_tools.keys()
    }
    tools = {name: kinds for name, kinds in theirs.items() if name in known.TOOLS}

    assert tools.keys() == known.TOOLS.keys()
    assert not [name for name in theirs.keys() - tools.keys() if re_dated(name)]
    for name, kinds in tools.items():
        same(known.TOOLS[name].shape, kinds)
        assert known.TOOLS[name].is_beta is (name not in plain_tools)
        if name != "custom" and "name" in hints(kinds[0]):
            assert [known.TOOLS[name].name] == literals(hints(kinds[0])["name"])


def re_dated(name: str) -> bool:
    return name[-8:].isdigit()
