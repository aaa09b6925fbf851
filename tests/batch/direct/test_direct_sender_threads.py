"""The sender with real threads, the real client and a server: what is asked, is billed and told once."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from batch.direct.virtual import direct_request

from airflow_claude_batch.api.client import ClaudeClient
from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.api.message_response import MessageResponse
from airflow_claude_batch.batch.direct.report import NotAsked
from airflow_claude_batch.batch.direct.sender import DirectSender
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.simulator import Fault, Simulator

FULL = PriceTable.load({"batch_factor": "1"})
FAR = 10.0**9


class Journal:
    """What the sender told, in the order in which it did."""

    def __init__(self, simulator):
        self.simulator = simulator
        self.told = []
        self.before = Counter()
        self.results = {}
        self.threads = set()

    def before_asking(self, request):
        self.before[request.index] += 1
        self.threads.add(threading.get_ident())

    def answered(self, request, result):
        assert self.before[request.index] == 1
        assert request.index not in self.results
        self.results[request.index] = result


@pytest.fixture
def world():
    simulator = Simulator(message_seconds=0.01)
    with (
        simulator.serve() as server,
        ClaudeClient(ClientConfig(credentials=ApiKey("sk-test"), base_url=server.url)) as client,
    ):
        yield simulator, client, Journal(simulator)


def send(client, journal, count, *, stop=None, **options):
    sender = DirectSender(client, FULL, **({"concurrency": 8, "start_until": FAR} | options))
    requests = (direct_request(index) for index in range(count))
    return sender.send(requests, before=journal.before_asking, answered=journal.answered, stop=stop)


def test_each_request_is_billed_once_whatever_thread_asks_it(world):
    simulator, client, journal = world
    report = send(client, journal, 100)
    direct = simulator.books()["direct"]
    assert report.answered == len(journal.results) == direct["billed_requests"] == 100
    assert set(direct["billed"].values()) == {1}
    assert 1 < len(journal.threads) <= 8
    assert report.spent > 0


def test_lost_responses_and_refusals_among_the_others(world):
    simulator, client, journal = world
    simulator.inject(
        Fault(do="drop_after_accept", on="message", skip=10),
        Fault(do="drop_before_accept", on="message", skip=20),
        Fault(do="status", on="message", status=429, retry_after=0, skip=30),
        Fault(do="status", on="message", status=400, skip=40),
    )
    report = send(client, journal, 80)
    assert (report.answered, report.lost, report.refused, report.held_back) == (77, 2, 1, 1)
    assert len(journal.results) == 80
    assert simulator.books()["direct"]["billed_requests"] == 78
    answers = [result for result in journal.results.values() if isinstance(result, MessageResponse)]
    assert len(answers) == 78


def test_a_stop_from_another_thread_ends_it(world):
    simulator, client, journal = world
    stop = threading.Event()
    kept = journal.answered

    def answered(request, result):
        kept(request, result)
        if len(journal.results) == 10:
            threading.Thread(target=stop.set).start()

    journal.answered = answered
    report = send(client, journal, 100_000, stop=stop)
    assert report.stopped is NotAsked.STOPPED
    assert simulator.books()["direct"]["billed_requests"] == len(journal.results) == report.answered < 100_000


def test_sixty_four_requests_at_a_time_do_not_wait_for_a_connection(world):
    simulator, client, journal = world
    in_flight, most, lock = 0, 0, threading.Lock()
    ask = client.create_message

    class Counted:
        def create_message(self, params, *, seconds):
            nonlocal in_flight, most
            with lock:
                in_flight += 1
                most = max(most, in_flight)
            try:
                return ask(params, seconds=seconds)
            finally:
                with lock:
                    in_flight -= 1

    report = send(Counted(), journal, 300, concurrency=64)
    assert report.answered == 300
    assert most <= 64
    assert simulator.books()["direct"]["billed_requests"] == 300
