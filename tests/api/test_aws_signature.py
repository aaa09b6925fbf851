"""The signer, with botocore as the judge."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_claude_batch.api.aws_signature import AwsKeys, SigningScope, hash_body, signature_headers
from airflow_claude_batch.api.request_body import BytesBody, DeadlineBody, UploadStopped

SCOPE = SigningScope("us-west-2", "aws-external-anthropic")
NOW = datetime(2026, 11, 30, 6, 41, 5, 999_999, UTC)
KEYS = AwsKeys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
SIGNED = re.compile(r"AWS4-HMAC-SHA256 Credential=(\S+), SignedHeaders=(\S+), Signature=([0-9a-f]{64})")


@dataclass(frozen=True)
class ChunkedBody:
    """A body in chunks of any size."""

    pieces: tuple[bytes, ...]

    @property
    def content_length(self):
        return sum(map(len, self.pieces))

    def chunks(self):
        yield from self.pieces


def sign(method="GET", url="https://h/", headers=(), body=None, keys=KEYS, now=NOW):
    hashed = hash_body(body)
    return signature_headers(method, url, dict(headers), body_hash=hashed, keys=keys, scope=SCOPE, now=now)


def signature_of_botocore(method, url, headers, body, keys, now=NOW):
    """Sign as botocore does, at a time of ours: its own methods, without its clock."""
    auth = SigV4Auth(Credentials(keys.access_key, keys.secret_key, keys.session_token), SCOPE.service, SCOPE.region)
    timestamp = now.strftime("%Y%m%dT%H%M%SZ")
    token = {"x-amz-security-token": keys.session_token} if keys.session_token else {}
    request = AWSRequest(method, url, {**headers, "x-amz-date": timestamp, **token}, data=body)
    request.context["timestamp"] = timestamp
    return auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)


segments = st.lists(
    st.sampled_from(["v1", "a%20b", "", ".", "..", "%2F", "msgbatch_1:=", "~x", "%C3%BC", "a+b", "-_.!"])
)
paths = st.builds(lambda parts, end: "/" + "/".join(parts) + end, segments, st.sampled_from(["", "/"]))
names = st.sampled_from(["limit", "after_id", "a", "b%5B%5D", "A", ""])
values = st.sampled_from(["", "1", "x%20y", "%2F", "a=b", "~", "ü".encode().hex(), "msgbatch_1"])
queries = st.lists(st.tuples(names, values)).map(lambda pairs: "&".join(f"{name}={value}" for name, value in pairs))
hosts = st.sampled_from(
    ["https://aws-external-anthropic.us-west-2.api.aws", "http://127.0.0.1:8700", "https://H:443", "http://h:443"]
)
header_names = st.sampled_from(["content-type", "anthropic-version", "Anthropic-Beta", "anthropic-workspace-id"])
header_values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
keys_of_aws = st.builds(
    AwsKeys,
    st.text("ABC123", min_size=1),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
    st.none() | st.text("abc/+=", min_size=1),
)


@given(
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    host=hosts,
    path=paths,
    query=queries,
    headers=st.dictionaries(header_names, header_values),
    pieces=st.lists(st.binary(max_size=40)),
    keys=keys_of_aws,
)
@example("POST", "https://h", "/v1/messages/batches", "", {"content-type": "a  b "}, [b"{", b"}"], KEYS)
@example("GET", "https://h", "", "b=1&a=2&a=1&a", {}, [], KEYS)
def test_signature_is_the_one_of_botocore(method, host, path, query, headers, pieces, keys):
    url = f"{host}{path}{f'?{query}' if query else ''}"

    signed = sign(method, url, headers, ChunkedBody(tuple(pieces)), keys)

    expected = signature_of_botocore(method, url, headers, b"".join(pieces), keys)
    assert SIGNED.fullmatch(signed["authorization"])[3] == expected
    assert signed.get("x-amz-security-token") == keys.session_token


def test_only_headers_that_no_proxy_changes_are_signed():
    headers = {
        "accept": "application/json",
        "anthropic-version": "2026-10-21",
        "cache-control": "no-cache",
        "content-type": "application/json",
        "user-agent": "x",
        "X-Team": "data",
    }

    signed = sign(headers=headers, keys=AwsKeys("AKID", "secret", "token"))

    scope, names, _ = SIGNED.fullmatch(signed["authorization"]).groups()
    assert names == "anthropic-version;content-type;host;x-amz-date;x-amz-security-token"
    assert scope == "AKID/20261130/us-west-2/aws-external-anthropic/aws4_request"


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "POST"},
        {"url": "https://h/other"},
        {"url": "https://other/"},
        {"url": "https://h/?limit=1"},
        {"headers": {"anthropic-workspace-id": "wrkspc_2"}},
        {"body": BytesBody(b"{}")},
        {"keys": AwsKeys("AKIDEXAMPLE", "another secret")},
        {"keys": AwsKeys("AKIDEXAMPLE", KEYS.secret_key, "token")},
        {"now": NOW.replace(minute=0)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_whatever_changes_gets_another_signature(changed):
    assert sign(**changed)["authorization"] != sign()["authorization"]


def test_time_of_another_zone_is_written_in_utc():
    assert sign(now=NOW.astimezone())["x-amz-date"] == "20261130T064105Z"


def test_no_secret_is_shown():
    keys = AwsKeys("AKID", "the secret", "the token")

    assert "the" not in repr(keys)
    assert "the secret" not in str(sign(keys=keys))


def test_body_that_is_not_as_announced_is_not_hashed():
    body = DeadlineBody(ChunkedBody((b"12345",)), deadline=10.0, clock=lambda: 11.0)

    with pytest.raises(UploadStopped, match="deadline"):
        hash_body(body)
