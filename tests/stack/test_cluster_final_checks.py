"""The final checks of the cluster find every kind of problem."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cluster.final_checks import FinalChecks, digest, submission_folder
from cluster.workload import DagWorkload

WORKLOAD = DagWorkload(dag_id="one_task", runs=1, requests=2, other_tasks=1)
PROMPTS = WORKLOAD.prompts("run-1")


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
    """One correct submission of two requests. Each test damages it in one way."""

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
        folder = submission_folder(self.results, WORKLOAD, "run-1", -1)
        folder.mkdir(parents=True)
        (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        (folder / "manifest.json").write_text(json.dumps({"batch_ids": self.manifest}))
        books = FinalChecks({"batches": self.batches}, self.results, {("one_task", "run-1"): self.states})
        books.check((WORKLOAD,))
        return books.problems


def billed_twice(scene: Scene) -> None:
    scene.batches.append(entry("msgbatch_2", ["c"], PROMPTS[:1]))
    scene.manifest.append("msgbatch_2")


def not_billed(scene: Scene) -> None:
    scene.batches[0]["requests"][0]["billed"] = False


def unknown_request(scene: Scene) -> None:
    scene.batches[0]["requests"].append({"custom_id": "c", "params_sha256": "0" * 64, "billed": True})


def running(scene: Scene) -> None:
    scene.batches[0]["processing_status"] = "in_progress"


def batch_in_no_manifest(scene: Scene) -> None:
    scene.manifest.clear()


def failed_task(scene: Scene) -> None:
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


def test_correct_results_have_no_problems(tmp_path: Path) -> None:
    assert Scene(tmp_path).problems() == []


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (billed_twice, "one_task: 1 not billed exactly once"),
        (not_billed, "one_task: 1 not billed exactly once"),
        (unknown_request, "1 billed requests are not in the workload"),
        (running, "still running at the API"),
        (batch_in_no_manifest, "the manifests do not name the API's batches"),
        (failed_task, "one_task: 1 tasks have not succeeded"),
        (too_few_tasks, "one_task has 1 tasks, not 2"),
        (row_missing, "has 1 rows, not 2"),
        (rows_in_another_order, "one_task: 2 rows are not correct"),
        (answer_to_another_question, "one_task: 2 rows are not correct"),
        (row_without_an_answer, "one_task: 1 rows are not correct"),
    ],
)
def test_every_problem_is_found(tmp_path: Path, damage: Callable[[Scene], None], problem: str) -> None:
    scene = Scene(tmp_path)
    damage(scene)
    assert problem in "\n".join(scene.problems())
