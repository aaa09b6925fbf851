"""The measured process of the bulk benchmarks: runs one role and prints its cost.

``bulk.run`` starts it, also with the interpreter of another environment. A role does its imports and returns the steps
of its work by name. Only the steps are measured.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

KEY = "sk-benchmark"
Steps = dict[str, Callable[[], object]]


def ours_landing(url: str, folder: str, batch_ids: list[str]) -> Steps:
    """Land the results of batches as the sensor does."""
    from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
    from airflow_claude_batch.api.credentials import ApiKey
    from airflow_claude_batch.batch.input.request_file import open_requests
    from airflow_claude_batch.batch.land.download import download_results
    from airflow_claude_batch.batch.land.landing import Landing
    from airflow_claude_batch.batch.land.match_requests import SubmissionMatcher
    from airflow_claude_batch.batch.land.publish import publish_rows
    from airflow_claude_batch.batch.money.pricing import PriceTable
    from airflow_claude_batch.batch.storage import LocalFolder

    prices, place = PriceTable.load(), LocalFolder(Path(folder))
    client = ClaudeClient(ClientConfig(credentials=ApiKey(KEY), base_url=url))

    def land() -> None:
        requests = open_requests(place, place.path)
        assert requests is not None, "they were written before"
        with requests, Landing(SubmissionMatcher(requests), prices=prices) as landing:
            for batch_id in batch_ids:
                download_results(client, client.retrieve_batch(batch_id), landing, sleep=time.sleep)
            publish_rows(landing, place, missing="missing")

    return {"landing": land}


def common_ai_landing(url: str, folder: str, batch_id: str, count: int) -> Steps:
    """Land the results of a batch as ``@task.llm_batch`` does."""
    from airflow.providers.common.ai.batch.anthropic import AnthropicBatchAdapter
    from airflow.providers.common.ai.batch.output_schema import build_output_spec
    from airflow.providers.common.ai.batch.results import stream_results_to_jsonl
    from airflow.sdk import ObjectStoragePath

    adapter = AnthropicBatchAdapter(api_key=KEY, base_url=url)

    def land() -> None:
        stream_results_to_jsonl(
            adapter=adapter,
            batch_id=batch_id,
            output_spec=build_output_spec(str),
            request_count=count,
            custom_id_prefix="0123456789abcdef",
            destination=ObjectStoragePath(f"file://{folder}/results.jsonl"),
        )

    return {"landing": land}


def sdk_landing(url: str, folder: str, batch_id: str) -> Steps:
    """Write the results of a batch as Anthropic's SDK returns them."""
    from anthropic import Anthropic

    client = Anthropic(api_key=KEY, base_url=url)

    def land() -> None:
        with Path(folder, "results.jsonl").open("w") as file:
            for result in client.messages.batches.results(batch_id):
                file.write(result.to_json(indent=None) + "\n")

    return {"landing": land}


def ours_submitting(url: str, folder: str, messages: str) -> Steps:
    """Submit a file of messages as the operator does, up to the response of the create call."""
    from datetime import UTC, datetime

    from airflow_claude_batch._airflow.read_messages import write_input
    from airflow_claude_batch.batch.input.create_body import CreateBody
    from airflow_claude_batch.batch.input.request_file import RequestFile
    from airflow_claude_batch.batch.input.request_writer import create_request_file
    from airflow_claude_batch.batch.money.models import ModelChecker
    from airflow_claude_batch.batch.money.pricing import PriceTable
    from airflow_claude_batch.batch.send.budget import estimate_requests
    from airflow_claude_batch.hooks import ClaudeHook
    from airflow_claude_batch.operators import SendMessageBatchOperator

    task = SendMessageBatchOperator(task_id="send", messages=messages, max_tokens=64)
    hook, prices, path = ClaudeHook("claude_default"), PriceTable.load(), Path(folder, "requests.jsonl")
    client = hook.get_conn()
    opened: list[RequestFile] = []

    def read() -> None:
        opened.append(
            create_request_file(path, lambda file, index: write_input(task.options(), hook, prices, file, index))
        )

    def estimate() -> None:
        requests, models = opened[0], ModelChecker(prices, None)
        estimate_requests(
            requests, lambda: iter(range(len(requests))), prices, client, models=models, now=datetime.now(UTC)
        )

    return {
        "read, check and write": read,
        "estimate": estimate,
        "create": lambda: client.create_batch(CreateBody(opened[0], range(len(opened[0])), "0123456789ab")),
    }


def official_submitting(url: str, folder: str, messages: str, model: str) -> Steps:
    """Submit a file of messages with the hook of Apache's anthropic provider."""
    from airflow.providers.anthropic.hooks.anthropic import AnthropicHook

    hook, requests = AnthropicHook("anthropic_default"), list[dict[str, Any]]()
    hook.conn  # noqa: B018  # loads certificates; imports the SDK's resources
    return {
        "read": lambda: requests.extend(read_requests(messages, model)),
        "create": lambda: hook.create_batch(requests),
    }


def sdk_submitting(url: str, folder: str, messages: str, model: str) -> Steps:
    """Submit a file of messages with Anthropic's SDK."""
    from anthropic import Anthropic

    client, requests = Anthropic(api_key=KEY, base_url=url), list[dict[str, Any]]()
    create = client.messages.batches.create
    return {
        "read": lambda: requests.extend(read_requests(messages, model)),
        "create": lambda: create(requests=requests),
    }


def read_requests(messages: str, model: str) -> Iterator[dict[str, Any]]:
    """Read a file of messages into requests of the API, as users of the peers must do themselves."""
    with Path(messages).open() as file:
        for element in map(json.loads, file):
            message = {"role": "user", "content": element["prompt"]}
            yield {
                "custom_id": element["key"],
                "params": {"model": model, "max_tokens": 64, "messages": [message]},
            }


def common_ai_submitting(url: str, folder: str, messages: str, model: str) -> Steps:
    """Submit a file of messages as ``@task.llm_batch`` does."""
    from airflow.providers.common.ai.batch.anthropic import AnthropicBatchAdapter
    from airflow.providers.common.ai.batch.output_schema import build_output_spec

    adapter, requests = AnthropicBatchAdapter(api_key=KEY, base_url=url), list[dict[str, Any]]()
    how = {
        "model": model,
        "output_spec": build_output_spec(str),
        "idempotency_key": "0123456789abcdef",
        "max_tokens": 64,
    }

    def read() -> None:
        with Path(messages).open() as file:
            requests.extend({"prompt": element["prompt"]} for element in map(json.loads, file))

    return {
        "read": read,
        "check": lambda: adapter.validate_requests(requests, **how),
        "create": lambda: adapter.submit(requests, input_fingerprint="0", **how),
    }


ROLES: dict[str, Callable[..., Steps]] = {
    role.__name__: role
    for role in (
        ours_landing,
        common_ai_landing,
        sdk_landing,
        ours_submitting,
        official_submitting,
        common_ai_submitting,
        sdk_submitting,
    )
}


def memory(name: str) -> int:
    """Read ``VmRSS`` or ``VmHWM`` from ``/proc/self/status``, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name))


def main(roles: dict[str, Callable[..., Steps]] = ROLES) -> None:
    """Run one role and print its cost as JSON. Arguments: the role's name, and its options as JSON.

    A step may return counts of its own, as a dict.
    """
    name, options = sys.argv[1], json.loads(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Airflow logs to stdout
    steps, counts = roles[name](**options), dict[str, Any]()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    alone, begun, cpu = memory("VmRSS"), time.perf_counter(), {}
    for step, work in steps.items():
        before = time.process_time()
        counted = work()
        cpu[step] = time.process_time() - before
        counts |= counted if isinstance(counted, dict) else {}
    seconds = time.perf_counter() - begun
    cost = {"cpu": cpu, "memory": memory("VmHWM") - alone, "seconds": seconds, "counts": counts}
    print(json.dumps(cost), file=answers, flush=True)


if __name__ == "__main__":
    main()
