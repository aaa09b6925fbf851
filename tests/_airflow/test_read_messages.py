"""Read the operator's arguments as requests. No database is used, and nothing is sent."""

from __future__ import annotations

import gzip
import io
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.io import attach
from airflow_fixtures import KEY
from stores import BlockStore

from airflow_claude_batch._airflow.read_messages import write_input
from airflow_claude_batch._airflow.rendering import HiddenValue
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.decorators import ClaudeBatchDecoratedOperator, _Function, _FunctionMessages
from airflow_claude_batch.exceptions import ConfigurationError, InputError, InvalidMessageError
from airflow_claude_batch.hooks import ClaudeHook
from airflow_claude_batch.operators import SendMessageBatchOperator

pl = pytest.importorskip("polars")
TABLE = PriceTable.load()


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> ClaudeHook:
    connection = {"conn_type": "claude", "password": KEY, "extra": {"model": "claude-haiku-5-5"}}
    monkeypatch.setenv("AIRFLOW_CONN_CLAUDE_DEFAULT", json.dumps(connection))
    return ClaudeHook()


def sent(hook: ClaudeHook, messages: Any, **arguments: Any) -> list[dict[str, Any]]:
    """Return the params that would be sent, if templates and upstream tasks give these arguments."""
    task = SendMessageBatchOperator(task_id="t", messages="{{ given }}")
    for name, value in {"messages": messages, **arguments}.items():
        setattr(task, name, value)
    file = io.BytesIO()
    write_input(task.options(), hook, TABLE, file)
    return [json.loads(line)["params"] for line in file.getvalue().splitlines()]


def prompts(params: list[dict[str, Any]]) -> list[Any]:
    return [item["messages"][0]["content"] for item in params]


# ---------------------------------------------------------------- where elements come from


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param(["a", "b"], id="list"),
        pytest.param(("a", "b"), id="tuple"),
        pytest.param(iter(["a", "b"]), id="iterator"),
        pytest.param({"a": 1, "b": 2}.keys(), id="view"),
        pytest.param(HiddenValue(["a", "b"], "from a template"), id="rendered"),
        pytest.param('["a", {"prompt": "b"}]', id="text of a JSON array"),
    ],
)
def test_elements_of_any_iterable_are_read(messages: Any, hook: ClaudeHook) -> None:
    assert prompts(sent(hook, messages)) == ["a", "b"]


LINES = b'"a"\n\n  \n{"key": 7, "prompt": "b"}\r\n[{"role": "user", "content": "\xc3\xa4\xe2\x80\xa8"}]'


@pytest.mark.parametrize("name", ["messages.jsonl", "messages.jsonl.gz"])
@pytest.mark.parametrize("kind", [str, Path, ObjectStoragePath, "file://{}".format], ids=["text", "Path", "OSP", "URI"])
def test_lines_of_a_file_are_elements(name: str, kind: Any, hook: ClaudeHook, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(LINES) if name.endswith("gz") else LINES)

    assert prompts(sent(hook, kind(str(path)))) == ["a", "b", "ä\u2028"]


@pytest.mark.parametrize("name", ["messages.jsonl", "messages.jsonl.gz"])
def test_large_object_is_streamed_once_in_constant_memory(name: str, hook: ClaudeHook) -> None:
    """Clients of object stores read blocks of megabytes, which must not be fetched for each line."""
    lines = b"".join(b'"%d %s"\n' % (number, b"x" * 1000) for number in range(20_000))
    store = BlockStore(gzip.compress(lines, 1) if name.endswith("gz") else lines)
    attach("s3", conn_id=name, fs=store)
    operator = SendMessageBatchOperator(task_id="t", messages=f"s3://{name}@bucket/{name}")

    tracemalloc.start()
    with Path(os.devnull).open("wb") as sink:
        assert write_input(operator.options(), hook, TABLE, sink) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert store.handed_out == len(store.data)
    assert peak < len(lines)


@pytest.mark.parametrize("name", ["messages.jsonl", "messages.jsonl.gz"])
def test_long_line_is_an_element_like_others(name: str, hook: ClaudeHook, tmp_path: Path) -> None:
    long = "x" * 10_000_000
    data = f'"a"\n"{long}"\n"b"'.encode()
    (tmp_path / name).write_bytes(gzip.compress(data, 1) if name.endswith("gz") else data)

    assert prompts(sent(hook, str(tmp_path / name))) == ["a", long, "b"]


@pytest.mark.parametrize(
    ("name", "letter"),
    [
        pytest.param("messages.jsonl", b"x", id="text"),
        pytest.param("messages.jsonl.gz", b"x", id="text, compressed"),
        pytest.param("messages.jsonl.gz", b" ", id="blanks, compressed"),
    ],
)
def test_line_longer_than_any_request_is_refused_in_little_memory(
    name: str, letter: bytes, hook: ClaudeHook, tmp_path: Path
) -> None:
    piece = letter * 10_000_000
    with (tmp_path / name).open("wb") as file:
        packed = gzip.compress(piece, 1) if name.endswith("gz") else piece
        file.write(gzip.compress(b'"a"\n') if name.endswith("gz") else b'"a"\n')
        for _ in range(100 if name.endswith("gz") else 26):
            file.write(packed)

    tracemalloc.start()
    with pytest.raises(InvalidMessageError) as caught:
        sent(hook, str(tmp_path / name))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert f"line 2 of {tmp_path / name} has more than 250,000,000 bytes" in str(caught.value)
    assert "Write each element on a line of its own" in str(caught.value)
    assert peak < 30_000_000


@pytest.mark.parametrize("value", [b"[]", b"0"])
def test_line_of_millions_of_values_is_refused_in_little_memory(value: bytes, hook: ClaudeHook, tmp_path: Path) -> None:
    """An empty list takes three bytes in the file and 64 in memory."""
    path = tmp_path / "messages.jsonl.gz"
    path.write_bytes(gzip.compress(b'"a"\n[' + (value + b",") * 2_500_000 + b"0]\n", 1))

    tracemalloc.start()
    with pytest.raises(InvalidMessageError, match=r"line 2 of .* has millions of values"):
        sent(hook, str(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 60_000_000


def test_long_text_of_commas_and_brackets_is_one_value(hook: ClaudeHook, tmp_path: Path) -> None:
    text = '[{"a\\b", ' * 600_000
    (tmp_path / "messages.jsonl").write_text(json.dumps(text))

    assert prompts(sent(hook, str(tmp_path / "messages.jsonl"))) == [text]


def damaged(data: bytes) -> bytes:
    """Return a gzip file with damaged content."""
    return data[:10] + b"\xff" * 20 + data[30:]


MANY = b"".join(b'"prompt %d"\n' % number for number in range(1000))


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        pytest.param("m.jsonl", None, ["there is no file", "m.jsonl"], id="missing"),
        pytest.param("m.jsonl.gz", None, ["there is no file", "m.jsonl.gz"], id="missing, compressed"),
        pytest.param("m.jsonl", b"", ["messages is empty"], id="empty"),
        pytest.param("m.jsonl", b"\n\n", ["messages is empty"], id="blank lines"),
        pytest.param("m.jsonl", b'"a"\n"b', ["line 2 of", "is not JSON"], id="cut"),
        pytest.param("m.jsonl", b'"a"\n\n{"prompt": secret}\n', ["line 3 of", "is not JSON"], id="not JSON"),
        pytest.param("m.jsonl", b'"a"\n"secret\xff"\n', ["line 2 of", "is not JSON"], id="not UTF-8"),
        pytest.param(
            "m.jsonl", b'"a"\n7\n', ["messages[1]: an element must be", "not int"], id="element of the wrong type"
        ),
        pytest.param(
            "m.jsonl",
            b'"a"\n\n\n{"prompt": ""}\n',
            ["line 4 of", "m.jsonl: messages[1]"],
            id="empty prompt",
        ),
        pytest.param(
            "m.jsonl.gz", gzip.compress(MANY)[:-9], ["breaks off after line", "Write the file again"], id="gz cut"
        ),
        pytest.param("m.jsonl.gz", damaged(gzip.compress(MANY)), ["breaks off after line"], id="gz damaged"),
        pytest.param("folder/m.jsonl", None, ["there is no file", "Check the path"], id="no folder"),
        pytest.param("m.csv", b"a", ["the path of a file of JSON lines, not '", "m.csv'.", "csv.DictReader"], id="CSV"),
    ],
)
def test_file_that_cannot_be_read_is_refused_with_the_line(
    name: str, data: bytes | None, says: list[str], hook: ClaudeHook, tmp_path: Path
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)

    with pytest.raises(InputError) as error:
        sent(hook, str(tmp_path / name))
    for words in says:
        assert words in str(error.value)
    assert "secret" not in str(error.value)


def test_uri_without_a_provider_is_refused_with_the_remedy(hook: ClaudeHook) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"s3://b/m\.jsonl cannot be reached: [^\n]*\n.*\nInstall apache-airflow-providers-amazon",
    ):
        sent(hook, "s3://b/m.jsonl")


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        pytest.param([], "messages is empty.", id="empty list"),
        pytest.param(
            None,
            "messages is None: the upstream task or template that gives it returned nothing.\nNothing was sent.",
            id="None",
        ),
        pytest.param(7, "messages is of type int.\nNothing was sent.\nGive a list of elements", id="number"),
        pytest.param({"a", "b"}, "messages is a set, whose order changes", id="set"),
        pytest.param(pl.DataFrame({"id": [1]}), "messages is of type polars.DataFrame: a data frame", id="data frame"),
        pytest.param(
            ["/data/a.txt", "/data/b.txt"], "Each of the 2 elements, from messages[0] on, is the path", id="paths"
        ),
        pytest.param(
            '[{"prompt": "a", "params": {"x": NaN}}]', "messages is a text whose line 1 has NaN", id="JSON text"
        ),
        pytest.param("no/m.jsonl", f"looked for {Path('no/m.jsonl').absolute()}.", id="relative path of no file"),
        pytest.param(b"a prompt", "messages is of type bytes.\nNothing was sent.\nGive a list of elements", id="bytes"),
        pytest.param(
            {"prompt": "a"},
            "messages is of type dict: a single element.\nNothing was sent.\nGive a list of elements (of one,",
            id="one element",
        ),
        pytest.param("a prompt", "not a text.\nNothing was sent.\nFor one prompt: messages=['…'].", id="one prompt"),
        pytest.param("ein…Prompt", "lines, not a text.", id="one prompt without spaces"),
        pytest.param("/d" * 40 + "/tickets.csv", "lines, not '…d/d/d/d", id="a long path is cut at its start"),
        pytest.param("/data/tickets.csv", "file of JSON lines, not '/data/tickets.csv'.", id="path of another format"),
        pytest.param(
            ["a", 7],
            "messages[1]: an element must be a string, a list or a mapping, not int",
            id="element of the wrong type",
        ),
        pytest.param(["a", ""], "messages[1]: the text is empty", id="empty prompt"),
        pytest.param(
            ["a", {"prompt": "b", "temperature": 0}], "API version 2026-10-21 has no 'temperature'", id="field"
        ),
        pytest.param(["a", {"prompt": "b", "max_tokens": True}], "messages[1]: 'max_tokens' must be", id="bool"),
        pytest.param(
            [{"key": "x", "prompt": "a"}, "b", {"key": "x", "prompt": "c"}],
            "messages[0] and messages[2] have the same key",
            id="duplicate keys",
        ),
        pytest.param(
            ["a", {"key": 0, "prompt": "b"}], "messages[0] and messages[1] have the same key", id="default key"
        ),
        pytest.param(
            [{"prompt": "a", "params": {"container": {1, 2}}}], "params.container is of type set", id="not JSON"
        ),
        pytest.param([{"prompt": "a", "params": {"container": float("nan")}}], "params.container is nan", id="NaN"),
        pytest.param(["a\ud800"], "messages[0].content has a lone surrogate", id="lone surrogate"),
        pytest.param(
            [{"prompt": "a", "max_tokens": 10**9}],
            "'max_tokens' of claude-haiku-5-5 must be at most",
            id="beyond the model",
        ),
    ],
)
def test_messages_that_cannot_be_sent_are_refused(messages: Any, says: str, hook: ClaudeHook) -> None:
    with pytest.raises(InputError) as error:
        sent(hook, messages)

    assert says in str(error.value)


def test_error_does_not_quote_the_prompt(hook: ClaudeHook) -> None:
    with pytest.raises(InvalidMessageError) as error:
        sent(hook, [{"prompt": "my secret \ud800"}])

    assert "secret" not in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        pytest.param(None, "what ask returned is None.\nNothing was sent.\nReturn or yield the elements.", id="None"),
        pytest.param({"a"}, "what ask returned is a set, whose order changes", id="set"),
        pytest.param(pl.DataFrame({"id": [1]}), "what ask returned is of type polars.DataFrame", id="data frame"),
        pytest.param("a prompt", "messages must be a list or the path", id="prompt"),
        pytest.param(["/data/a.txt"], "messages[0] is the path of a file", id="paths"),
    ],
)
def test_what_a_decorated_function_returns_is_read_as_messages_are(returned: Any, says: str, hook: ClaudeHook) -> None:
    def ask() -> Any:
        return returned

    operator = ClaudeBatchDecoratedOperator(task_id="t", python_callable=ask)
    operator.messages = _FunctionMessages(_Function(operator, {}))  # type: ignore[arg-type]

    with pytest.raises(InputError) as error:
        write_input(operator.options(), hook, TABLE, io.BytesIO())
    assert says in str(error.value)


# ---------------------------------------------------------------- the operator's own arguments


def test_arguments_reach_every_request(hook: ClaudeHook) -> None:
    (params,) = sent(
        hook,
        ["a"],
        model="claude-sonnet-5",
        max_tokens="100",
        system=HiddenValue("be brief", "the system prompt"),
        request_params={"metadata": {"user_id": "u"}},
    )

    assert params == {
        "model": "claude-sonnet-5",
        "max_tokens": 100,
        "metadata": {"user_id": "u"},
        "messages": [{"role": "user", "content": "a"}],
        "system": "be brief",
    }


def test_model_of_element_wins_over_task_over_connection(hook: ClaudeHook, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = ["a", {"prompt": "b", "model": "claude-sonnet-5"}]
    monkeypatch.setenv("AIRFLOW_CONN_PLAIN", json.dumps({"conn_type": "claude", "password": KEY}))

    assert [params["model"] for params in sent(hook, messages)] == ["claude-haiku-5-5", "claude-sonnet-5"]
    assert [params["model"] for params in sent(hook, messages, model="claude-opus-5-5")] == [
        "claude-opus-5-5",
        "claude-sonnet-5",
    ]
    assert sent(ClaudeHook("plain"), ["a"])[0]["model"] == "claude-opus-5-5"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param({"max_tokens": "many"}, "'max_tokens' must be a whole number, not 'many'", id="max_tokens"),
        pytest.param({"max_tokens": "-5"}, "'max_tokens' must be a whole number, not '-5'", id="below 0"),
        pytest.param({"max_tokens": 0}, "'max_tokens' must be at least 1", id="0"),
        pytest.param({"request_params": "thinking"}, "request_params must be a mapping, not str.", id="request_params"),
        pytest.param({"request_params": ["a"]}, "request_params must be a mapping, not list.", id="a list of them"),
        pytest.param({"system": 7}, "'system' must be a string or a list of content blocks", id="system"),
        pytest.param({"cache_system": True}, "cache_system=True needs a system prompt", id="nothing to cache"),
        pytest.param(
            {"cache_system": True, "system": ["a"]}, "system has an element that is not a mapping", id="blocks"
        ),
        pytest.param({"request_params": {"stream": True}}, "'stream' is not available in batches", id="stream"),
        pytest.param({"request_params": {"temperature": 0.5}}, "has no 'temperature'", id="temperature"),
        pytest.param(
            {"model": ""}, "model is '', which is no model's id.\nNothing was sent.\nGive an id", id="no model"
        ),
        pytest.param({"model": "None"}, "model is 'None', which is no model's id", id="unset variable"),
        pytest.param({"model": 5}, "model is of type int, which is no model's id", id="model of a number"),
        pytest.param(
            {"model": "a", "request_params": {"model": "b"}},
            "model is given twice: as the argument model, and in request_params.\nNothing was sent.\nGive only model=…",
            id="two models",
        ),
        pytest.param(
            {"model": "claude-haiku-4-5", "request_params": {"inference_geo": "us"}},
            "claude-haiku-4-5-20251001 refuses inference_geo.\nNothing was sent.\nLeave 'inference_geo' out",
            id="inference_geo before 4.6",
        ),
    ],
)
def test_arguments_that_cannot_be_sent_are_refused(arguments: dict[str, Any], says: str, hook: ClaudeHook) -> None:
    with pytest.raises(InputError) as error:
        sent(hook, ["a"], **arguments)

    assert says in str(error.value)


def test_request_params_win_over_connection_and_default(hook: ClaudeHook) -> None:
    (params,) = sent(hook, ["a"], request_params={"model": "claude-sonnet-5", "max_tokens": "77", "system": "s"})

    assert (params["model"], params["max_tokens"], params["system"]) == ("claude-sonnet-5", 77, "s")


def test_cache_mark_is_on_the_last_system_block(hook: ClaudeHook) -> None:
    mark = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    blocks = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]

    assert sent(hook, ["x"], system="a", cache_system=True)[0]["system"] == [{"type": "text", "text": "a", **mark}]
    assert sent(hook, ["x"], system=blocks, cache_system=True)[0]["system"] == [blocks[0], {**blocks[1], **mark}]


def test_unknown_parameter_is_sent_if_the_connection_allows_it(
    hook: ClaudeHook, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"allow_unknown_parameters": True}
    monkeypatch.setenv("AIRFLOW_CONN_NEW", json.dumps({"conn_type": "claude", "password": KEY, "extra": extra}))

    with pytest.raises(InputError, match="the API has no parameter 'brand_new'"):
        sent(hook, ["a"], request_params={"brand_new": 1})
    assert sent(ClaudeHook("new"), ["a"], request_params={"brand_new": 1})[0]["brand_new"] == 1


MARK_5M: dict[str, Any] = {"type": "ephemeral"}
MARK_1H = {"type": "ephemeral", "ttl": "1h"}


def _tool(mark: Any) -> dict[str, Any]:
    return {"name": "t", "input_schema": {"type": "object"}, "cache_control": mark}


def _marked(texts: str, mark: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text, "cache_control": mark} for text in texts]


@pytest.mark.parametrize(
    ("element", "params", "system", "mark"),
    [
        pytest.param("x", {}, "s", MARK_1H, id="no other mark"),
        pytest.param("x", {"tools": [_tool(MARK_5M)]}, "s", MARK_5M, id="5 minutes before"),
        pytest.param("x", {"tools": [_tool(MARK_1H)]}, "s", MARK_1H, id="an hour before"),
        pytest.param({"prompt": _marked("abc", MARK_5M)}, {}, "s", MARK_1H, id="three after"),
        pytest.param({"prompt": _marked("abcd", MARK_5M)}, {}, "s", None, id="four after"),
        pytest.param(
            {"prompt": _marked("abc", MARK_5M)}, {"cache_control": MARK_5M}, "s", None, id="three and one more"
        ),
        pytest.param("x", {}, _marked("s", MARK_5M), MARK_5M, id="its own"),
        pytest.param("x", {}, [*_marked("r", MARK_5M), {"type": "text", "text": "s"}], MARK_5M, id="in the prompt"),
        pytest.param({"prompt": "x", "system": "own"}, {}, "s", None, id="a prompt of its own"),
    ],
)
def test_cache_mark_follows_those_of_the_request(
    element: Any, params: Any, system: Any, mark: Any, hook: ClaudeHook
) -> None:
    (request,) = sent(hook, [element], system=system, cache_system=True, request_params=params)

    last = request["system"][-1] if isinstance(request["system"], list) else {}
    assert last.get("cache_control") == mark


def test_shorter_cache_mark_is_said_once(hook: ClaudeHook, caplog: pytest.LogCaptureFixture) -> None:
    sent(hook, ["a", "b"], system="s", cache_system=True, request_params={"tools": [_tool(MARK_5M)]})

    assert [record.message for record in caplog.records if "cache_system" in record.message] == [
        "cache_system: the mark lives for 5 minutes where a mark of 5 minutes comes before it."
    ]


def test_missing_connection_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        sent(ClaudeHook("nowhere"), ["a"])


def test_100_000_elements_are_written_one_by_one(hook: ClaudeHook) -> None:
    """An upstream list is in memory already, but its requests must not be."""

    class Sink(io.RawIOBase):
        count = largest = 0

        def write(self, data: Any) -> int:
            self.count += 1
            self.largest = max(self.largest, len(data))
            return len(data)

    sink = Sink()
    operator = SendMessageBatchOperator(task_id="t", messages=(f"prompt {number}" for number in range(100_000)))

    assert write_input(operator.options(), hook, TABLE, sink) == sink.count == 100_000  # type: ignore[arg-type]
    assert sink.largest < 300
