from __future__ import annotations

import pytest

from airflow_claude_batch.api.base_url import check_base_url, host_of, is_loopback
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


def test_a_host_is_named_with_its_port():
    assert host_of("http://127.0.0.1:8700/v1/models?limit=1") == "127.0.0.1:8700"


@pytest.mark.parametrize(
    ("host", "inside"), [("localhost", True), ("::1", True), ("example.com", False), ("10.0.0.1", False)]
)
def test_loopback_is_this_machine(host, inside):
    assert is_loopback(host) is inside
