"""The simulator as Claude Platform on AWS: whose signatures it accepts, and what it refuses.

Three clients that share no code with its verifier sign here: botocore, Anthropic's SDK and this package.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from simulated import request, requests

from airflow_claude_batch.api.aws_credentials import AwsSigV4
from airflow_claude_batch.api.aws_keys import KeySource
from airflow_claude_batch.api.client import ClaudeClient
from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.simulator import AwsKey, AwsPlatform, Simulator
from airflow_claude_batch.simulator.endpoints.credentials import DEFAULT_WORKSPACE
from demo.loopback import LOOPBACK

SERVICE, REGION = "aws-external-anthropic", "us-west-2"
SECRETS = {"AKIA1": "secret-1", "ASIA2": AwsKey(secret="secret-2", session_token="token-2")}
PATH = "/v1/messages/batches"
BODY = json.dumps({"requests": requests(2)}).encode()


class World:
    """A simulator of the platform, and keys that its clients sign with."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)
        self.platform = AwsPlatform(access_keys=dict(SECRETS), now=lambda: self.now)
        self.simulator = Simulator(platform=self.platform)
        self.keys = ("AKIA1", "secret-1", None)
        self.scope = (SERVICE, REGION)
        self.workspace = DEFAULT_WORKSPACE
        self.url = ""

    def headers(self) -> dict[str, str]:
        return {
            "anthropic-version": "2026-10-21",
            "anthropic-workspace-id": self.workspace,
            "content-type": "application/json",
        }


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with world.simulator.serve() as server:
        world.url = server.url
        yield world


def signed_by_botocore(world: World, method: str, path: str, body: bytes = b"") -> AWSRequest:
    made = AWSRequest(method, world.url + path, headers=world.headers(), data=body)
    SigV4Auth(Credentials(*world.keys), *world.scope).add_auth(made)
    return made


def send(world: World, made: AWSRequest, **changed: Any) -> httpx.Response:
    headers = {**dict(made.headers), **changed.get("headers", {})}
    url = changed.get("url", made.url)
    return httpx.request(
        changed.get("method", made.method),
        url,
        headers=headers,
        content=changed.get("body", made.data),
        **LOOPBACK,
    )


def create_with_botocore(world: World) -> int:
    return send(world, signed_by_botocore(world, "POST", PATH, BODY)).status_code


def create_with_sdk(world: World) -> int:
    anthropic = pytest.importorskip("anthropic")
    access_key, secret, token = world.keys
    client = anthropic.AnthropicAWS(
        aws_access_key=access_key,
        aws_secret_key=secret,
        aws_session_token=token,
        aws_region=world.scope[1],
        workspace_id=world.workspace,
        base_url=world.url,
        max_retries=0,
    )
    try:
        batch = client.messages.batches.create(requests=requests(2))
        assert {row.custom_id for row in client.messages.batches.results(batch.id)} == {"r0", "r1"}
        assert [each.id for each in client.messages.batches.list(limit=5)] == [batch.id]
    except anthropic.APIStatusError as error:
        return int(error.status_code)
    finally:
        client.close()
    return 200


def create_with_ours(world: World) -> int:
    frozen = SimpleNamespace(access_key=world.keys[0], secret_key=world.keys[1], token=world.keys[2])
    session = SimpleNamespace(get_credentials=lambda: SimpleNamespace(get_frozen_credentials=lambda: frozen))
    config = ClientConfig(
        credentials=AwsSigV4(KeySource(lambda: session, name=world.keys), world.scope[1], "the keys of the test"),
        base_url=world.url,
        workspace_id=world.workspace or None,
        platform="aws",
        max_retries=0,
    )
    from airflow_claude_batch.exceptions import APIStatusError

    with ClaudeClient(config) as client:
        try:
            batch = client.create_batch(BODY)
            with client.stream_results(batch.id) as lines:
                assert len(list(lines)) == 2
            assert [each.id for each in client.list_batches(limit=5).data] == [batch.id]
        except APIStatusError as error:
            return error.status_code
    return 200


@pytest.fixture(params=[create_with_botocore, create_with_sdk, create_with_ours], ids=["botocore", "sdk", "ours"])
def create(request: pytest.FixtureRequest) -> Callable[[World], int]:
    return request.param  # type: ignore[no-any-return]


def created(world: World) -> int:
    return len(world.simulator.books()["batches"])


@pytest.mark.parametrize("keys", [("AKIA1", "secret-1", None), ("ASIA2", "secret-2", "token-2")], ids=["user", "role"])
def test_signature_of_a_known_key_is_accepted(world: World, create: Callable[[World], int], keys: Any):
    world.keys = keys

    assert create(world) == 200
    assert created(world) == 1


@pytest.mark.parametrize(
    ("keys", "scope", "minutes"),
    [
        pytest.param(("AKIA1", "wrong", None), (SERVICE, REGION), 0, id="secret"),
        pytest.param(("AKIA9", "secret-1", None), (SERVICE, REGION), 0, id="access key"),
        pytest.param(("ASIA2", "secret-2", None), (SERVICE, REGION), 0, id="token missing"),
        pytest.param(("ASIA2", "secret-2", "token-1"), (SERVICE, REGION), 0, id="token"),
        pytest.param(("AKIA1", "secret-1", None), (SERVICE, "eu-west-1"), 0, id="region"),
        pytest.param(("AKIA1", "secret-1", None), (SERVICE, REGION), 6, id="client behind"),
        pytest.param(("AKIA1", "secret-1", None), (SERVICE, REGION), -6, id="client ahead"),
    ],
)
def test_what_is_wrong_with_a_signature_is_refused(
    world: World, create: Callable[[World], int], keys: Any, scope: Any, minutes: int
):
    world.keys, world.scope = keys, scope
    world.now += timedelta(minutes=minutes)

    assert create(world) == 403
    assert created(world) == 0


def test_signature_for_another_service_is_refused(world: World):
    world.scope = ("bedrock", REGION)

    response = send(world, signed_by_botocore(world, "POST", PATH, BODY))

    assert response.status_code == 403
    assert response.headers["x-amzn-errortype"] == "InvalidSignatureException"
    assert "scoped to correct service" in response.json()["message"]


@pytest.mark.parametrize(
    "changed",
    [
        {"body": BODY.replace(b"question 1", b"question 9")},
        {"body": BODY + b" "},
        {"headers": {"anthropic-workspace-id": "wrkspc_other"}},
        {"headers": {"anthropic-version": "2023-06-01"}},
        {"headers": {"X-Amz-Meta": "added"}},
        {"headers": {"Host": "example.com"}},
        {"url": "/v1/messages/batches?limit=1"},
        {"url": "/v1/messages/batches/msgbatch_1/cancel"},
        {"method": "GET"},
    ],
    ids=lambda changed: json.dumps(changed)[:40] if "body" not in changed else f"body of {len(changed['body'])}",
)
def test_signed_call_that_is_changed_on_the_way_is_refused(world: World, changed: dict[str, Any]):
    made = signed_by_botocore(world, "POST", PATH, BODY)
    if "url" in changed:
        changed = {"url": world.url + changed["url"]}

    response = send(world, made, **changed)

    assert response.status_code == 403
    assert created(world) == 0


@pytest.mark.parametrize(
    "path", [f"{PATH}?limit=1&after_id=msgbatch_1", f"{PATH}?b=2&a=1&a=0", f"{PATH}/msgbatch_a%3Db"]
)
def test_query_and_path_in_any_order_and_encoding_are_verified(world: World, path: str):
    assert send(world, signed_by_botocore(world, "GET", path)).status_code != 403


def test_token_of_a_role_ends(world: World):
    keys = dict(SECRETS)
    keys["ASIA2"] = AwsKey(secret="secret-2", session_token="token-2", expires_at=world.now)
    world.platform.access_keys.update(keys)  # type: ignore[attr-defined]
    world.keys = ("ASIA2", "secret-2", "token-2")

    response = send(world, signed_by_botocore(world, "GET", PATH))

    assert (response.status_code, response.headers["x-amzn-errortype"]) == (403, "ExpiredTokenException")


def test_skew_is_worded_as_aws_does(world: World):
    world.now = (datetime.now(UTC) + timedelta(minutes=10)).replace(microsecond=0)

    message = send(world, signed_by_botocore(world, "GET", PATH)).json()["message"]

    stamp, limit = world.now.strftime("%Y%m%dT%H%M%SZ"), (world.now - timedelta(minutes=5)).strftime("%Y%m%dT%H%M%SZ")
    assert message.startswith("Signature expired: ")
    assert message.endswith(f" is now earlier than {limit} ({stamp} - 5 min.)")


@pytest.mark.parametrize(
    "header", [{"authorization": "Bearer sk-key"}, {"x-api-key": "sk-key"}], ids=["bearer", "x-api-key"]
)
def test_api_key_needs_no_signature(world: World, header: dict[str, str]):
    headers = {**world.headers(), **header}

    assert httpx.post(world.url + PATH, content=BODY, headers=headers, **LOOPBACK).status_code == 200
    headers.pop("anthropic-workspace-id")
    refused = httpx.post(world.url + PATH, content=BODY, headers=headers, **LOOPBACK)
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize("workspace", ["", "wrkspc_other"])
def test_signed_call_names_a_workspace_of_the_account(world: World, create: Callable[[World], int], workspace: str):
    world.workspace = workspace

    assert create(world) == (400 if not workspace else 403)
    assert created(world) == 0


@pytest.mark.parametrize("header", [{}, {"authorization": "AWS4-HMAC-SHA256 nonsense"}], ids=["nothing", "nonsense"])
def test_call_without_a_credential_is_refused(world: World, header: dict[str, str]):
    response = httpx.get(world.url + PATH, headers={**world.headers(), **header}, **LOOPBACK)

    assert response.status_code == 403
    assert "x-amzn-requestid" in response.headers


def test_action_that_no_policy_allows_is_refused_by_name():
    simulator = Simulator(platform=AwsPlatform(denied_actions=["CallWithBearerToken"]))
    with httpx.Client(transport=simulator.transport(), base_url="http://simulator") as client:
        response = client.get(PATH, headers={**World().headers(), "x-api-key": "sk-key"})

    assert response.status_code == 403
    assert "is not authorized to perform: aws-external-anthropic:CallWithBearerToken" in response.json()["message"]


def test_calls_to_the_ordinary_simulator_need_no_signature():
    simulator = Simulator()
    with httpx.Client(transport=simulator.transport(), base_url="http://simulator") as client:
        response = client.post(
            PATH,
            json={"requests": [request()]},
            headers={"x-api-key": "sk-key", "anthropic-version": "2026-10-21"},
        )

    assert response.status_code == 200
