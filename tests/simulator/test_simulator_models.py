"""The catalogue: what each model takes is what its capabilities say, and the SDK reads it."""

from __future__ import annotations

import gzip
import socket
from datetime import UTC, datetime
from typing import Any, get_args

import httpx
import pytest
from simulated import KEY, VERSION, Api, Connect, params, request

from airflow_claude_batch.simulator import ManualClock, Model, Simulator

anthropic_types = pytest.importorskip("anthropic.types")
NAMES = ["claude-opus-5-5", "claude-haiku-5-5", "claude-sonnet-5-5", "claude-fable-5-2", "claude-opus-5"]
NAMES += ["claude-opus-4-8", "claude-sonnet-4-6", "claude-opus-4-6", "claude-opus-4-5", "claude-haiku-4-5"]
NAMES += ["claude-sonnet-4-5"]
LEVELS = ("low", "medium", "high", "xhigh", "max")


def info(api: Api, name: str) -> dict[str, Any]:
    response = api.client.get(f"/v1/models/{name}")
    assert response.status_code == 200, response.text
    return dict(response.json())


@pytest.mark.parametrize(
    ("name", "limits", "efforts", "capabilities"),
    [  # recorded 2026-08-02
        ("claude-opus-5", (1_000_000, 128_000), LEVELS, {}),
        ("claude-sonnet-5", (1_000_000, 128_000), LEVELS, {}),
        ("claude-opus-4-7", (1_000_000, 128_000), LEVELS, {}),
        ("claude-sonnet-4-6", (1_000_000, 128_000), ("low", "medium", "high", "max"), {}),
        ("claude-opus-4-6", (1_000_000, 128_000), ("low", "medium", "high", "max"), {}),
        ("claude-opus-4-5", (200_000, 64_000), ("low", "medium", "high"), {}),
        ("claude-haiku-4-5", (200_000, 64_000), (), {"code_execution": False}),
        ("claude-sonnet-4-5", (1_000_000, 64_000), (), {}),
        ("claude-opus-4-1", (200_000, 32_000), (), {"code_execution": False}),
    ],
)
def test_models_are_as_recorded(
    api: Api, name: str, limits: tuple[int, int], efforts: tuple[str, ...], capabilities: dict[str, bool]
) -> None:
    model = info(api, name)
    assert (model["max_input_tokens"], model["max_tokens"]) == limits
    effort = model["capabilities"]["effort"]
    assert effort["supported"] is bool(efforts)
    assert tuple(level for level in LEVELS if effort[level]["supported"]) == efforts
    assert model["capabilities"]["structured_outputs"]["supported"]
    assert model["capabilities"]["code_execution"]["supported"] is capabilities.get("code_execution", True)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_takes_what_its_capabilities_say(api: Api, name: str) -> None:
    capabilities = info(api, name)["capabilities"]
    for kind, capability in capabilities["thinking"]["types"].items():
        budget = {"budget_tokens": 1024} if kind == "enabled" else {}
        error = api.row_error(model=name, max_tokens=2000, thinking={"type": kind, **budget})
        assert (error is None) is capability["supported"], (kind, error)
    for level in LEVELS:
        error = api.row_error(model=name, output_config={"effort": level})
        assert (error is None) is capabilities["effort"][level]["supported"], (level, error)


def test_the_sdk_reads_every_model(connect: Connect, clock: ManualClock) -> None:
    listed = connect(Simulator(clock=clock)).client.get("/v1/models", params={"limit": 1000}).json()["data"]
    models = [anthropic_types.ModelInfo.model_validate(each, strict=False) for each in listed]
    assert all(model.capabilities.thinking.types.between_tools is not None for model in models)
    assert {"claude-opus-4-5-20251101", "claude-haiku-5-5"} <= {model.id for model in models}


def test_every_model_of_the_sdk_is_known(api: Api) -> None:
    names = get_args(get_args(anthropic_types.model.Model)[0])
    assert len(names) > 20
    for name in names:
        assert info(api, name)["id"].startswith(name)


def test_every_beta_of_the_sdk_is_known(api: Api) -> None:
    betas = pytest.importorskip("anthropic.types.anthropic_beta_param").AnthropicBetaParam
    for name in get_args(get_args(betas)[1]):
        response = api.client.get("/v1/models?limit=1", headers={"anthropic-beta": name})
        assert response.status_code == 200, name


@pytest.mark.parametrize(("day", "lifecycle"), [(20, "active"), (24, "deprecated"), (28, "deprecated")])
def test_opus_4_5_is_deprecated(connect: Connect, day: int, lifecycle: str) -> None:
    api = connect(Simulator(clock=ManualClock(datetime(2026, 11, day, tzinfo=UTC))))
    assert info(api, "claude-opus-4-5")["lifecycle"] == lifecycle


class TestMore:
    @pytest.mark.parametrize("name", ["claude-opus-6", "claude-nova-7-1", "gateway/claude", "*"])
    def test_other_models_can_be_taken(self, connect: Connect, clock: ManualClock, name: str) -> None:
        api = connect(Simulator(clock=clock, models=[name]))
        asked = "my-own-model" if name == "*" else name
        assert api.message(model=asked)["model"] == asked
        assert info(api, asked)["id"] == asked
        listed = [each["id"] for each in api.client.get("/v1/models").json()["data"]]
        assert (listed[0] == name) is (name != "*")
        assert api.row_error(model="") is not None

    def test_a_model_has_the_rules_that_it_is_given(self, connect: Connect, clock: ManualClock) -> None:
        old = Model(id="tiny", display_name="Tiny", line="haiku", version=(4, 5), aliases=("small",), max_tokens=100)
        api = connect(Simulator(clock=clock, models=[old]), version="2023-06-01")
        assert api.message(model="small", temperature=0.5, max_tokens=100)["model"] == "tiny"
        error = api.row_error(model="tiny", max_tokens=101)
        assert error is not None
        assert "101 > 100" in error["message"]

    def test_a_known_model_can_be_replaced(self, connect: Connect, clock: ManualClock) -> None:
        changed = Model(id="claude-haiku-5-5", display_name="H", line="haiku", version=(5, 5), max_tokens=7)
        api = connect(Simulator(clock=clock, models=[changed]))
        assert info(api, "claude-haiku-5-5")["max_tokens"] == 7
        listed = [each["id"] for each in api.client.get("/v1/models").json()["data"]]
        assert listed.count("claude-haiku-5-5") == 1

    @pytest.mark.parametrize("betas", [["new-2027-01-01"], "new-2027-01-01", ["*"]])
    def test_other_betas_can_be_taken(self, connect: Connect, clock: ManualClock, betas: Any) -> None:
        api = connect(Simulator(clock=clock, betas=betas))
        assert api.create(request(), **{"anthropic-beta": "new-2027-01-01,files-api-2025-04-14"}).status_code == 200
        other = api.create(request(), **{"anthropic-beta": "other-2027-01-01"})
        assert other.status_code == (200 if betas == ["*"] else 400)


@pytest.mark.parametrize(("model", "geo"), [("claude-haiku-5-5", "global"), ("claude-haiku-4-5", "not_available")])
def test_the_place_of_inference_is_as_recorded(api: Api, model: str, geo: str) -> None:
    usage = api.message(model=model)["usage"]
    assert usage["inference_geo"] == geo
    assert usage["output_tokens_details"] == {"thinking_tokens": 0}


class TestResponses:
    @pytest.mark.parametrize(
        ("accepted", "encoding"),
        [("gzip", "gzip"), ("gzip, deflate, br", "gzip"), ("identity", None), ("gzip;q=0", None), ("", None)],
    )
    @pytest.mark.parametrize("path", ["/v1/models", "/v1/messages/batches", "/v1/messages/batches/none"])
    def test_json_is_compressed_for_those_who_ask(
        self, api: Api, path: str, accepted: str, encoding: str | None, transport: str
    ) -> None:
        with api.client.stream("GET", path, headers={"accept-encoding": accepted}) as response:
            raw = b"".join(response.iter_raw())
        assert response.headers.get("content-encoding") == encoding
        assert response.headers["vary"] == "Accept-Encoding"
        assert (gzip.decompress(raw) if encoding else raw).startswith(b"{")

    @pytest.mark.parametrize(
        ("path", "line"),
        [
            ("/v1/models", b"HTTP/1.1 200 OK"),
            ("/v1/messages/batches/x", b"HTTP/1.1 404 Not Found"),
            ("/v1/models?limit=0", b"HTTP/1.1 400 Bad Request"),
        ],
    )
    def test_statuses_have_their_phrases(self, simulator: Simulator, path: str, line: bytes) -> None:
        head = f"GET {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\nanthropic-version: {VERSION}\r\n\r\n"
        with simulator.serve() as server:
            address = ("127.0.0.1", httpx.URL(server.url).port)
            with socket.create_connection(address, timeout=10) as connection:
                connection.sendall(head.encode())
                assert connection.recv(65536).split(b"\r\n")[0] == line


def test_count_tokens_of_an_added_model_is_counted(connect: Connect, clock: ManualClock) -> None:
    api = connect(Simulator(clock=clock, models=["claude-opus-6"]))
    counted = {"model": "claude-opus-6", "messages": params()["messages"]}
    assert api.client.post("/v1/messages/count_tokens", json=counted).json()["input_tokens"] > 0
