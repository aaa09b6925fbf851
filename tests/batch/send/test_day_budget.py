"""The budget of a day: what counts, who is refused, and what a crash leaves."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from batch.money.usages import TABLE
from batch.send.day_budgets import NOON, Store, bill_of, estimate_of, reserve, settle
from stores import Store as ObjectStore

from airflow_claude_batch.batch.money.bill import Bill
from airflow_claude_batch.batch.money.day_limit import current_entries
from airflow_claude_batch.batch.send.day_entries import KEPT_DAYS, REMOVED_AT_ONCE, DayEntries, entry_of, name_of
from airflow_claude_batch.batch.storage import LocalFolder, ObjectFolder
from airflow_claude_batch.exceptions import (
    ConfigurationError,
    CostLimitError,
    DailyCostLimitError,
    InputError,
    SubmissionTakenOverError,
)

MISSING = Bill(TABLE)
MISSING.unreadable_answers = 1


def test_refusal_has_the_sums_and_says_when_it_frees_up() -> None:
    store = Store()
    reserve(store.budget("a1"), "6")
    settle(store.budget("a1"), "1.80")
    reserve(store.budget("b2"), "5")
    store.advance(8.8)

    with pytest.raises(DailyCostLimitError) as refusal:
        reserve(store.budget("c3"), "4")

    assert str(refusal.value).splitlines() == [
        "10 requests may cost up to $4.00, but [claude_batch] max_cost_per_day has $3.20 left today.",
        "Nothing was sent.",
        "2026-11-22 (UTC): $1.80 billed for 1 submission, up to $5.00 for 1 submission that is open, of $10.00.",
        "It frees up at 00:00 UTC, in 3 h 12 min. What the open submission costs less than its upper bound frees up "
        "when it ends. A failed one ends when its task is cleared.",
        "A retry of the task checks again (retries, retry_delay). What would fit now: a higher limit, or max_tokens of "
        "80 instead of 100, or about 8 requests of this kind.",
    ]
    assert set(store.sums()) == {"a1", "b2"}
    assert not isinstance(refusal.value, InputError)  # which Airflow does not retry


def test_amounts_that_look_alike_are_shown_with_all_digits() -> None:
    store = Store()
    reserve(store.budget("a1"), "6.000001")

    with pytest.raises(DailyCostLimitError, match=r"up to \$4, but .* has \$3\.999999 left today"):
        reserve(store.budget("b2"), "4")


def test_next_day_has_a_budget_of_its_own() -> None:
    store = Store()
    reserve(store.budget("a1"), "10")
    with pytest.raises(DailyCostLimitError):
        reserve(store.budget("b2"), "1")
    store.advance(12)

    reserve(store.budget("b2"), "10")

    assert store.sums() == {"a1": (True, 10)}
    assert store.sums("2026-11-23") == {"b2": (True, 10)}


def test_limit_of_a_dag_counts_that_dag_alone() -> None:
    store = Store()
    reserve(store.budget("a1", "10", of_dag="3"), "3")
    with pytest.raises(DailyCostLimitError, match=r"max_cost_per_dag_per_day has \$0.00 left") as refusal:
        reserve(store.budget("a2", "10", of_dag="3"), "1")
    assert "2026-11-22 (UTC), this DAG: up to $3.00 for 1 submission that is open, of $3.00" in str(refusal.value)

    reserve(store.budget("b1", "10", of_dag="3", dag="bbbbbbbbbbbb"), "3")


def test_limit_with_the_least_room_is_named() -> None:
    store = Store()
    reserve(store.budget("a1", "10", of_dag="9"), "8")

    with pytest.raises(DailyCostLimitError, match=r"max_cost_per_dag_per_day has \$1.00 left"):
        reserve(store.budget("a2", "10", of_dag="9"), "3")


@pytest.mark.parametrize("of_dag", [None, "1"])
def test_what_no_day_has_room_for_is_refused_for_good(of_dag: str | None) -> None:
    with pytest.raises(
        CostLimitError, match=r"above \[claude_batch\] max_cost_per_(day|dag_per_day), \$1.00"
    ) as refusal:
        reserve(Store().budget("a1", "1" if of_dag is None else "9", of_dag=of_dag), "2")

    assert isinstance(refusal.value, InputError)


def test_model_without_a_price_is_refused_for_good() -> None:
    unpriced = dataclasses.replace(estimate_of("1"), costs=None, unpriced_models=("claude-novella-7",))

    with pytest.raises(CostLimitError, match=r"max_cost_per_day cannot be held: no price is known for claude-novella"):
        Store().budget("a1").reserve(unpriced, bill_of("0"), covers="", has_open_batches=False)


def test_check_reserves_nothing() -> None:
    store = Store()
    store.budget("a1").check(estimate_of("10"))
    assert store.sums() == {}

    reserve(store.budget("b2"), "1")
    with pytest.raises(DailyCostLimitError, match=r"has \$9.00 left today"):
        store.budget("a1").check(estimate_of("10"))


# ---------------------------------------------------------------- what counts of one submission


def test_end_frees_what_was_not_billed() -> None:
    store = Store()
    reserve(store.budget("a1"), "10")
    settle(store.budget("a1"), "2.50")
    assert store.sums() == {"a1": (False, Decimal("2.5"))}

    reserve(store.budget("b2"), "7.50")


def test_bill_above_the_upper_bound_counts_as_it_is() -> None:
    store = Store()
    reserve(store.budget("a1"), "1")
    settle(store.budget("a1"), "1.25")

    assert store.sums() == {"a1": (False, Decimal("1.25"))}


def test_retry_replaces_its_own_reservation() -> None:
    store = Store()
    for _ in range(3):
        reserve(store.budget("a1"), "10")

    assert store.sums() == {"a1": (True, 10)}


def test_retry_with_open_batches_counts_what_was_landed_once() -> None:
    """Half of it was landed for 1 dollar, the other half runs and is in the new estimate."""
    store = Store()
    reserve(store.budget("a1"), "10")
    reserve(store.budget("a1"), "5", "1", is_open=True)

    assert store.sums() == {"a1": (True, 6)}
    settle(store.budget("a1"), "3")
    assert store.sums() == {"a1": (False, 3)}


def test_repair_round_of_the_next_day_adds_only_what_it_sends() -> None:
    store = Store()
    reserve(store.budget("a1"), "10")
    store.advance(13)
    reserve(store.budget("a1"), "2", "7")
    assert store.sums("2026-11-23") == {"a1": (True, 2)}

    settle(store.budget("a1"), "7.50")

    assert store.sums("2026-11-23") == {"a1": (False, Decimal("0.5"))}


def test_end_on_the_next_day_is_noted_on_the_day_of_sending() -> None:
    store = Store()
    reserve(store.budget("a1"), "10")
    store.advance(13)
    settle(store.budget("a1"), "7")

    assert store.sums() == {"a1": (False, 7)}
    assert store.sums("2026-11-23") == {}


@pytest.mark.parametrize(
    ("covers", "lineage", "billed"),
    [
        pytest.param("other 0", "", "4", id="other input"),
        pytest.param("input 1", "", "4", id="a batch was dropped"),
        pytest.param("input 0", "2", "4", id="begun anew"),
        pytest.param("input 0", "", "0", id="rows are gone"),
    ],
)
def test_open_reservation_that_the_bill_does_not_show_stays_at_its_upper_bound(
    covers: str, lineage: str, billed: str
) -> None:
    store = Store()
    reserve(store.budget("a1"), "3", "1")

    reserve(store.budget("a1", lineage=lineage), "4", billed, covers=covers)

    assert store.sums() == {"a1": (True, 7)}


def test_settled_cost_stays_when_a_clear_begins_anew() -> None:
    store = Store()
    reserve(store.budget("a1"), "3")
    settle(store.budget("a1"), "2")

    reserve(store.budget("a1", lineage="2"), "3", "0")

    assert store.sums() == {"a1": (True, 5)}


def test_unknown_cost_counts_as_the_upper_bound() -> None:
    store = Store()
    reserve(store.budget("a1"), "3")
    store.budget("a1").settle(MISSING, covers="input 0")
    assert store.sums() == {"a1": (True, 3)}

    store.budget("a1").reserve(estimate_of("2"), MISSING, covers="input 0", has_open_batches=False)
    assert store.sums() == {"a1": (True, 5)}


def test_end_without_a_reservation_writes_nothing() -> None:
    store = Store()
    settle(store.budget("a1"), "2")
    reserve(store.budget("a1"), "3")
    settle(store.budget("a1"), "2")
    before = dict(store.days["2026-11-22"].files)

    settle(store.budget("a1"), "2")

    assert store.days["2026-11-22"].files == before


def test_reservation_of_a_crash_is_released_by_a_refusal() -> None:
    """The first attempt died before it sent anything, and the second one has no room: the third has."""
    store = Store()
    reserve(store.budget("b2"), "3")
    reserve(store.budget("a1"), "7")
    with pytest.raises(DailyCostLimitError):
        reserve(store.budget("a1"), "8")
    assert store.sums()["a1"] == (False, 0)

    reserve(store.budget("c3"), "7")


# ---------------------------------------------------------------- two tasks


def test_sensor_settles_what_was_handed_over() -> None:
    store = Store()
    reserve(store.budget("a1"), "3")
    handed_over = store.budget("a1").hand_over(covers="input 0")
    assert handed_over == "2026-11-22/1"

    store.budget("a1").settle_handed_over(handed_over, bill_of("2"))

    assert store.sums() == {"a1": (False, 2)}
    assert store.budget("a1").hand_over(covers="input 0") is None


def test_sensor_of_an_earlier_manifest_leaves_a_later_reservation() -> None:
    store = Store()
    reserve(store.budget("a1"), "3")
    handed_over = store.budget("a1").hand_over(covers="input 0")
    assert handed_over is not None
    reserve(store.budget("a1"), "5")

    store.budget("a1").settle_handed_over(handed_over, bill_of("0"))

    assert store.sums() == {"a1": (True, 5)}


def test_reservation_for_another_input_is_not_handed_over() -> None:
    store = Store()
    assert store.budget("a1").hand_over(covers="input 0") is None
    reserve(store.budget("a1"), "3")

    assert store.budget("a1").hand_over(covers="input 1") is None


@pytest.mark.parametrize("text", ["", "../x/1", "2026-13-40/1", "2026-11-22/0", "2026-11-22/1/2", "2026-11-21/1"])
def test_what_was_not_handed_over_settles_nothing(text: str) -> None:
    store = Store()
    reserve(store.budget("a1"), "3")

    store.budget("a1").settle_handed_over(text, bill_of("0"))

    assert store.sums() == {"a1": (True, 3)}


# ---------------------------------------------------------------- concurrency; test_day_budget_races has all orders


def test_of_two_at_the_same_time_the_earlier_one_passes() -> None:
    """The later one wrote before the earlier one listed, and gives up meanwhile."""
    store = Store()
    later = store.budget("b2")
    later_entry: list[Any] = []

    def before(call: str) -> None:
        if call == "wrote" and not later_entry:
            store.now += timedelta(seconds=1)
            later_entry.append(entry_of("bbbbbbbbbbbb-b2-1-open-6000000-120001000000.json"))
            store.days["2026-11-22"].files[name_of(later_entry[0])] = b"{}"

    store.before = before
    pauses = store.pauses
    first = dataclasses.replace(
        store.budget("a1"), sleep=lambda s: (pauses.append(s), later.entries.take_back(NOON.date(), later_entry[0]))
    )

    reserve(first, "6")

    assert pauses == [0.5]
    assert store.sums() == {"a1": (True, 6)}


def test_later_one_gives_way_at_once() -> None:
    store = Store()

    def before(call: str) -> None:
        if call == "wrote":
            store.days["2026-11-22"].files["bbbbbbbbbbbb-b2-1-open-6000000-110000000000.json"] = b"{}"

    store.before = before

    with pytest.raises(DailyCostLimitError):
        reserve(store.budget("a1"), "6")

    assert store.pauses == []
    assert store.sums() == {"b2": (True, 6)}


def test_a_later_one_that_stays_is_not_waited_for_without_end() -> None:
    store = Store()

    def before(call: str) -> None:
        if call == "wrote":
            store.days["2026-11-22"].files["bbbbbbbbbbbb-b2-1-open-6000000-130000000000.json"] = b"{}"

    store.before = before

    with pytest.raises(DailyCostLimitError):
        reserve(store.budget("a1"), "6")

    assert store.pauses == [0.5, 1.0, 2.0]
    assert store.sums() == {"b2": (True, 6)}


def test_attempt_that_was_taken_over_writes_nothing() -> None:
    def check() -> None:
        raise SubmissionTakenOverError("another attempt")

    store = Store()
    with pytest.raises(SubmissionTakenOverError):
        reserve(store.budget("a1").guarded(check), "6")

    assert store.sums() == {}


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("error", [OSError("disk full"), ConfigurationError("no such connection")])
@pytest.mark.parametrize("call", ["list", "list the rest", "write"])
def test_nothing_is_sent_if_the_budget_cannot_be_checked(call: str, error: Exception) -> None:
    store = Store()

    def before(name: str) -> None:
        if name == call:
            raise error

    store.before = before

    with pytest.raises(DailyCostLimitError, match=r"max_cost_per_day cannot be checked.*\n.*(disk full|no such conn)"):
        reserve(store.budget("a1"), "6")


def test_end_that_cannot_be_noted_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    reserve(store.budget("a1"), "6")

    def before(name: str) -> None:
        raise OSError("disk full")

    store.before = before
    settle(store.budget("a1"), "1")
    store.budget("a1").settle_handed_over("2026-11-22/1", bill_of("1"))

    assert caplog.text.count("so it counts with its upper bound today. OSError: disk full") == 2
    assert store.budget("a1").hand_over(covers="input 0") is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"\xff", b'{"spent_usd": "NaN"}', b'{"spent_usd": "-4"}', b"[]", b'{"spent_usd": "1E+999999"}'],
)
def test_damaged_file_counts_by_its_name(content: bytes) -> None:
    store = Store()
    reserve(store.budget("a1"), "6")
    files = store.days["2026-11-22"].files
    files[next(iter(files))] = content

    reserve(store.budget("a1"), "1", "2")

    assert store.sums() == {"a1": (True, 7)}


def test_other_files_count_as_none(tmp_path: Path) -> None:
    entries = DayEntries(lambda day: LocalFolder(tmp_path / day), {})
    reserve(dataclasses.replace(Store().budget("a1"), entries=entries), "6")
    day = tmp_path / "2026-11-22"
    (day / "task").mkdir()
    (day / "notes-a1-1-open-x-1.json").write_text("{}")

    assert [entry.submission_id for entry in entries.read(NOON.date())] == ["a1"]
    (file,) = (path for path in day.iterdir() if path.name.startswith("aaaa"))
    assert file.name == "aaaaaaaaaaaa-a1-1-open-6000000-120000000000.json"
    assert file.read_text() == ('{"spent_usd":"0","reserved_usd":"6","billed_before_usd":"0","covers":"input 0"}\n')


def test_amounts_are_rounded_up_to_millionths() -> None:
    store = Store()
    reserve(store.budget("a1"), "0.0000001")

    assert store.sums() == {"a1": (True, Decimal("0.000001"))}


def test_old_files_are_removed_bit_by_bit(tmp_path: Path) -> None:
    entries = DayEntries(lambda day: LocalFolder(tmp_path / day), {})
    store = Store()
    for number in range(REMOVED_AT_ONCE + 1):
        reserve(dataclasses.replace(store.budget(f"a{number}", "100"), entries=entries), "1")
    (tmp_path / "2026-11-22" / ".a.tmp").touch()
    (tmp_path / "some task").mkdir()
    store.advance(24 * KEPT_DAYS)
    reserve(dataclasses.replace(store.budget("b1"), entries=entries), "1")
    assert len(list((tmp_path / "2026-11-22").iterdir())) == REMOVED_AT_ONCE + 2
    store.advance(24)
    for number in range(2):
        reserve(dataclasses.replace(store.budget(f"c{number}"), entries=entries), "1")
    assert [path.name for path in (tmp_path / "2026-11-22").iterdir()] == [".a.tmp"]
    (tmp_path / "2026-11-22" / ".a.tmp").unlink()

    reserve(dataclasses.replace(store.budget("c2"), entries=entries), "1")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["2026-11-30", "2026-12-01", "some task"]


def test_old_files_that_stay_are_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    reserve(store.budget("a1"), "6")
    store.advance(24 * (KEPT_DAYS + 1))

    def before(call: str) -> None:
        if call == "remove":
            raise OSError("read-only")

    store.before = before
    reserve(store.budget("a1"), "6")

    assert "Old files of daily spending could not be removed" in caplog.text


def test_object_store_keeps_and_removes_the_same_files() -> None:
    fs, store = ObjectStore(), Store()
    entries = DayEntries(lambda day: ObjectFolder(fs, f"/bucket/{day}", uri=f"s3://bucket/{day}"), {})
    reserve(dataclasses.replace(store.budget("a1"), entries=entries), "1")
    settle(dataclasses.replace(store.budget("a1"), entries=entries), "0.50")
    assert [(entry.is_open, entry.usd) for entry in current_entries(entries.read(NOON.date())).values()] == [
        (False, Decimal("0.5"))
    ]
    store.advance(24 * (KEPT_DAYS + 1))

    reserve(dataclasses.replace(store.budget("b1"), entries=entries), "1")

    assert entries.read(NOON.date()) == []
    assert len(entries.read(store.now.date())) == 1
