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

    def advance(self, request_id, *, policy, ending_of):
        assert self.may.wait(10)
        self.asked.append(request_id)
        if self.fails:
            raise LedgerError("away")
        return None if request_id == "going" else ending_of(request_id)

    def look_back(self, request_id, *, policy):
        return f"end of {request_id}"


class Desk:
    """Answers as told, one question after the other; an exception is raised."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []
        self.closed = 0

    def ask(self, name, given, *, patience_s):
        self.asked.append((name, given["request_id"]))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self, *, wait):
        assert not wait
        self.closed += 1


def make(desk=None):
    ledger = Ledger()
    told: list[str] = []
    process: Any = SimpleNamespace(ledger=ledger, watch=SimpleNamespace(ended=told.append))
    closer = Closer(process, ReadbackPolicy(), desk)
    return SimpleNamespace(ledger=ledger, told=told, closer=closer)


@pytest.fixture
def made():
    return make()


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


def test_another_process_goes_through_the_chunks_where_there_is_one():
    desk = Desk((True, "one's end"), (True, "two's end"))
    desks = [desk]
    made = make(desks.pop)
    assert desks == [desk]  # a worker without large requests starts none
    made.closer.take(["one", "going", "two"])
    finish(made)
    assert desk.asked == [("look_back", "one"), ("look_back", "two")]
    assert made.told == ["one's end", "two's end"]
    assert desks == []
    made.closer.close()
    assert desk.closed == 1


def test_one_that_is_lost_or_gets_nothing_done_is_given_up_and_another_one_opened_next_time():
    lost, next_one = Desk(EOFError()), Desk((True, "two's end"))
    desks = [next_one, lost]
    made = make(desks.pop)
    with capture_logs() as logs:
        made.closer.take(["one", "two"])
        finish(made)
    assert made.told == ["end of one", "two's end"]
    assert (lost.closed, next_one.closed) == (1, 0)
    assert [(one["event"], one["request_id"]) for one in logs] == [("closer_alone", "one")]


def test_an_error_of_that_process_s_ledger_ends_the_round():
    made = make(lambda: Desk((False, LedgerError("away", cause="locked"))))
    with capture_logs() as logs:
        made.closer.take(["one", "two"])
        finish(made)
    assert made.told == []
    assert [(one["event"], one["cause"]) for one in logs] == [("advance_failed", "locked")]


def test_one_that_ends_because_the_worker_does_leaves_the_request_to_the_next_steward():
    desk = Desk(EOFError())
    made = make(lambda: desk)
    made.closer.close()
    with capture_logs() as logs:
        made.closer.take(["one"])
        finish(made)
    assert made.told == []
    assert [(one["event"], one["cause"]) for one in logs] == [("advance_failed", "stopping")]
