from __future__ import annotations

import asyncio

import pytest
from clients import KEY

from airflow_claude_batch.api.credentials import ApiKey, BearerToken
from airflow_claude_batch.exceptions import ConfigurationError


@pytest.mark.parametrize(
    ("credentials", "headers"),
    [
        (ApiKey(KEY), {"authorization": f"Bearer {KEY}"}),
        (ApiKey(f" {KEY}\n"), {"authorization": f"Bearer {KEY}"}),
        (ApiKey(KEY, "x-api-key"), {"x-api-key": KEY}),
        (BearerToken("gateway-token\n"), {"authorization": "Bearer gateway-token"}),
    ],
    ids=["key", "key with white space", "x-api-key", "token"],
)
def test_fixed_credentials_are_one_header(credentials, headers):
    assert credentials.headers(None, None) == headers
    assert asyncio.run(credentials.aheaders(None, None)) == headers
    assert set(headers) == {credentials.header_name}
    assert credentials.forget(headers) is False
    assert "sk-ant" not in repr(credentials)
    assert "gateway" not in repr(credentials)


@pytest.mark.parametrize("secret", ["", "  ", "two words", "line\nbreak", "schlüssel", "nul\x00"], ids=repr)
@pytest.mark.parametrize("kind", [ApiKey, BearerToken])
def test_secret_that_no_header_can_hold_is_refused_without_showing_it(kind, secret):
    with pytest.raises(ConfigurationError) as caught:
        kind(secret)

    assert not secret.strip() or secret not in str(caught.value)


def test_a_key_goes_into_one_of_two_headers():
    with pytest.raises(ConfigurationError, match="x-api-key"):
        ApiKey(KEY, "cookie")
