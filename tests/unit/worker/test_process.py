"""One process that drains: a drain for good, on a loop that goes on between its runs."""

import asyncio
import threading
from contextlib import closing

import pytest

import worker.process
from tests.support.homes import make_home
from worker.process import Process
from worker.stop import StopFlag


class FakeDrain:
    """Starts something that outlives its run, and fails in its second one."""

    made: list["FakeDrain"]

    def __init__(self, **_):
        self.made.append(self)
        self.runs = 0
        self.went_on = threading.Event()
        self.settled = False

    async def run(self, *, budget_s):
        self.runs += 1
        await asyncio.sleep(0)
        if self.runs == 2:
            raise ArithmeticError
        self.rest = asyncio.create_task(self._go_on())
        return True

    async def settle(self):
        await self.rest
        self.settled = True

    async def _go_on(self):
        await asyncio.sleep(0.01)
        self.went_on.set()


@pytest.fixture
def opened(tmp_path, monkeypatch):
    FakeDrain.made = []
    monkeypatch.setattr(worker.process, "Drain", FakeDrain)
    settings = make_home(tmp_path, memos_api_key="k")
    return lambda: closing(Process(settings, role="drain", stop=StopFlag()))


@pytest.fixture
def process(opened):
    with opened() as made:
        yield made


def test_what_a_drain_leaves_under_way_goes_on_although_nobody_drains(process):
    assert process.drain(budget_s=1)

    assert FakeDrain.made[0].went_on.wait(timeout=30)


def test_closing_waits_for_what_is_under_way(opened):
    with opened() as process:
        process.drain(budget_s=1)

    assert FakeDrain.made[0].settled


def test_one_that_failed_is_followed_by_a_new_one(process):
    process.drain(budget_s=1)
    with pytest.raises(ArithmeticError):
        process.drain(budget_s=1)

    process.drain(budget_s=1)

    assert [one.runs for one in FakeDrain.made] == [2, 1]


def test_what_runs_beside_a_drain_ends_with_it(process):
    ended = threading.Event()

    async def beside():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    process.drain(budget_s=1, beside=beside)

    assert ended.is_set()
