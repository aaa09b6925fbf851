"""A sample of the requests is counted before sending, and what the API is certain to refuse is not sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import pytest
from batch.money.estimates import MODEL, Counter, Params, params

from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch.money.counting import count_sample
from airflow_claude_batch.batch.money.planned_request import PlannedRequest
from airflow_claude_batch.batch.money.sampling import MAX_CALLS, StratifiedSample
from airflow_claude_batch.exceptions import (
    APIError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    BillingError,
    InvalidMessageError,
    MalformedResponseError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTooLargeError,
)
from airflow_claude_batch.simulator import Simulator

FAULTY = "faulty"
#: A text block in a user's turn with another type than the API knows.
BAD_BLOCK: Params = {**params(), "messages": [{"role": "user", "content": [{"type": "txt", "text": "a"}]}]}


def sample(requests: list[Params], **options: Any) -> StratifiedSample:
    planned = (
        PlannedRequest.of(
            msgspec.json.encode(each),
            load=lambda each=each: each,  # type: ignore[misc]
            name=lambda index=index: f"messages[{index}]",  # type: ignore[misc]
        )
        for index, each in enumerate(requests)
    )
    return StratifiedSample(planned, **options)


class Refusing(Counter):
    """Counts tokens, and refuses every request with the word "faulty", or also each plain one."""

    def __init__(self, error: APIError, *, plain: APIError | None = None) -> None:
        super().__init__()
        self.error, self.plain = error, plain

    def count_tokens(self, params: Mapping[str, Any], /) -> int:
        is_plain = params["messages"] == [{"role": "user", "content": "Hello"}]
        if (error := self.plain if is_plain else self.error if FAULTY in str(params) else None) is not None:
            raise error
        return super().count_tokens(params)


def refusal(kind: type[APIStatusError] = BadRequestError, status: int = 400, **facts: Any) -> APIStatusError:
    facts = {"error_type": "invalid_request_error", **facts}
    lines = ("Could not count tokens: api.anthropic.com responded.", "Message: messages.0: wrong. Request id: req_1.")
    return kind(*lines, status_code=status, **facts)


# ---------------------------------------------------------------- refused by count_tokens


@pytest.fixture
def api() -> Iterator[ClaudeClient]:
    config = ClientConfig(credentials=ApiKey("sk-test"), max_retries=0)
    with ClaudeClient(config, transport=Simulator().transport(), sleep=lambda _: None) as client:
        yield client


def test_an_element_that_the_api_refuses_is_named_with_the_api_s_words(api: ClaudeClient) -> None:
    with pytest.raises(InvalidMessageError) as caught:
        count_sample(sample([params(), params("x" * 900), BAD_BLOCK]), api)

    lines = str(caught.value).split("\n")
    assert lines[0] == "messages[2]: the API refuses it."
    assert lines[1].startswith("Nothing was sent.")
    assert lines[2].startswith("Message: messages.0.content.0")
    assert lines[3].startswith("Correct this element")


def test_an_element_with_an_image_of_too_many_pixels_is_refused() -> None:
    """The one code of a 400 that is about the content."""
    counter = Refusing(refusal(error_code="image_dimensions_too_large"))

    with pytest.raises(InvalidMessageError, match=r"messages\[0\]"):
        count_sample(sample([params(FAULTY)]), counter)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(refusal(NotFoundError, 404, error_type="not_found_error"), id="no such model"),
        pytest.param(refusal(NotFoundError, 404, error_type=None), id="no such endpoint"),
        pytest.param(refusal(status=405), id="method not allowed"),
        pytest.param(refusal(status=422), id="another status"),
        pytest.param(refusal(error_type=None), id="a gateway's 400"),
        pytest.param(refusal(error_type="billing_error"), id="billing by its type"),
        pytest.param(refusal(BillingError), id="credit balance"),
        pytest.param(refusal(error_code="organization_on_hold"), id="on hold"),
        pytest.param(refusal(error_code="user_profile_required"), id="user profile"),
        pytest.param(refusal(AuthenticationError, 401, error_type="authentication_error"), id="credential"),
        pytest.param(refusal(PermissionDeniedError, 403, error_type="permission_error"), id="permission"),
        pytest.param(refusal(RateLimitError, 429, error_type="rate_limit_error"), id="rate limit"),
        pytest.param(MalformedResponseError("a page"), id="a page"),
    ],
)
def test_an_error_that_says_nothing_about_the_element_ends_the_counting_only(error: APIError) -> None:
    counter = Refusing(error)

    counts, failure = count_sample(sample([params(FAULTY), params("x" * 900)]), counter)

    assert (counts, counter.calls) == ([], 0)
    assert failure is not None
    assert failure.startswith(type(error).__name__)


def test_a_refusal_that_a_plain_request_gets_too_says_nothing_about_the_element() -> None:
    """A beta that the endpoint does not know, or a gateway that cannot count for this model."""
    counter = Refusing(refusal(), plain=refusal())

    assert count_sample(sample([params(FAULTY), params("x" * 900)]), counter).counts == []


def _with_content(block: Params) -> Callable[[Params], Params]:
    return lambda request: {
        **request,
        "messages": [{"role": "user", "content": [{"type": "text", "text": FAULTY}, block]}],
    }


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda request: {**request, "mcp_servers": [{"type": "url", "name": "a"}]}, id="mcp servers"),
        pytest.param(lambda request: {**request, "container": "container_1"}, id="container"),
        pytest.param(lambda request: {**request, "context_management": {"edits": []}}, id="context management"),
        pytest.param(lambda request: {**request, "parameter_of_tomorrow": 1}, id="a parameter that is not known"),
        pytest.param(
            _with_content({"type": "image", "source": {"type": "url", "url": "https://x.org/a.png"}}), id="URL"
        ),
        pytest.param(_with_content({"type": "document", "source": {"type": "file", "file_id": "file_1"}}), id="file"),
    ],
)
def test_a_request_of_which_count_tokens_does_not_see_everything_is_sent(change: Callable[[Params], Params]) -> None:
    """It may be refused there, and accepted by the batch. The others are counted."""
    counter = Refusing(refusal())

    counts, failure = count_sample(sample([change(params(FAULTY)), params("x" * 900)]), counter)

    assert len(counts) == 1
    assert failure is not None


@pytest.mark.parametrize(
    "more",
    [
        {"max_tokens": 5, "metadata": {"user_id": "a"}, "stop_sequences": ["x"], "service_tier": "auto"},
        {"temperature": 0.5, "top_p": 0.5, "top_k": 5, "stream": False, "inference_geo": "us"},
        {"system": '"type":"url"', "tools": [], "thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        {"messages": [{"role": "user", "content": 'faulty "type":"url"'}]},
    ],
)
def test_a_refusal_counts_whatever_parameters_have_no_part_in_it(more: Params) -> None:
    with pytest.raises(InvalidMessageError, match=r"messages\[0\]"):
        count_sample(sample([{**params(FAULTY), **more}]), Refusing(refusal()))


def test_a_request_too_large_to_be_counted_does_not_end_the_counting() -> None:
    counter = Refusing(refusal(RequestTooLargeError, 413, error_type="request_too_large"))

    counts, failure = count_sample(sample([params(FAULTY), params("x" * 900)]), counter)

    assert len(counts) == 1
    assert failure is not None


# ---------------------------------------------------------------- longer than the context window

WINDOW = 1_000


def window_of(model: str) -> int | None:
    return WINDOW if model == MODEL else None


def test_a_prompt_longer_than_the_window_is_refused_by_its_tokens() -> None:
    with pytest.raises(InvalidMessageError) as caught:
        count_sample(sample([params("x" * 4_000), params("x" * 4_004), params("x" * 400)]), Counter(), window_of)

    lines = str(caught.value).split("\n")
    assert lines[0] == f"messages[1]: its prompt has 1,001 tokens, and {MODEL} takes 1,000."
    assert lines[1] == "Nothing was sent."


def test_the_longest_of_several_is_named_and_the_others_are_counted() -> None:
    texts = [params("x" * length) for length in (8_000, 400, 9_000, 5_000)]

    with pytest.raises(InvalidMessageError, match=r"messages\[2\]: its prompt has 2,250 tokens") as caught:
        count_sample(sample(texts), Counter(), window_of)

    assert "Nothing was sent. 2 more of the 4 counted are too long, too." in str(caught.value)


@pytest.mark.parametrize("place", [0, 2_500, 4_999])
def test_the_longest_is_counted_wherever_it_is_in_a_long_input(place: int) -> None:
    texts = [params("x" * (800 + index % 90)) for index in range(5_000)]
    texts[place] = params("x" * 5_000)

    with pytest.raises(InvalidMessageError, match=rf"messages\[{place}\]: its prompt has 1,250 tokens"):
        count_sample(sample(texts), Counter(), window_of)


def test_no_more_is_counted_than_the_sample_if_nothing_can_fill_the_window() -> None:
    counter = Counter()

    count_sample(sample([params("x" * 800)] * 5_000), counter, window_of)

    assert counter.calls == MAX_CALLS


def test_images_are_counted_whatever_their_bytes() -> None:
    """A small file may have many tokens: pages of a document, pixels of an image."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    requests = [params("x" * 800)] * 5_000
    requests[77] = {**params(), "messages": [{"role": "user", "content": [image]}]}

    with pytest.raises(InvalidMessageError, match=r"messages\[77\]: its prompt has 1,500 tokens"):
        count_sample(sample(requests), Counter(), window_of)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(params("x" * 8_000, model="claude-of-tomorrow"), id="no window is known"),
        pytest.param({**params("x" * 8_000), "context_management": {"edits": []}}, id="shortened before it is read"),
        pytest.param({**params("x" * 8_000), "compaction": {}}, id="compacted"),
    ],
)
def test_a_long_prompt_that_may_fit_is_sent(request_: Params) -> None:
    assert len(count_sample(sample([request_]), Counter(), window_of).counts) == 1
