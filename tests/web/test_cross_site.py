"""Which requests for an action may come from another site: pure rules."""

from __future__ import annotations

import pytest

OWN = {"airflow.example:8080", "public.example"}
ACTION = {"x-claude-batch-action": "1"}


@pytest.mark.parametrize(
    ("headers", "is_refused"),
    [
        pytest.param({}, True, id="a form of any site"),
        pytest.param({"origin": "http://airflow.example:8080"}, True, id="a form of one of Airflow's pages"),
        pytest.param(ACTION, False, id="no browser"),
        pytest.param({**ACTION, "origin": "http://airflow.example:8080"}, False, id="own host over http"),
        pytest.param({**ACTION, "origin": "https://public.example"}, False, id="base_url behind a proxy"),
        pytest.param({**ACTION, "origin": "http://airflow.example"}, True, id="another port"),
        pytest.param({**ACTION, "origin": "https://public.example.evil.example"}, True, id="a longer name"),
        pytest.param({**ACTION, "origin": "null"}, True, id="an opaque origin"),
        pytest.param({**ACTION, "origin": "http://["}, True, id="no origin at all"),
        pytest.param({**ACTION, "sec-fetch-site": "same-origin"}, False, id="the page"),
        pytest.param({**ACTION, "sec-fetch-site": "same-site"}, True, id="a sibling"),
        pytest.param(
            {**ACTION, "sec-fetch-site": "cross-site", "origin": "https://public.example"}, True, id="foreign"
        ),
        pytest.param({**ACTION, "sec-fetch-site": "none"}, True, id="typed into the address bar"),
        pytest.param({"authorization": "Bearer abc", "origin": "https://other.example"}, False, id="a token"),
        pytest.param({"authorization": "Basic abc"}, True, id="credentials that browsers add"),
    ],
)
def test_where_an_action_may_come_from(headers: dict[str, str], is_refused: bool) -> None:
    from airflow_claude_batch.web.cross_site import cross_site_problem

    problem = cross_site_problem(headers, OWN)
    assert (problem is not None) == is_refused
    assert problem is None or problem.startswith("Nothing was done: ")
