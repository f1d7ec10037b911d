"""Lateness, the stop flag, the busy lock, and when the steward drains by itself."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from ledger.projects import Account
from ledger.settings import Settings
from ledger.slots import LATE_NS, LEEWAY_NS
from ledger.sweep import Swept
from ledger.tasks import Claim
from worker import punctual
from worker.busy import Busy
from worker.process import in_flight, processes
from worker.punctual import LEEWAY, STRICT, Punctual
from worker.steward import ALONE_S, SILENT_S, Vigil
from worker.stop import StopFlag

MS = 1_000_000


# -- lateness -------------------------------------------------------------------------------------


class Clock:
    """A monotonic clock to be set."""

    def __init__(self, ns=0):
        self.ns = ns

    def monotonic_ns(self):
        return self.ns


@pytest.fixture
def clock(monkeypatch):
    one = Clock(1_000 * MS)
    monkeypatch.setattr(punctual, "time", one)
    return one


def claim(mono_ns, now_ns):
    return Claim(tasks=(), now_ns=now_ns, mono_ns=mono_ns, wake_ns=None)


def test_the_quickest_answer_of_late_tells_the_difference_of_the_clocks_best():
    one = Punctual()
    for late in (5, 1, 9):
        one.learn(claim(mono_ns=100 * MS + late, now_ns=7_100 * MS))

    assert one.here(7_300 * MS) == 300 * MS + 1


def test_an_old_difference_of_the_clocks_is_forgotten():
    one = Punctual()
    one.learn(claim(mono_ns=0, now_ns=7_000 * MS))
    one.learn(claim(mono_ns=3_000 * MS + 5, now_ns=10_000 * MS))  # the clocks drift

    assert one.here(10_100 * MS) == 3_100 * MS + 5


def test_what_is_within_the_slack_is_not_owed(clock):
    one = Punctual()

    one.departed("a", claimed_ns=0, slot_ns=clock.ns - LATE_NS)

    assert one.take_owed() == {}


def test_what_is_beyond_the_slack_is_owed_once(clock):
    one = Punctual()
    one.departed("a", claimed_ns=900 * MS, slot_ns=clock.ns - LATE_NS - 8 * MS)
    clock.ns += MS
    # The next ones of the same stall, booked before the move: it moves what follows them too.
    one.departed("a", claimed_ns=900 * MS, slot_ns=clock.ns - LATE_NS - 5 * MS)
    one.departed("a", claimed_ns=900 * MS, slot_ns=clock.ns - LATE_NS - 10 * MS)
    one.departed("b", claimed_ns=900 * MS, slot_ns=clock.ns - LATE_NS - MS)

    assert one.take_owed() == {"a": 10 * MS, "b": MS}
    assert one.take_owed() == {}


def test_a_call_with_leeway_owes_only_what_is_beyond_it(clock):
    one = Punctual()
    one.departed("a", claimed_ns=0, slot_ns=clock.ns - LEEWAY_NS, free_ns=LEEWAY.free_ns)
    assert one.take_owed() == {}

    one.departed("a", claimed_ns=0, slot_ns=clock.ns - LEEWAY_NS - MS, free_ns=LEEWAY.free_ns)
    assert one.take_owed() == {"a": MS}


def test_a_call_is_owed_for_before_it_gives_its_slot_up():
    for allowed in (STRICT, LEEWAY):
        assert allowed.free_ns <= allowed.most_ns
        assert allowed.much_ns <= allowed.most_ns


def test_a_call_booked_after_a_move_owes_all_that_it_is_late(clock):
    one = Punctual()
    one.departed("a", claimed_ns=900 * MS, slot_ns=clock.ns - LATE_NS - 8 * MS)
    one.take_owed()
    clock.ns += 300 * MS

    one.departed("a", claimed_ns=clock.ns - MS, slot_ns=clock.ns - LATE_NS - 3 * MS)

    assert one.take_owed() == {"a": 3 * MS}


@given(
    st.integers(1, 400),
    st.lists(st.tuples(st.integers(0, 399), st.integers(0, 60_000)), max_size=12),
)
def test_moved_slots_keep_a_full_limit_a_second_apart(limit, stalls):
    """A model of one drain: a call departs late, and what is owed moves all later bookings."""
    interval = 1_000 * MS * 1_000 // 995 // limit + 1
    late_us = dict(stalls)
    departures = []
    moved = 0

    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(punctual, "time", clock)
        one = Punctual()
        for number in range(2 * limit):
            # Booked right after the call before it departed, which is sooner than a second before.
            slot = number * interval + moved
            booked = clock.ns
            clock.ns = max(clock.ns, slot + late_us.get(number, 0) * 1_000)
            departures.append(clock.ns)
            one.departed("a", claimed_ns=booked, slot_ns=slot)
            moved += one.take_owed().get("a", 0)

    for first, last in zip(departures, departures[limit:], strict=False):
        assert last - first >= 1_000 * MS


# -- the stop flag and the busy lock --------------------------------------------------------------


def test_the_stop_flag_is_set_by_closing_its_other_end_for_everybody():
    stop, write_end = StopFlag.make()
    assert not stop.is_set()
    assert not stop.wait(0)

    os.close(write_end)

    assert stop.is_set()
    assert stop.is_set()  # for ever
    assert stop.wait(10)
    assert stop.fd is not None
    os.close(stop.fd)


def test_a_flag_without_a_pipe_never_stops():
    assert not StopFlag().is_set()
    assert not StopFlag().wait(0)


HOLD = """
import os, sys
from worker.busy import Busy
busy = Busy()
child = os.fork()
if not child:
    with busy.hold():
        print("held", flush=True)
        sys.stdin.readline()
    print("free", flush=True)
    sys.stdin.readline()
    os._exit(0)
for line in iter(lambda: os.read(int(sys.argv[1]), 1), b""):
    print("nobody" if busy.nobody() else "busy", flush=True)
"""


def test_the_parent_sees_whether_a_child_is_busy():
    read_end, write_end = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(read_end)],
        pass_fds=[read_end],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        os.close(read_end)
        assert parent.stdin is not None

        def said():
            assert parent.stdout is not None
            return parent.stdout.readline().strip()

        assert said() == "held"
        os.write(write_end, b"?")
        assert said() == "busy"
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert said() == "free"
        os.write(write_end, b"?")
        assert said() == "nobody"
        os.close(write_end)


def test_two_children_may_be_busy_at_once():
    busy = Busy()
    child = os.fork()
    if not child:
        with busy.hold():
            os._exit(0)
    with busy.hold():
        assert os.waitpid(child, 0)[1] == 0


# -- the steward's vigil --------------------------------------------------------------------------


def swept(*, due=True, silent_s=0.0):
    return Swept(due=due, silent_s=silent_s, lapsed=0)


def test_the_steward_keeps_still_while_workers_claim():
    vigil = Vigil()

    assert not any(
        vigil.must_drain(swept(silent_s=0.3), rung=True, now=float(now)) for now in range(100)
    )


def test_the_steward_drains_when_work_waits_and_nobody_claims():
    vigil = Vigil()

    drains = [
        vigil.must_drain(swept(silent_s=100.0 + now), rung=True, now=float(now)) for now in range(6)
    ]

    # A long silence without work is none: only from the first sight of work does it count.
    assert drains == [False, False, False, False, True, True]
    assert SILENT_S == 3.0


def test_the_steward_goes_on_although_its_own_claims_end_the_silence():
    vigil = Vigil()
    vigil.must_drain(swept(), rung=True, now=0.0)
    assert vigil.must_drain(swept(silent_s=4.0), rung=True, now=4.0)

    assert vigil.must_drain(swept(silent_s=0.0), rung=True, now=7.0)
    assert not vigil.must_drain(swept(silent_s=0.0), rung=True, now=4.0 + ALONE_S)


def test_the_steward_does_not_stop_to_listen_while_the_broker_is_gone():
    vigil = Vigil()
    vigil.must_drain(swept(), rung=False, now=0.0)

    assert all(
        vigil.must_drain(swept(silent_s=4.0 if now == 4 else 0.0), rung=False, now=float(now))
        for now in range(4, 200, 3)
    )


def test_the_steward_stops_when_nothing_is_due():
    vigil = Vigil()
    vigil.must_drain(swept(), rung=False, now=0.0)
    vigil.must_drain(swept(silent_s=4.0), rung=False, now=4.0)

    assert not vigil.must_drain(swept(due=False), rung=True, now=5.0)


# -- in flight ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "wanted", "most"),
    [(30, None, 64), (300, None, 300), (5_000, None, 1_024), (300, 8, 8)],
)
def test_calls_in_flight_follow_the_rate_unless_set(rate, wanted, most, tmp_path):
    settings = Settings(
        home=tmp_path, memos_api_key=SecretStr("k"), rate_per_second=rate, in_flight=wanted
    )

    assert in_flight(settings) == most


def test_calls_in_flight_follow_the_sum_of_all_accounts(tmp_path):
    settings = Settings(
        home=tmp_path,
        rate_per_second=100,
        more_accounts={"b": Account(name="b", rate_per_second=150)},
    )

    assert in_flight(settings) == 250


@pytest.mark.parametrize(
    ("rate", "set_to", "cores", "number"),
    [(50, None, 4, 4), (300, None, 4, 2), (300, None, 3, 1), (300, None, 1, 1), (5_000, 3, 2, 3)],
)
def test_processes_that_have_a_clerk_each_are_half_as_many(tmp_path, rate, set_to, cores, number):
    settings = Settings(home=tmp_path, rate_per_second=rate, processes=set_to)
    assert processes(settings, cores=cores) == number
