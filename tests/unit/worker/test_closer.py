"""Large requests are ended aside, a few at a time."""

import os
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from ledger import ReadbackPolicy
from ledger.errors import LedgerError
from worker.closer import Closer


class Ledger:
    """Ends what it is asked for as soon as it may."""

    def __init__(self):
        self.may = threading.Event()
        self.asked = []
        self.fails = False

    def advance(self, request_id, *, policy):
        assert self.may.wait(10)
        self.asked.append(request_id)
        if self.fails:
            raise LedgerError("away")
        return None if request_id == "going" else f"end of {request_id}"


@pytest.fixture
def made():
    ledger = Ledger()
    told: list[str] = []
    process: Any = SimpleNamespace(ledger=ledger, watch=SimpleNamespace(ended=told.append))
    return SimpleNamespace(ledger=ledger, told=told, closer=Closer(process, ReadbackPolicy()))


def finish(made):
    made.ledger.may.set()
    for thread in threading.enumerate():
        if thread.name == "closer":
            thread.join(10)


def test_they_are_ended_in_a_thread_of_their_own_and_told_of(made):
    made.closer.take(["one", "going", "two"])
    assert made.ledger.asked == []
    finish(made)
    assert made.ledger.asked == ["one", "going", "two"]
    assert made.told == ["end of one", "end of two"]


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has no priority elsewhere")
def test_its_thread_gives_way_to_whoever_makes_calls_and_no_other_does(made):
    def niceness():
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before, seen = niceness(), []
    made.ledger.advance = lambda *_, **__: seen.append(niceness())
    made.closer.take(["one"])
    finish(made)
    assert seen == [min(19, before + 10)] or seen == [10]
    assert niceness() == before


def test_what_comes_meanwhile_is_left_for_another_time(made):
    made.closer.take(["one"])
    made.closer.take(["two"])
    finish(made)
    assert made.ledger.asked == ["one"]
    made.closer.take(["two"])
    finish(made)
    assert made.ledger.asked == ["one", "two"]


def test_a_ledger_that_is_away_ends_the_round_and_is_told(made):
    made.ledger.fails = True
    with capture_logs() as logs:
        made.closer.take(["one", "two"])
        finish(made)
    assert made.ledger.asked == ["one"]
    assert [(one["event"], one["request_id"]) for one in logs] == [("advance_failed", "one")]
