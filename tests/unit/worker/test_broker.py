"""What a broker has, how often that is said, and who waits for it."""

import ssl
import threading

import pytest
from kombu.exceptions import OperationalError
from redis import exceptions
from structlog.testing import capture_logs

from worker.broker_check import BrokerCheck
from worker.broker_faults import BrokerFault, fault_of
from worker.ringer import Ringer
from worker.seldom import Seldom

LONG_S = 10


def raised(error, cause):
    """Give an error as it is after `raise error from cause`."""
    try:
        raise error from cause
    except type(error) as caught:
        return caught


@pytest.mark.fault("F30")
@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (exceptions.AuthenticationError("WRONGPASS of user x"), "login_refused"),
        (exceptions.NoPermissionError("no"), "not_allowed"),
        (exceptions.OutOfMemoryError("full"), "full"),
        (exceptions.ReadOnlyError("replica"), "read_only"),
        (exceptions.TimeoutError("late"), "too_late"),
        (exceptions.ConnectionError("away"), "unreachable"),
        (ConnectionRefusedError(), "unreachable"),
        (exceptions.ResponseError("WRONGTYPE Operation"), "wrong_type"),
        (exceptions.ResponseError("NOAUTH Authentication required."), "login_refused"),
        (raised(OperationalError("x"), exceptions.OutOfMemoryError("full")), "full"),
        (raised(exceptions.ConnectionError("x"), ssl.SSLError("expired")), "certificate"),
        (ValueError("what else"), "other"),
    ],
)
def test_an_error_of_the_broker_is_a_word_whatever_it_is_wrapped_in(error, fault):
    assert fault_of(error) == BrokerFault(fault)


def test_an_error_that_is_its_own_cause_is_no_endless_chain():
    error = ValueError()
    error.__cause__ = error
    assert fault_of(error) is BrokerFault.OTHER


def test_the_first_is_told_and_after_a_minute_how_many_there_were():
    now = [0.0]
    seldom = Seldom(clock=lambda: now[0])
    told = []
    for second in range(130):
        now[0] = float(second)
        told.append(seldom.count("a"))
    assert [(second, many) for second, many in enumerate(told) if many] == [
        (0, 1),
        (60, 60),
        (120, 60),
    ]
    assert seldom.count("b") == 1
    seldom.forget()
    assert seldom.count("a") == 1


def test_a_ring_that_hangs_holds_nobody_up_and_counts_as_not_taken():
    now = [0.0]
    let_go, inside = threading.Event(), threading.Event()
    rung = threading.Semaphore(0)

    def bell():
        inside.set()
        let_go.wait(LONG_S)
        rung.release()
        return True

    ringer = Ringer(bell, clock=lambda: now[0])
    assert ringer.ring()
    assert inside.wait(LONG_S)
    now[0] = 0.5
    assert ringer.ring()  # not overdue yet
    now[0] = 5.0
    assert not ringer.ring()
    let_go.set()
    assert rung.acquire(timeout=LONG_S)
    assert rung.acquire(timeout=LONG_S)  # the one that was asked for meanwhile


def test_the_outcome_of_the_last_ring_is_told():
    rung = threading.Semaphore(0)
    taken = [False]

    def bell():
        rung.release()
        return taken[0]

    ringer = Ringer(bell)
    ringer.ring()
    assert rung.acquire(timeout=LONG_S)
    for value in (False, True):
        taken[0] = value
        for _ in range(2):
            ringer._wanted.clear()
            ringer.ring()
            assert rung.acquire(timeout=LONG_S)
        while ringer._began is not None:
            pass
        assert ringer.ring() is value
        assert rung.acquire(timeout=LONG_S)


@pytest.mark.fault("F20")
def test_a_broker_that_evicts_is_told_of_once_in_a_while(valkey):
    now = [0.0]
    check = BrokerCheck(valkey.url, clock=lambda: now[0])
    with valkey.client() as client, capture_logs() as logs:
        check.look()
        assert logs == []
        client.config_set("maxmemory-policy", "allkeys-lru")
        check.look()
        assert logs == []  # it looked just now
        now[0] = 601.0
        for _ in range(3):
            check.look()
        client.config_set("maxmemory-policy", "noeviction")
    assert logs == [{"event": "broker_unfit", "reason": "evicts", "log_level": "warning"}]


def test_a_broker_that_is_away_is_not_found_unfit():
    with capture_logs() as logs:
        BrokerCheck("redis://127.0.0.1:1/0").look()
    assert logs == []
