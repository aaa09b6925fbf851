"""Answers that must match an output schema, over one or more tries: what is kept, sent again, and paid."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from submission_world import World

from airflow_claude_batch.batch.input.elements import Defaults
from airflow_claude_batch.batch.input.output_schema import SCHEMA_FILE, read_schema
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.match_requests import SubmissionMatcher
from airflow_claude_batch.batch.land.result_stream import read_results
from airflow_claude_batch.batch.land.validate_output import OutputValidator
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.exceptions import SubmissionRecordError
from airflow_claude_batch.simulator import Fault, ManualClock, Simulator

SCHEMA = read_schema({"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}, "required": ["n"]})
VALID, INVALID = '{"n": 1}', '{"n": -1}'
REPAIR = Policy(repair_invalid=True)
DEFAULTS = Defaults(model="claude-haiku-5-5", max_tokens=64)


class Model:
    """Model with a script of answers for each prompt. It records the max_tokens of each request."""

    def __init__(self, **scripts: list[str | dict[str, Any]]) -> None:
        self.scripts = scripts
        self.asked: dict[str, list[int]] = {}

    def answer(self, params: dict[str, Any], n: int) -> str | dict[str, Any]:
        prompt = params["messages"][-1]["content"]
        asked = self.asked[prompt]
        time = asked.index(params["max_tokens"]) if len(set(asked)) == len(asked) else len(asked) - 1
        script = self.scripts.get(prompt, [VALID])
        return script[min(time, len(script) - 1)]

    def outcome(self, custom_id: str, params: dict[str, Any], attempt: int) -> None:
        self.asked.setdefault(params["messages"][-1]["content"], []).append(params["max_tokens"])

    def world(self, path: Path) -> World:
        clock = ManualClock()
        simulator = Simulator(clock=clock, batch_seconds=90, answer=self.answer, outcome=self.outcome)
        return World(path, simulator, clock)


def cut(tokens: int) -> dict[str, Any]:
    return {"content": '{"n": ', "stop_reason": "max_tokens", "usage": {"output_tokens": tokens}}


def costs(world: World) -> Decimal:
    """Sum the costs of the rows, including replaced answers."""
    return sum(
        (Decimal(each["cost_usd"]) for row in world.rows for each in (row, *row.get("replaced", []))), Decimal(0)
    )


class TestWithoutRepair:
    def test_invalid_answers_are_kept_and_not_sent_again(self, tmp_path: Path) -> None:
        model = Model(b=[INVALID, VALID])
        world = model.world(tmp_path)

        done = world.run(["a", "b"], Policy(), output_schema=SCHEMA)
        again = world.run(["a", "b"], Policy(), output_schema=SCHEMA, clear=True)

        for each in (done, again):
            assert each.permanent
            assert each.manifest.counts["invalid_output"] == 1
        assert [row["output"] for row in world.rows] == [{"n": 1}, None]
        assert world.rows[1]["text"] == INVALID
        assert world.billed == 2
        assert "replaced" not in world.rows[1]

    def test_changed_schema_makes_a_new_request(self, tmp_path: Path) -> None:
        model = Model(a=[INVALID])
        world = model.world(tmp_path)
        world.run(["a"], Policy(), output_schema=SCHEMA)
        lenient = read_schema({"type": "object", "properties": {"n": {"type": "integer"}}})

        done = world.run(["a"], Policy(), output_schema=lenient)

        assert done.failure is None
        assert world.rows[0]["output"] == {"n": -1}
        assert world.billed == 2

    def test_answers_of_an_earlier_input_are_validated_at_their_new_index(self, tmp_path: Path) -> None:
        world = Model(b=[INVALID]).world(tmp_path)
        with world.attempt(["a", "b"], Policy(), output_schema=SCHEMA) as submission:
            submission.advance()

        done = world.run(["b", "a"], Policy(allow_failed=1), output_schema=SCHEMA)

        assert done.failure is None
        assert [row["status"] for row in world.rows] == ["invalid_output", "succeeded"]
        assert world.billed == 2

    def test_duplicates_share_the_validation(self, tmp_path: Path) -> None:
        world = Model(b=[INVALID]).world(tmp_path)

        world.run(
            [{"key": k, "prompt": p} for k, p in ("1a", "2b", "3b")], Policy(), output_schema=SCHEMA, deduplicate=True
        )

        assert [row["status"] for row in world.rows] == ["succeeded", "invalid_output", "invalid_output"]
        assert world.billed == 2

    def test_damaged_schema_never_counts_as_no_schema(self, tmp_path: Path) -> None:
        world = Model().world(tmp_path)
        with world.attempt(["a"], Policy(), output_schema=SCHEMA) as submission:
            submission.advance()
            (world.folder.path / SCHEMA_FILE).write_text("{")
            with pytest.raises(SubmissionRecordError, match=r"output_schema\.json is damaged"):
                submission.advance()


class TestRepair:
    def test_invalid_answers_are_sent_again_and_both_are_on_the_bill(self, tmp_path: Path) -> None:
        model = Model(b=[INVALID, VALID])
        world = model.world(tmp_path)

        done = world.run(["a", "b"], REPAIR, output_schema=SCHEMA)

        assert done.failure is None
        assert [row["output"] for row in world.rows] == [{"n": 1}, {"n": 1}]
        assert model.asked == {"a": [64], "b": [64, 64]}
        (replaced,) = world.rows[1]["replaced"]
        assert (replaced["status"], replaced["text"]) == ("invalid_output", INVALID)
        assert replaced["batch_id"] == done.manifest.batch_ids[0] != world.rows[1]["batch_id"]
        assert done.manifest.cost is not None
        assert Decimal(done.manifest.cost["usd"]) == costs(world)
        assert world.billed == 3

    def test_bill_is_complete_after_a_restart(self, tmp_path: Path) -> None:
        world = Model(b=[INVALID, INVALID, VALID]).world(tmp_path)
        first = world.run(["a", "b"], REPAIR, output_schema=SCHEMA)
        assert first.permanent
        assert len(world.rows[1]["replaced"]) == 1

        done = world.run(["a", "b"], REPAIR, output_schema=SCHEMA)

        assert done.failure is None
        assert [each["text"] for each in world.rows[1]["replaced"]] == [INVALID, INVALID]
        assert done.manifest.cost is not None
        assert Decimal(done.manifest.cost["usd"]) == costs(world)
        assert world.billed == 4

    def test_answers_that_were_cut_off_get_twice_the_max_tokens(self, tmp_path: Path) -> None:
        model = Model(b=[cut(64), cut(128), VALID])
        world = model.world(tmp_path)

        done = world.run(["a", "b"], Policy(repair_invalid=True, repair_rounds=2), output_schema=SCHEMA)

        assert done.failure is None
        assert model.asked["b"] == [64, 128, 256]
        assert (
            json.loads((world.folder.path / "requests.jsonl").read_text().split("\n")[1])["params"]["max_tokens"] == 64
        )

    def test_max_tokens_grows_from_try_to_try(self, tmp_path: Path) -> None:
        model = Model(b=[cut(64), cut(128), VALID])
        world = model.world(tmp_path)
        world.run(["a", "b"], REPAIR, output_schema=SCHEMA)

        world.run(["a", "b"], REPAIR, output_schema=SCHEMA)

        assert model.asked["b"] == [64, 128, 256]
        assert world.rows[1]["output"] == {"n": 1}

    def test_max_tokens_grows_to_the_model_s_limit(self, tmp_path: Path) -> None:
        model = Model(a=[cut(100_000), cut(128_000)])
        world = model.world(tmp_path)

        done = world.run(
            ["a"],
            Policy(repair_invalid=True, repair_rounds=9),
            output_schema=SCHEMA,
            defaults=Defaults(model="claude-haiku-5-5", max_tokens=100_000),
        )

        assert done.permanent
        assert model.asked["a"] == [100_000, 128_000]

    @pytest.mark.parametrize("stop_reason", ["refusal", "model_context_window_exceeded", "tool_use", "pause_turn"])
    def test_answers_that_would_end_the_same_way_are_not_sent_again(self, tmp_path: Path, stop_reason: str) -> None:
        model = Model(a=[{"content": "No.", "stop_reason": stop_reason}])

        done = model.world(tmp_path).run(["a"], REPAIR, output_schema=SCHEMA)

        assert done.permanent
        assert model.asked["a"] == [64]

    def test_rounds_are_bounded_and_the_last_answer_stays(self, tmp_path: Path) -> None:
        world = Model(a=[INVALID, '{"n": -2}', VALID]).world(tmp_path)

        done = world.run(["a"], REPAIR, output_schema=SCHEMA)

        assert done.permanent
        assert world.rows[0]["text"] == '{"n": -2}'
        assert world.billed == 2

    def test_results_downloaded_twice_are_counted_once(self, tmp_path: Path) -> None:
        world = Model(a=[INVALID, '{"n": -2}']).world(tmp_path)
        world.run(["a"], REPAIR, output_schema=SCHEMA)
        (row,) = world.rows
        results = world.folder.path / "results.jsonl"
        with (
            RequestFile(world.folder.path / "requests.jsonl") as requests,
            Landing(SubmissionMatcher(requests, OutputValidator(SCHEMA)), prices=PriceTable.load()) as landing,
        ):
            landing.restore(results.read_bytes().splitlines())
            paid = landing.bill.to_manifest()
            for answer in (row, *row["replaced"]):
                message = {**row["message"], "content": [{"type": "text", "text": answer["text"]}]}
                line = {"custom_id": answer["custom_id"], "result": {"type": "succeeded", "message": message}}
                read_results(landing, answer["batch_id"], [json.dumps(line).encode()])

            assert landing.bill.to_manifest() == paid
            assert b"".join(landing.lines(missing=None)) == results.read_bytes()

    def test_request_that_expires_in_a_repair_round_keeps_its_earlier_answer(self, tmp_path: Path) -> None:
        model = Model(a=[INVALID])
        world = model.world(tmp_path)
        with world.attempt(["a"], REPAIR, output_schema=SCHEMA) as submission:
            submission.advance()
            world.clock.advance(91)
            submission.advance()
            world.simulator.expire(submission.ledger.open_batch_ids[0])
            done = world.finish(submission)

        assert done.permanent
        assert (world.rows[0]["status"], world.rows[0]["text"]) == ("invalid_output", INVALID)
        assert world.billed == 1

    def test_lost_create_response_in_a_repair_round_pays_once(self, tmp_path: Path) -> None:
        model = Model(a=[cut(64), VALID])
        world = model.world(tmp_path)
        with world.attempt(["a"], REPAIR, output_schema=SCHEMA) as submission:
            submission.advance()
            world.clock.advance(91)
            world.simulator.inject(Fault(on="create", do="drop_after_accept"))
            done = world.finish(submission)

        assert done.failure is None
        assert model.asked["a"] == [64, 128]
        assert world.billed == 2

    def test_max_cost_counts_the_larger_max_tokens(self, tmp_path: Path) -> None:
        world = Model(a=[cut(64)]).world(tmp_path)
        limit = Decimal("0.0001")  # 64 tokens of answer cost 0.000016
        policy = Policy(repair_invalid=True, repair_rounds=9, max_cost=limit)

        done = world.run(["a"], policy, output_schema=SCHEMA)

        assert world.billed < 10
        assert 0 < Decimal(done.manifest.cost["usd"]) <= limit
        assert "No repair round was sent: 1 more request may cost up to $0.0000" in str(done.failure)

    def test_repair_above_max_cost_leaves_a_task_with_allowed_failures_successful(self, tmp_path: Path) -> None:
        """The first round's cost counts: each round alone would be within the limit."""
        world = Model(a=[INVALID]).world(tmp_path)
        alone = world.run(["a"], Policy(allow_failed=1), output_schema=SCHEMA).manifest.estimate
        assert alone is not None
        limit = Decimal(alone["usd"]["upper"])
        world = Model(a=[INVALID]).world(tmp_path / "submission")

        done = world.run(["a"], Policy(repair_invalid=True, max_cost=limit, allow_failed=1), output_schema=SCHEMA)

        assert done.failure is None
        assert done.manifest.status == "ended"
        assert world.billed == 1

    def test_repair_within_the_limit_is_begun(self, tmp_path: Path) -> None:
        world = Model(a=[INVALID, VALID]).world(tmp_path)

        done = world.run(["a"], Policy(repair_invalid=True, max_cost=Decimal(1)), output_schema=SCHEMA)

        assert done.failure is None
        assert world.billed == 2

    def test_clear_repairs_rows_that_a_sensor_has_landed(self, tmp_path: Path) -> None:
        world = Model(b=[INVALID, VALID]).world(tmp_path)
        send = Policy(repair_invalid=True, wait_for_completion=False)
        world.run(["a", "b"], send, output_schema=SCHEMA)
        world.clock.advance(91)
        world.run(["a", "b"], Policy(), output_schema=SCHEMA)
        assert world.rows[1]["status"] == "invalid_output"

        handed_over = world.run(["a", "b"], send, output_schema=SCHEMA, clear=True)
        assert handed_over.manifest.status == "in_progress"
        world.clock.advance(91)
        done = world.run(["a", "b"], send, output_schema=SCHEMA)

        assert done.manifest.status == "ended"
        assert world.rows[1]["output"] == {"n": 1}
        assert world.billed == 3
