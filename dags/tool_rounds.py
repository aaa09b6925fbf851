"""Let the model use tools of yours, round by round: send, run the tools in a task, and send the next round.

Each round is a task with a batch of its own. A retry or a clear of one round goes on with what was paid for, and other
rounds are not touched: every round is paid for once. A conversation that asks for no tool is finished and leaves. When
none is left, the rounds after it are skipped.
"""

from typing import Any

from airflow.sdk import DAG, task

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows

ROUNDS = 3
STOCK = {"L-100": 14, "L-200": 0, "R-7": 3}
TOOL = {
    "name": "look_up_stock",
    "description": "Tells how many pieces of an article are in the warehouse.",
    "input_schema": {
        "type": "object",
        "properties": {"article": {"type": "string", "enum": list(STOCK)}},
        "required": ["article"],
        "additionalProperties": False,
    },
}


@task
def start() -> list[dict[str, Any]]:
    """Begin a conversation for each customer's question. Yours may come from a query."""
    questions = {
        "C-1": "Can you send me ten lamps L-100 today?",
        "C-2": "Is the lamp L-200 available again?",
        "C-3": "I need two radios R-7.",
    }
    return [{"key": key, "messages": [{"role": "user", "content": text}]} for key, text in questions.items()]


def run_tool(name: str, arguments: dict[str, Any]) -> str:
    """Run one tool. The model's wrong arguments are an answer too: it reads them, and tries again."""
    if name != "look_up_stock" or arguments.get("article") not in STOCK:
        return f"There is no {name} of {arguments}."
    return f"{STOCK[arguments['article']]} pieces"


@task
def run_tools(conversations: list[dict[str, Any]], manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Run the tools that the answers ask for. Returns the conversations that go on, with the results."""
    asked = {each["key"]: each["messages"] for each in conversations}
    return [
        {"key": row.key, "messages": [*asked[row.key], {"role": "assistant", "content": content}, results(content)]}
        for row in read_rows(manifest)
        if row.stop_reason == "tool_use" and row.message and (content := row.message["content"])
    ]


def results(content: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the message with the results of all tools that an answer asks for."""
    blocks = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": run_tool(block["name"], block["input"])}
        for block in content
        if block["type"] == "tool_use"
    ]
    return {"role": "user", "content": blocks}


@task(trigger_rule="none_failed")
def collect(manifests: list[dict[str, Any] | None]) -> dict[str, str]:
    """Collect the final answers. A round that was skipped has no manifest."""
    rows = [row for manifest in manifests if manifest for row in read_rows(manifest)]
    return {row.key: row.text for row in rows if row.stop_reason == "end_turn" and row.text}


with DAG("tool_rounds", schedule="@daily", tags=["claude"], default_args={"retries": 2}):
    conversations, manifests = start(), []
    for number in range(1, ROUNDS + 1):
        ask = SendMessageBatchOperator(
            task_id=f"ask_{number}",
            messages=conversations,
            model="claude-sonnet-5-5",
            max_tokens=2048,
            system="Answer the customer in one sentence. Look up the stock before you promise anything.",
            # The last round has to answer.
            request_params={"tools": [TOOL], "tool_choice": {"type": "auto" if number < ROUNDS else "none"}},
            on_empty="skip",
            wait_for_completion=True,
            deferrable=True,
        )
        manifests.append(ask.output)
        if number < ROUNDS:
            conversations = run_tools.override(task_id=f"run_tools_{number}")(conversations, ask.output)
    collect(manifests)
