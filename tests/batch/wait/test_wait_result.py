from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.batch.wait.wait_result import BatchState, WaitResult

states = st.builds(
    BatchState,
    st.sampled_from(["in_progress", "canceling", "ended", "something_new"]),
    st.dictionaries(st.sampled_from(["processing", "succeeded", "errored"]), st.integers(0, 100_000)),
    st.none() | st.just("2026-11-22T09:00:00+00:00"),
)
results = st.builds(
    WaitResult,
    st.sampled_from(["ended", "due", "error"]),
    st.dictionaries(st.text(min_size=1), states),
    st.none() | st.text(),
    st.none() | st.text(),
    st.lists(st.text()).map(tuple),
)


@given(results)
def test_an_event_gives_back_the_result_through_json(result):
    assert WaitResult.from_event(json.loads(json.dumps(result.to_event()))) == result


def test_an_event_has_the_documented_shape():
    result = WaitResult("ended", {"msgbatch_1": BatchState("ended", {"succeeded": 3}, "2026-11-22T09:00:00+00:00")})
    assert result.to_event() == {
        "version": 1,
        "status": "ended",
        "batches": {
            "msgbatch_1": {
                "processing_status": "ended",
                "request_counts": {"succeeded": 3},
                "ended_at": "2026-11-22T09:00:00+00:00",
            }
        },
        "error": None,
        "error_type": None,
        "lost": [],
    }


def test_twenty_batches_make_an_event_of_a_few_kilobytes():
    counts = {"processing": 0, "succeeded": 99_000, "errored": 500, "canceled": 400, "expired": 100}
    state = BatchState("ended", counts, "2026-11-22T09:00:00.123456+00:00")
    result = WaitResult("ended", {f"msgbatch_{number:024}": state for number in range(20)})
    assert len(json.dumps(result.to_event())) < 5_000


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(None, WaitResult("due"), id="None"),
        pytest.param({}, WaitResult("due"), id="an empty event"),
        pytest.param({"version": 9, "status": "paused"}, WaitResult("due"), id="a status of a newer version"),
        pytest.param({"status": "ended", "batches": None}, WaitResult("ended"), id="no batches"),
        pytest.param(
            {"version": 2, "status": "error", "error": "no", "news": [1]},
            WaitResult("error", error="no"),
            id="fields of a newer version",
        ),
        pytest.param(
            {"status": "ended", "batches": {"msgbatch_1": {"processing_status": "ended"}, "msgbatch_2": 7}},
            WaitResult("ended", {"msgbatch_1": BatchState("ended")}),
            id="a damaged batch",
        ),
        pytest.param(["ended"], WaitResult("due"), id="a list"),
        pytest.param(
            {
                "status": "ended",
                "error": 7,
                "error_type": [],
                "lost": "msgbatch_1",
                "batches": {"msgbatch_1": {"processing_status": "ended", "request_counts": [1], "ended_at": 5}},
            },
            WaitResult("ended", {"msgbatch_1": BatchState("ended")}),
            id="fields of other types",
        ),
        pytest.param({"status": "error", "lost": 7}, WaitResult("error"), id="a number of lost batches"),
    ],
)
def test_events_of_other_versions_are_read(event, expected):
    assert WaitResult.from_event(event) == expected


#: Trigger events as version 0.1.0 wrote them into Airflow's database.
STORED_BATCHES = """
  "msgbatch_01Ended": {
    "processing_status": "ended",
    "request_counts": {"processing": 0, "succeeded": 2, "errored": 1, "canceled": 0, "expired": 0},
    "ended_at": "2026-11-21T09:12:00.123456+00:00"
  },
  "msgbatch_02Runs": {
    "processing_status": "in_progress",
    "request_counts": {"processing": 3, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
    "ended_at": null
  }
"""
ENDED = BatchState(
    "ended",
    {"processing": 0, "succeeded": 2, "errored": 1, "canceled": 0, "expired": 0},
    "2026-11-21T09:12:00.123456+00:00",
)
RUNNING = BatchState("in_progress", {"processing": 3, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0})
STATES = {"msgbatch_01Ended": ENDED, "msgbatch_02Runs": RUNNING}


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        pytest.param(
            '{"version": 1, "status": "ended", "batches": {%s}, "error": null, "error_type": null, "lost": []}',
            WaitResult("ended", STATES),
            id="ended",
        ),
        pytest.param(
            '{"version": 1, "status": "due", "batches": {%s}, "error": null, "error_type": null, "lost": []}',
            WaitResult("due", STATES),
            id="due",
        ),
        pytest.param(
            """{"version": 1, "status": "error", "batches": {%s},
            "error": "Connection 'claude_default' is refused, also after it was read again: no (401).",
            "error_type": "AuthenticationError", "lost": []}""",
            WaitResult(
                "error",
                STATES,
                "Connection 'claude_default' is refused, also after it was read again: no (401).",
                "AuthenticationError",
            ),
            id="rejected credential",
        ),
        pytest.param(
            """{"version": 1, "status": "error", "batches": {%s},
            "error": "For ten minutes the API has denied msgbatch_03Gone (connection 'claude_default'): no (404).",
            "error_type": "NotFoundError", "lost": ["msgbatch_03Gone"]}""",
            WaitResult(
                "error",
                STATES,
                "For ten minutes the API has denied msgbatch_03Gone (connection 'claude_default'): no (404).",
                "NotFoundError",
                ("msgbatch_03Gone",),
            ),
            id="lost batch",
        ),
    ],
)
def test_stored_events_are_read_and_would_be_written_the_same(stored, expected):
    event = json.loads(stored % STORED_BATCHES)
    assert WaitResult.from_event(event) == expected
    assert expected.to_event() == event
