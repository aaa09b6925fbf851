"""Canned answers: which request gets which, how they are read, and what is refused."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from simulated import KEY, VERSION, Api, Connect, request

from airflow_claude_batch.batch.input.custom_id import content_hash, make_custom_id
from airflow_claude_batch.simulator import ManualClock, Simulator
from airflow_claude_batch.simulator.__main__ import main

HASH = content_hash(b"{}")
PROVIDERS = make_custom_id("0123456789ab", 7, HASH)


def text_of(row: dict[str, Any]) -> str:
    return "".join(block["text"] for block in row["message"]["content"] if block["type"] == "text")


def answered(connect: Connect, *answers: Any, custom_id: str = "T-1", prompt: str = "I was charged twice.") -> Any:
    """Return the text, or else the type, of the result of one request."""
    api = connect(Simulator(answers=answers))
    result = api.outcomes(api.created(request(custom_id, prompt=prompt)))[custom_id]
    return text_of(result) if result["type"] == "succeeded" else result["type"]


DEFAULT = "Simulated answer to “I was charged twice.”"


class TestConditions:
    @pytest.mark.parametrize(
        ("conditions", "matches"),
        [
            pytest.param({}, True, id="none: every request"),
            pytest.param({"custom_id": "T-1"}, True, id="custom_id"),
            pytest.param({"custom_id": "T-10"}, False, id="another custom_id"),
            pytest.param({"custom_id_pattern": "^T-[0-9]$"}, True, id="pattern of the custom_id"),
            pytest.param({"custom_id_pattern": "^t-"}, False, id="pattern of another custom_id"),
            pytest.param({"prompt": "charged"}, True, id="pattern anywhere in the prompt"),
            pytest.param({"prompt": "(?i)CHARGED (once|twice)\\."}, True, id="regular expression"),
            pytest.param({"prompt": "^charged"}, False, id="pattern of another prompt"),
            pytest.param({"prompt": "charged", "custom_id": "T-2"}, False, id="all conditions must hold"),
            pytest.param({"index": 1}, False, id="index of another client's custom_id"),
            pytest.param({"attempt": 1}, True, id="first attempt"),
            pytest.param({"attempt": 2}, False, id="second attempt"),
        ],
    )
    def test_all_must_hold(self, connect: Connect, conditions: Any, matches: bool) -> None:
        assert answered(connect, {**conditions, "text": "billing"}) == ("billing" if matches else DEFAULT)

    @pytest.mark.parametrize(
        ("conditions", "matches"),
        [
            pytest.param({"index": 7}, True, id="index"),
            pytest.param({"index": 0}, False, id="another index"),
            pytest.param({"custom_id": PROVIDERS}, True, id="custom_id"),
            pytest.param({"custom_id": make_custom_id("fedcba987654", 7, HASH)}, True, id="sent by another call"),
            pytest.param({"custom_id": make_custom_id("0123456789ab", 8, HASH)}, False, id="another index's"),
            pytest.param({"custom_id": make_custom_id("0123456789ab", 7, content_hash(b"[]"))}, False, id="changed"),
        ],
    )
    def test_custom_ids_of_the_package_match_without_their_token(
        self, connect: Connect, conditions: Any, matches: bool
    ) -> None:
        found = answered(connect, {**conditions, "text": "billing"}, custom_id=PROVIDERS)
        assert found == ("billing" if matches else DEFAULT)

    def test_the_first_that_matches_wins(self, connect: Connect) -> None:
        answers = [
            {"prompt": "nothing", "text": "0"},
            {"prompt": "charged", "text": "1"},
            {"custom_id": "T-1", "text": "2"},
            {"text": "3"},
        ]
        assert answered(connect, *answers) == "1"
        assert answered(connect, *reversed(answers[:3])) == "2"
        assert answered(connect, *answers, custom_id="T-2", prompt="Hello") == "3"

    def test_the_pattern_is_searched_in_the_last_user_message(self, connect: Connect) -> None:
        api = connect(Simulator(answers=[{"prompt": "first", "text": "0"}, {"prompt": "second", "text": "1"}]))
        blocks = [{"type": "text", "text": "the"}, {"type": "text", "text": "second"}]
        turns = [("user", "first"), ("assistant", "yes"), ("user", blocks)]
        message = api.message(messages=[{"role": role, "content": content} for role, content in turns])
        assert message["content"] == [{"type": "text", "text": "1"}]

    def test_an_attempt_counts_batches_with_the_same_params(self, connect: Connect) -> None:
        api = connect(Simulator(answers=[{"attempt": 1, "outcome": "expired"}, {"attempt": 2, "text": "second"}]))
        results = [api.outcomes(api.created(request(name)))[name] for name in "abc"]
        assert results[0] == {"type": "expired"}
        assert [text_of(result) for result in results[1:]] == ["second", "Simulated answer to “hello”"]


class TestAnswers:
    @pytest.mark.parametrize(
        ("answer", "result"),
        [
            ({"text": "billing"}, "billing"),
            ({"text": ""}, ""),
            ({"json": {"topic": "billing", "länge": 1.5}}, '{"topic": "billing", "länge": 1.5}'),
            ({"json": None}, "null"),
            ({"message": {"content": "billing"}}, "billing"),
            ({"message": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab"),
            ({"outcome": "expired"}, "expired"),
            ({"outcome": "canceled"}, "canceled"),
            ({"outcome": "errored:overloaded_error"}, "errored"),
            ({"outcome": {"type": "errored", "error": {"type": "api_error", "message": "x"}}}, "errored"),
            ({"outcome": "refusal"}, ""),
            ({"result": {"type": "canceled"}}, "canceled"),
            ({"result": {"type": "succeeded", "message": {"content": "billing"}}}, "billing"),
        ],
        ids=json.dumps,
    )
    def test_each_form_is_the_result(self, connect: Connect, answer: Any, result: str) -> None:
        assert answered(connect, answer) == result

    def test_text_keeps_to_the_limits_of_the_request(self, connect: Connect) -> None:
        message = connect(Simulator(answers=[{"text": "twelve chars"}])).message(max_tokens=2)
        assert (message["stop_reason"], message["content"][0]["text"]) == ("max_tokens", "twelve c")

    def test_a_message_is_given_whole(self, connect: Connect) -> None:
        given = {
            "content": [{"type": "tool_use", "name": "look", "input": {"where": "here"}}],
            "usage": {"output_tokens": 7},
            "model": "claude-haiku-4-5-20251001",
        }
        message = connect(Simulator(answers=[{"message": given}])).message()
        (block,) = message["content"]
        assert (block["name"], block["input"], block["caller"]) == ("look", {"where": "here"}, {"type": "direct"})
        assert block["id"].startswith("toolu_01")
        assert (message["stop_reason"], message["model"]) == ("tool_use", given["model"])
        assert message["usage"]["output_tokens"] == 7
        assert message["usage"]["input_tokens"] > 0

    def test_recorded_results_are_answers(self, connect: Connect, tmp_path: Path) -> None:
        """What the API answered can be a file of canned answers as it is."""
        error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": None}
        recorder = connect(Simulator(outcome=lambda custom_id, *_: "expired" if custom_id == "b" else None))
        batch = recorder.created(request("a"), request("b"))
        file = tmp_path / "results.jsonl"
        line = json.dumps({"custom_id": "c", "result": {"type": "errored", "error": error}})
        file.write_bytes(recorder.results(batch).content + line.encode())

        api = connect(Simulator(answers=file))
        replayed = api.outcomes(api.created(request("a"), request("b"), request("c")))

        assert [replayed[name] for name in "ab"] == [recorder.outcomes(batch)[name] for name in "ab"]
        assert replayed["c"]["error"]["error"]["type"] == "overloaded_error"
        assert replayed["c"]["error"]["error"]["message"] == "Overloaded"

    def test_invalid_params_error_all_the_same(self, connect: Connect) -> None:
        simulator = Simulator(answers=[{"text": "yes"}])
        assert connect(simulator).row_error(max_tokens=0) is not None
        assert simulator.answers() == [{"answer": "answers[0]", "matched": 0}]

    def test_answers_stay_with_a_batch_that_has_ended(self, connect: Connect) -> None:
        simulator = Simulator(answers=[{"text": "old"}])
        api = connect(simulator)
        batch = api.created()
        assert text_of(api.outcomes(batch)["a"]) == "old"
        simulator.clear_answers()
        simulator.add_answers({"text": "new"})
        assert text_of(api.outcomes(batch)["a"]) == "old"
        assert text_of(api.outcomes(api.created())["a"]) == "new"

    def test_functions_answer_what_no_canned_answer_matches(self, connect: Connect) -> None:
        simulator = Simulator(
            answers=[{"prompt": "a", "text": "canned"}],
            answer=lambda params, n: "function",
            outcome=lambda custom_id, *_: "expired" if custom_id == "c" else None,
        )
        api = connect(simulator)
        result = api.outcomes(api.created(*(request(name, prompt=name) for name in "abc")))
        assert [text_of(result[name]) for name in "ab"] == ["canned", "function"]
        assert result["c"]["type"] == "expired"

    def test_what_matches_nothing_can_be_an_error(self, connect: Connect) -> None:
        simulator = Simulator(answers=[{"prompt": "a", "text": "canned"}], unmatched="error")
        api = connect(simulator)
        result = api.outcomes(api.created(request("a", prompt="a"), request("b", prompt="b")))
        error = result["b"]["error"]["error"]
        assert text_of(result["a"]) == "canned"
        assert error["type"] == "invalid_request_error"
        assert error["message"] == "No canned answer matches this request (custom_id b, prompt “b”)."

    def test_matches_are_counted(self, connect: Connect) -> None:
        simulator = Simulator(answers=[{"prompt": "a", "text": "1"}, {"prompt": "z", "text": "2"}])
        connect(simulator).created(request("a", prompt="a"), request("b", prompt="aa"))
        assert [each["matched"] for each in simulator.answers()] == [2, 0]


REFUSED = [
    ("", "answers.jsonl: has no answers."),
    ("\n\n", "answers.jsonl: has no answers."),
    ('{"text": "a"}\nyes', "answers.jsonl, line 2: is no JSON (Expecting value: line 1 column 1 (char 0))."),
    ('{"text": NaN}', "answers.jsonl, line 1: is no JSON (NaN is no JSON number)."),
    ('{"text": "a", "text": "b"}', "answers.jsonl, line 1: is no JSON ('text' is there twice)."),
    ('"yes"', "answers.jsonl, line 1: is of type str, not an object."),
    ("[1]", "answers.jsonl[0]: is of type int, not an object."),
    ("{}", "answers.jsonl, line 1: needs one answer, and has none of them."),
    ('{"text": "a", "json": 1}', "answers.jsonl, line 1: needs one answer, and has text and json."),
    (
        '{"key": "T-1", "text": "a"}',
        'answers.jsonl, line 1: a "key" cannot be matched, because the API is not sent it.',
    ),
    ('{"promt": "a", "text": "b"}', "answers.jsonl, line 1: there is no field 'promt'."),
    ('{"custom_id": "a b", "text": "b"}', "answers.jsonl, line 1: no request can have the custom_id 'a b'."),
    ('{"custom_id": 7, "text": "b"}', "answers.jsonl, line 1: 'custom_id' is 7."),
    ('{"custom_id": null, "text": "b"}', "answers.jsonl, line 1: 'custom_id' is None."),
    ('{"index": true, "text": "b"}', "answers.jsonl, line 1: 'index' is True."),
    ('{"index": -1, "text": "b"}', "answers.jsonl, line 1: 'index' is -1."),
    ('{"attempt": 0, "text": "b"}', "answers.jsonl, line 1: 'attempt' is 0."),
    (
        '{"prompt": "how much (", "text": "b"}',
        "answers.jsonl, line 1: 'prompt' is no pattern (missing ), unterminated subpattern at position 9).",
    ),
    ('{"text": 7}', "answers.jsonl, line 1: 'text' is 7."),
    ('{"outcome": "expird"}', "answers.jsonl, line 1: 'expird' is no outcome."),
    ('{"outcome": 5}', "answers.jsonl, line 1: 5 is no outcome."),
    ('{"result": {"type": "done"}}', "answers.jsonl, line 1: 'result' is no result of the API."),
    ('{"message": "yes"}', "answers.jsonl, line 1: message is 'yes'."),
    ('{"message": {}}', "answers.jsonl, line 1: message.content is neither text nor a list."),
    ('{"message": {"content": "a", "stop": 1}}', "answers.jsonl, line 1: message has no field 'stop'."),
    ('{"message": {"content": "a", "role": "user"}}', "answers.jsonl, line 1: message.role is 'user'."),
    ('{"message": {"content": "a", "usage": 1}}', "answers.jsonl, line 1: message.usage is no object."),
    ('{"message": {"content": "a", "stop_reason": 1}}', "answers.jsonl, line 1: message.stop_reason is 1."),
    ('{"message": ["a"]}', "answers.jsonl, line 1: message.content[0] is no content block."),
    (
        '{"message": [{"type": "text"}]}',
        "answers.jsonl, line 1: message.content[0].text is missing or has another type.",
    ),
    (
        '{"result": {"type": "succeeded", "message": {"content": [{"type": "tool_use", "name": "x"}]}}}',
        "answers.jsonl, line 1: result.message.content[0].input is missing or has another type.",
    ),
    ('{"outcome": "expired", "thinking": "hm"}', 'answers.jsonl, line 1: "thinking" has no text to go before.'),
    ('{"text": "a"}\n\n{"text": "b"}', "answers.jsonl, line 3 can never match."),
    ('{"text": "' + "\N{LATIN SMALL LETTER A WITH DIAERESIS}", "answers.jsonl, line 1: is no JSON"),
]


class TestReading:
    @pytest.mark.parametrize(("content", "problem"), REFUSED, ids=[content[:50] for content, _ in REFUSED])
    def test_mistakes_are_refused_with_line_and_remedy(self, tmp_path: Path, content: str, problem: str) -> None:
        file = tmp_path / "answers.jsonl"
        file.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match="answers") as caught:
            Simulator(answers=file)
        first, remedy = str(caught.value).split("\n", 1)
        assert first.startswith(problem)
        assert len(first) <= 120
        assert remedy

    def test_other_encodings_are_refused(self, tmp_path: Path) -> None:
        file = tmp_path / "answers.jsonl"
        file.write_bytes(b'{"text": "a"}\n{"text": "\xe4"}\n')
        with pytest.raises(ValueError, match=r"answers.jsonl, line 2: is no UTF-8.\nSave the file as UTF-8."):
            Simulator(answers=file)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"nowhere.jsonl: cannot be read \(No such file or directory\)."):
            Simulator(answers=tmp_path / "nowhere.jsonl")

    @pytest.mark.parametrize(
        "content",
        [
            '{"text": "yes\u2028no"}\n',
            '\ufeff{"text": "yes\u2028no"}\r\n\r\n',
            '[\n  {\n    "text": "yes\u2028no"\n  }\n]\n',
        ],
        ids=["lines", "BOM, CRLF, empty lines", "array"],
    )
    def test_common_forms_are_read(self, connect: Connect, tmp_path: Path, content: str) -> None:
        file = tmp_path / "answers.jsonl"
        file.write_bytes(content.encode())
        assert answered(connect, str(file)) == "yes\u2028no"

    def test_all_are_added_or_none(self) -> None:
        simulator = Simulator()
        with pytest.raises(ValueError, match=r"answers\[1\]: there is no field 'txt'.\nDid you mean 'text'\?"):
            simulator.add_answers({"prompt": "a", "text": "b"}, {"txt": "c"})
        assert simulator.answers() == []

    @pytest.mark.parametrize(
        "answer",
        [
            {"text": "\ud83d"},
            {"json": float("nan")},
            {"json": {"at": datetime(2026, 11, 22, tzinfo=UTC)}},
        ],
        ids=["half a pair", "NaN", "a date"],
    )
    def test_what_no_response_can_hold_is_refused(self, answer: Any) -> None:
        with pytest.raises(ValueError, match=r"answers\[0\]: cannot be written as JSON \("):
            Simulator(answers=[answer])

    def test_a_compiled_pattern_is_taken(self, connect: Connect) -> None:
        assert answered(connect, {"prompt": re.compile("CHARGED", re.IGNORECASE), "text": "billing"}) == "billing"

    def test_unmatched_is_checked(self) -> None:
        with pytest.raises(ValueError, match="unmatched is 'fail'"):
            Simulator(unmatched="fail")  # type: ignore[arg-type]

    def test_a_file_is_found_wrong_before_the_command_serves(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "answers.jsonl"
        file.write_text('{"prompt": "a"}\n')
        with pytest.raises(SystemExit):
            main(["--answers", str(file)])
        assert "answers.jsonl, line 1: needs one answer, and has none of them." in capsys.readouterr().err


class TestControl:
    """The same over HTTP, for tests in other processes."""

    @pytest.fixture(autouse=True)
    def _both_transports(self, transport: str) -> None:
        del transport

    def test_lines_are_added_read_and_removed(self, api: Api, connect: Connect, simulator: Simulator) -> None:
        client = connect(simulator, key=None, version=None).client
        lines = '{"prompt": "a", "text": "canned"}\n{"prompt": "z", "text": "canned"}\n'
        added = client.post("/_simulator/answers?unmatched=error", content=lines)
        assert (added.status_code, added.json()) == (200, {"added": 2})
        kinds = api.outcomes(api.created(request("a", prompt="a"), request("b", prompt="b")))
        assert (text_of(kinds["a"]), kinds["b"]["type"]) == ("canned", "errored")
        assert client.get("/_simulator/answers").json() == [
            {"answer": "body, line 1", "matched": 1},
            {"answer": "body, line 2", "matched": 0},
        ]
        client.delete("/_simulator/answers")
        assert text_of(api.outcomes(api.created(request("b", prompt="b")))["b"]) == "Simulated answer to “b”"

    @pytest.mark.parametrize("body", [{"text": "yes"}, [{"prompt": "a", "text": "no"}, {"text": "yes"}]])
    def test_json_is_taken_too(self, api: Api, connect: Connect, simulator: Simulator, body: Any) -> None:
        client = connect(simulator, key=None, version=None).client
        assert client.post("/_simulator/answers", json=body).status_code == 200
        assert text_of(api.outcomes(api.created(request("b", prompt="b")))["b"]) == "yes"

    @pytest.mark.parametrize(
        ("query", "body", "error"),
        [
            ("", '{"key": "a", "text": "b"}', 'body, line 1: a "key" cannot be matched'),
            ("?unmatched=fail", '{"text": "b"}', "unmatched is 'fail'."),
        ],
    )
    def test_mistakes_are_a_400(
        self, connect: Connect, simulator: Simulator, query: str, body: str, error: str
    ) -> None:
        client = connect(simulator, key=None, version=None).client
        response = client.post(f"/_simulator/answers{query}", content=body)
        assert response.status_code == 400
        assert response.json()["error"].startswith(error)
        assert client.get("/_simulator/answers").json() == []


class TestAnswerFunction:
    @pytest.mark.parametrize(
        ("function", "answer"),
        [
            pytest.param(lambda params, n: f"{n}", "0", id="two"),
            pytest.param(lambda params, n, custom_id: custom_id, "a", id="custom_id"),
            pytest.param(lambda params, n, custom_id="?": custom_id, "a", id="custom_id with a default"),
            pytest.param(lambda params, n, *, custom_id: custom_id, "a", id="by keyword"),
            pytest.param(lambda params, n, name: name, "a", id="a third"),
            pytest.param(lambda params, n, name="kept": name, "kept", id="a third with a default"),
            pytest.param(lambda params, n, **fields: fields["custom_id"], "a", id="keywords"),
            pytest.param(lambda *arguments: f"{len(arguments)}", "2", id="any number"),
            pytest.param(lambda params, n: None, "Simulated answer to “hello”", id="returns None"),
            pytest.param(lambda params, n: [{"type": "text", "text": "block"}], "block", id="returns blocks"),
        ],
    )
    def test_it_gets_the_custom_id_if_it_takes_it(self, connect: Connect, function: Any, answer: str) -> None:
        api = connect(Simulator(answer=function))
        assert text_of(api.outcomes(api.created(request("a")))["a"]) == answer


THINKING = {"type": "adaptive"}


class TestThinking:
    @pytest.mark.parametrize(
        ("model", "thinking", "default_thinking", "shown"),
        [
            ("claude-haiku-5-5", None, False, None),
            ("claude-haiku-5-5", None, True, "omitted"),
            ("claude-haiku-5-5", {"type": "disabled"}, True, None),
            ("claude-sonnet-5-5", {"type": "between_tools"}, True, None),
            ("claude-haiku-5-5", THINKING, False, "omitted"),
            ("claude-haiku-5-5", {**THINKING, "display": "omitted"}, False, "omitted"),
            ("claude-haiku-5-5", {**THINKING, "display": "summarized"}, False, "summarized"),
            ("claude-opus-4-7", THINKING, False, "omitted"),
            ("claude-opus-4-8", None, True, None),
            ("claude-opus-4-6", THINKING, False, "summarized"),
            ("claude-haiku-4-5", {"type": "enabled", "budget_tokens": 1024}, False, "summarized"),
            ("claude-haiku-4-5", {"type": "enabled", "budget_tokens": 1024, "display": "omitted"}, False, "omitted"),
            ("claude-haiku-4-5", None, True, None),
        ],
    )
    def test_an_answer_begins_with_it_as_the_model_shows_it(
        self, connect: Connect, model: str, thinking: Any, default_thinking: bool, shown: str | None
    ) -> None:
        api = connect(Simulator(default_thinking=default_thinking))
        message = api.message(prompt="why", model=model, thinking=thinking, max_tokens=2000)
        *before, text = message["content"]
        assert text == {"type": "text", "text": "Simulated answer to “why”"}
        if shown is None:
            assert before == []
            return
        (block,) = before
        assert list(block) == ["type", "thinking", "signature"]
        assert block["thinking"] == (
            "" if shown == "omitted" else "Simulated thinking about “why”: a short answer will do."
        )
        assert block["signature"].startswith("Eosn")
        assert message["usage"]["output_tokens_details"]["thinking_tokens"] == 14
        assert message["usage"]["output_tokens"] == 14 + 7

    def test_it_may_use_up_max_tokens(self, connect: Connect) -> None:
        message = connect(Simulator()).message(prompt="why", thinking=THINKING, max_tokens=5)
        assert [block["type"] for block in message["content"]] == ["thinking"]
        assert (message["stop_reason"], message["usage"]["output_tokens"]) == ("max_tokens", 5)

    def test_it_leaves_the_text_the_rest_of_max_tokens(self, connect: Connect) -> None:
        message = connect(Simulator()).message(prompt="why", thinking=THINKING, max_tokens=16)
        assert message["content"][1]["text"] == "Simulate"
        assert (message["stop_reason"], message["usage"]["output_tokens"]) == ("max_tokens", 16)

    @pytest.mark.parametrize(("config", "shown"), [(None, ""), ({**THINKING, "display": "summarized"}, "Hm.")])
    def test_a_canned_answer_may_bring_it(self, connect: Connect, config: Any, shown: str) -> None:
        message = connect(Simulator(answers=[{"text": "yes", "thinking": "Hm."}])).message(thinking=config)
        assert message["content"][0]["thinking"] == shown
        assert message["content"][1:] == [{"type": "text", "text": "yes"}]
        assert message["usage"]["output_tokens_details"] == {"thinking_tokens": 1}

    def test_requests_that_do_not_think_get_none(self, connect: Connect) -> None:
        message = connect(Simulator(answers=[{"text": "yes", "thinking": "Hm."}])).message(
            thinking={"type": "disabled"}
        )
        assert message["content"] == [{"type": "text", "text": "yes"}]

    def test_blocks_of_a_message_are_signed_unless_they_are(self, connect: Connect) -> None:
        signed = {"type": "thinking", "thinking": "As it is", "signature": "mine"}
        blocks = [signed, {"type": "thinking", "thinking": "Hm."}, {"type": "redacted_thinking"}]
        content = connect(Simulator(answers=[{"message": blocks}])).message()["content"]
        assert content[0] == signed
        assert content[1]["thinking"] == ""
        assert content[1]["signature"].startswith("Eosn")
        assert content[2]["data"]


class TestIds:
    @staticmethod
    def made(connect: Connect, polls: int, **options: Any) -> list[str]:
        simulator = Simulator(clock=ManualClock(), shuffle=False, **options)
        api = connect(simulator)
        first = api.created(request("a"), request("b"))
        for _ in range(polls):
            api.retrieve(first)
        second = api.created()
        messages = [row["result"]["message"]["id"] for row in api.rows(first)]
        return [first, second, *messages, simulator.books()["batches"][1]["id"]]

    def test_they_repeat_with_a_seed_however_often_clients_poll(self, connect: Connect) -> None:
        ids = self.made(connect, 1, ids="seed", seed=7)
        assert self.made(connect, 3, ids="seed", seed=7) == ids
        assert len(set(ids)) == 4
        assert not set(ids) & set(self.made(connect, 1, ids="seed", seed=8))

    def test_they_differ_without(self, connect: Connect) -> None:
        assert not set(self.made(connect, 1, seed=7)) & set(self.made(connect, 1, seed=7))

    def test_request_ids_repeat_too(self, connect: Connect) -> None:
        headers = {"x-api-key": KEY, "anthropic-version": VERSION}

        def request_ids() -> list[str]:
            client = connect(Simulator(ids="seed"), key=None, version=None).client
            return [client.get("/v1/models?limit=1", headers=headers).headers["request-id"] for _ in range(2)]

        first = request_ids()
        assert first == request_ids()
        assert len(set(first)) == 2
