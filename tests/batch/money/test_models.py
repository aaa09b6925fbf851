"""Models are checked before requests are sent to them. All clocks begin at fixed times."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from submission_world import World

from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.api.model_info import Capability, ModelCapabilities, ModelInfo
from airflow_claude_batch.batch.input.elements import Defaults
from airflow_claude_batch.batch.money.catalogue import MAX_LOOKUPS
from airflow_claude_batch.batch.money.models import ModelChecker
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.exceptions import APIConnectionError, APIError, InputError, NotFoundError
from airflow_claude_batch.simulator import Fault, ManualClock, Simulator

TABLE = PriceTable.load()
RETIRES = datetime(2026, 11, 30, tzinfo=UTC)  # claude-sonnet-4-5
LONG_BEFORE = RETIRES - timedelta(days=60)
OLD = "claude-sonnet-4-5"


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(clock=ManualClock(LONG_BEFORE))


@pytest.fixture
def api(simulator: Simulator) -> Iterator[ClaudeClient]:
    config = ClientConfig(credentials=ApiKey("sk-test"), base_url="http://127.0.0.1:1", max_retries=0)
    with ClaudeClient(config, transport=simulator.transport(), sleep=lambda _: None) as client:
        yield client


def check(models: ModelChecker, *names: str, now: datetime) -> None:
    models.check(dict.fromkeys(names, 3), now, lambda model: names.index(model))


class Catalogue:
    """A catalogue that describes every model in the same way."""

    is_anthropic = True

    def __init__(self, betas: tuple[str, ...] = (), **facts: Any) -> None:
        self.info = ModelInfo(id="any", **facts)
        self.betas = betas
        self.asked: list[str] = []

    def retrieve_model(self, model_id: str, /) -> ModelInfo:
        self.asked.append(model_id)
        return self.info

    def list_models(self, *, lifecycle: Sequence[str] = ()) -> list[ModelInfo]:
        return [self.info]


# ---------------------------------------------------------------- by the API's catalogue


def test_a_model_that_the_api_has_retired_is_refused_whatever_the_table_says(
    simulator: Simulator, api: ClaudeClient
) -> None:
    models = ModelChecker(PriceTable.load({"models": {OLD: {"retires_on": "2030-01-01"}}}), api)
    simulator.clock.advance((RETIRES + timedelta(days=2) - simulator.clock.now()).total_seconds())

    with pytest.raises(
        InputError,
        match=r"messages\[1\]: .* was retired on 2026-11-30\.\n3 requests name it and were not sent\.\nUse",
    ):
        check(models, "claude-opus-5-5", OLD, now=simulator.clock.now())


def test_a_model_that_the_api_keeps_longer_than_the_table_is_sent() -> None:
    models = ModelChecker(TABLE, Catalogue(lifecycle="active"))

    check(models, "claude-opus-4-1", now=RETIRES)


@pytest.mark.parametrize(
    ("before", "says"),
    [
        (timedelta(hours=1), "retires on 2026-11-30, and a batch sent now may still run then. Use claude-sonnet-5-5"),
        (timedelta(hours=25), "retires on 2026-11-30, and a batch sent now"),
        (timedelta(days=9), "is deprecated and retires on 2026-11-30"),
    ],
)
def test_a_model_near_its_end_is_sent_with_a_warning(
    before: timedelta, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    check(ModelChecker(TABLE, Catalogue(lifecycle="deprecated", retires_at=RETIRES)), OLD, now=RETIRES - before)

    assert says in caplog.text


def test_a_model_that_does_not_run_in_batches_is_refused() -> None:
    capabilities = ModelCapabilities(batch=Capability(supported=False))

    with pytest.raises(InputError, match="claude-opus-5-5 does not run in message batches"):
        check(
            ModelChecker(TABLE, Catalogue(lifecycle="active", capabilities=capabilities)),
            "claude-opus-5-5",
            now=RETIRES,
        )


def test_a_model_without_a_price_is_named_though_the_api_knows_it(caplog: pytest.LogCaptureFixture) -> None:
    check(ModelChecker(TABLE, Catalogue(lifecycle="active")), "claude-7-novella", now=RETIRES)

    assert "claude-7-novella is not in the price table, so its cost will not be known." in caplog.text


def test_a_model_that_the_api_does_not_know_is_sent_with_a_warning(
    api: ClaudeClient, caplog: pytest.LogCaptureFixture
) -> None:
    check(ModelChecker(TABLE, api), "claude-haiku-55", now=RETIRES)

    assert "claude-haiku-55 is not in the API's catalogue of models" in caplog.text


# ---------------------------------------------------------------- models that the catalogue does not have


@pytest.fixture
def anthropic(simulator: Simulator) -> Iterator[ClaudeClient]:
    """A client of Anthropic's own host, which the simulator stands for."""
    config = ClientConfig(credentials=ApiKey("sk-test"), max_retries=0)
    with ClaudeClient(config, transport=simulator.transport(), sleep=lambda _: None) as client:
        yield client


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("claude-haiku-55", r"the API has no model 'claude-haiku-55'\..*Did you mean claude-haiku-5-5"),
        ("claude-haiku-5-5-20261007", "Did you mean claude-haiku-5-5"),
        ("anthropic.claude-opus-4-6-v1:0", "Write claude-opus-4-6"),
        ("claude-sonnet-4.5", "Did you mean claude-sonnet-4-5"),
        ("gpt-4o", "Models of the catalogue are claude-fable-5-2, "),
        (" ", "no model ' '"),
        (".", "no model '.'"),
        ("a prompt in the wrong place " * 9, r"no model 'a prompt.{1,60}'\.\.\."),
    ],
)
def test_a_model_that_anthropic_does_not_have_is_refused(model: str, says: str, anthropic: ClaudeClient) -> None:
    with pytest.raises(InputError, match=f"(?s){says}") as caught:
        check(ModelChecker(TABLE, anthropic), "claude-opus-5-5", model, now=LONG_BEFORE)

    first, money, *_ = str(caught.value).split("\n")
    assert first.startswith("messages[1]: ")
    assert len(first) <= 120
    assert money == "3 requests name it and were not sent."


@pytest.mark.parametrize("model", ["claude-haiku-4-5", "claude-haiku-4-5-20251001", "claude-sonnet-4-5"])
def test_an_alias_and_its_id_are_both_sent(model: str, anthropic: ClaudeClient) -> None:
    check(ModelChecker(TABLE, anthropic), model, now=LONG_BEFORE)


class PartialCatalogue(Catalogue):
    """A catalogue that resolves no alias."""

    def __init__(self, *ids: str, list_error: APIError | None = None) -> None:
        super().__init__()
        self.ids = ids
        self.list_error = list_error

    def retrieve_model(self, model_id: str, /) -> ModelInfo:
        raise NotFoundError("no such model", status_code=404, error_type="not_found_error")

    def list_models(self, *, lifecycle: Sequence[str] = ()) -> list[ModelInfo]:
        if self.list_error is not None:
            raise self.list_error
        return [ModelInfo(id=each, lifecycle="active") for each in self.ids]


@pytest.mark.parametrize(
    ("catalogue", "model"),
    [
        pytest.param(PartialCatalogue("claude-nova-6-20270101"), "claude-nova-6", id="id without its date"),
        pytest.param(PartialCatalogue("claude-nova-6"), "claude-nova-6-latest", id="latest"),
        pytest.param(PartialCatalogue("claude-opus-4-5-20251101"), "claude-opus-4-5", id="alias of the table"),
        pytest.param(PartialCatalogue("claude-nova-6"), "claude-nova-6", id="listed but not found"),
        pytest.param(
            PartialCatalogue(list_error=APIConnectionError("no")), "claude-of-tomorrow", id="cannot be listed"
        ),
        pytest.param(PartialCatalogue(), "claude-of-tomorrow", id="empty listing"),
    ],
)
def test_a_model_of_which_it_is_not_certain_is_sent_with_a_warning(
    catalogue: PartialCatalogue, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    check(ModelChecker(TABLE, catalogue), model, now=LONG_BEFORE)

    assert f"{model} is not in the API's catalogue of models.\nThe API may refuse all 3 requests" in caplog.text


def test_a_404_that_is_not_the_api_s_own_says_nothing_about_a_model(
    simulator: Simulator, anthropic: ClaudeClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A gateway may not serve the catalogue at all."""
    simulator.inject(Fault(do="page", on="models", status=404))

    check(ModelChecker(TABLE, anthropic), "claude-of-tomorrow", "claude-haiku-5-5", now=LONG_BEFORE)

    assert "is not in the API's catalogue" not in caplog.text
    assert simulator.books()["calls"]["models"] == 1


def test_a_model_of_the_price_overrides_is_sent(anthropic: ClaudeClient, caplog: pytest.LogCaptureFixture) -> None:
    rates = {"input": "1", "output": "5", "cache_write_5m": "1.25", "cache_write_1h": "2", "cache_read": "0.1"}
    table = PriceTable.load({"models": {"claude-secret-9": {"rates": rates}}})

    check(ModelChecker(table, anthropic), "claude-secret-9", now=LONG_BEFORE)

    assert "claude-secret-9 is not in the API's catalogue" in caplog.text


def test_a_gateway_s_warning_names_the_model_that_may_be_meant(
    api: ClaudeClient, caplog: pytest.LogCaptureFixture
) -> None:
    check(ModelChecker(TABLE, api), "claude-haiku-55", now=RETIRES)

    assert "Did you mean claude-haiku-5-5?" in caplog.text


# ---------------------------------------------------------------- the context window


@pytest.mark.parametrize(
    ("model", "betas", "catalogue_says", "window"),
    [
        pytest.param("claude-opus-5-5", (), 400_000, 400_000, id="the catalogue decides"),
        pytest.param("claude-opus-5-5", (), None, 1_000_000, id="else the table"),
        pytest.param("claude-haiku-4-5", (), None, 200_000, id="by an alias"),
        pytest.param("claude-haiku-4-5", ("context-1m-2025-08-07",), 200_000, 1_000_000, id="enlarged by a beta"),
        pytest.param("claude-opus-5-5", ("context-1m-2025-08-07",), 2_000_000, 2_000_000, id="larger than the beta's"),
        pytest.param("claude-opus-5-5", ("context-management-2025-06-27",), 400_000, 400_000, id="another beta"),
        pytest.param("claude-of-tomorrow", (), None, None, id="unknown"),
        pytest.param("claude-opus-5-5", (), 0, 1_000_000, id="zero says nothing"),
        pytest.param("claude-of-tomorrow", ("context-1m-2025-08-07",), -1, None, id="negative says nothing"),
    ],
)
def test_context_window_of_a_model(
    model: str, betas: tuple[str, ...], catalogue_says: int | None, window: int | None
) -> None:
    models = ModelChecker(TABLE, Catalogue(betas, lifecycle="active", max_input_tokens=catalogue_says))

    assert models.context_window(model) == window


# ---------------------------------------------------------------- calls


def test_a_model_is_looked_up_once_in_a_run(simulator: Simulator, api: ClaudeClient) -> None:
    models = ModelChecker(TABLE, api)

    for _ in range(3):
        check(models, "claude-haiku-5-5", "claude-opus-5-5", now=RETIRES)

    assert simulator.books()["calls"]["models"] == 2


def test_lookups_are_bounded() -> None:
    catalogue = Catalogue(lifecycle="active")

    check(ModelChecker(TABLE, catalogue), *(f"model-{number}" for number in range(50)), now=RETIRES)

    assert len(catalogue.asked) == MAX_LOOKUPS


@pytest.mark.parametrize("status", [401, 403, 429, 500, 529])
def test_an_api_that_cannot_be_asked_leaves_the_table_and_is_not_asked_again(
    status: int, simulator: Simulator, api: ClaudeClient
) -> None:
    simulator.inject(Fault(do="status", on="models", status=status, times=None))
    models = ModelChecker(TABLE, api)

    check(models, "claude-haiku-5-5", "claude-opus-5-5", now=RETIRES)
    with pytest.raises(InputError, match=r"claude-opus-4-1 was retired on 2026-08-05\.\n.*\nUse claude-opus-4-8"):
        check(models, "claude-opus-4-1", now=RETIRES)

    assert simulator.books()["calls"]["models"] == 1


# ---------------------------------------------------------------- in a submission


def test_answers_are_landed_though_the_model_was_retired_meanwhile(tmp_path: Path) -> None:
    """They are paid for. Only requests that would be sent are refused."""
    clock = ManualClock(RETIRES - timedelta(hours=1))
    world = World(tmp_path, Simulator(clock=clock, batch_seconds=7200), clock)
    asking: dict[str, Any] = {"defaults": Defaults(model=OLD, max_tokens=64)}
    with world.attempt(["a", "b"], Policy(), **asking) as submission:
        submission.advance()
    clock.advance(3 * 86_400)

    done = world.run(["a", "b"], Policy(), **asking)

    assert done.failure is None
    assert world.billed == 2
    with pytest.raises(InputError, match="was retired on 2026-11-30"):
        world.run(["a", "c"], Policy(), clear=True, **asking)
    assert world.simulator.books()["calls"]["create"] == 1


def test_a_prompt_longer_than_the_context_window_stops_the_submission(tmp_path: Path) -> None:
    clock = ManualClock(LONG_BEFORE)
    world = World(tmp_path, Simulator(clock=clock), clock)

    with pytest.raises(InputError, match=r"messages\[1\] \(key 'b'\): its prompt has 200,\d+ tokens, and claude-haiku"):
        world.run(
            [{"key": "a", "prompt": "short"}, {"key": "b", "prompt": "x" * 802_000}],
            Policy(),
            defaults=Defaults(model="claude-haiku-4-5", max_tokens=64),
        )

    assert world.simulator.books()["calls"]["create"] == 0


@pytest.mark.parametrize(
    ("times", "sent"), [pytest.param(1, 0, id="of one element"), pytest.param(None, 1, id="of any request at all")]
)
def test_a_400_of_count_tokens_stops_the_submission_if_it_is_about_the_element(
    times: int | None, sent: int, tmp_path: Path
) -> None:
    clock = ManualClock(LONG_BEFORE)
    world = World(tmp_path, Simulator(clock=clock), clock)
    world.simulator.inject(
        Fault(do="status", on="count_tokens", status=400, message="messages.0.content: wrong", times=times)
    )

    with (
        contextlib.nullcontext()
        if sent
        else pytest.raises(
            InputError,
            match=r"^messages\[0\]: the API refuses it\.\nNothing was sent\..*\nMessage: messages\.0\.content: wrong",
        )
    ):
        world.run(["a", "b"], Policy())

    assert world.simulator.books()["calls"]["create"] == sent


# ---------------------------------------------------------------- names of other platforms


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("us.anthropic.claude-opus-5-5-v1:0", "is a model's name on Amazon Bedrock only.\n3 requests name it"),
        ("claude-opus-4-5@20251101", "is a model's name on Vertex AI only."),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/a1", "is a model's name on Amazon Bedrock only."),
    ],
)
def test_a_name_of_a_platform_without_batches_is_refused_and_not_looked_up(model: str, said: str) -> None:
    catalogue = Catalogue()

    with pytest.raises(InputError) as caught:
        check(ModelChecker(TABLE, catalogue), model, now=LONG_BEFORE)
    assert said in str(caught.value)
    assert "Write " in str(caught.value)
    assert catalogue.asked == []


def test_a_gateway_may_have_names_of_other_platforms(caplog: pytest.LogCaptureFixture) -> None:
    class Gateway(Catalogue):
        is_anthropic = False

    check(ModelChecker(TABLE, Gateway()), "us.anthropic.claude-opus-5-5-v1:0", now=LONG_BEFORE)


def test_a_name_that_the_deployment_knows_is_not_refused() -> None:
    prices = PriceTable.load({"models": {"claude-opus-4-5@20251101": {"retires_on": "2030-01-01"}}})

    check(ModelChecker(prices, Catalogue()), "claude-opus-4-5@20251101", now=LONG_BEFORE)
