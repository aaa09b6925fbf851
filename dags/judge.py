"""Let two models judge the answers of another, and report how often the judges agree.

The second batch has one request for each answer and judge, and a schema makes every verdict an object. Read the answers
on which the judges differ: they are where your criteria are not clear, or where an answer is on the edge.
"""

from collections import Counter
from typing import Any

from airflow.sdk import DAG, task

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows

JUDGES = ("claude-opus-5-5", "claude-sonnet-5-5")
VERDICT = {
    "type": "object",
    "properties": {
        "reason": {"type": "string"},  # first, so that the judge thinks before it decides
        "verdict": {"type": "string", "enum": ["good", "poor"]},
    },
    "required": ["reason", "verdict"],
    "additionalProperties": False,
}
QUESTIONS = {
    "tides": "Why are there two tides a day?",
    "wind": "Why does wind blow?",
    "clouds": "Why do clouds float?",
    "rust": "Why does iron rust?",
    "ice": "Why does ice float?",
    "stars": "Why do stars twinkle?",
}


@task
def build_cases(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Build a case for each answer and judge. An element may name its own model."""
    return [
        {
            "key": {"question": row.key, "judge": judge},
            "model": judge,
            "prompt": f"<question>{QUESTIONS[row.key]}</question>\n<answer>{row.text}</answer>\n"
            "Is this answer correct, and clear to a child of ten?",
        }
        for row in read_rows(manifest)
        if row.status == "succeeded"
        for judge in JUDGES
    ]


@task
def report(manifest: dict[str, Any]) -> dict[str, Any]:
    """Report the verdicts of each judge, their agreement, and the answers to read."""
    verdicts: dict[str, dict[str, str]] = {}
    for row in read_rows(manifest):
        if row.output:
            verdicts.setdefault(row.key["question"], {})[row.key["judge"]] = row.output["verdict"]
    judged = {question: given for question, given in verdicts.items() if len(given) == len(JUDGES)}
    differ = [question for question, given in judged.items() if len(set(given.values())) > 1]
    for judge in JUDGES:
        print(judge, dict(Counter(given[judge] for given in judged.values())))
    print(f"The judges agree on {len(judged) - len(differ)} of {len(judged)} answers. Read: {', '.join(differ)}")
    return {"judged": len(judged), "agreement": 1 - len(differ) / len(judged) if judged else None, "differ": differ}


with DAG("judge", schedule="@weekly", tags=["claude"], default_args={"retries": 2}):
    answer = SendMessageBatchOperator(
        task_id="answer",
        messages=[{"key": key, "prompt": question} for key, question in QUESTIONS.items()],
        model="claude-haiku-5-5",
        max_tokens=1024,
        system="Answer in two sentences.",
        wait_for_completion=True,
        deferrable=True,
    )
    judge = SendMessageBatchOperator(
        task_id="judge",
        messages=build_cases(answer.output),
        max_tokens=2048,
        system="You judge answers strictly, and give your reason in one sentence.",
        output_schema=VERDICT,
        allow_failed=0.1,
        wait_for_completion=True,
        deferrable=True,
    )
    report(judge.output)
