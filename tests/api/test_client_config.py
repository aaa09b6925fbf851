from __future__ import annotations

import pytest
from clients import KEY

from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.api.credentials import ApiKey, BearerToken
from airflow_claude_batch.api.workload_identity import WorkloadIdentity
from airflow_claude_batch.exceptions import ConfigurationError

IDENTITY = WorkloadIdentity(federation_rule_id="fdrl_1", organization_id="o", identity_token="e.y.J")


def config(**options):
    return ClientConfig(**({"credentials": ApiKey(KEY)} | options))


def test_secrets_are_in_no_repr():
    shown = repr(
        config(
            extra_headers={"x-gateway-key": "gateway-secret"},
            proxy="http://user:proxy-secret@proxy:3128",
        )
    )

    assert "secret" not in shown
    assert "api.anthropic.com" in shown


def test_equal_configurations_have_equal_hashes():
    one, other = config(extra_headers={"a": "b"}), config(extra_headers={"a": "b"})

    assert one == other
    assert hash(one) == hash(other)
    assert config(extra_headers={"a": "c"}) != one
    assert config(credentials=BearerToken(KEY)) != one
    assert hash(config(credentials=IDENTITY)) == hash(config(credentials=IDENTITY))


def test_every_call_carries_version_betas_and_workspace():
    headers = config(
        betas=("b1", "b2", "b1"), workspace_id="wrkspc_1", extra_headers={"x-team": "data"}
    ).fixed_headers()

    assert headers == {
        "x-team": "data",
        "anthropic-version": "2026-10-21",
        "anthropic-beta": "b1,b2",
        "anthropic-workspace-id": "wrkspc_1",
    }


def test_without_betas_there_is_no_such_header():
    assert config().fixed_headers() == {"anthropic-version": "2026-10-21"}


def test_a_workload_identity_brings_its_beta():
    assert config(credentials=IDENTITY, betas=("b",)).fixed_headers()["anthropic-beta"] == "oauth-2025-04-20,b"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"base_url": "http://api.anthropic.com"}, "https"),
        ({"credentials": IDENTITY, "workspace_id": "wrkspc_1"}, "workspace"),
        ({"connect_timeout": 0}, "timeouts"),
        ({"read_timeout": -1.0}, "timeouts"),
        ({"write_timeout": 0.0}, "timeouts"),
        ({"write_timeout": 1e308}, "timeouts"),
        ({"max_retries": -1}, "max_retries"),
        ({"extra_headers": {"bad name": "x"}}, "'bad name'"),
        ({"extra_headers": {"": "x"}}, "''"),
        ({"extra_headers": {"x-a": "secret\r\nx-b: c"}}, "x-a"),
        ({"extra_headers": {"x-a": "sécret"}}, "x-a"),
        ({"extra_headers": {"Authorization": "Basic secret"}}, "Authorization"),
        ({"extra_headers": {"Host": "elsewhere"}}, "Host"),
        ({"extra_headers": {"Content-Length": "1"}}, "Content-Length"),
        ({"extra_headers": {"anthropic-version": "1"}}, "anthropic-version"),
        ({"credentials": ApiKey(KEY, "x-api-key"), "extra_headers": {"X-API-Key": "secret"}}, "X-API-Key"),
        ({"betas": ("a\nb",)}, "anthropic-beta"),
        ({"workspace_id": "wrkspc\n"}, "anthropic-workspace-id"),
        ({"user_profile_id": "p\n"}, "anthropic-user-profile-id"),
        ({"api_version": "2026-10-21\n"}, "anthropic-version"),
    ],
    ids=str,
)
def test_invalid_value_is_named_but_not_shown(options, said):
    with pytest.raises(ConfigurationError, match=said) as caught:
        config(**options)

    assert "secret" not in str(caught.value)


def test_header_that_the_credential_does_not_use_may_be_an_extra_header():
    assert config(credentials=ApiKey(KEY, "x-api-key"), extra_headers={"Authorization": "Basic eA=="})
