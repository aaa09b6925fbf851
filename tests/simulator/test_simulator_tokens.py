"""Workload identity federation: identity tokens for short-lived access tokens."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from simulated import Api, Connect, error_of, jwt

from airflow_claude_batch.simulator import Fault, FederationRule, ManualClock, Simulator

ORGANIZATION = "3f0c2c1e-0000-4000-8000-000000000000"
BETA = {"anthropic-beta": "oauth-2025-04-20"}


def exchange(api: Api, **changes: Any) -> httpx.Response:
    body = {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "assertion": jwt(sub="airflow"),
        "federation_rule_id": "fdrl_1",
        "organization_id": ORGANIZATION,
        **changes,
    }
    given = {name: value for name, value in body.items() if value is not None}
    return api.client.post("/v1/oauth/token", json=given, headers={"authorization": ""})


def call(api: Api, token: str, **headers: str) -> httpx.Response:
    return api.client.get("/v1/messages/batches", headers={"authorization": f"Bearer {token}", **BETA, **headers})


@pytest.mark.usefixtures("transport")
class TestExchange:
    def test_it_gives_a_bearer_token_of_one_workspace(self, api: Api) -> None:
        body = exchange(api, workspace_id="wrkspc_7").json()
        assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", 3600, "workspace:developer")
        answer = call(api, body["access_token"])
        assert answer.status_code == 200
        assert answer.headers["anthropic-workspace-id"] == "wrkspc_7"

    def test_a_token_needs_the_beta_header(self, api: Api) -> None:
        token = exchange(api).json()["access_token"]
        response = api.client.get("/v1/messages/batches", headers={"authorization": f"Bearer {token}"})
        assert error_of(response)[:2] == (401, "authentication_error")

    def test_a_token_is_bound_to_its_workspace(self, api: Api) -> None:
        token = exchange(api, workspace_id="wrkspc_7").json()["access_token"]
        assert call(api, token, **{"anthropic-workspace-id": "wrkspc_7"}).status_code == 200
        assert error_of(call(api, token, **{"anthropic-workspace-id": "wrkspc_8"}))[0] == 403

    def test_a_token_expires(self, api: Api, clock: ManualClock) -> None:
        token = exchange(api).json()["access_token"]
        clock.advance(3599)
        assert call(api, token).status_code == 200
        clock.advance(1)
        assert error_of(call(api, token))[:2] == (401, "authentication_error")

    def test_a_token_is_valid_twice_as_long_as_the_identity_token(self, api: Api, clock: ManualClock) -> None:
        now = int(clock.now().timestamp())
        assert exchange(api, assertion=jwt(exp=now + 600)).json()["expires_in"] == 1200
        assert exchange(api, assertion=jwt(exp=now + 5)).json()["expires_in"] == 60
        assert exchange(api, assertion=jwt(exp=now + 9000)).json()["expires_in"] == 3600

    @pytest.mark.parametrize(
        ("changes", "status"),
        [
            ({"grant_type": "password"}, 400),
            ({"assertion": None}, 400),
            ({"assertion": "x" * 16_385}, 400),
            ({"federation_rule_id": None}, 400),
            ({"organization_id": None}, 400),
            ({"assertion": "not-a-jwt"}, 401),
            ({"assertion": "a.!.c"}, 401),
            ({"assertion": jwt(exp=5)}, 401),
        ],
    )
    def test_an_invalid_exchange_is_rejected(self, api: Api, changes: dict[str, Any], status: int) -> None:
        refused, kind, message = error_of(exchange(api, **changes))
        assert refused == status
        if status == 401:
            assert (kind, message) == ("authentication_error", "Authentication failed.")

    def test_it_can_fail_like_any_operation(self, api: Api, simulator: Simulator) -> None:
        simulator.inject(Fault(on="token", do="status", status=500))
        assert exchange(api).status_code == 500
        assert simulator.calls()["token"] == 1


@pytest.mark.usefixtures("transport")
class TestRules:
    @pytest.fixture
    def api(self, clock: ManualClock, connect: Connect) -> Api:
        rules = {
            "fdrl_short": FederationRule(token_seconds=2),
            "fdrl_strict": FederationRule(
                organization_id=ORGANIZATION,
                service_account_id="svac_1",
                workspaces=("wrkspc_1", "wrkspc_2"),
            ),
            "fdrl_narrow": FederationRule(scope="workspace:inference"),
        }
        return connect(Simulator(clock=clock, federation=rules))

    def test_a_rule_may_give_very_short_tokens(self, api: Api, clock: ManualClock) -> None:
        body = exchange(api, federation_rule_id="fdrl_short").json()
        assert body["expires_in"] == 2
        clock.advance(2)
        assert call(api, body["access_token"]).status_code == 401

    @pytest.mark.parametrize(
        ("changes", "status"),
        [
            ({"service_account_id": "svac_1", "workspace_id": "wrkspc_2"}, 200),
            ({"service_account_id": "svac_1"}, 400),
            ({"service_account_id": "svac_1", "workspace_id": "wrkspc_3"}, 401),
            ({"service_account_id": "svac_2", "workspace_id": "wrkspc_1"}, 401),
            ({"service_account_id": "svac_1", "workspace_id": "wrkspc_1", "organization_id": "other"}, 401),
            ({"federation_rule_id": "fdrl_unknown"}, 401),
        ],
    )
    def test_a_mismatch_is_refused(self, api: Api, changes: dict[str, Any], status: int) -> None:
        assert exchange(api, **{"federation_rule_id": "fdrl_strict", **changes}).status_code == status

    def test_a_narrow_scope_cannot_call(self, api: Api) -> None:
        token = exchange(api, federation_rule_id="fdrl_narrow").json()["access_token"]
        assert error_of(call(api, token))[:2] == (403, "permission_error")
