"""Outcomes are gathered for a moment, none is lost, and what stops traffic does not wait."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.tasks import Delivered, Settlement
from tests.support.worker_fakes import make_task
from worker.outbox import MOST_AT_ONCE, Outbox

GATHER_S = 0.1


def settlement(number=0, **changed):
    task = make_task(place=number)
    return Settlement(task=task, move=Delivered(), outcome="ok", reason="ok", **changed)


class Written:
    """Takes what is written, and when."""

    def __init__(self, *, takes_s=0.0):
        self.batches = []
        self.moments = []
        self._takes_s = takes_s

    async def __call__(self, batch):
        self.batches.append([one.task.place for one in batch])
        self.moments.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self._takes_s)

    @property
    def places(self):
        return [place for batch in self.batches for place in batch]


def with_outbox(written, use):
    async def run():
        outbox = Outbox(written)
        running = asyncio.create_task(outbox.run())
        started = asyncio.get_running_loop().time()
        await use(outbox)
        outbox.close()
        await running
        assert outbox.empty
        return [moment - started for moment in written.moments]

    return asyncio.run(run())


def test_outcomes_of_one_moment_are_written_together_within_100_ms():
    written = Written()

    async def use(outbox):
        for number in range(30):
            outbox.put(settlement(number))
        await asyncio.sleep(GATHER_S * 2)

    (moment,) = with_outbox(written, use)

    assert written.batches == [list(range(30))]
    assert GATHER_S * 0.8 <= moment <= GATHER_S * 3


def test_200_outcomes_do_not_wait_and_what_has_come_meanwhile_goes_together_up_to_a_bound():
    written = Written()

    async def use(outbox):
        for number in range(888):
            outbox.put(settlement(number))
        await asyncio.sleep(0.01)
        assert len(written.batches) >= 2  # the last 88 may wait for company

    with_outbox(written, use)

    assert [len(batch) for batch in written.batches] == [400, 400, 88]
    assert written.places == list(range(888))


def test_fewer_wait_for_company():
    written = Written()

    async def use(outbox):
        for number in range(199):
            outbox.put(settlement(number))
        await asyncio.sleep(0.01)
        assert written.batches == []
        outbox.put(settlement(199))
        await asyncio.sleep(0.01)
        assert written.batches == [list(range(200))]

    with_outbox(written, use)


@pytest.mark.parametrize(
    "urgent", [{"pause_account_s": 1.0}, {"pause_project": "key"}, {"outage": True}]
)
def test_what_stops_traffic_is_written_at_once(urgent):
    written = Written()

    async def use(outbox):
        outbox.put(settlement(0))
        await asyncio.sleep(0)
        outbox.put(settlement(1, **urgent))
        await asyncio.sleep(0.005)
        assert written.batches == [[0, 1]]

    with_outbox(written, use)


def test_what_stops_traffic_is_written_at_once_even_if_it_comes_during_a_write():
    written = Written(takes_s=0.02)

    async def use(outbox):
        outbox.put(settlement(0, pause_account_s=1.0))
        await asyncio.sleep(0.01)  # in the middle of the first write
        outbox.put(settlement(1, pause_account_s=1.0))
        await asyncio.sleep(0.02)
        assert written.batches == [[0], [1]]

    with_outbox(written, use)


def test_after_something_urgent_the_next_ones_are_gathered_again():
    written = Written()

    async def use(outbox):
        outbox.put(settlement(0, pause_account_s=1.0))
        await asyncio.sleep(0.005)
        outbox.put(settlement(1))
        await asyncio.sleep(0.01)
        outbox.put(settlement(2))
        await asyncio.sleep(GATHER_S * 2)

    with_outbox(written, use)

    assert written.batches == [[0], [1, 2]]


@given(st.lists(st.integers(0, 130), max_size=6), st.booleans())
def test_nothing_is_lost_or_written_twice_whatever_comes_when(sizes, slow):
    written = Written(takes_s=0.001 if slow else 0.0)

    async def use(outbox):
        number = 0
        for size in sizes:
            for _ in range(size):
                outbox.put(settlement(number, pause_account_s=1.0 if number % 40 == 7 else None))
                number += 1
            await asyncio.sleep(0)

    with_outbox(written, use)

    assert written.places == list(range(sum(sizes)))
    assert max(map(len, written.batches), default=0) <= MOST_AT_ONCE


def test_closing_an_outbox_that_has_nothing_ends_it():
    written = Written()

    async def use(_outbox):
        pass

    with_outbox(written, use)

    assert written.batches == []
