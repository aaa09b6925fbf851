"""The headers of every call, and the create calls that are rejected at once. Over sockets and in process."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from simulated import KEY, Api, Connect, error_of, request, requests

from airflow_claude_batch.simulator import ManualClock, Simulator

pytestmark = pytest.mark.usefixtures("transport")

CREATE = "/v1/messages/batches"
LONG = "x" * 65


def item(**changes: Any) -> dict[str, Any]:
    """Build a valid item with changes. None leaves a field out."""
    return {name: value for name, value in {**request(), **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(
            {"requests": []}, "requests: List should have at least 1 item after validation, not 0", id="empty"
        ),
        pytest.param({}, "requests: Field required", id="no requests"),
        pytest.param({"requests": {}}, "requests: Input should be a valid list", id="not a list"),
        pytest.param([], "Input should be a valid dictionary or object to extract fields from", id="a list"),
        pytest.param(
            {"requests": [item()], "name": "x"}, "name: Extra inputs are not permitted", id="extra at the top"
        ),
        pytest.param(
            {"requests": [item(note="x")]}, "requests.0.note: Extra inputs are not permitted", id="extra in an item"
        ),
        pytest.param(
            {"requests": ["x"]},
            "requests.0: Input should be a valid dictionary or object to extract fields from",
            id="not an object",
        ),
        pytest.param({"requests": [item(custom_id=None)]}, "requests.0.custom_id: Field required", id="no custom_id"),
        pytest.param({"requests": [item(params=None)]}, "requests.0.params: Field required", id="no params"),
        pytest.param(
            {"requests": [item(), item(custom_id=7)]},
            "requests.1.custom_id: Input should be a valid string",
            id="custom_id not text",
        ),
        pytest.param(
            {"requests": [item(custom_id="")]},
            "requests.0.custom_id: String should have at least 1 character",
            id="custom_id empty",
        ),
        pytest.param(
            {"requests": [item(custom_id=LONG)]},
            "requests.0.custom_id: String should have at most 64 characters",
            id="custom_id long",
        ),
        *(
            pytest.param(
                {"requests": [item(custom_id=custom_id)]},
                "requests.0.custom_id: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'",
                id=f"custom_id {custom_id!r}",
            )
            for custom_id in ("a.b", "manual__2026-11-22T09:00:00+00:00", "a b", "ä", "a\n")
        ),
        pytest.param(
            {"requests": [item(custom_id="dup"), item(), item(custom_id="dup")]},
            "requests: custom_id's must be unique within a batch. Duplicate custom_id found: dup",
            id="duplicate",
        ),
        pytest.param(
            {"requests": [item(params=[1])]},
            "requests.0.params: Input should be a valid dictionary",
            id="params a list",
        ),
        pytest.param(
            {"requests": [item(params="x")]}, "requests.0.params: Input should be a valid dictionary", id="params text"
        ),
    ],
)
def test_a_malformed_create_is_rejected_as_a_whole(api: Api, simulator: Simulator, body: Any, message: str) -> None:
    response = api.client.post(CREATE, json=body)
    assert error_of(response) == (400, "invalid_request_error", message)
    assert response.headers["x-should-retry"] == "false"
    assert simulator.books()["batches"] == []


def test_one_above_100_000_requests_is_refused(api: Api) -> None:
    items = ",".join(f'{{"custom_id":"r{index}","params":{{}}}}' for index in range(100_001))
    response = api.client.post(
        CREATE, content=f'{{"requests":[{items}]}}', headers={"content-type": "application/json"}
    )
    message = "requests: List should have at most 100000 items after validation, not 100001"
    assert error_of(response) == (400, "invalid_request_error", message)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"requests":[{"custom_id":"a","params":{"x":NaN}}]}',
        b'{"requests":[{"custom_id":"a","params":{"x":"\xff"}}]}',
        b'{"requests":[{"custom_id":"a","params":{"x":"\\ud800"}}]}',
    ],
    ids=["empty", "broken", "NaN", "not UTF-8", "lone surrogate"],
)
def test_invalid_json_is_rejected(api: Api, body: bytes) -> None:
    response = api.client.post(CREATE, content=body, headers={"content-type": "application/json"})
    status, kind, message = error_of(response)
    assert (status, kind) == (400, "invalid_request_error")
    assert message.startswith("The request body is not valid JSON: ")


def test_invalid_params_do_not_fail_a_create(api: Api) -> None:
    assert api.create({"custom_id": "a", "params": {"model": 1, "messages": "no"}}).status_code == 200


class TestHeaders:
    def test_every_response_names_its_organization_and_workspace(self, api: Api) -> None:
        batch = api.created()
        for response in (api.create(request()), api.retrieve(batch), api.results(batch)):
            assert re.fullmatch(r"req_011C\w{22}", response.headers["request-id"])
            assert response.headers["anthropic-organization-id"]
            assert response.headers["anthropic-workspace-id"].startswith("wrkspc_")
            assert response.headers["anthropic-ratelimit-requests-limit"] == "1000"
            assert int(response.headers["anthropic-ratelimit-requests-remaining"]) < 1000
            assert response.headers["anthropic-ratelimit-requests-reset"] == "2026-11-22T09:00:00Z"
        assert "anthropic-ratelimit-requests-limit" not in api.list().headers
        assert "retry-after" not in api.create(request()).headers

    def test_the_date_follows_the_simulators_clock(self, api: Api, clock: ManualClock) -> None:
        clock.advance(90)
        for response in (api.list(), api.retrieve("msgbatch_none")):
            assert parsedate_to_datetime(response.headers["date"]) == clock.now().replace(microsecond=0)

    @pytest.mark.parametrize(
        "headers",
        [
            {"authorization": "Bearer sk-any"},
            {"x-api-key": "sk-any"},
            {"x-api-key": "sk-any", "authorization": "Bearer nonsense"},
        ],
        ids=["bearer", "x-api-key", "x-api-key wins"],
    )
    def test_a_key_is_read_from_either_header(self, api: Api, headers: dict[str, str]) -> None:
        api.client.headers.pop("authorization")
        assert api.client.get(CREATE, headers=headers).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"authorization": "Bearer"},
            {"authorization": "Bearer sk-"},
            {"authorization": f"Basic {KEY}"},
            {"authorization": "Bearer other"},
            {"authorization": "Bearer sk-ant-oat01-unknown"},
            {"x-api-key": "", "authorization": f"Bearer {KEY}"},
        ],
    )
    def test_no_key_or_a_wrong_one_is_refused(self, api: Api, headers: dict[str, str]) -> None:
        api.client.headers.pop("authorization")
        response = api.client.get(CREATE, headers=headers)
        assert error_of(response)[:2] == (401, "authentication_error")
        assert "anthropic-workspace-id" not in response.headers

    def test_only_listed_keys_are_accepted(self, clock: ManualClock, connect: Connect) -> None:
        simulator = Simulator(clock=clock, keys={"sk-right": "wrkspc_1"})
        assert connect(simulator, key="sk-right").list().status_code == 200
        assert error_of(connect(simulator, key="sk-wrong").list()) == (
            401,
            "authentication_error",
            "API key is invalid.",
        )

    def test_a_key_of_several_workspaces_must_name_one(self, clock: ManualClock, connect: Connect) -> None:
        api = connect(Simulator(clock=clock, keys={KEY: ["wrkspc_1", "wrkspc_2"]}))
        assert error_of(api.list())[0] == 400
        batch = api.created(request(), **{"anthropic-workspace-id": "wrkspc_2"})
        for workspace, expected in (("wrkspc_1", []), ("wrkspc_2", [batch])):
            page = api.client.get(CREATE, headers={"anthropic-workspace-id": workspace}).json()
            assert [entry["id"] for entry in page["data"]] == expected

    def test_another_workspace_than_the_keys_is_rejected(self, api: Api) -> None:
        response = api.client.get(CREATE, headers={"anthropic-workspace-id": "wrkspc_other"})
        assert error_of(response)[:2] == (403, "permission_error")

    @pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21"])
    def test_both_versions_are_accepted(self, simulator: Simulator, connect: Connect, version: str) -> None:
        assert connect(simulator, version=version).list().status_code == 200

    @pytest.mark.parametrize("version", [None, "2020-01-01"])
    def test_another_version_is_refused(self, simulator: Simulator, connect: Connect, version: str | None) -> None:
        response = connect(simulator, version=version).list()
        assert error_of(response)[:2] == (400, "invalid_request_error")
        assert "anthropic-version" in error_of(response)[2]

    def test_an_unknown_beta_is_refused_by_name(self, api: Api) -> None:
        known = "message-batches-2024-09-24"
        assert api.client.get(CREATE, headers={"anthropic-beta": known}).status_code == 200
        response = api.client.get(CREATE, headers={"anthropic-beta": f"{known}, nope-2026-01-01"})
        message = (
            "Unexpected value(s) `nope-2026-01-01` for the `anthropic-beta` header. "
            "Please consult our documentation at platform.claude.com/docs or try again without the header."
        )
        assert error_of(response) == (400, "invalid_request_error", message)

    def test_paths_with_beta_behave_the_same(self, api: Api) -> None:
        assert api.client.get(CREATE, params={"beta": "true"}).status_code == 200

    @pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/nothing", 404), ("PUT", CREATE, 405)])
    def test_other_paths_and_methods_are_refused(self, api: Api, method: str, path: str, status: int) -> None:
        assert error_of(api.client.request(method, path))[0] == status


class TestBody:
    @staticmethod
    def body(count: int = 1) -> bytes:
        return json.dumps({"requests": requests(count)}).encode()

    @pytest.mark.parametrize(
        ("content_type", "status"),
        [
            ("application/json", 200),
            ("application/json; charset=UTF-8", 200),
            ("application/json; charset=us-ascii", 200),
            ("application/json; charset=utf-16", 400),
            ("text/plain", 400),
            ("", 400),
        ],
    )
    def test_the_content_type_must_be_json(self, api: Api, content_type: str, status: int) -> None:
        response = api.client.post(CREATE, content=self.body(), headers={"content-type": content_type})
        assert response.status_code == status
        if "utf-16" in content_type:
            assert response.json()["error"]["details"] == {"error_code": "unsupported_charset"}

    def test_latin_1_is_read(self, api: Api) -> None:
        body = json.dumps({"requests": [request(prompt="naïve")]}, ensure_ascii=False).encode("latin-1")
        headers = {"content-type": "application/json; charset=iso-8859-1"}
        batch = api.client.post(CREATE, content=body, headers=headers).json()["id"]
        assert "naïve" in json.dumps(api.rows(batch), ensure_ascii=False)

    def send(self, api: Api, body: bytes, encoding: str) -> Any:
        headers = {"content-type": "application/json", "content-encoding": encoding}
        return api.client.post(CREATE, content=body, headers=headers)

    def test_a_gzipped_body_is_accepted(self, api: Api) -> None:
        response = self.send(api, gzip.compress(self.body(20)), "gzip")
        assert response.json()["request_counts"]["processing"] == 20

    @pytest.mark.parametrize("encoding", ["zstd", "br", "deflate"])
    def test_other_encodings_are_refused(self, api: Api, simulator: Simulator, encoding: str) -> None:
        response = self.send(api, zlib.compress(self.body()), encoding)
        assert error_of(response)[:2] == (400, "invalid_request_error")
        assert response.json()["error"]["details"] == {"error_code": "request_body_encoding_unsupported"}
        assert simulator.books()["batches"] == []

    @pytest.mark.parametrize("body", [b"not gzip", gzip.compress(b"{}" * 500)[:-12]], ids=["other", "cut"])
    def test_a_body_that_is_not_gzip_is_refused(self, api: Api, body: bytes) -> None:
        response = self.send(api, body, "gzip")
        assert response.status_code == 400
        assert response.json()["error"]["details"] == {"error_code": "request_body_encoding_invalid"}

    def test_the_limit_applies_after_decoding(self, clock: ManualClock, connect: Connect) -> None:
        api = connect(Simulator(clock=clock, batch_body_bytes=1000))
        response = self.send(api, gzip.compress(self.body(20)), "gzip")
        assert error_of(response)[:2] == (413, "request_too_large")
        assert response.json()["error"]["details"] == {"error_code": "request_body_too_large_after_decoding"}

    def test_too_large_a_body_is_rejected_by_the_proxy(self, clock: ManualClock, connect: Connect) -> None:
        simulator = Simulator(clock=clock, batch_body_bytes=len(self.body(20)))
        api = connect(simulator)
        headers = {"content-type": "application/json"}
        assert api.client.post(CREATE, content=self.body(20), headers=headers).status_code == 200
        response = api.client.post(CREATE, content=self.body(20) + b" ", headers=headers)
        assert response.status_code == 413
        assert response.json() == {
            "error": {"type": "request_too_large", "message": "Request exceeds the maximum size"}
        }
        assert len(simulator.books()["batches"]) == 1

    def test_too_large_a_body_of_unknown_length_is_rejected(self, clock: ManualClock, connect: Connect) -> None:
        api = connect(Simulator(clock=clock, batch_body_bytes=1000))
        pieces = (b" " * 400 for _ in range(10))
        response = api.client.post(CREATE, content=pieces, headers={"content-type": "application/json"})
        assert response.status_code == 413

    def test_a_large_body_is_kept_in_a_file_and_read_again(self, api: Api) -> None:
        items = [request(f"r{index}", prompt="x" * 500_000) for index in range(10)]
        batch = api.created(*items)
        assert len(api.rows(batch)) == 10


class TestRateLimit:
    def test_calls_above_the_limit_get_a_retry_after(self, clock: ManualClock, connect: Connect) -> None:
        api = connect(Simulator(clock=clock, requests_per_minute=60))
        assert {api.list().status_code for _ in range(60)} == {200}
        refused = api.list()
        assert error_of(refused)[:2] == (429, "rate_limit_error")
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["anthropic-ratelimit-requests-remaining"] == "0"
        clock.advance(1)
        assert api.list().status_code == 200


class TestCountTokens:
    PATH = "/v1/messages/count_tokens"

    def count(self, api: Api, **body: Any) -> Any:
        return api.client.post(self.PATH, json=body)

    def test_it_agrees_with_the_usage_of_the_row(self, api: Api) -> None:
        others = {"system": "Be brief.", "tools": [{"name": "look", "input_schema": {"type": "object"}}]}
        message = api.message(prompt="What is it?", **others)
        body = {"model": message["model"], "messages": [{"role": "user", "content": "What is it?"}], **others}
        assert self.count(api, **body).json() == {"input_tokens": message["usage"]["input_tokens"]}

    @pytest.mark.parametrize(
        ("changes", "status", "message"),
        [
            ({"messages": None}, 400, "messages: Field required"),
            ({"model": None}, 400, "model: Field required"),
            ({"max_tokens": 5}, 400, "max_tokens: Extra inputs are not permitted"),
            ({"messages": []}, 400, "messages: at least one message is required"),
            ({"system": 7}, 400, "system: Input should be a valid string or list"),
            ({"model": "claude-3-opus-20240229"}, 404, "model: claude-3-opus-20240229"),
        ],
    )
    def test_a_wrong_body_is_refused_at_once(
        self, api: Api, changes: dict[str, Any], status: int, message: str
    ) -> None:
        body = {"model": "claude-opus-5-5", "messages": [{"role": "user", "content": "x"}], **changes}
        response = self.count(api, **{name: value for name, value in body.items() if value is not None})
        assert (response.status_code, error_of(response)[2]) == (status, message)


class TestModels:
    def ids(self, api: Api, **query: Any) -> list[str]:
        return [model["id"] for model in api.client.get("/v1/models", params=query).json()["data"]]

    def test_pages_follow_the_cursors(self, api: Api) -> None:
        all_batches = self.ids(api, limit=1000)
        assert self.ids(api, limit=2) == all_batches[:2]
        assert self.ids(api, limit=2, after_id=all_batches[1]) == all_batches[2:4]
        assert self.ids(api, limit=2, before_id=all_batches[4]) == all_batches[2:4]
        assert error_of(api.client.get("/v1/models?after_id=nope"))[0] == 400

    def test_a_lifecycle_follows_the_clock(self, api: Api, clock: ManualClock) -> None:
        name = "claude-sonnet-4-5-20250929"
        assert name in self.ids(api, **{"lifecycle[]": "deprecated"})
        clock.advance(9 * 24 * 3600)
        assert name not in self.ids(api, limit=1000)
        assert name in self.ids(api, **{"lifecycle[]": ["retired", "active"], "limit": 1000})
        assert api.client.get(f"/v1/models/{name}").json()["lifecycle"] == "retired"

    def test_an_unknown_model_or_lifecycle_is_refused(self, api: Api) -> None:
        assert error_of(api.client.get("/v1/models/claude-nope"))[:2] == (404, "not_found_error")
        assert error_of(api.client.get("/v1/models?lifecycle[]=old"))[0] == 400
