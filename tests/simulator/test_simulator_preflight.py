"""What the checks of the Airflow package let pass is taken by the simulator, which shares no code with them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from batch.input.preflight_cases import PASSES
from simulated import KEY, Api, fixed_clock

from airflow_claude_batch.batch.input.elements import Defaults, read_request
from airflow_claude_batch.simulator import Simulator

VERSION = "2026-10-21"
#: What the checks leave to the API, because they may be older than it, or because it judges.
_OF_THE_FUTURE = ("2027", "claude-of-the-future", "new_", "'new'")
_NOT_INTERLEAVED = ("claude-haiku-4-5", "interleaved-thinking")  # its header is ignored on this model


def is_left_to_the_api(case: tuple[Any, dict[str, Any]]) -> bool:
    shown = str(case)
    return any(part in shown for part in _OF_THE_FUTURE) or all(part in shown for part in _NOT_INTERLEAVED)


def group_of(how: dict[str, Any]) -> tuple[str, str]:
    return how.get("api_version", VERSION), ",".join(how.get("betas", ()))


CASES = [case for case in PASSES if not is_left_to_the_api(case)]


def test_most_cases_are_sent() -> None:
    assert len(CASES) > 0.9 * len(PASSES)


@pytest.mark.parametrize("group", sorted({group_of(how) for _, how in CASES}), ids=lambda group: "-".join(group))
def test_request_that_the_checks_let_pass_succeeds(group: tuple[str, str]) -> None:
    version, betas = group
    items = []
    for element, how in CASES:
        if group_of(how) == group:
            defaults = Defaults(model=how.get("model", "claude-haiku-5-5"), max_tokens=1100, api_version=version)
            request = read_request(element, len(items), defaults)
            items.append({"custom_id": f"r{len(items)}", "params": request.params})
    headers = {"x-api-key": KEY, "anthropic-version": version, **({"anthropic-beta": betas} if betas else {})}
    with httpx.Client(
        transport=Simulator(clock=fixed_clock()).transport(), base_url="http://simulator.test", headers=headers
    ) as client:
        api = Api(client)
        outcomes = api.outcomes(api.created(*items))
    refused = [(items[int(name[1:])], result) for name, result in outcomes.items() if result["type"] != "succeeded"]
    assert not refused
