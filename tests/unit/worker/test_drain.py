"""Claim, call, judge, record: a drain on a virtual clock, with a ledger in memory."""

import asyncio
import os
import time
from itertools import pairwise

import pytest

from ledger.errors import SchemaError
from ledger.tasks import Retry, Unsent
from memos_api import Outcome
from memos_api.simulator.process import worst_window
from tests.support.virtual_time import VirtualTime
from tests.support.worker_fakes import FakeClient, FakeLedger, make_drain, reply
from worker.halts import LOOK_S
from worker.leeway import Leeway
from worker.stop import StopFlag

ONE = "default"


def one_account(work, *, rate=1_000):
    return FakeLedger({ONE: work}, rates={ONE: rate})


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    return VirtualTime.install(monkeypatch)


@pytest.fixture
def run(clock):
    """Run a drain once and wait for what it leaves under way; says whether its time was over."""

    async def settled(drain, budget_s):
        over = await drain.run(budget_s=budget_s)
        await drain.settle()
        return over

    return lambda drain, *, budget_s=5.0: clock.run(settled(drain, budget_s))


class Stalling(FakeClient):
    """Holds up the loop at some of its calls, by their number, as a busy machine does."""

    def __init__(self, at, *, seconds):
        super().__init__()
        self._at = at
        self._seconds = seconds

    async def send(self, call, *, leaves):
        if len(self.departures) in self._at:
            time.sleep(self._seconds)  # noqa: ASYNC251 - this is what it is for
        return await super().send(call, leaves=leaves)


def unsent(ledger):
    return [s.reason for s in ledger.recorded if isinstance(s.move, Unsent)]


def test_everything_due_is_called_once_and_recorded_and_then_it_ends(run):
    ledger, client = one_account(150), FakeClient()

    left = run(make_drain(ledger, {ONE: client}))

    assert left is False
    assert len(ledger.done) == 150
    assert ledger.leased == set()
    assert len({name for _, name in client.departures}) == len(client.departures) == 150
    assert max(ledger.batches) <= 100


def test_calls_depart_at_their_slots(run):
    ledger, client = one_account(400, rate=200), FakeClient()

    run(make_drain(ledger, {ONE: client}))

    moments = [moment for moment, _ in client.departures]
    gaps = [late - early for early, late in pairwise(moments)]
    assert min(gaps) >= 1 / 200
    assert max(gaps[40:]) < 1.01 / 200  # the first claims are led by more than they need
    assert {name for _, name in client.departures} == {f"{ONE}/{number}" for number in range(400)}


def test_nothing_to_do_ends_it_at_once(run):
    started = time.monotonic()

    assert run(make_drain(one_account(0), {ONE: FakeClient()})) is False

    assert time.monotonic() - started <= LOOK_S


def test_work_that_is_due_soon_is_waited_for(run):
    tried = set()

    def answer(name):
        if name in tried:
            return reply(Outcome.ACKNOWLEDGED)
        tried.add(name)
        return reply(Outcome.UNKNOWN)

    ledger = one_account(5)

    assert run(make_drain(ledger, {ONE: FakeClient(answer)})) is False
    assert len(ledger.done) == 5  # after up to a second each


def test_work_that_is_due_much_later_is_left_to_the_steward(run):
    ledger = one_account(3)
    client = FakeClient(lambda _: reply(Outcome.BACK_OFF, retry_after_s=60.0))
    started = time.monotonic()

    run(make_drain(ledger, {ONE: client}), budget_s=30)

    assert time.monotonic() - started < 1  # of the 30 it has, and the 60 it would take
    assert ledger.done == set()
    assert ledger.leased == set()


def test_when_its_time_is_over_it_returns_at_once_and_what_was_claimed_goes_on(clock):
    ledger, client = one_account(10_000, rate=100), FakeClient(latency_s=0.1)
    drain = make_drain(ledger, {ONE: client})

    async def main():
        started = time.monotonic()
        over = await drain.run(budget_s=0.5)
        took_s = time.monotonic() - started
        assert client.under_way > 0
        await asyncio.sleep(1)  # nobody waits for them
        return over, took_s

    over, took_s = clock.run(main())

    assert over is True
    assert took_s < 0.5 + 0.25
    assert ledger.leased == set()
    assert len(ledger.done) == len(client.departures) >= 50


def test_the_rate_does_not_stand_still_between_two_runs(clock):
    ledger, client = one_account(1_000, rate=100), FakeClient(latency_s=0.2)
    drain = make_drain(ledger, {ONE: client})

    async def main():
        ended = []
        while await drain.run(budget_s=1.0):
            ended.append(time.monotonic())
            await asyncio.sleep(0.02)  # its doorbell
        return ended

    assert len(clock.run(main())) >= 9
    moments = [moment for moment, _ in client.departures]
    # As long as an answer takes and more, where each run ended with its last call.
    assert max(late - early for early, late in pairwise(moments[40:])) < 1.01 / 100
    assert worst_window(moments, 1.0) <= 100
    assert len(ledger.done) == 1_000


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("rate", [10, 50, 500])
def test_steady_work_uses_995_of_1000_of_the_limit_however_many_processes_take_turns(
    clock, rate, processes
):
    ledger = one_account(rate * 12, rate=rate)
    ledger.claim_s = 0.005
    client = FakeClient(latency_s=0.2)
    until = time.monotonic() + 8

    async def process():
        drain = make_drain(ledger, {ONE: client}, in_flight=512)
        while time.monotonic() < until:
            await drain.run(budget_s=2.0)
            await asyncio.sleep(0.01)  # its doorbell
        await drain.settle()

    async def main():
        await asyncio.gather(*(process() for _ in range(processes)))

    clock.run(main())

    began, *_ = moments = [moment for moment, _ in client.departures]
    steady = [moment for moment in moments if began + 2 < moment < until]
    share = (len(steady) - 1) / (steady[-1] - steady[0]) / rate
    assert worst_window(moments, 1.0) <= rate
    assert share == pytest.approx(0.995, abs=0.0001)


@pytest.mark.parametrize("processes", [1, 4])
def test_accounts_of_any_limit_beside_each_other_use_995_of_1000_of_it(clock, processes):
    rates = {"slow": 0.5, "ten": 10.0, "fifty": 50.0, "fast": 500.0}
    ledger = FakeLedger({name: int(12 * rate) for name, rate in rates.items()}, rates=rates)
    clients = {name: FakeClient(latency_s=0.2) for name in rates}

    async def main():
        drains = [make_drain(ledger, clients, in_flight=512) for _ in range(processes)]
        await asyncio.gather(*(drain.run(budget_s=8) for drain in drains))
        await asyncio.gather(*(drain.settle() for drain in drains))

    clock.run(main())

    # An account whose next slot is not near enough for a claim has to have one of its own soon:
    # beside the fast one, 50 a second once came to 0.90 of its limit and ten to 0.84.
    for name, rate in rates.items():
        moments = [moment for moment, _ in clients[name].departures]
        steady = moments[int(2 * rate) :]
        share = (len(steady) - 1) / (steady[-1] - steady[0]) / rate
        assert share == pytest.approx(0.995, abs=0.0001), name


def test_accounts_whose_slots_come_a_little_later_are_claimed_for_together(run):
    rates = {f"of {rate}": float(rate) for rate in range(10, 21)}
    ledger = FakeLedger({name: int(9 * rate) for name, rate in rates.items()}, rates=rates)
    clients = {name: FakeClient() for name in rates}

    run(make_drain(ledger, clients), budget_s=8)

    calls = sum(len(client.departures) for client in clients.values())
    assert calls > 8 * sum(rates.values()) * 0.95
    assert len(ledger.leeways) < calls / 5  # one for each two calls, if it did not wait for others


def test_a_stop_between_two_runs_keeps_back_what_has_not_departed(clock):
    stop, write_end = StopFlag.make()
    ledger, client = one_account(10_000, rate=100), FakeClient(latency_s=0.2)
    drain = make_drain(ledger, {ONE: client}, stop=stop)

    async def main():
        await drain.run(budget_s=1.0)
        os.close(write_end)
        await drain.settle()

    clock.run(main())
    assert stop.fd is not None
    os.close(stop.fd)

    assert "stopping" in unsent(ledger)
    assert ledger.leased == set()
    assert len(ledger.done) == len(client.departures)


def test_what_is_owed_between_two_runs_is_paid_although_no_other_one_comes(clock):
    ledger, client = one_account(10_000, rate=100), Stalling({50}, seconds=0.017)
    drain = make_drain(ledger, {ONE: client})

    async def main():
        await drain.run(budget_s=0.5)
        assert len(client.departures) < 50
        await asyncio.sleep(1)

    clock.run(main())

    assert len(client.departures) > 50
    assert sum(ns for _, ns in ledger.postponed) == pytest.approx(9e6, abs=1e6)


def test_an_outcome_that_breaks_the_recording_between_two_runs_ends_the_next_one(clock):
    class Broken(FakeLedger):
        def record(self, settlements):
            raise AssertionError

    ledger = Broken({ONE: 500}, rates={ONE: 100})
    drain = make_drain(ledger, {ONE: FakeClient(latency_s=0.2)})

    async def main():
        assert await drain.run(budget_s=0.25)
        await asyncio.sleep(1)
        with pytest.raises(AssertionError):
            await drain.run(budget_s=5)

    clock.run(main())


def test_a_slot_that_was_missed_by_far_is_not_used(run):
    ledger, client = one_account(5), FakeClient()
    ledger.late_ns = 1_000_000_000  # more than the longest lead and what may be made up for

    run(make_drain(ledger, {ONE: client}), budget_s=0.4)

    assert client.departures == []
    assert set(unsent(ledger)) == {"slot_missed"}
    assert ledger.leased == set()


def test_a_ledger_whose_claims_take_long_is_led_by_more_and_its_slots_are_met(run):
    ledger = one_account(5, rate=100)
    ledger.claim_s = 0.15

    run(make_drain(ledger, {ONE: FakeClient()}), budget_s=5)

    assert len(ledger.done) == 5


def test_a_drain_whose_claims_take_long_comes_early_enough_for_its_slots_to_follow_on(run):
    ledger, client = one_account(400, rate=200), FakeClient()
    ledger.claim_s = 0.1

    run(make_drain(ledger, {ONE: client}), budget_s=2)

    # A claim is for 0.2 s, and led by as much: with the next one 0.12 s before the last slot there
    # were gaps, each time.
    moments = [moment for moment, _ in client.departures]
    assert max(late - early for early, late in pairwise(moments[80:240])) < 1.01 / 200


def test_a_call_that_departs_late_has_the_next_slot_moved_by_what_it_was_late(run):
    ledger, client = one_account(60, rate=100), Stalling({10}, seconds=0.017)

    run(make_drain(ledger, {ONE: client}))

    owed_ms = sum(ns for _, ns in ledger.postponed) / 1e6
    # It comes 5 ms early, and 3 are within the slack.
    assert owed_ms == pytest.approx(17 - 5 - 3, abs=1)
    assert len(ledger.done) == 60


def test_what_holds_a_call_up_between_the_look_at_the_clock_and_its_first_byte_is_owed_too(run):
    class Blocking(FakeClient):
        async def send(self, call, *, leaves):
            async def leave():
                await leaves()
                if len(self.departures) == 10:
                    time.sleep(0.03)  # noqa: ASYNC251 - as above

            return await super().send(call, leaves=leave)

    ledger, client = one_account(60, rate=100), Blocking()

    run(make_drain(ledger, {ONE: client}))

    owed_ms = sum(ns for _, ns in ledger.postponed) / 1e6
    assert owed_ms == pytest.approx(30 - 3, abs=1)
    assert len(ledger.done) == 60


def test_no_window_of_a_second_has_more_departures_than_the_limit_although_the_loop_stalls(run):
    rate = 100

    ledger = one_account(260, rate=rate)
    client = Stalling({20, 23, 60, 95, 101}, seconds=0.019)

    run(make_drain(ledger, {ONE: client}))

    moments = [moment for moment, _ in client.departures]
    assert worst_window(moments, 1.0) <= rate
    assert len(ledger.done) == 260
    assert moments[-1] - moments[0] <= 260 / rate * 1.1  # and it went on


class Slow(FakeClient):
    """Holds up the loop with each call, as encoding and parsing do on a busy machine."""

    async def send(self, call, *, leaves):
        time.sleep(0.002)  # noqa: ASYNC251 - as above
        return await super().send(call, leaves=leaves)


def test_a_process_slower_than_its_slots_takes_leeway_and_keeps_it(run):
    stop, write_end = StopFlag.make()

    class Ended(FakeLedger):
        def claim(self, **rest):
            claim = super().claim(**rest)
            if sum(map(bool, self.leeways)) == 5:
                os.close(write_end)
            return claim

    ledger = Ended({ONE: 100_000}, rates={ONE: 5_000})

    run(make_drain(ledger, {ONE: Slow()}, stop=stop), budget_s=60)

    assert stop.fd is not None
    os.close(stop.fd)
    asked = [bool(leeway) for leeway in ledger.leeways]
    assert asked == sorted(asked)  # from the first time on, always
    assert set(ledger.leeways) == {frozenset(), frozenset({ONE})}


def test_no_second_holds_more_than_the_limit_although_calls_with_leeway_are_late(run):
    rate = 100

    client = Stalling({20, 28, 60, 95, 101, 130}, seconds=0.07)

    class Ledger(FakeLedger):
        def claim(self, **rest):
            # Not the last ones: what follows them keeps the wider interval all the same.
            leeway = frozenset({ONE} if len(client.departures) < 150 else ())
            return super().claim(**rest | {"leeway": leeway})

    ledger = Ledger({ONE: 300}, rates={ONE: rate})

    run(make_drain(ledger, {ONE: client}), budget_s=12)

    moments = [moment for moment, _ in client.departures]
    assert worst_window(moments, 1.0) <= rate
    assert len(ledger.done) == 300
    # Without leeway some 25 give their slots up, and the others owe 250 ms together.
    assert unsent(ledger) == []
    assert sum(ns for _, ns in ledger.postponed) < 50_000_000


@pytest.mark.parametrize(
    ("rate", "bounded"),
    # A claim is for 0.2 s, and the first ones for 32 calls: 19 at the one rate, all at the other.
    [(100, False), (5_000, True)],
)
def test_lateness_counts_only_where_the_claim_before_brought_all_that_was_asked_for(
    run,
    rate,
    bounded,
    monkeypatch,
):
    seen = []

    class Noted(Leeway):
        def asked(self, *, bounded=True):
            seen.append(bounded)
            return super().asked(bounded=bounded)

    monkeypatch.setattr("worker.drain.Leeway", Noted)

    run(make_drain(one_account(1_000, rate=rate), {ONE: FakeClient()}), budget_s=0.3)

    assert seen[:2] == [False, bounded]


def test_a_process_that_keeps_up_asks_for_no_leeway(run):
    ledger = one_account(200, rate=200)

    run(make_drain(ledger, {ONE: FakeClient()}))

    assert set(ledger.leeways) == {frozenset()}


def test_claims_keep_to_what_may_be_in_flight(run):
    class Claiming(FakeLedger):
        def claim(self, *, capacity, **rest):
            assert capacity + client.under_way <= 7
            return super().claim(capacity=capacity, **rest)

    ledger = Claiming({ONE: 80}, rates={ONE: 2_000})
    client = FakeClient(latency_s=0.03)

    run(make_drain(ledger, {ONE: client}, in_flight=7))

    assert client.most_under_way == 7
    assert len(ledger.done) == 80


def test_a_pause_keeps_back_what_was_claimed_before_it(run):
    refused: list[float] = []

    def answer(name):
        if not refused:
            refused.append(time.monotonic())
            return reply(Outcome.BACK_OFF, retry_after_s=0.4)
        return reply(Outcome.ACKNOWLEDGED)

    ledger, client = one_account(30, rate=100), FakeClient(answer, latency_s=0.02)

    run(make_drain(ledger, {ONE: client}))

    (paused_at,) = refused
    resting = [m for m, _ in client.departures if paused_at < m < paused_at + 0.4]
    assert resting == []
    assert set(unsent(ledger)) == {"halted"}
    assert len(ledger.done) == 30


def test_a_paused_account_does_not_hold_up_another_one(run):
    ledger = FakeLedger({"a": 40, "b": 40}, rates={"a": 200, "b": 200})
    clients = {
        "a": FakeClient(lambda _: reply(Outcome.BACK_OFF, retry_after_s=30.0)),
        "b": FakeClient(),
    }

    run(make_drain(ledger, clients), budget_s=2)

    assert {name for name in ledger.done if name.startswith("b/")} == {f"b/{n}" for n in range(40)}
    assert not any(name.startswith("a/") for name in ledger.done)


def test_a_slow_account_does_not_hold_up_a_fast_one(run):
    ledger = FakeLedger({"fast": 200, "slow": 5}, rates={"fast": 100, "slow": 2})
    clients = {"fast": FakeClient(), "slow": FakeClient()}

    run(make_drain(ledger, clients))

    last_slow, _ = clients["slow"].departures[-1]
    meanwhile = sum(moment < last_slow for moment, _ in clients["fast"].departures)
    assert meanwhile > 100  # 200 in the two seconds that five slow ones take; in turns, 5
    assert len(ledger.done) == 205


def test_an_exception_in_one_call_stops_no_other(run):
    def answer(name):
        if name == f"{ONE}/3":
            raise RuntimeError
        return reply(Outcome.ACKNOWLEDGED)

    ledger = one_account(20)

    run(make_drain(ledger, {ONE: FakeClient(answer)}))

    assert ledger.done == {f"{ONE}/{number}" for number in range(20)} - {f"{ONE}/3"}
    assert ledger.leased == {f"{ONE}/3"}  # its lease lapses


def test_a_ledger_that_does_not_answer_for_a_while_costs_time_and_no_outcome(run):
    ledger = one_account(30)
    ledger.claim_faults = 2
    ledger.record_faults = 2

    run(make_drain(ledger, {ONE: FakeClient()}))

    assert len(ledger.done) == 30


def test_a_ledger_of_another_release_is_claimed_from_no_more_and_outcomes_are_still_recorded(run):
    class Migrated(FakeLedger):
        claims = 0

        def claim(self, **rest):
            self.claims += 1
            if self.claims > 2:
                raise SchemaError
            return super().claim(**rest)

    ledger = Migrated({ONE: 500}, rates={ONE: 100})
    client = FakeClient(latency_s=0.3)
    started = time.monotonic()

    left = run(make_drain(ledger, {ONE: client}), budget_s=20)

    assert left is False  # nobody rings for it
    assert time.monotonic() - started < 1  # of the 20 it has
    assert ledger.claims == 3
    assert ledger.leased == set()
    assert len(ledger.done) == len(client.departures) > 0


def test_outcomes_that_cannot_be_recorded_are_given_up_with_their_leases(run):
    ledger = one_account(3)
    ledger.record_faults = 1_000
    started = time.monotonic()

    run(make_drain(ledger, {ONE: FakeClient()}, lease_s=0.5), budget_s=1)

    assert len(ledger.leased) == 3  # others take it once the leases are over
    assert time.monotonic() - started < 2


def test_an_error_of_the_recording_itself_ends_the_drain(run):
    class Broken(FakeLedger):
        def record(self, settlements):
            raise AssertionError

    ledger = Broken({ONE: 3}, rates={ONE: 1_000})

    with pytest.raises(AssertionError):
        run(make_drain(ledger, {ONE: FakeClient()}))


def test_the_stop_flag_ends_it_and_gives_back_what_has_not_departed(clock):
    stop, write_end = StopFlag.make()
    ledger, client = one_account(10_000, rate=50), FakeClient(latency_s=0.2)
    drain = make_drain(ledger, {ONE: client}, stop=stop)

    async def stopped():
        running = asyncio.create_task(drain.run(budget_s=30))
        await asyncio.sleep(0.5)
        os.close(write_end)
        started = time.monotonic()
        await running
        return time.monotonic() - started

    took_s = clock.run(stopped())
    assert stop.fd is not None
    os.close(stop.fd)

    assert took_s < 0.1 + 0.2 + 0.1  # it sees the flag, its calls end and are recorded
    assert ledger.leased == set()
    assert "stopping" in unsent(ledger)
    assert len(ledger.done) == len(client.departures)  # what was under way ended well


def test_a_project_without_a_key_is_stopped_and_its_work_waits(run):
    ledger = one_account(3)

    run(make_drain(ledger, {}), budget_s=0.4)

    assert {settled.pause_project for settled in ledger.recorded} == {"no_api_key"}
    assert all(settled.move == Retry(delay_s=0.0, burn=False) for settled in ledger.recorded)


def test_what_is_owed_stays_owed_until_the_ledger_has_confirmed_it(clock):
    ledger = FakeLedger({"a": 1, "b": 1}, rates={"a": 10, "b": 10})
    ledger.claim_faults = 1
    drain = make_drain(ledger, {})
    drain._punctual.owe("a", 5)
    drain._punctual.owe("b", 7)

    assert clock.run(drain._claim(1)) is None
    assert ledger.postponed == []
    clock.run(drain._claim(1))
    clock.run(drain._claim(1))

    assert sorted(ledger.postponed) == [("a", 5), ("b", 7)]


def test_what_the_last_calls_owe_is_paid_when_the_drain_ends(run):
    class Late(FakeClient):
        async def send(self, call, *, leaves):
            time.sleep(0.017)  # noqa: ASYNC251 - holds up the loop, as a busy machine does
            return await super().send(call, leaves=leaves)

    ledger = one_account(1)

    run(make_drain(ledger, {ONE: Late()}))

    assert sum(ns for _, ns in ledger.postponed) == pytest.approx(9e6, abs=1e6)


def test_what_the_ledger_does_not_take_at_the_end_ends_nothing_else(run):
    ledger = one_account(1)
    ledger.postpone_faults = 1
    drain = make_drain(ledger, {ONE: FakeClient()})
    drain._punctual.owe("gone", 5)
    ledger.claim_faults = 1

    run(drain, budget_s=0.0)

    assert ledger.postponed == []


def test_a_call_that_waits_for_its_slot_while_the_process_is_stopped_does_not_depart_afterwards(
    run,
    monkeypatch,
):
    class Stopped(FakeClient):
        async def send(self, call, *, leaves):
            async def late():
                asyncio.get_running_loop().call_soon(time.sleep, 0.2)  # before its slot comes
                await leaves()

            return await super().send(call, leaves=late)

    ledger, client = one_account(1, rate=10), Stopped()

    run(make_drain(ledger, {ONE: client}), budget_s=0.6)

    assert client.departures == []
    assert set(unsent(ledger)) == {"slot_missed"}
    assert len(unsent(ledger)) == len(ledger.recorded)  # none of them is an attempt


def test_a_stop_keeps_back_what_waits_for_its_slot_with_its_connection_in_hand(run):
    stop, write_end = StopFlag.make()

    class Waits(FakeClient):
        async def send(self, call, *, leaves):
            if write_ends:
                os.close(write_ends.pop())
            await asyncio.sleep(0.15)  # a connection that takes a while; the flag is seen meanwhile
            return await super().send(call, leaves=leaves)

    write_ends = [write_end]
    ledger, client = one_account(1), Waits()

    run(make_drain(ledger, {ONE: client}, stop=stop))
    assert stop.fd is not None
    os.close(stop.fd)

    assert client.departures == []
    assert unsent(ledger) == ["stopping"]


def test_a_connection_that_takes_more_than_a_second_is_an_outage_and_no_attempt(run):
    """Its slot is another second's by then; the breaker paces the next ones, and tells of it."""

    class Slow(FakeClient):
        async def send(self, call, *, leaves):
            await asyncio.sleep(1.1)
            return await super().send(call, leaves=leaves)

    ledger, client = one_account(1), Slow()

    run(make_drain(ledger, {ONE: client}), budget_s=0.5)

    assert client.departures == []
    (settled,) = ledger.recorded
    assert (settled.outcome, settled.reason) == ("not_applied", "connect_deadline")
    assert settled.outage
    assert settled.move == Retry(delay_s=0.0, burn=False)
