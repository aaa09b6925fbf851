from __future__ import annotations

import pytest

from airflow_claude_batch.api.base_url import check_base_url, host_of, is_loopback, is_plain_http
from airflow_claude_batch.exceptions import ConfigurationError


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("https://api.anthropic.com", "https://api.anthropic.com"),
        ("https://api.anthropic.com/", "https://api.anthropic.com"),
        ("https://claude.googleapis.com/v1/projects/p/invoke/", "https://claude.googleapis.com/v1/projects/p/invoke"),
        ("HTTPS://gateway.example:8443", "HTTPS://gateway.example:8443"),
        ("http://localhost:8700", "http://localhost:8700"),
        ("http://127.0.0.1:8700", "http://127.0.0.1:8700"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:8700", "http://[::1]:8700"),
    ],
)
def test_https_anywhere_and_http_on_loopback_are_accepted(url, checked):
    assert check_base_url(url) == checked


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://api.anthropic.com", "https://"),
        ("http://10.0.0.7:4000", "https://"),
        ("http://localhost.evil.example", "https://"),
        ("http://127.0.0.1.evil.example", "https://"),
        ("ftp://api.anthropic.com", "https://"),
        ("https://", "names no host"),
        ("api.anthropic.com", "names no host"),
        ("", "names no host"),
        ("https://host?x=1", "query or a fragment"),
        ("https://host#x", "query or a fragment"),
        ("https://user:password@host", "user name"),
        ("https://user@host", "user name"),
        ("https://host:port", "not a URL"),
        ("https://[::1", "not a URL"),
        ("https://host:99999", "not a URL"),
        ("https://a..b", "not a URL"),
        ("https://" + "a" * 64 + ".example", "not a URL"),
        ("https://ho st", "character"),
        ("https://host\n", "character"),
        ("https://höst", "character"),
        ("https://host/ä", "character"),
    ],
)
def test_base_url_that_must_not_get_a_credential_is_refused(url, said):
    with pytest.raises(ConfigurationError, match=said) as caught:
        check_base_url(url)

    assert "password" not in str(caught.value).replace("name or password", "")


@pytest.mark.parametrize(
    "url", ["http://simulator:8700", "http://10.0.0.7:4000/claude", "http://my_gateway.corp", "HTTP://[fd00::7]:8700"]
)
def test_http_is_accepted_by_consent(url):
    assert check_base_url(url, allow_http=True) == url
    assert is_plain_http(url)
    with pytest.raises(ConfigurationError, match='"allow_http": true'):
        check_base_url(url)


@pytest.mark.parametrize(
    "host",
    [
        "api.anthropic.com",
        "anthropic.com",
        "API.Anthropic.com",
        "api.anthropic.com.",
        "claude.com:8080",
        "eu.api.claude.com",
        "claude.googleapis.com",
        "aws-external-anthropic.us-east-1.api.aws",
    ],
)
def test_http_to_the_vendors_hosts_is_refused_with_consent_too(host):
    with pytest.raises(ConfigurationError, match="allow_http does not count"):
        check_base_url(f"http://{host}", allow_http=True)
    with pytest.raises(ConfigurationError, match="https://") as caught:
        check_base_url(f"http://{host}")
    assert "allow_http" not in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://simulator", "https://user@simulator", "simulator:8700", "http://"])
def test_consent_to_http_allows_nothing_else(url):
    with pytest.raises(ConfigurationError):
        check_base_url(url, allow_http=True)


@pytest.mark.parametrize("host", ["notanthropic.com", "anthropic.com.example", "myclaude.com"])
def test_hosts_that_look_like_the_vendors_are_others(host):
    assert check_base_url(f"http://{host}", allow_http=True)


def test_a_host_is_named_with_its_port():
    assert host_of("http://127.0.0.1:8700/v1/models?limit=1") == "127.0.0.1:8700"


@pytest.mark.parametrize(
    ("host", "inside"), [("localhost", True), ("::1", True), ("example.com", False), ("10.0.0.1", False)]
)
def test_loopback_is_this_machine(host, inside):
    assert is_loopback(host) is inside
