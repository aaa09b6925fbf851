"""Keys of AWS: fetched once for all who wait, renewed by the session, and never waited for longer than allowed."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from clients import FakeClock

from airflow_claude_batch.api.aws_keys import REOPEN_SECONDS, KeySource, NoKeys
from airflow_claude_batch.api.aws_signature import AwsKeys


class Account:
    """An account of AWS that counts the sessions and the keys it gives."""

    def __init__(self, *, renews=False):
        self.sessions = self.given = 0
        self.error = None
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.asked = threading.Event()
        self._extra = {"refresh_needed": lambda: True} if renews else {}

    def open_session(self):
        self.sessions += 1
        return SimpleNamespace(
            get_credentials=lambda: SimpleNamespace(get_frozen_credentials=self.freeze, **self._extra)
        )

    def freeze(self):
        self.asked.set()
        self.may_answer.wait(30)
        if self.error is not None:
            raise self.error
        self.given += 1
        return SimpleNamespace(access_key=f"AKIA{self.given}", secret_key="secret", token=f"token{self.given}")


class ClientError(Exception):
    """An error as botocore raises it when AWS responds with one."""

    def __init__(self, code, status):
        super().__init__(f"An error occurred ({code}) when calling the AssumeRole operation: no")
        self.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}


def source(account, clock=None):
    return KeySource(account.open_session, name="account", clock=clock or FakeClock())


def sync_keys(keys):
    return keys.keys(10)


def async_keys(keys):
    return asyncio.run(keys.akeys(10))


@pytest.fixture(params=[sync_keys, async_keys], ids=["sync", "async"])
def get(request):
    return request.param


def test_keys_of_a_role_are_asked_for_at_every_call_in_one_session(get):
    account = Account(renews=True)
    keys, clock = KeySource(account.open_session, name="a", clock=(clock := FakeClock())), clock

    assert get(keys) == AwsKeys("AKIA1", "secret", "token1")
    clock.now += 10 * REOPEN_SECONDS
    assert get(keys) == AwsKeys("AKIA2", "secret", "token2")
    assert account.sessions == 1


def test_keys_without_an_end_are_looked_up_again_after_a_while(get):
    account, clock = Account(), FakeClock()
    keys = source(account, clock)

    get(keys)
    clock.now += REOPEN_SECONDS - 1
    get(keys)
    assert account.sessions == 1
    clock.now += 1
    get(keys)
    assert account.sessions == 2


def test_threads_that_wait_share_one_fetch():
    account = Account()
    account.may_answer.clear()
    keys = source(account)

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(keys.keys, 20) for _ in range(8)]
        account.may_answer.set()
        found = {each.result().access_key for each in waiting}

    assert account.sessions == 1
    assert len(found) == account.given <= 8


def test_event_loop_goes_on_while_keys_are_fetched():
    account = Account()
    account.may_answer.clear()
    keys = source(account)

    async def scenario():
        waiting = [asyncio.create_task(keys.akeys(20)) for _ in range(3)]
        await asyncio.to_thread(account.asked.wait, 20)  # the loop turns meanwhile
        waiting[0].cancel()
        account.may_answer.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    canceled, *others = asyncio.run(scenario())

    assert isinstance(canceled, asyncio.CancelledError)
    assert others == [AwsKeys("AKIA1", "secret", "token1")] * 2
    assert account.given == 1


def test_nobody_waits_longer_than_allowed():
    account = Account()
    account.may_answer.clear()
    keys = source(account)

    with pytest.raises(NoKeys, match="no answer within 0 s") as caught:
        keys.keys(0.01)
    with pytest.raises(NoKeys, match="no answer within 0 s"):
        asyncio.run(keys.akeys(0.01))
    account.may_answer.set()

    assert caught.value.kind == "unavailable"
    assert keys.keys(10).access_key == "AKIA1"  # the fetch under way, or one after it


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ClientError("AccessDenied", 403), "refused"),
        (ClientError("ExpiredToken", 400), "refused"),
        (ClientError("Throttling", 400), "unavailable"),
        (ClientError("Throttled", 429), "unavailable"),
        (ClientError("InternalFailure", 500), "unavailable"),
        (ConnectionError("no route"), "unavailable"),
        (RuntimeError("a factory of the deployment"), "unavailable"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_refusal_of_aws_is_told_from_an_outage(get, error, kind):
    account = Account()
    account.error = error
    keys = source(account)

    with pytest.raises(NoKeys) as caught:
        get(keys)

    assert caught.value.kind == kind
    account.error = None
    assert get(keys).access_key == "AKIA1"


def test_account_without_keys_has_none(get):
    keys = KeySource(lambda: SimpleNamespace(get_credentials=lambda: None), name="nobody")

    with pytest.raises(NoKeys, match="no credentials of AWS were found") as caught:
        get(keys)

    assert caught.value.kind == "missing"
