from __future__ import annotations

import asyncio

import pytest
from clients import KEY

from airflow_claude_batch.api import endpoints
from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.api.credentials import ApiKey, BearerToken
from airflow_claude_batch.exceptions import ConfigurationError


def sync_sign(credentials, request):
    return credentials.sign(request, None, None)


def async_sign(credentials, request):
    return asyncio.run(credentials.asign(request, None, None))


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
    assert tuple(headers) == credentials.header_names
    assert credentials.forget(headers) is False
    assert "sk-ant" not in repr(credentials)
    assert "gateway" not in repr(credentials)


@pytest.mark.parametrize("sign", [sync_sign, async_sign], ids=["sync", "async"])
def test_signed_request_keeps_its_headers_and_gets_the_credential(sign):
    request = endpoints.list_batches(limit=1).request(ClientConfig(credentials=ApiKey(KEY)))

    signed = sign(ApiKey(KEY), request)

    assert signed.headers == {**request.headers, "authorization": f"Bearer {KEY}"}
    assert "authorization" not in request.headers
    assert KEY not in signed.redact(f"They sent {KEY}")


@pytest.mark.parametrize("secret", ["", "  ", "two words", "line\nbreak", "schlüssel", "nul\x00"], ids=repr)
@pytest.mark.parametrize("kind", [ApiKey, BearerToken])
def test_secret_that_no_header_can_hold_is_refused_without_showing_it(kind, secret):
    with pytest.raises(ConfigurationError) as caught:
        kind(secret)

    assert not secret.strip() or secret not in str(caught.value)


def test_a_key_goes_into_one_of_two_headers():
    with pytest.raises(ConfigurationError, match="x-api-key"):
        ApiKey(KEY, "cookie")


@pytest.mark.parametrize(
    ("secret", "problem"),
    [
        (f'"{KEY}"', "has quotation marks around it"),
        (f"'{KEY}'", "has quotation marks around it"),
        (f"\u201c{KEY}\u201d", "has quotation marks around it"),
        (f"{KEY}'", "has quotation marks around it"),
        (f"Bearer {KEY}", "begins with 'Bearer' or 'Basic', which the client adds by itself"),
        (f"x-api-key: {KEY}", "begins with the name of a header"),
        (f"Authorization: Bearer {KEY}", "begins with the name of a header"),
        (f"ANTHROPIC_API_KEY={KEY}", "begins with the name of a variable"),
        (f"export ANTHROPIC_API_KEY={KEY}", "begins with the name of a variable"),
        ("$ANTHROPIC_API_KEY", "is the name of a variable, not its value"),
        ("${ANTHROPIC_API_KEY}", "is the name of a variable, not its value"),
        ("{{ var.value.key }}", "is a template, which Airflow does not render in a connection"),
        ("***", "is only the mask that is shown for a secret"),
        ("sk-ant-api03-R2D...igAA", "is the shortened form that the Console shows"),
        (f"{KEY[:20]}\n{KEY[20:]}", "has a line break in it"),
        (f"{KEY[:20]} {KEY[20:]}", "has a space in it"),
        (f"{KEY}\u200b", "has a character that no key or token has: U+200B, zero width space"),
        (KEY.replace("-", "\u2013", 1), "has a character that no key or token has: U+2013, en dash"),
    ],
)
@pytest.mark.parametrize("kind", [ApiKey, BearerToken])
def test_what_came_along_with_a_secret_is_named_without_showing_it(kind, secret, problem):
    with pytest.raises(ConfigurationError) as caught:
        kind(secret)

    first, remedy = str(caught.value).split("\n")
    assert first.endswith(f"{problem}.")
    assert remedy == "Copy it again, without anything around it."
    assert KEY[-12:] not in str(caught.value)


@pytest.mark.parametrize("token", ["YWJjZA==", "a=b", "dG9rZW4=", "$2y$10$abc", "a.b.c", "gw:key", "x*y", "any-key=="])
def test_token_of_another_service_is_taken(token):
    assert ApiKey(token).headers(None, None) == {"authorization": f"Bearer {token}"}
