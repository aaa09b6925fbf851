"""The content and the cost of succeeded rows."""

from __future__ import annotations

import base64
import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media_files import pdf
from simulated import Api, Connect, request, requests

from airflow_claude_batch.simulator import ManualClock, Simulator
from airflow_claude_batch.simulator.messages.outcomes import Outcome
from airflow_claude_batch.simulator.messages.schema_instances import schema_instance

TOOL = {
    "name": "look",
    "input_schema": {"type": "object", "properties": {"where": {"type": "string"}}, "required": ["where"]},
}


def text_of(message: dict[str, Any]) -> str:
    return "".join(block["text"] for block in message["content"] if block["type"] == "text")


class TestDefaultAnswer:
    def test_it_quotes_the_last_user_message(self, api: Api) -> None:
        assert text_of(api.message(prompt="How are you?")) == "Simulated answer to “How are you?”"

    def test_it_has_the_fields_of_the_api(self, api: Api) -> None:
        message = api.message(model="claude-haiku-4-5")
        assert list(message) == [
            "model",
            "id",
            "type",
            "role",
            "content",
            "stop_reason",
            "stop_sequence",
            "stop_details",
            "usage",
        ]
        assert message["model"] == "claude-haiku-4-5-20251001"
        assert message["id"].startswith("msg_011C")
        assert (message["stop_reason"], message["stop_details"]) == ("end_turn", None)

    def test_it_is_the_same_at_each_download(self, api: Api) -> None:
        batch = api.created(*requests(10))
        assert api.outcomes(batch) == api.outcomes(batch)

    def test_some_answers_contain_a_line_separator(self, api: Api) -> None:
        raw = api.results(api.created(*requests(5))).content
        assert raw.count("\u2028".encode()) == 1

    def test_it_stops_at_max_tokens(self, api: Api) -> None:
        message = api.message(max_tokens=3)
        assert message["stop_reason"] == "max_tokens"
        assert message["usage"]["output_tokens"] == 3
        assert text_of(message) == "Simulated an"

    def test_it_stops_at_a_stop_sequence(self, api: Api) -> None:
        message = api.message(stop_sequences=["zzz", " answer"])
        assert text_of(message) == "Simulated"
        assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", " answer")


class TestSchema:
    SCHEMA = {  # noqa: RUF012  # a constant of the tests
        "type": "object",
        "properties": {
            "label": {"enum": ["good", "bad"]},
            "why": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "score": {"type": "integer"},
            "when": {"type": "string", "format": "date-time"},
            "parts": {"type": "array", "items": {"$ref": "#/$defs/part"}},
        },
        "required": ["label", "score", "parts"],
        "additionalProperties": False,
        "$defs": {
            "part": {
                "type": "object",
                "properties": {"code": {"type": "string", "pattern": "^[A-Z]{2}-\\d+$"}},
                "required": ["code"],
                "additionalProperties": False,
            }
        },
    }

    def test_the_answer_matches_an_output_config(self, api: Api) -> None:
        config = {"format": {"type": "json_schema", "schema": self.SCHEMA}}
        answer = json.loads(text_of(api.message(output_config=config)))
        jsonschema.validate(answer, self.SCHEMA)
        assert answer["parts"]

    def test_answers_differ_between_requests(self, clock: ManualClock, connect: Connect) -> None:
        config = {"format": {"type": "json_schema", "schema": self.SCHEMA}}
        api = connect(Simulator(clock=clock))
        batch = api.created(*(request(f"r{n}", prompt=f"{n}", output_config=config) for n in range(20)))
        labels = {json.loads(text_of(row["message"]))["label"] for row in api.outcomes(batch).values()}
        assert labels == {"good", "bad"}


SCALARS = st.sampled_from(
    [
        {"type": "string"},
        {"type": "string", "format": "email"},
        {"type": "string", "minLength": 90},
        {"type": "string", "maxLength": 3},
        {"type": "string", "pattern": "^(yes|no)[0-9]{2,4}[^a-z]?\\w*$"},
        {"type": "integer", "minimum": 5, "maximum": 7},
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        {"type": "integer", "multipleOf": 7, "minimum": 1},
        {"type": ["integer", "null"]},
        {"type": "boolean"},
        {"type": "null"},
        {"const": {"a": [1]}},
        {"enum": [1, "two", None]},
        {},
    ]
)
SCHEMAS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.builds(
            lambda properties, required: {
                "type": "object",
                "properties": properties,
                "required": sorted(properties)[:required],
                "additionalProperties": False,
            },
            st.dictionaries(st.sampled_from("abcdef"), inner, max_size=4),
            st.integers(0, 4),
        ),
        st.builds(lambda items, least: {"type": "array", "items": items, "minItems": least}, inner, st.integers(0, 3)),
        st.builds(lambda branches: {"anyOf": branches}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(schema=SCHEMAS, seed=st.integers(0, 2**32), text=st.text(max_size=10))
def test_instances_satisfy_their_schema(schema: dict[str, Any], seed: int, text: str) -> None:
    made = schema_instance(schema, seed=seed, text=text)
    jsonschema.validate(made, schema)
    assert made == schema_instance(schema, seed=seed, text=text)


def test_recursive_schemas_of_tools_end() -> None:
    tree = {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
                "required": ["children"],
            }
        },
    }
    jsonschema.validate(schema_instance(tree, seed=1, text="x"), tree)


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "look"}], ids=["any", "tool"])
def test_a_forced_tool_is_used(api: Api, choice: dict[str, str]) -> None:
    message = api.message(tools=[TOOL], tool_choice=choice)
    (block,) = message["content"]
    assert message["stop_reason"] == "tool_use"
    assert (block["type"], block["name"], block["caller"]) == ("tool_use", "look", {"type": "direct"})
    jsonschema.validate(block["input"], TOOL["input_schema"])


def test_an_optional_tool_is_not_used(api: Api) -> None:
    assert api.message(tools=[TOOL], tool_choice={"type": "auto"})["stop_reason"] == "end_turn"


class TestScriptedAnswers:
    def connected(self, connect: Connect, answer: Any) -> Api:
        return connect(Simulator(answer=answer))

    def test_text_is_returned_unchanged(self, connect: Connect) -> None:
        api = self.connected(connect, lambda params, n: f"{n}: {params['messages'][0]['content']}")
        batch = api.created(*requests(3))
        assert text_of(api.outcomes(batch)["r2"]["message"]) == "2: question 2"

    def test_thinking_is_counted_separately(self, connect: Connect) -> None:
        thinking = {"type": "thinking", "thinking": "x" * 40, "signature": "s"}
        answer = {"content": [thinking, {"type": "text", "text": "y" * 8}]}
        message = self.connected(connect, lambda params, n: answer).message()
        assert message["content"][0] == thinking
        assert message["usage"]["output_tokens"] == 12
        assert message["usage"]["output_tokens_details"] == {"thinking_tokens": 10}

    def test_server_tools_are_counted(self, connect: Connect) -> None:
        search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
        message = self.connected(connect, lambda params, n: {"content": [search, search]}).message()
        assert message["usage"]["server_tool_use"] == {"web_search_requests": 2, "web_fetch_requests": 0}

    def test_any_field_can_be_given(self, connect: Connect) -> None:
        answer = {"content": "text", "stop_reason": "pause_turn", "usage": {"output_tokens": 999}, "container": None}
        message = self.connected(connect, lambda params, n: answer).message()
        assert message["content"] == [{"type": "text", "text": "text"}]
        assert message["stop_reason"] == "pause_turn"
        assert message["usage"]["output_tokens"] == 999
        assert message["usage"]["input_tokens"] > 0
        assert "container" in message


class TestScriptedOutcomes:
    @pytest.mark.parametrize(
        ("script", "kind", "billed"),
        [
            ("succeeded", "succeeded", 1),
            (None, "succeeded", 1),
            ("expired", "expired", 0),
            ("canceled", "canceled", 0),
            ("errored:overloaded_error", "errored", 0),
        ],
    )
    def test_the_outcome_decides_the_row_and_the_bill(
        self, connect: Connect, script: Any, kind: str, billed: int
    ) -> None:
        simulator = Simulator(outcome=lambda custom_id, params, attempt: script)
        api = connect(simulator)
        batch = api.created(request("a"))
        assert api.retrieve(batch).json()["request_counts"][kind] == 1
        assert api.outcomes(batch)["a"]["type"] == kind
        assert simulator.books()["billed_requests"] == billed

    def test_an_error_while_running_has_a_worker_id(self, connect: Connect) -> None:
        api = connect(Simulator(outcome=lambda *_: "errored:api_error:Something broke"))
        error = api.outcomes(api.created(request("a")))["a"]["error"]
        assert error["request_id"].startswith("workerreq_")
        assert (error["error"]["type"], error["error"]["message"]) == ("api_error", "Something broke")

    def test_a_refusal_succeeds_without_content(self, connect: Connect) -> None:
        message = connect(Simulator(outcome=lambda *_: "refusal:cyber")).message()
        assert (message["stop_reason"], message["content"]) == ("refusal", [])
        assert message["stop_details"]["type"] == "refusal"
        assert message["stop_details"]["category"] == "cyber"

    def test_max_tokens_cuts_even_a_schemas_answer(self, connect: Connect) -> None:
        config = {"format": {"type": "json_schema", "schema": TestSchema.SCHEMA}}
        message = connect(Simulator(outcome=lambda *_: "max_tokens")).message(output_config=config)
        assert message["stop_reason"] == "max_tokens"
        with pytest.raises(json.JSONDecodeError):
            json.loads(text_of(message))

    def test_pause_turn_ends_in_a_server_tool(self, connect: Connect) -> None:
        message = connect(Simulator(outcome=lambda *_: "pause_turn")).message()
        assert message["stop_reason"] == "pause_turn"
        assert message["content"][-1]["type"] == "server_tool_use"

    def test_invalid_params_error_with_any_scripted_outcome(self, connect: Connect) -> None:
        assert connect(Simulator(outcome=lambda *_: "succeeded")).row_error(max_tokens=0) is not None

    def test_the_attempt_counts_batches_with_these_very_params(self, connect: Connect) -> None:
        seen = []

        def outcome(custom_id: str, params: dict[str, Any], attempt: int) -> str:
            seen.append((custom_id, attempt))
            return "succeeded" if attempt > 1 else "expired"

        api = connect(Simulator(outcome=outcome, shuffle=False))
        first = api.created(request("one", prompt="same"), request("other", prompt="other"))
        second = api.created(request("two", prompt="same"))
        assert {row["type"] for row in api.outcomes(first).values()} == {"expired"}
        assert api.outcomes(second)["two"]["type"] == "succeeded"
        assert seen == [("one", 1), ("other", 1), ("two", 2)]

    def test_a_misspelled_outcome_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="'expird', which is not an outcome"):
            Outcome.parse("expird")


class TestUsage:
    def test_four_characters_are_a_token(self, api: Api) -> None:
        usage = api.message(prompt="x" * 41, system="y" * 39)["usage"]
        assert usage == {
            "input_tokens": 20,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 16,
            "service_tier": "batch",
            "output_tokens_details": {"thinking_tokens": 0},
            "inference_geo": "global",
        }

    def test_inference_geo_is_repeated(self, api: Api) -> None:
        assert api.message(inference_geo="us")["usage"]["inference_geo"] == "us"

    def test_an_image_has_a_fixed_number_of_tokens(self, api: Api) -> None:
        source = {"type": "base64", "media_type": "image/png", "data": "A" * 100_000}
        messages = [{"role": "user", "content": [{"type": "image", "source": source}]}]
        assert api.message(messages=messages)["usage"]["input_tokens"] == 1500

    @pytest.mark.parametrize("pages", [1, 3])
    def test_a_pdf_has_the_tokens_of_its_pages(self, pages: int, api: Api) -> None:
        data = base64.b64encode(pdf(pages, size=100_000)).decode()
        source = {"type": "base64", "media_type": "application/pdf", "data": data}
        messages = [{"role": "user", "content": [{"type": "document", "source": source}]}]
        assert api.message(messages=messages)["usage"]["input_tokens"] == pages * 2500


class TestPromptCache:
    @staticmethod
    def marked(custom_id: str, prompt: str, *, ttl: str | None = None, length: int = 4000) -> dict[str, Any]:
        mark = {"type": "ephemeral"} if ttl is None else {"type": "ephemeral", "ttl": ttl}
        return request(custom_id, prompt=prompt, system=[{"type": "text", "text": "s" * length, "cache_control": mark}])

    def usages(self, api: Api, *items: Any) -> list[tuple[int, int, int, int]]:
        outcomes = api.outcomes(api.created(*items))
        usages = [outcomes[item["custom_id"]]["message"]["usage"] for item in items]
        return [
            (
                usage["input_tokens"],
                usage["cache_creation"]["ephemeral_5m_input_tokens"],
                usage["cache_creation"]["ephemeral_1h_input_tokens"],
                usage["cache_read_input_tokens"],
            )
            for usage in usages
        ]

    def test_the_first_writes_and_the_others_read(self, api: Api) -> None:
        items = [self.marked(f"r{n}", f"question {n:04}") for n in range(3)]
        assert self.usages(api, *items) == [(4, 1000, 0, 0), (4, 0, 0, 1000), (4, 0, 0, 1000)]

    @pytest.mark.parametrize(("ttl", "lifetime"), [(None, 300), ("5m", 300), ("1h", 3600)])
    def test_a_prefix_expires_its_ttl_after_its_last_use(
        self, api: Api, clock: ManualClock, ttl: str | None, lifetime: int
    ) -> None:
        item = self.marked("a", "question", ttl=ttl)
        assert self.usages(api, item)[0][3] == 0
        clock.advance(lifetime - 1)
        assert self.usages(api, item)[0][3] == 1000
        clock.advance(lifetime - 1)
        assert self.usages(api, item)[0][3] == 1000
        clock.advance(lifetime)
        assert self.usages(api, item)[0][3] == 0

    def test_a_one_hour_write_is_counted_as_one_hour(self, api: Api) -> None:
        assert self.usages(api, self.marked("a", "question", ttl="1h")) == [(2, 0, 1000, 0)]

    def test_a_short_prefix_is_not_cached(self, api: Api) -> None:
        items = [self.marked(f"r{n}", "question", length=2000) for n in range(2)]
        assert self.usages(api, *items) == [(502, 0, 0, 0)] * 2

    def test_a_longer_prefix_reads_the_shorter_and_writes_the_rest(self, api: Api) -> None:
        short = self.marked("a", "question", ttl="1h")
        long = self.marked("b", "q" * 400, ttl="1h")
        long["params"]["cache_control"] = {"type": "ephemeral"}
        assert self.usages(api, short, long) == [(2, 0, 1000, 0), (0, 100, 0, 1000)]

    def test_models_and_workspaces_do_not_share(self, clock: ManualClock, connect: Connect) -> None:
        simulator = Simulator(clock=clock, keys={"sk-1": "wrkspc_1", "sk-2": "wrkspc_2"})
        item = self.marked("a", "question")
        other = {"custom_id": "b", "params": {**item["params"], "model": "claude-sonnet-5-5"}}
        assert [usage[3] for usage in self.usages(connect(simulator, key="sk-1"), item, other)] == [0, 0]
        assert [usage[3] for usage in self.usages(connect(simulator, key="sk-2"), item)] == [0]

    def test_a_failed_request_writes_nothing(self, clock: ManualClock, connect: Connect) -> None:
        outcome = {"a": "expired", "b": "succeeded"}
        api = connect(Simulator(clock=clock, outcome=lambda custom_id, *_: outcome[custom_id]))
        items = [self.marked("a", "question"), self.marked("b", "question")]
        result = api.outcomes(api.created(*items))
        assert result["b"]["message"]["usage"]["cache_creation_input_tokens"] == 1000
