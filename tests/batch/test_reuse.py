"""A request that an earlier submission has asked is not paid for again: over the simulator, by its books."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from submission_world import DEFAULTS, TEN, World, new_world, same_answer

from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch.input.output_schema import read_schema
from airflow_claude_batch.batch.land.rows import RowBody, body_of_line
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.reuse.answer_store import AnswerStore
from airflow_claude_batch.batch.steps import AskStep, DoneStep, WaitStep
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.exceptions import APIConnectionError, CostLimitError
from airflow_claude_batch.simulator import Fault, Model, Simulator

POLICY = Policy(max_requests=4)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return new_world(tmp_path)


def reused(step: DoneStep) -> int:
    return step.manifest.reused["requests"] if step.manifest.reused else 0


def comparable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without what tells when and by which submission they were answered."""
    told = {"reused_from", "usage", "cost_usd", "batch_id", "custom_id", "message"}
    return [{name: value for name, value in row.items() if name not in told} for row in rows]


# ------------------------------------------------------------------ what is paid for


def test_second_submission_pays_for_what_changed_only(world: World) -> None:
    first = world.run(TEN, POLICY, store={})
    other = world.another("two")
    step = other.run([*TEN[:4], "something new", *TEN[5:]], POLICY, store={})

    assert world.billed == 11
    assert step.failure is None
    assert not step.is_old
    assert step.manifest.status == "ended"
    assert step.manifest.counts["succeeded"] == 10
    assert len(step.manifest.batch_ids) == 1
    assert step.manifest.stored_batch_ids == step.manifest.batch_ids
    assert first.manifest.stored_batch_ids == first.manifest.batch_ids
    rows = other.rows
    assert [row["index"] for row in rows] == list(range(10))
    assert [index for index, row in enumerate(rows) if "reused_from" not in row] == [4]
    for before, row in zip(world.rows, rows, strict=True):
        if row["index"] != 4:
            assert row["text"] == before["text"]
            assert (row["cost_usd"], row["usage"]) == ("0", None)
            assert row["reused_from"] == {
                "submission_id": "s",
                "batch_id": before["batch_id"],
                "custom_id": before["custom_id"],
                "answered_at": row["reused_from"]["answered_at"],
                "cost_usd": before["cost_usd"],
            }
            assert row["batch_id"] == before["batch_id"]


def test_manifest_says_what_was_reused_and_what_it_cost_first(world: World) -> None:
    first = world.run(TEN, POLICY, store={})
    step = world.another("two").run([*TEN[:9], "new"], POLICY, store={})
    paid_first = sum(float(row["cost_usd"]) for row in world.rows[:9])

    told = step.manifest.reused
    assert told["requests"] == 9
    assert float(told["first_usd"]) == pytest.approx(paid_first)
    assert told["oldest_at"] == told["newest_at"] == first.manifest.to_xcom()["ended_at"]
    (part,) = step.manifest.by_model.values()
    assert (part["counts"], part["reused"]) == ({"succeeded": 10}, 9)
    assert 0 < float(step.manifest.cost["usd"]) < float(first.manifest.cost["usd"]) / 5
    assert step.manifest.stop_reasons == {"end_turn": 10}
    assert step.manifest.estimate["requests"] == 1


def test_without_a_store_nothing_tells_of_one(world: World) -> None:
    step = world.run(TEN[:2], POLICY)
    names = {path.name for path in world.path.parent.rglob("*")}
    assert "answers" not in names
    for data in (step.manifest.to_xcom(), *world.rows, *step.manifest.by_model.values()):
        assert not {"reused", "stored_batch_ids", "reused_from", "for_sensor"} & data.keys()
    ledgers = [path for path in world.folder.path.iterdir() if path.name.startswith("ledger")]
    assert ledgers
    assert not any(b"looked_up" in path.read_bytes() for path in ledgers)


def test_everything_reused_makes_no_create_call_and_says_so(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.run(TEN, POLICY, store={})
    creates = world.simulator.books()["calls"]["create"]
    caplog.set_level(logging.INFO)
    other = world.another("two")
    step = other.run(list(reversed(TEN)), POLICY, store={})

    assert (world.billed, world.simulator.books()["calls"]["create"]) == (10, creates)
    assert (step.manifest.status, step.manifest.batch_ids, reused(step)) == ("ended", [], 10)
    assert (step.manifest.cost["usd"], step.manifest.cost["estimated_usd"]) == ("0", "0")
    assert [row["text"] for row in other.rows] == [f"answer to {text}" for text in reversed(TEN)]
    assert "The answer store has 10 of 10 requests, answered on 20" in caplog.text
    assert len(list(world.store_path.rglob("*.answers"))) == 1, "what sends nothing stores nothing"


def test_retry_and_clear_look_up_only_what_is_not_answered(world: World) -> None:
    world.run(TEN[:5], POLICY, store={})
    other = world.another("two")
    other.run(TEN, POLICY, store={})
    again = other.run(TEN, POLICY, store={})  # a retry
    assert (reused(again), again.is_old, world.billed) == (5, True, 10)
    cleared = other.run([*TEN[:8], "new"], POLICY, store={}, clear=True)
    assert (reused(cleared), world.billed) == (5, 11)
    assert [row["text"] for row in other.rows] == [f"answer to {text}" for text in (*TEN[:8], "new")]
    without = other.run([*TEN[:8], "new"], POLICY, clear=True)  # the store is not named any more: nothing is lost
    assert (reused(without), world.billed) == (5, 11)
    assert [row["text"] for row in other.rows] == [f"answer to {text}" for text in (*TEN[:8], "new")]


@pytest.mark.parametrize("deduplicate", [True, False])
def test_equal_requests_share_one_stored_answer(deduplicate: bool, world: World) -> None:
    world.run(["a", "b", "a"], POLICY, store={}, deduplicate=deduplicate)
    paid = world.billed
    other = world.another("two")
    step = other.run(["a", "c", "b", "a", "a"], POLICY, store={}, deduplicate=deduplicate)

    assert (paid, world.billed) == (2 + (not deduplicate), paid + 1)
    assert reused(step) == 4
    assert [row["text"] for row in other.rows] == [f"answer to {text}" for text in "acbaa"]
    first_costs = [row["reused_from"]["cost_usd"] for row in other.rows if "reused_from" in row]
    assert first_costs.count("0") == (2 if deduplicate else 0)
    with other.attempt(["a", "c", "b", "a", "a"], POLICY, store={}, deduplicate=deduplicate, clear=True) as submission:
        assert reused(other.finish(submission)) == 4
    assert world.billed == paid + 1


def test_mapped_task_instances_share_a_store(world: World) -> None:
    steps = [world.another(f"mapped-{n}").run([*TEN[:3], f"own {n}"], POLICY, store={}) for n in range(4)]
    assert [reused(step) for step in steps] == [0, 3, 3, 3]
    assert world.billed == 3 + 4


asked = st.lists(st.lists(st.sampled_from(TEN[:6]), min_size=1, max_size=5), min_size=2, max_size=4)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked, st.booleans())
def test_reuse_is_the_same_as_asking_anew(
    tmp_path_factory: pytest.TempPathFactory, runs: list[list[str]], deduplicate: bool
) -> None:
    reusing, anew = (new_world(tmp_path_factory.mktemp(name)) for name in ("reusing", "anew"))
    how: dict[str, Any] = {"deduplicate": deduplicate}
    for number, messages in enumerate(runs):
        one, other = reusing.another(f"run-{number}"), anew.another(f"run-{number}")
        first, second = one.run(messages, POLICY, store={}, **how), other.run(messages, POLICY, **how)
        assert comparable(one.rows) == comparable(other.rows)
        assert [row["message"]["content"] for row in one.rows] == [row["message"]["content"] for row in other.rows]
        assert first.manifest.counts == second.manifest.counts
    known, new = set[str](), 0
    for messages in runs:
        new += len([text for text in (set(messages) if deduplicate else messages) if text not in known])
        known.update(messages)
    assert reusing.billed == new


# ------------------------------------------------------------------ what counts as an answer today

LABEL = read_schema({"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]})
LABELS = read_schema({"type": "object", "properties": {"label": {"enum": ["good", "bad"]}}, "required": ["label"]})


def test_answer_is_validated_anew(tmp_path: Path) -> None:
    world = new_world(
        tmp_path, answer=lambda params, n: '{"label": "fine"}' if "1" in str(params) else '{"label": "GOOD"}'
    )
    defaults = DEFAULTS
    world.run(["1", "2"], POLICY, store={}, output_schema=LABEL, defaults=defaults)
    rows = world.rows
    assert [row["output"] for row in rows] == [{"label": "fine"}, {"label": "GOOD"}]
    # Another schema asks something else, since it is in the request: nothing is reused. The same one is validated anew.
    other = world.another("two")
    assert reused(other.run(["1", "2"], POLICY, store={}, output_schema=LABELS)) == 0
    assert [row["status"] for row in other.rows] == ["invalid_output", "succeeded"]
    third = world.another("three")
    step = third.run(["1", "2"], POLICY, store={}, output_schema=LABELS)
    assert reused(step) == 1, "an invalid answer is not stored"
    assert third.rows[1]["output"] == {"label": "good"}


def test_answers_that_are_not_complete_are_asked_anew(tmp_path: Path) -> None:
    ends = {
        "question 1": "max_tokens",
        "question 2": "refusal",
        "question 3": "pause_turn",
        "question 4": "stop_sequence",
    }

    def outcome(custom_id: str, params: dict[str, Any], attempt: int) -> str | None:
        return ends.get(params["messages"][-1]["content"])

    world = new_world(tmp_path, outcome=outcome)
    world.run(TEN[:5], POLICY, store={})
    other = world.another("two")
    step = other.run(TEN[:5], POLICY, store={})
    assert [index for index, row in enumerate(other.rows) if "reused_from" in row] == [0, 4]
    assert reused(step) == 2


def test_older_answers_are_asked_anew(world: World) -> None:
    world.run(TEN[:2], POLICY, store={})
    world.clock.advance(86_400)
    young = world.another("two").run(TEN[:2], POLICY, store={"max_age": timedelta(days=2)})
    old = world.another("three").run(TEN[:2], POLICY, store={"max_age": timedelta(hours=23)})
    newest = world.another("four").run(TEN[:2], POLICY, store={"max_age": timedelta(hours=23)})
    assert [reused(step) for step in (young, old, newest)] == [2, 0, 2]


def test_another_version_asks_everything_anew(world: World) -> None:
    world.run(TEN[:2], POLICY, store={})
    steps = [world.another(f"v{n}").run(TEN[:2], POLICY, store={"version": v}) for n, v in enumerate(["2", "2", ""])]
    assert [reused(step) for step in steps] == [0, 2, 2]


def test_asking_anew_looks_nothing_up_and_its_answers_take_the_place_of_the_old_ones(tmp_path: Path) -> None:
    answers = {"now": "old"}
    world = new_world(tmp_path, answer=lambda params, n: answers["now"])
    world.run(TEN[:2], POLICY, store={})
    world.clock.advance(3600)
    answers["now"] = "new"
    anew = world.another("two").run(TEN[:2], POLICY, store={}, reuse_answers=False)
    third = world.another("three")
    step = third.run(TEN[:2], POLICY, store={})
    assert (reused(anew), reused(step), world.billed) == (0, 2, 4)
    assert [row["text"] for row in third.rows] == ["new", "new"]


def _models(alias_of: str) -> list[Model]:
    return [
        Model(
            id=f"claude-test-1-{day}",
            display_name="Test",
            line="haiku",
            version=(5, 5),
            aliases=("claude-test-1",) if day == alias_of else (),
        )
        for day in ("20260101", "20260901")
    ]


def test_alias_that_stands_for_another_model_now_is_asked_anew(tmp_path: Path) -> None:
    def simulator(alias_of: str) -> Simulator:
        return Simulator(clock=world.clock, batch_seconds=90, answer=same_answer, models=_models(alias_of))

    asks = {"defaults": type(DEFAULTS)(model="claude-test-1", max_tokens=64), "store": {}}
    world = new_world(tmp_path)
    world.simulator = simulator("20260101")
    world.run(TEN[:2], POLICY, **asks)
    assert {row["model"] for row in world.rows} == {"claude-test-1-20260101"}
    assert reused(world.another("same").run(TEN[:2], POLICY, **asks)) == 2
    world.simulator = simulator("20260901")
    moved = world.another("moved")
    assert reused(moved.run(TEN[:2], POLICY, **asks)) == 0
    assert {row["model"] for row in moved.rows} == {"claude-test-1-20260901"}
    world.simulator.inject(Fault(do="status", on="models", status=404, times=None))
    assert reused(world.another("unknown").run(TEN[:2], POLICY, **asks)) == 2, "where nothing tells, answers count"


# ------------------------------------------------------------------ a store that fails


def test_damaged_store_is_asked_anew_and_repaired(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.run(TEN[:3], POLICY, store={})
    for path in world.store_path.rglob("*.answers"):
        path.write_bytes(path.read_bytes()[:-20])
    step = world.another("two").run(TEN[:3], POLICY, store={})
    assert (step.failure, reused(step), world.billed) == (None, 0, 6)
    assert "WARNING" in {record.levelname for record in caplog.records}
    assert reused(world.another("three").run(TEN[:3], POLICY, store={})) == 3


class _Refusing(LocalFolder):
    """A folder that refuses some methods."""

    def __init__(self, path: Path, *refused: str) -> None:
        super().__init__(path)
        for name in refused:
            setattr(self, name, self._refuse)

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise OSError("the storage is away")


def refusing(world: World, *names: str) -> Callable[[str], LocalFolder]:
    return lambda name: _Refusing(world.store_path / name, *names)


def test_store_that_cannot_be_read_costs_the_answers_only(world: World) -> None:
    world.run(TEN[:3], POLICY, store={})
    folder = refusing(world, "names", "sizes", "open", "read_range", "size")
    step = world.another("two").run(TEN[:3], POLICY, store={"open_folder": folder})
    assert (step.failure, reused(step), world.billed) == (None, 0, 6)


def test_store_that_cannot_be_written_is_written_by_a_clear(world: World, caplog: pytest.LogCaptureFixture) -> None:
    step = world.run(TEN[:3], POLICY, store={"open_folder": refusing(world, "replace_file")})
    assert step.failure is None
    assert not step.manifest.stored_batch_ids
    assert "could not be stored" in caplog.text
    cleared = world.run(TEN[:3], POLICY, store={}, clear=True)
    assert cleared.manifest.stored_batch_ids == step.manifest.batch_ids
    assert reused(world.another("two").run(TEN[:3], POLICY, store={})) == 3
    assert world.billed == 3


def test_workspace_that_cannot_be_asked_for_stops_before_anything_is_sent(world: World) -> None:
    world.simulator.inject(Fault(do="drop_before_accept", on="list", times=None))
    with pytest.raises(APIConnectionError), world.attempt(TEN[:2], POLICY, store={}) as submission:
        submission.advance()
    assert world.billed == 0


def test_each_workspace_has_answers_of_its_own(tmp_path: Path) -> None:
    world = new_world(tmp_path, keys={"sk-test": "wrkspc_one"})
    world.run(TEN[:2], POLICY, store={})
    world.simulator = Simulator(clock=world.clock, batch_seconds=90, keys={"sk-test": "wrkspc_two"})
    assert reused(world.another("two").run(TEN[:2], POLICY, store={})) == 0
    assert {path.name for path in world.store_path.iterdir()} == {"wrkspc_one", "wrkspc_two"}


def test_workspace_that_only_the_connection_names_shares_no_answers(world: World) -> None:
    class Gateway(httpx.BaseTransport):
        """Answers as the API does, but names no workspace."""

        inner = world.simulator.transport()

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = self.inner.handle_request(request)
            response.headers.pop("anthropic-workspace-id", None)
            return response

    def scope(url: str, workspace: str | None) -> str:
        config = ClientConfig(credentials=ApiKey("sk-test"), base_url=url, workspace_id=workspace)
        with ClaudeClient(config, transport=Gateway()) as client:
            handed = world.answer_reuse().handed_over(client)
        assert handed is not None
        return handed.scope

    one, other = "http://127.0.0.1:1", "http://127.0.0.1:2"
    named = "wrkspc_01Simulator"
    assert len({scope(one, named), scope(other, named), scope(one, None), named}) == 4
    assert scope(one, named) == scope(one, named)


def test_sensor_is_told_the_workspace_that_the_api_names(world: World) -> None:
    policy = Policy(wait_for_completion=False)
    world.run(TEN[:2], policy, store={})
    world.simulator.inject(Fault(do="status", on="retrieve", status=404, times=3))
    scopes = [world.run(TEN[:2], policy, store={}).manifest.for_sensor["answer_store"]["scope"] for _ in range(3)]
    assert scopes == ["wrkspc_01Simulator"] * 3


# ------------------------------------------------------------------ how old an answer is


def stored_late(world: World, messages: list[str]) -> None:
    """Run three requests while the store cannot be written, and clear the task ten days later with these."""
    world.run(TEN[:3], POLICY, store={"open_folder": refusing(world, "replace_file")})
    world.clock.advance(10 * 86_400)
    world.run(messages, POLICY, store={}, clear=True)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_answers_that_are_stored_late_are_as_old_as_they_are(count: int, world: World) -> None:
    stored_late(world, TEN[:count])
    young = world.another("two").run(TEN[:count], POLICY, store={"max_age": timedelta(days=2)})
    assert reused(young) == max(count - 3, 0)


def test_answers_that_are_stored_late_do_not_take_the_place_of_newer_ones(tmp_path: Path) -> None:
    answers = {"now": "old"}
    world = new_world(tmp_path, answer=lambda params, n: answers["now"])
    world.run(TEN[:3], POLICY, store={"open_folder": refusing(world, "replace_file")})
    world.clock.advance(86_400)
    answers["now"] = "new"
    world.another("newer").run(TEN[:3], POLICY, store={})
    world.clock.advance(86_400)
    world.run(TEN[:2], POLICY, store={}, clear=True)
    last = world.another("last")
    last.run(TEN[:3], POLICY, store={})
    assert [row["text"] for row in last.rows] == ["new"] * 3


def test_forgotten_answers_do_not_come_back_by_a_clear_that_stores_late(world: World) -> None:
    world.run(TEN[:3], POLICY, store={"open_folder": refusing(world, "replace_file")})
    world.clock.advance(86_400)
    stored = AnswerStore(LocalFolder(world.store_path / "wrkspc_01Simulator"), clock=world.clock.now)
    stored.forget([b"0"], [])
    world.clock.advance(86_400)
    world.run(TEN[:2], POLICY, store={}, clear=True)
    assert stored.stats().answers == 1


def test_answers_whose_age_nobody_knows_are_not_stored(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.run(TEN[:3], POLICY, store={"open_folder": refusing(world, "replace_file")})
    world.simulator.inject(Fault(do="status", on="retrieve", status=404, times=None))
    step = world.run(TEN[:2], POLICY, store={}, clear=True)
    assert step.failure is None
    assert not step.manifest.stored_batch_ids
    assert "nothing tells any more how old they are" in caplog.text


# ------------------------------------------------------------------ beside the other features


def test_full_queue_sends_the_rest_part_by_part(tmp_path: Path) -> None:
    world = new_world(tmp_path, queue_limit=3)
    world.run(TEN[:4], Policy(max_requests=2), store={})
    other = world.another("two")
    step = other.run([*(f"new {n}" for n in range(4)), *TEN[:4], "last"], Policy(max_requests=2), store={})
    assert (reused(step), world.billed) == (4, 9)
    assert [row["text"] for row in other.rows][4:] == [f"answer to {text}" for text in (*TEN[:4], "last")]


@pytest.mark.parametrize("choice", ["canary", "warm_cache"])
def test_reused_answers_do_not_stand_for_the_request_that_goes_first(choice: str, world: World) -> None:
    world.run(TEN[:4], POLICY, store={})
    other = world.another("two")
    step = other.run([*TEN[:4], "x", "y", "z"], Policy(**{choice: True}), store={})
    batches = world.simulator.books()["batches"]
    assert [batch["request_count"] for batch in batches[-2:]] == [1, 2]
    assert (reused(step), step.failure) == (4, None)


def test_refused_canary_stops_beside_reused_answers(tmp_path: Path) -> None:
    world = new_world(
        tmp_path, outcome=lambda id_, params, n: "errored:invalid_request_error" if "bad" in str(params) else None
    )
    world.run(TEN[:4], POLICY, store={})
    other = world.another("two")
    step = other.run([*TEN[:4], "bad 1", "bad 2"], Policy(canary=True), store={})
    assert "was refused" in str(step.failure)
    assert step.permanent
    assert world.simulator.books()["batches"][-1]["request_count"] == 1


def test_limit_on_cost_counts_what_is_sent_only(world: World) -> None:
    world.run(TEN, POLICY, store={})
    upper = world.another("limit").run(["x"], POLICY).manifest.estimate["usd"]["upper"]
    policy = Policy(max_cost=Decimal(upper))
    assert reused(world.another("two").run([*TEN, "y"], policy, store={})) == 10
    with pytest.raises(CostLimitError):
        world.another("three").run([*TEN, "y"], policy, reuse_answers=False, store={})


def test_sensor_form_leaves_reused_rows_in_the_folder_and_hands_the_store_over(world: World) -> None:
    world.run(TEN[:4], POLICY, store={})
    other = world.another("two")
    step = other.run([*TEN[:4], "x", "y"], Policy(wait_for_completion=False), store={"version": ""})
    handed = step.manifest.for_sensor["answer_store"]
    assert (step.manifest.status, reused(step)) == ("in_progress", 4)
    assert handed == {
        "path": str(world.store_path),
        "version": "",
        "scope": "wrkspc_01Simulator",
        "api": handed["api"],
    }
    assert [row["text"] for row in other.rows] == [f"answer to {text}" for text in TEN[:4]]


def test_batches_of_an_earlier_input_answer_before_the_store_does(world: World) -> None:
    world.run(["a", "b"], POLICY, store={})
    other = world.another("two")
    with other.attempt(["c", "d", "x"], POLICY) as submission:
        assert isinstance(submission.advance(), WaitStep)
    step = other.run(["a", "c", "d"], POLICY, store={}, clear=True)
    assert (reused(step), world.billed) == (1, 2 + 3)
    assert [row["text"] for row in other.rows] == [f"answer to {text}" for text in "acd"]


def test_replaced_answers_are_paid_for_once_more_but_not_stored(tmp_path: Path) -> None:
    asked: list[str] = []

    def outcome(custom_id: str, params: dict[str, Any], attempt: int) -> str | None:
        asked.append(custom_id)
        return "max_tokens" if attempt == 1 else None

    world = new_world(tmp_path, outcome=outcome, answer=lambda params, n: '{"label": "good"}')
    policy = Policy(repair_invalid=True)
    world.run(["1"], policy, store={}, output_schema=LABEL)
    other = world.another("two")
    step = other.run(["1"], policy, store={}, output_schema=LABEL)
    if "replaced" in world.rows[0]:
        assert "replaced" not in other.rows[0]
    assert reused(step) <= 1


def test_answers_of_a_sample_are_stored_before_a_person_is_asked(world: World) -> None:
    policy = Policy(approve_above=Decimal(0), sample=2)
    with world.attempt(TEN, policy, store={}) as submission:
        assert isinstance(world.advance(submission), AskStep)
    assert world.billed == 2
    assert reused(world.another("two").run(TEN, POLICY, store={})) == 2
    assert world.billed == 10


def test_reused_rows_that_get_lost_are_looked_up_again(tmp_path: Path) -> None:
    world = new_world(tmp_path, queue_limit=1)
    one_by_one = Policy(max_requests=1)
    world.run(TEN[:2], one_by_one, store={})
    other = world.another("two")
    with other.attempt([*TEN[:2], "x", "y"], one_by_one, store={}) as submission:
        assert isinstance(submission.advance(), WaitStep)
        for path in other.folder.path.glob("landed-*"):
            path.unlink()
        step = other.finish(submission)
    assert (reused(step), world.billed) == (2, 4)
    assert [row["text"] for row in other.rows] == [f"answer to {text}" for text in (*TEN[:2], "x", "y")]


def test_reused_row_comes_back_from_its_line(world: World) -> None:
    world.run(["a"], POLICY, store={})
    other = world.another("two")
    other.run(["a"], POLICY, store={})
    line = (other.folder.path / "results.jsonl").read_bytes()
    body = RowBody.decode(body_of_line(line))
    assert body.reused_from
    assert body.encode() == body_of_line(line)
