"""One piece of work at a time, in a thread beside whoever makes the next one ready."""

import threading
from concurrent.futures import Future
from functools import partial

import pytest

from ledger.behind import Behind

SECONDS = 30


class LostError(Exception):
    """What a piece of work raises here."""


def lose():
    raise LostError


def test_work_goes_on_beside_whoever_began_it():
    go_on, done = threading.Event(), threading.Event()

    def work():
        assert go_on.wait(SECONDS)
        done.set()

    with Behind() as behind:
        behind.begin(work)
        assert not done.is_set()
        go_on.set()
    assert done.is_set()


def test_the_next_one_begins_only_when_the_last_one_has_ended():
    under_way, most, done = 0, 0, []

    def work(name):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        done.append(name)
        under_way -= 1

    with Behind() as behind:
        for name in range(50):
            behind.begin(partial(work, name))
    assert most == 1
    assert done == list(range(50))


def test_what_was_raised_comes_to_whoever_begins_the_next_one_which_is_not_begun():
    begun = []
    with Behind() as behind:
        behind.begin(lose)
        with pytest.raises(LostError):
            behind.begin(lambda: begun.append(1))
    assert begun == []


def test_what_was_raised_comes_to_whoever_leaves():
    behind = Behind()
    with pytest.raises(LostError), behind:
        behind.begin(lose)


def test_it_is_raised_once_and_then_all_goes_on():
    done = []
    with Behind() as behind:
        behind.begin(lose)
        with pytest.raises(LostError):
            behind.settle()
        behind.settle()
        behind.begin(lambda: done.append(1))
    assert done == [1]


def test_whoever_is_interrupted_while_he_waits_still_leaves_nothing_under_way(monkeypatch):
    go_on, done = threading.Event(), threading.Event()
    real = Future.exception
    interrupts = iter([KeyboardInterrupt()])

    def wait(self, timeout=None):
        if (interrupt := next(interrupts, None)) is not None:
            raise interrupt
        go_on.set()
        return real(self, timeout)

    def work():
        assert go_on.wait(SECONDS)
        done.set()

    monkeypatch.setattr(Future, "exception", wait)
    behind = Behind()
    behind.begin(work)
    with pytest.raises(KeyboardInterrupt), behind:
        behind.settle()
    assert done.is_set()
