"""The cluster's last word is worth something only if it finds what is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cluster.books import Books, digest, folder
from cluster.workload import Load

LOAD = Load(dag_id="one_task", runs=1, requests=2, others=1)
PROMPTS = LOAD.prompts("run-1")


def entry(batch_id: str, custom_ids: list[str], prompts: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "id": batch_id,
        "processing_status": "ended",
        "requests": [
            {"custom_id": custom_id, "params_sha256": digest(prompt["prompt"]), "billed": True}
            for custom_id, prompt in zip(custom_ids, prompts, strict=True)
        ],
    }


class Scene:
    """One submission of two requests that went well, before a test spoils it."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.batches = [entry("msgbatch_1", ["a", "b"], PROMPTS)]
        self.states = ["success", "success"]
        self.manifest = ["msgbatch_1"]
        self.rows = [
            {
                "index": index,
                "key": prompt["key"],
                "status": "succeeded",
                "text": f"Simulated answer to “{prompt['prompt']}”",
                "custom_id": custom_id,
                "batch_id": "msgbatch_1",
            }
            for index, (prompt, custom_id) in enumerate(zip(PROMPTS, "ab", strict=True))
        ]

    def problems(self) -> list[str]:
        where = folder(self.results, LOAD, "run-1", -1)
        where.mkdir(parents=True)
        (where / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        (where / "manifest.json").write_text(json.dumps({"batch_ids": self.manifest}))
        books = Books({"batches": self.batches}, self.results, {("one_task", "run-1"): self.states})
        books.check((LOAD,))
        return books.problems


def billed_twice(scene: Scene) -> None:
    scene.batches.append(entry("msgbatch_2", ["c"], PROMPTS[:1]))
    scene.manifest.append("msgbatch_2")


def not_billed(scene: Scene) -> None:
    scene.batches[0]["requests"][0]["billed"] = False


def strange(scene: Scene) -> None:
    scene.batches[0]["requests"].append({"custom_id": "c", "params_sha256": "0" * 64, "billed": True})


def running(scene: Scene) -> None:
    scene.batches[0]["processing_status"] = "in_progress"


def unaccounted(scene: Scene) -> None:
    scene.manifest.clear()


def not_green(scene: Scene) -> None:
    scene.states[1] = "failed"


def too_few_tasks(scene: Scene) -> None:
    scene.states.pop()


def row_missing(scene: Scene) -> None:
    scene.rows.pop()


def rows_in_another_order(scene: Scene) -> None:
    scene.rows.reverse()


def answer_to_another_question(scene: Scene) -> None:
    scene.rows[0]["custom_id"], scene.rows[1]["custom_id"] = "b", "a"


def row_without_an_answer(scene: Scene) -> None:
    scene.rows[0]["status"] = "expired"


def test_a_good_end_has_no_problems(tmp_path: Path) -> None:
    assert Scene(tmp_path).problems() == []


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (billed_twice, "one_task: 1 not billed exactly once"),
        (not_billed, "one_task: 1 not billed exactly once"),
        (strange, "1 requests were billed that nobody asked for"),
        (running, "still running at the API"),
        (unaccounted, "the manifests do not name the API's batches"),
        (not_green, "one_task: 1 tasks are not green"),
        (too_few_tasks, "one_task has 1 tasks, not 2"),
        (row_missing, "has 1 rows, not 2"),
        (rows_in_another_order, "one_task: 2 rows are not right"),
        (answer_to_another_question, "one_task: 2 rows are not right"),
        (row_without_an_answer, "one_task: 1 rows are not right"),
    ],
)
def test_what_is_wrong_is_found(tmp_path: Path, spoil: Callable[[Scene], None], problem: str) -> None:
    scene = Scene(tmp_path)
    spoil(scene)
    assert problem in "\n".join(scene.problems())
