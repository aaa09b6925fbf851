"""What a client says about errors of AWS, and what they prove."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from clients import BODY

from airflow_claude_batch.api.aws_credentials import AwsSigV4
from airflow_claude_batch.api.aws_errors import AwsError, aws_error
from airflow_claude_batch.api.aws_keys import KeySource
from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.api.evidence import Proof, proof_of
from airflow_claude_batch.api.http import HTTPResponse
from airflow_claude_batch.exceptions import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    ConfigurationError,
    PermissionDeniedError,
)
from airflow_claude_batch.simulator import AwsPlatform, Fault, ManualClock, Simulator

WORKSPACE = "wrkspc_01Simulator"
SIGNED_AT = datetime(2026, 11, 30, 7, 0, tzinfo=UTC)
TOKEN = "the-session-token-of-a-role"


def keys(secret="simulator-secret-key", token=None):
    frozen = SimpleNamespace(access_key="AKIASIMULATOR", secret_key=secret, token=token)
    session = SimpleNamespace(get_credentials=lambda: SimpleNamespace(get_frozen_credentials=lambda: frozen))
    return KeySource(lambda: session, name=secret)


def failing_keys(error):
    def open_session():
        raise error

    return KeySource(open_session, name="failing")


class World:
    """A simulator of the platform, whose clock is ahead by ``skew``, and a client of it."""

    def __init__(self, client_class):
        self._client_class = client_class
        self.skew = timedelta(0)
        self.denied = []
        self.simulator = None

    def client(self, source=None, *, region="us-west-2", **settings):
        now = SIGNED_AT + self.skew
        platform = AwsPlatform(denied_actions=self.denied, now=lambda: now)
        self.simulator = Simulator(platform=platform, clock=ManualClock(now))
        credentials = AwsSigV4(source or keys(), region, "AWS connection 'aws_batches'", now=lambda: SIGNED_AT)
        options = {"credentials": credentials, "platform": "aws", "region": region, "workspace_id": WORKSPACE}
        config = ClientConfig(base_url="http://127.0.0.1", max_retries=0, **{**options, **settings})
        return self._client_class(config, transport=self.simulator.transport())


@pytest.fixture
def world(client_class):
    return World(client_class)


def error_of(client, call=lambda client: client.list_batches(limit=1)):
    with client, pytest.raises((APIStatusError, APIConnectionError, ConfigurationError)) as caught:
        call(client)
    lines = str(caught.value).split("\n")
    assert len(lines[0]) <= 120
    return caught.value, lines


@pytest.mark.parametrize(
    ("skew", "words"),
    [
        (timedelta(minutes=12), "This machine's clock is 720 s behind AWS's, which accepts five minutes."),
        (timedelta(minutes=-7), "This machine's clock is 420 s ahead of AWS's, which accepts five minutes."),
    ],
    ids=["behind", "ahead"],
)
def test_clock_that_is_off_is_named_with_the_remedy(world, skew, words):
    world.skew = skew

    error, lines = error_of(world.client())

    assert isinstance(error, PermissionDeniedError)
    assert lines[0].endswith("responded with 403 InvalidSignatureException.")
    assert "Signature" in lines[1]
    assert lines[-1] == f"{words} Synchronize it with NTP."
    assert "20261130T070000Z" in lines[1]


@pytest.mark.parametrize(
    ("call", "action"),
    [
        (lambda client: client.list_batches(limit=1), "ListBatchInferences"),
        (lambda client: client.retrieve_batch("msgbatch_1"), "GetBatchInference"),
        (lambda client: client.cancel_batch("msgbatch_1"), "CancelBatchInference"),
    ],
    ids=["list", "retrieve", "cancel"],
)
@pytest.mark.parametrize("says", ["AWS", "the call"])
def test_missing_permission_names_the_action(world, call, action, says):
    world.denied = [action] if says == "AWS" else []
    client = world.client()
    if says == "the call":
        world.simulator.inject(Fault(do="status", on="any", status=403, message="Forbidden"))

    error, lines = error_of(client, call)

    assert isinstance(error, PermissionDeniedError)
    assert lines[-1].startswith(f"Allow the IAM action aws-external-anthropic:{action} on the workspace")


def test_key_without_permission_names_the_action(world):
    world.denied = ["CallWithBearerToken"]

    error, lines = error_of(world.client(credentials=ApiKey("sk-key-of-the-aws-console")))

    assert "aws-external-anthropic:CallWithBearerToken on the workspace." in lines[-1]
    assert "sk-key" not in str(error)


@pytest.mark.parametrize(
    ("source", "region", "words"),
    [
        (keys("wrong"), "us-west-2", "Also check the region"),
        (keys(token=TOKEN), "us-west-2", "Check the keys of AWS connection 'aws_batches'"),
        (keys(), "eu-west-1", "Also check the region"),
    ],
    ids=["secret", "token", "region"],
)
def test_wrong_keys_are_told_from_a_wrong_clock(world, source, region, words):
    error, lines = error_of(world.client(source, region=region))

    assert words in lines[-1]
    assert "NTP" not in str(error)
    assert TOKEN not in str(error)


def test_switch_of_the_account_is_named(world):
    client = world.client()
    message = "Outbound web identity federation is disabled for your account"
    world.simulator.inject(Fault(do="status", on="list", status=400, message=message))

    assert error_of(client)[1][-1].endswith("aws iam enable-outbound-web-identity-federation")


def test_error_of_aws_proves_nothing_about_a_create_call(world):
    world.skew = timedelta(hours=1)
    if not hasattr(client := world.client(), "create_batch"):
        pytest.skip("an event loop creates nothing")

    error, lines = error_of(client, lambda client: client.create_batch(BODY))

    assert error.may_have_been_accepted is True
    assert proof_of(error) is Proof.NOTHING
    assert "If the clock is right, sending took that long" in lines[-1]


def test_keys_that_aws_refuses_are_an_authentication_error(world):
    refusal = RuntimeError("An error occurred (AccessDenied) when calling the AssumeRole operation: no")
    refusal.response = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}

    error, lines = error_of(world.client(failing_keys(refusal)))

    assert isinstance(error, AuthenticationError)
    assert proof_of(error) is Proof.NOT_ACCEPTED
    assert lines[:2] == [
        "Could not list message batches: no keys from AWS connection 'aws_batches'.",
        "Nothing was sent.",
    ]
    assert "AccessDenied" in lines[2]
    assert sum(world.simulator.calls().values()) == 0


def test_keys_that_cannot_be_had_now_are_tried_again(world):
    error, lines = error_of(world.client(failing_keys(TimeoutError("sts"))))

    assert isinstance(error, APIConnectionError)
    assert lines[2] == "They cannot be had now: TimeoutError: sts"
    assert not error.may_have_been_accepted


def test_account_without_keys_says_where_keys_come_from(world):
    none = KeySource(lambda: SimpleNamespace(get_credentials=lambda: None), name="none")

    error, lines = error_of(world.client(none))

    assert isinstance(error, ConfigurationError)
    assert "aws_conn_id" in lines[-1]


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        ({"message": "no"}, {"x-amzn-errortype": "AccessDeniedException:http://x/"}, ("AccessDeniedException", "no")),
        ({"Message": "no"}, {}, (None, "no")),
        ({"__type": "com.amazon.coral#Throttled", "message": "no"}, {}, ("Throttled", "no")),
        ({"code": 5, "message": "no"}, {}, (None, "no")),
        ({"message": 5}, {}, None),
        ([], {}, None),
    ],
    ids=str,
)
def test_forms_of_aws_are_read(body, headers, expected):
    found = aws_error(HTTPResponse(403, headers, json.dumps(body).encode()))

    assert found == (AwsError(*expected) if expected else None)


def test_xml_of_aws_is_read():
    body = b"<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error></ErrorResponse>"

    assert aws_error(HTTPResponse(403, {}, body)) == AwsError("SignatureDoesNotMatch", "no")


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"[" * 100_000], ids=["empty", "page", "bytes", "deep"])
def test_other_bodies_are_not_of_aws(body):
    assert aws_error(HTTPResponse(403, {}, body)) is None
