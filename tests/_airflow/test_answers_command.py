"""The command over answer stores: what it prints, and that nothing is erased without --yes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from answer_world import answers, found, store_in

from airflow_claude_batch._airflow.answers_command import main
from airflow_claude_batch.batch.storage import LocalFolder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store of two workspaces. The answers are 100 days old, and younger by a day each."""
    for run in range(3):
        store_in(LocalFolder(tmp_path / "wrkspc_1")).add(f"run-{run}", answers(range(5 * run, 5 * run + 6), run))
    store_in(LocalFolder(tmp_path / "wrkspc_2")).add("run-0", answers([1]))
    (tmp_path / "another folder").mkdir()
    return tmp_path


def run(root: Path, *arguments: str) -> dict[str, Any]:
    """Run the command, and return what it says of each workspace."""
    command = [sys.executable, "-m", "airflow_claude_batch.answers", *arguments, "--path", str(root), "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    return dict(json.loads(done.stdout)["workspaces"])


def call(capsys: pytest.CaptureFixture[str], root: Path, *arguments: str) -> str:
    assert main([*arguments, "--path", str(root)]) == 0
    return capsys.readouterr().out


def call_json(capsys: pytest.CaptureFixture[str], root: Path, *arguments: str) -> dict[str, Any]:
    return dict(json.loads(call(capsys, root, *arguments, "-o", "json"))["workspaces"])


def test_process_of_its_own_prints_json(root: Path) -> None:
    (root / "wrkspc_2" / "odd.answers").write_bytes(b"odd")  # its warning goes to stderr
    stats = run(root, "stats")
    assert list(stats) == ["wrkspc_1", "wrkspc_2"]
    assert stats["wrkspc_1"] | {"bytes": 0} == {
        "answers": 18,
        "segments": 3,
        "bytes": 0,
        "submissions": 3,
        "models": ["model-0", "model-1"],
        "oldest": "2026-08-14T09:00:00Z",
        "newest": "2026-08-16T09:00:00Z",
        "erasures": 0,
        "damaged": [],
    }


def test_stats_are_sentences(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "wrkspc_1" / "odd.answers").write_bytes(b"odd")
    # Airflow 3.0 prints the warning of the odd file, too; a process of its own sends it to stderr.
    first, second = (line for line in call(capsys, root, "stats").splitlines() if line.startswith("wrkspc_"))
    assert first.startswith("wrkspc_1: 18 answers in 3 files, 0.0 MB, of 3 submissions, answered from 2026-08-14 to")
    assert first.endswith(f" 1 damaged file: {root}/wrkspc_1/odd.answers.")
    assert second.startswith("wrkspc_2: 1 answer in 1 file, ")
    assert call(capsys, root / "wrkspc_2", "stats").startswith(".: 1 answer in 1 file")


@pytest.mark.parametrize(
    ("arguments", "counts", "left"),
    [
        pytest.param(["--key", "row-1"], (1, 1), {2, 3, 4, 5, 6}, id="key"),
        pytest.param(["--key", '"row-1"', "--key", "row-6"], (2, 1), {2, 3, 4, 5}, id="keys, one as JSON"),
        pytest.param(["--submission", "run-1"], (6, 0), {1, 2, 3, 4, 5}, id="submission"),
        pytest.param(["--key", "17"], (0, 0), {1, 2, 3, 4, 5, 6}, id="nothing"),
    ],
)
def test_forget_counts_first_and_erases_with_yes(
    arguments: list[str], counts: tuple[int, int], left: set[int], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = LocalFolder(root / "wrkspc_1")
    names = sorted(folder.names())
    for yes in (False, True):
        outcome = call_json(capsys, root, "forget", *arguments, *["--yes"][:yes])
        assert outcome == {
            "wrkspc_1": {"answers": counts[0], "erased": yes},
            "wrkspc_2": {"answers": counts[1], "erased": yes},
        }
        if not yes:
            assert sorted(folder.names()) == names
    assert set(found(folder, range(1, 7))) == left


def test_prune_erases_what_is_older(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hours = (datetime.now(UTC) - datetime(2026, 8, 15, 12, tzinfo=UTC)) // timedelta(hours=1)
    if hours < 0:
        pytest.skip("the tests' answers are of the future")
    text = call(capsys, root, "prune", "--older-than", f"{hours}h")
    assert text.splitlines() == [
        "wrkspc_1: would erase 12 answers. Nothing was erased: add --yes.",
        "wrkspc_2: would erase 1 answer. Nothing was erased: add --yes.",
    ]
    assert call(capsys, root, "prune", "--older-than", f"{hours}h", "--yes").startswith("wrkspc_1: erased 12 ")
    assert call(capsys, root, "prune", "--older-than", f"{hours}h", "--yes").startswith("wrkspc_1: erased 0 answers.")
    assert call(capsys, root, "stats").splitlines()[1] == "wrkspc_2: no answers."


def test_compact_says_what_was_there_before(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = call(capsys, root, "compact").splitlines()[0]
    assert text.startswith("wrkspc_1: 16 answers in 1 file, 0.0 MB; before, 18 in 3 files, 0.0 MB.")
    assert call_json(capsys, root, "compact")["wrkspc_2"]["answers"] == {"before": 1, "after": 1}


def test_no_store_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, tmp_path / "nothing", "stats") == f"There are no stored answers below {tmp_path}/nothing.\n"
    assert not (tmp_path / "nothing").exists()
    assert call_json(capsys, tmp_path, "stats") == {}


def test_path_of_the_deployment_is_the_default(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__ANSWER_STORE", str(root))
    assert main(["stats"]) == 0
    assert "wrkspc_1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["stats"], "there is no answer store: give its --path, or set answer_store", id="no path"),
        pytest.param(["forget", "--path", "/a"], "forget needs a --key or a --submission", id="nothing to forget"),
        pytest.param(["prune", "--path", "/a", "--older-than", "soon"], "'soon' is no age: write 90d", id="age"),
        pytest.param(["prune", "--path", "/a"], "required: --older-than", id="no age"),
        pytest.param([], "required: COMMAND", id="no command"),
    ],
)
def test_wrong_arguments_are_explained(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_path_that_no_provider_serves_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "--path", "nowhere://bucket/answers"]) == 1
    assert "nowhere://bucket/answers cannot be reached" in capsys.readouterr().err


def test_store_that_cannot_be_read_is_an_error(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (root / "wrkspc_2").iterdir():
        path.rename(path.with_name("erased-0.json"))
    assert main(["compact", "--path", str(root)]) == 1
    assert "what was erased is not known" in capsys.readouterr().err
