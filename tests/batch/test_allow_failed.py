"""``allow_failed`` as a count and as a share, and how it reaches the sensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from submission_world import TEN, make_world

from airflow_claude_batch.batch.allow_failed import allowed_failures, as_percentage
from airflow_claude_batch.batch.land.handed_over import HandedOver
from airflow_claude_batch.batch.land.manifest import load_manifest, read_manifest
from airflow_claude_batch.batch.policy import Policy


@pytest.mark.parametrize(
    ("allow_failed", "of_100", "of_7"),
    [
        (0, 0, 0),
        (1, 1, 1),
        (500, 500, 500),
        (0.0, 0, 0),
        (1.0, 100, 7),
        (0.05, 5, 0),
        ("5%", 5, 0),
        (" 12.5 % ", 12, 0),
        ("29%", 29, 2),
        (0.29, 29, 2),
        ("100%", 100, 7),
    ],
)
def test_count_is_a_count_and_share_is_rounded_down(allow_failed: float | str, of_100: int, of_7: int) -> None:
    assert allowed_failures(allow_failed, 100) == Policy(allow_failed=allow_failed).allowed_failures(100) == of_100
    assert allowed_failures(allow_failed, 7) == of_7
    assert allowed_failures(as_percentage(allow_failed), 100) == of_100


@pytest.mark.parametrize(("value", "stored"), [(1, 1), (1.0, "100%"), (0.05, "5%"), ("5%", "5%"), (0.001, "0.1%")])
def test_a_share_stays_a_share_in_any_store_of_json(value: float | str, stored: int | str) -> None:
    assert as_percentage(value) == stored


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, HandedOver()),
        ({"allow_failed": "5%"}, HandedOver(allow_failed="5%")),
        ({"allow_failed": 3, "delete_batches": True, "later": 1}, HandedOver(allow_failed=3, delete_batches=True)),
        ({"allow_failed": -1, "delete_batches": "yes", "results_format": "xlsx"}, HandedOver()),
        ({"allow_failed": [], "results_format": "parquet"}, HandedOver(results_format="parquet")),
        ({"results_format": "csv"}, HandedOver(results_format="csv")),
        ({"results_format": ["csv"]}, HandedOver()),
    ],
)
def test_values_of_a_manifest_are_taken_only_if_they_can_be_right(given: dict[str, Any], expected: HandedOver) -> None:
    assert HandedOver.of_manifest(given) == expected


def test_manifest_hands_over_what_the_operator_cannot_use(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    policy = Policy(wait_for_completion=False, allow_failed=0.05, delete_batches=True, results_format="parquet")

    manifest = world.run(TEN, policy).manifest

    expected = {"allow_failed": "5%", "delete_batches": True, "results_format": "parquet"}
    assert manifest.for_sensor == manifest.to_xcom()["for_sensor"] == expected
    assert load_manifest(world.folder) == manifest
    assert HandedOver.of_manifest(read_manifest(manifest.to_xcom()).for_sensor or {}) == HandedOver(
        allow_failed="5%", delete_batches=True, results_format="parquet"
    )


def test_manifest_hands_over_nothing_by_default_or_at_the_end(tmp_path: Path) -> None:
    world = make_world(tmp_path)

    assert world.run(TEN, Policy(wait_for_completion=False)).manifest.for_sensor is msgspec.UNSET
    assert "for_sensor" not in world.run(TEN, Policy(allow_failed=1)).manifest.to_xcom()
