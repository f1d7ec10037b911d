"""The clock that tests of a loop let pass."""

import asyncio
import time

import pytest

from tests.support.virtual_time import VirtualThread, VirtualTime


@pytest.fixture
def clock(monkeypatch):
    return VirtualTime.install(monkeypatch)


def passed(since):
    return pytest.approx(time.monotonic() - since, abs=1e-6)


def test_an_hours_wait_is_an_hour_and_takes_no_time(clock):
    began, really = time.monotonic(), time.perf_counter()

    clock.run(asyncio.sleep(3_600))

    assert passed(began) == 3_600
    assert time.perf_counter() - really < 60


def test_what_sleeps_on_the_loop_lets_others_go_on_and_what_blocks_it_does_not(clock):
    order = []

    async def waits(name, seconds):
        await asyncio.sleep(seconds)
        order.append((name, round(time.monotonic() - began, 3)))

    async def blocks():
        await asyncio.sleep(0.1)
        time.sleep(1)  # noqa: ASYNC251 - what this is about

    async def main():
        await asyncio.gather(waits("late", 0.3), waits("early", 0.05), blocks(), waits("last", 2))

    began = time.monotonic()
    clock.run(main())

    assert order == [("early", 0.05), ("late", 1.1), ("last", 2.0)]


def test_a_threads_work_takes_its_time_beside_the_loop_one_after_the_other(clock):
    seen = []

    def work(seconds):
        began_at = round(time.monotonic() - began, 3)
        time.sleep(seconds)
        return began_at, round(time.monotonic() - began, 3)

    async def looks():
        for _ in range(3):
            await asyncio.sleep(0.2)
            seen.append(round(time.monotonic() - began, 3))

    async def main():
        loop, thread = asyncio.get_running_loop(), VirtualThread()
        jobs = [loop.run_in_executor(thread, work, seconds) for seconds in (0.5, 0.25)]
        *done, _ = await asyncio.gather(*jobs, looks())
        return done

    began = time.monotonic()
    assert clock.run(main()) == [(0.0, 0.5), (0.5, 0.75)]
    assert seen == [0.2, 0.4, 0.6]
    assert passed(began) == 0.75


def test_a_threads_error_is_that_of_whoever_waits_for_it(clock):
    async def main():
        await asyncio.get_running_loop().run_in_executor(VirtualThread(), lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        clock.run(main())


def test_what_would_wait_for_ever_says_so(clock):
    async def main():
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="for ever"):
        clock.run(main())
