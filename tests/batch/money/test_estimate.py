from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from batch.money.estimates import MODEL, Counter, Params, estimated, params, plan, usd_of
from batch.money.usages import TABLE
from hypothesis import given, settings
from hypothesis import strategies as st
from media_files import jpeg, pdf, png

from airflow_claude_batch.api.wire import CacheCreation, Usage
from airflow_claude_batch.batch.media_formats import format_of
from airflow_claude_batch.batch.money.cost import Tokens
from airflow_claude_batch.batch.money.cost_limit import check_max_cost
from airflow_claude_batch.batch.money.planned_request import PlannedRequest
from airflow_claude_batch.batch.money.sampling import MAX_CALLS, StratifiedSample
from airflow_claude_batch.simulator.messages.prompts import prompt_tokens

# ---------------------------------------------------------------- the sample


def test_a_few_requests_are_all_measured_and_met_exactly() -> None:
    estimate = estimated([params("x" * 400), params("x" * 8_000)], Counter())

    assert estimate.measured == 2
    assert estimate.tokens.expected.input == 100 + 2_000
    assert estimate.tokens.lower.input == 2_058  # 2 % below
    assert estimate.tokens.upper.input == 2_142
    assert estimate.tokens.map(lambda tokens: tokens.output) == (2, 50, 200)


def test_calls_are_bounded_however_many_requests_there_are() -> None:
    counter = Counter()

    estimate = estimated((params("x" * (1 + index % 5_000)) for index in range(5_000)), counter)

    assert counter.calls == estimate.measured == MAX_CALLS
    assert estimate.requests == 5_000


def test_reservoir_is_not_larger_than_the_sample() -> None:
    sample = StratifiedSample(plan(params() for _ in range(1_000)), max_calls=5)

    assert [(stratum.requests, len(stratum.reservoir)) for stratum in sample.strata] == [(1_000, 5)]


def test_every_request_of_a_stream_may_be_sampled() -> None:
    (stratum,) = StratifiedSample(plan(params(f"{index:09}") for index in range(1_000))).strata

    sampled = sorted(int(request.load()["messages"][0]["content"]) for request in stratum.reservoir)

    assert len(set(sampled)) == MAX_CALLS
    assert 300 < sum(sampled) / len(sampled) < 700


def test_the_longest_requests_of_a_model_are_kept_texts_before_images() -> None:
    image = [{"type": "image", "source": {"type": "file", "file_id": "file_1"}}]
    lengths = [300, 40, 301, 20, 302, 303, 50, 2_000, 30]
    requests = [
        *(params("x" * length) for length in lengths),
        *(params(image * count) for count in (1, 5, 2, 3)),
        params("x" * 9_000, model="claude-haiku-5-5"),
    ]

    longest = StratifiedSample(plan(requests)).longest(MODEL)

    contents = [request.load()["messages"][0]["content"] for request in longest]
    assert [len(content) for content in contents] == [2_000, 303, 302, 5, 3, 2]


def test_the_sample_is_the_same_in_a_retry() -> None:
    def selected() -> list[Mapping[str, Any]]:
        return [
            request.load()
            for request in StratifiedSample(plan(params(f"{index:09}") for index in range(1_000))).select()
        ]

    assert selected() == selected()
    assert len({request["messages"][0]["content"] for request in selected()}) == MAX_CALLS


def test_long_requests_are_measured_in_proportion_to_their_bytes() -> None:
    requests = [params("x" * 8)] * 1_000 + [params("x" * 2_998)] * 30  # 10 kB and 90 kB

    lengths = [request.bytes_length for request in StratifiedSample(plan(requests), max_calls=10).select()]

    assert lengths == [10] + [3_000] * 9


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 400_000}}
PHOTO = {"type": "image", "source": {"type": "url", "url": "https://example.org/photo.png"}}


@pytest.mark.parametrize("image", [pytest.param(IMAGE, id="base64"), pytest.param(PHOTO, id="url")])
def test_images_and_texts_are_estimated_apart(image: Params) -> None:
    with_images = [{**params(), "messages": [{"role": "user", "content": [image]}]}] * 100
    texts = [params("x" * len(msgspec.json.encode(image)))] * 100
    tokens = 100 * (1_500 + prompt_tokens(texts[0]))

    estimate = estimated([*with_images, *texts], Counter())

    assert estimate.tokens.lower.input <= tokens <= estimate.tokens.upper.input
    assert estimate.tokens.upper.input < 1.2 * tokens


def _file(data: bytes) -> Params:
    source = {"type": "base64", "media_type": format_of(data[:1024]), "data": base64.b64encode(data).decode()}
    kind = "document" if data.startswith(b"%PDF") else "image"
    return {"type": kind, "source": source}


@pytest.mark.parametrize(
    ("data", "tokens"),
    [
        pytest.param(png(750, 1000), 1_000, id="image"),
        pytest.param(png(750, 1000) + bytes(5_000_000), 1_000, id="image of many bytes"),
        pytest.param(jpeg(8000, 8000, metadata=60_000), 4_784, id="reduced image"),
        pytest.param(png(1, 1), 1, id="pixel"),
        pytest.param(pdf(20), 50_000, id="PDF"),
        pytest.param(pdf(20, size=10_000_000), 50_000, id="PDF of many bytes"),
        pytest.param(b"%PDF-1.7\n" + bytes(400_000), 50_000, id="PDF of an unknown number of pages"),
    ],
)
def test_without_a_client_tokens_of_files_follow_from_pixels_and_pages(data: bytes, tokens: int) -> None:
    text = {"type": "text", "text": "What is it?"}

    alone, with_file = estimated([params([text])]).tokens, estimated([params([_file(data), text])]).tokens

    assert with_file.lower.input == 0
    assert with_file.expected.input - alone.expected.input == pytest.approx(tokens * 1.2, rel=0.1, abs=60)
    assert tokens <= with_file.upper.input - alone.upper.input <= 3 * tokens + 120


def test_a_document_of_text_has_the_length_of_its_text() -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "x" * 34_000}
    document = estimated([params([{"type": "document", "source": source}])])

    assert document.tokens.expected.input == pytest.approx(34_000 / 2.5, rel=0.01)


def test_counted_files_of_many_sizes_stand_for_the_others() -> None:
    """Images of like pixels have like tokens, whatever the bytes that they are packed into."""
    requests = [params([_file(png(900, 900) + bytes(index * 1_000))]) for index in range(200)]

    estimate = estimated(requests, Counter())

    assert estimate.tokens.expected.input == pytest.approx(200 * 1_500, rel=0.02)
    assert estimate.tokens.upper.input < 1.15 * 200 * 1_500


def test_texts_of_another_length_are_not_comparable() -> None:
    long, short = [params("x" * 400_000)] * 100, [params("x" * 38)] * 50

    unmeasured = (
        estimated([*long, *short], Counter()).tokens.upper.input - estimated(long, Counter()).tokens.upper.input
    )

    assert unmeasured == 50 * 40  # a token for a byte


def test_without_calls_nothing_is_measured() -> None:
    counter = Counter()

    estimate = estimated([params()] * 3, counter, max_calls=0)

    assert (counter.calls, estimate.measured) == (0, 0)


# ---------------------------------------------------------------- offline


def test_without_a_client_tokens_follow_from_length_and_the_models_tokenizer() -> None:
    text = "x" * 338  # 340 with its quotation marks

    assert estimated([params(text, model="claude-sonnet-5-5")]).tokens.map(lambda tokens: tokens.input) == (0, 136, 340)
    assert estimated([params(text, model="claude-sonnet-4-6")]).tokens.map(lambda tokens: tokens.input) == (0, 100, 340)
    assert estimated([params(text, model="claude-7-novella")]).tokens.map(lambda tokens: tokens.input) == (0, 136, 340)


def test_a_failing_client_leaves_an_estimate_by_length_and_its_reason() -> None:
    estimate = estimated([params()] * 3, Counter(fails_at=0))

    assert estimate.measured == 0
    assert estimate.failure == "APIConnectionError: connection refused"
    assert estimate.tokens == estimated([params()] * 3).tokens


def test_a_client_that_fails_later_leaves_what_was_counted_within_wider_bounds() -> None:
    estimate = estimated([params()] * 100, Counter(fails_at=2))

    assert estimate.measured == 2
    assert estimate.failure is not None
    assert estimate.tokens.map(lambda tokens: tokens.input) == (
        5_000,
        10_000,
        15_000,
    )  # two counts for all: 50 % margin


def test_a_model_of_which_nothing_was_measured_follows_from_length() -> None:
    requests = [params("x" * 10_000)] * 99 + [params("x", model="claude-haiku-4-5")]
    alone = estimated([params("x", model="claude-haiku-4-5")])

    both = estimated(requests, Counter())
    first = estimated(requests[:-1], Counter())

    assert both.tokens.upper.prompt == first.tokens.upper.prompt + alone.tokens.upper.prompt


# ---------------------------------------------------------------- bounds

texts = st.text(alphabet=st.characters(max_codepoint=126, min_codepoint=32), max_size=300)
long_texts = st.builds(lambda text, times: text * times, texts, st.integers(min_value=1, max_value=400))
models = st.sampled_from(["claude-opus-5-5", "claude-haiku-5-5", "claude-haiku-4-5"])
requests_of_any_length = st.lists(
    st.builds(
        lambda text, model, max_tokens: params(text, model=model, max_tokens=max_tokens),
        long_texts,
        models,
        st.integers(min_value=1, max_value=128_000),
    ),
    min_size=1,
    max_size=120,
)


def bill(requests: Iterable[Params], share: float) -> Decimal:
    """Return what the simulator would bill if every answer used that share of its max_tokens."""
    total = Decimal(0)
    for request in requests:
        answer = Usage(input_tokens=prompt_tokens(request), output_tokens=int(request["max_tokens"] * share))
        cost = TABLE.usage_cost(answer, request["model"])
        assert cost is not None
        total += cost.usd
    return total


@settings(deadline=None)
@given(requests_of_any_length, st.floats(min_value=0, max_value=1))
def test_the_bill_is_within_the_bounds_when_all_was_measured(requests: list[Params], share: float) -> None:
    requests = requests[:MAX_CALLS]
    estimate = estimated(requests, Counter())
    tokens = sum(map(prompt_tokens, requests))

    assert estimate.tokens.lower.prompt <= tokens <= estimate.tokens.upper.prompt
    assert bill(requests, share) <= usd_of(estimate).upper
    assert bill(requests, 0) <= usd_of(estimate).upper
    assert usd_of(estimate).lower <= usd_of(estimate).expected <= usd_of(estimate).upper


@settings(deadline=None)
@given(requests_of_any_length, st.booleans())
def test_the_bounds_contain_the_tokens_of_a_sampled_input(requests: list[Params], measured: bool) -> None:
    estimate = estimated(requests * 5, Counter() if measured else None)

    assert estimate.tokens.lower.prompt <= 5 * sum(map(prompt_tokens, requests)) <= estimate.tokens.upper.prompt
    assert bill(requests * 5, 1.0) <= usd_of(estimate).upper


def test_a_long_prompt_is_estimated_at_the_rates_of_long_prompts() -> None:
    short = estimated([params("x" * 390_000, model="claude-haiku-5-5")], Counter())
    long = estimated([params("x" * 410_000, model="claude-haiku-5-5")], Counter())

    assert usd_of(short).expected == Decimal("0.00488125")  # 97,500 at 0.05 and 25 at 0.25
    assert usd_of(long).expected == Decimal("0.02565625")  # 102,500 at 0.25 and 25 at 1.25


def test_prompts_about_as_long_as_the_threshold_are_short_at_best_and_long_at_worst() -> None:
    requests = [params("x" * length, model="claude-haiku-5-5", max_tokens=1) for length in (395_998, 411_998)]

    estimate = estimated(requests, Counter())

    assert estimate.tokens.map(lambda tokens: tokens.input) == (197_960, 202_000, 206_040)
    assert usd_of(estimate) == (
        Decimal("0.0098985"),  # 197,960 at 0.05 and 2 at 0.25
        Decimal("0.0505025"),  # 202,000 at 0.25 and 2 at 1.25
        Decimal("0.0515125"),
    )


def test_inference_geo_of_a_request_is_in_its_estimate() -> None:
    exact_usd, american = estimated([params()], Counter()), estimated([params(inference_geo="us")], Counter())

    assert usd_of(american).expected == usd_of(exact_usd).expected * Decimal("1.1")


# ---------------------------------------------------------------- cached prefixes

SHARED = {"type": "text", "text": "y" * 4_000}


@pytest.mark.parametrize(
    ("more", "column"),
    [
        pytest.param({"system": [{**SHARED, "cache_control": {"type": "ephemeral"}}]}, "cache_write_5m", id="5m"),
        pytest.param(
            {"system": [{**SHARED, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}, "cache_write_1h", id="1h"
        ),
        pytest.param(
            {"system": [SHARED], "cache_control": {"type": "ephemeral", "ttl": "1h"}}, "cache_write_1h", id="automatic"
        ),
    ],
)
def test_a_cached_prefix_is_all_read_at_best_and_all_written_at_worst(more: Params, column: str) -> None:
    requests = [params(**more) for _ in range(10)]

    estimate = estimated(requests, Counter())
    written = estimate.tokens.map(lambda tokens: getattr(tokens, column))

    assert written.lower == 0
    assert estimate.tokens.lower.cache_read > 0
    assert written.expected == pytest.approx(estimate.tokens.expected.cache_read, abs=1)
    assert written.upper > written.expected * 2 > 9_000
    assert estimate.tokens.upper.cache_read == 0
    assert estimate.tokens.expected.prompt == 10 * 1_100


@pytest.mark.parametrize("hits", [0, 5, 9])
def test_the_bill_of_a_cached_prefix_is_within_the_bounds(hits: int) -> None:
    requests = [params(system=[{**SHARED, "cache_control": {"type": "ephemeral"}}]) for _ in range(10)]
    estimate = estimated(requests, Counter())

    written, read = 1_000 * (10 - hits), 1_000 * hits
    answer = Usage(
        input_tokens=1_000,
        output_tokens=1_000,
        cache_creation=CacheCreation(written, 0),
        cache_creation_input_tokens=written,
        cache_read_input_tokens=read,
    )
    cost = TABLE.usage_cost(answer, MODEL)

    assert cost is not None
    assert usd_of(estimate).lower <= cost.usd <= usd_of(estimate).upper


@pytest.mark.parametrize(
    ("request_", "cached"),
    [
        pytest.param(params(), 0, id="no mark"),
        pytest.param(params('a text with "cache_control": in it'), 0, id="a text that looks like one"),
        pytest.param(params(cache_control={"type": "ephemeral"}), None, id="automatic: all of it"),
        pytest.param(
            params(system=[SHARED, {**SHARED, "cache_control": {"type": "ephemeral"}}, SHARED]),
            len(msgspec.json.encode([SHARED, {**SHARED, "cache_control": {"type": "ephemeral"}}])) - len("[,]"),
            id="up to the last mark",
        ),
        pytest.param(
            params(tools=[{"name": "t", "input_schema": {}, "cache_control": {"type": "ephemeral"}}], system="s"),
            len('{"name":"t","input_schema":{},"cache_control":{"type":"ephemeral"}}'),
            id="tools come first",
        ),
    ],
)
def test_the_length_of_a_cached_prefix(request_: Params, cached: int | None) -> None:
    planned = PlannedRequest.of(msgspec.json.encode(request_), load=lambda: request_)

    assert planned.cached_bytes == (planned.bytes_length if cached is None else cached)


def test_nothing_is_counted_for_what_is_not_there() -> None:
    more = {"tools": None, "system": "", "cache_control": None, "mcp_servers": None}
    silent = {"role": "system"}  # of a beta, without content
    request = params("Hi", **more)
    request["messages"] += [silent, {"role": "assistant", "content": []}]

    planned = PlannedRequest.of(msgspec.json.encode(request), load=lambda: request)

    assert (planned.bytes_length, planned.cached_bytes, planned.server_tools) == (len('"Hi"'), 0, False)


# ---------------------------------------------------------------- as JSON and as text


@pytest.mark.parametrize(
    ("more", "on_server"),
    [
        ({}, 0),
        ({"tools": [{"name": "mine", "input_schema": {}}]}, 0),
        ({"tools": [{"type": "custom", "name": "mine"}, {"type": "bash_20250124", "name": "bash"}]}, 0),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, 1),
        ({"mcp_servers": [{"type": "url", "url": "https://example.org"}]}, 1),
    ],
)
def test_requests_with_tools_of_the_server_are_counted(more: Params, on_server: int) -> None:
    assert estimated([params(**more)]).server_tools == on_server


def test_an_estimate_as_json() -> None:
    estimate = estimated([params()] * 2, Counter(), duplicates=1)

    assert estimate.to_manifest() == {
        "requests": 2,
        "duplicates": 1,
        "input_tokens": {"lower": 196, "expected": 200, "upper": 204},
        "output_tokens": {"lower": 2, "expected": 50, "upper": 200},
        "usd": {"lower": "0.000412", "expected": "0.0009", "upper": "0.002408"},
        "unpriced_models": [],
        "output_share": 0.25,
        "measured_requests": 2,
        "failure": None,
    }
    assert msgspec.json.decode(msgspec.json.encode(estimate.to_manifest())) == estimate.to_manifest()


def test_an_estimate_as_a_table() -> None:
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    estimate = estimated([params()] * 1_500 + [params(tools=tools)], Counter(fails_at=8), duplicates=3)

    assert estimate.to_table().splitlines() == [
        "                         lower        expected           upper",
        "input tokens           131,348         150,112         168,877",
        "output tokens            1,501          37,525         150,100",
        "USD                     0.2777          0.6755            1.84",
        "1,501 requests: the tokens of 8 were counted, those of 1,493 estimated from their length.",
        "The expected output is a guess, 25% of max_tokens: this task has no earlier run with this model.",
        "The upper bound is all of max_tokens.",
        "Counting stopped early: APIConnectionError: connection refused",
        "3 duplicates are not sent.",
        "1 request uses server tools. What these add is not in the estimate.",
    ]


@pytest.mark.parametrize(
    ("requests", "fails_at", "sentence"),
    [
        pytest.param(1, None, "The tokens of 1 request were counted.", id="one"),
        pytest.param(2, None, "The tokens of 2 requests were counted.", id="all"),
        pytest.param(2, 0, "The tokens of 2 requests were estimated from their length.", id="none"),
        pytest.param(1, 0, "The tokens of 1 request were estimated from its length.", id="none of one"),
        pytest.param(
            2, 1, "2 requests: the tokens of 1 were counted, those of 1 estimated from its length.", id="one of two"
        ),
    ],
)
def test_the_table_says_how_tokens_were_counted(requests: int, fails_at: int | None, sentence: str) -> None:
    estimate = estimated([params()] * requests, Counter(fails_at=fails_at))

    assert estimate.to_table().splitlines()[4] == sentence


def test_an_estimate_with_an_unknown_model_has_tokens_but_no_cost() -> None:
    estimate = estimated([params(), params(model="claude-7-novella")], Counter())

    assert estimate.usd is None
    assert estimate.tokens.expected.input == 200
    assert estimate.to_manifest()["usd"] is None
    assert estimate.to_manifest()["unpriced_models"] == ["claude-7-novella"]
    assert "unknown" in estimate.to_table()
    assert "No price is known for claude-7-novella." in estimate.to_table()


def test_an_estimate_of_nothing_is_zero() -> None:
    estimate = estimated([], Counter())

    assert estimate.tokens == (Tokens(), Tokens(), Tokens())
    assert usd_of(estimate) == (0, 0, 0)
    check_max_cost(estimate, Decimal(0))


def test_the_models_and_their_prices_are_named() -> None:
    own = {"model": "claude-haiku-5-5", "max_tokens": 64}
    estimate = estimated([params(max_tokens=100), params(max_tokens=100), params(**own), params(model="claude-next")])

    assert estimate.models_in_words() == (
        "1 request to claude-haiku-5-5: 0.05 USD per million input tokens, 0.25 per million output tokens.\n"
        "1 request to claude-next: no known price.\n"
        "2 requests to claude-opus-5-5: 2.00 USD per million input tokens, 10.00 per million output tokens.\n"
        "max_tokens is from 64 to 100."
    )
    noted = estimate.models_to_manifest()
    assert noted["models"]["claude-opus-5-5"] == {
        "requests": 2,
        "usd_per_million": {"input": "2", "output": "10"},
        "max_tokens": 200,
        "input_tokens": 322,
        "expected": {"output_share": 0.25, "runs": 0},
    }
    assert noted["models"]["claude-next"]["usd_per_million"] is None
    assert noted["max_tokens"] == {"least": 64, "most": 100}
