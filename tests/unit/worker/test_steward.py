"""The steward's turns: what it tells of itself, and what it does not do on a newer ledger."""

import asyncio
import os
import threading
import time
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from ledger.errors import LedgerError, SchemaError
from ledger.settings import Settings
from ledger.sweep import Swept
from worker import steward
from worker.progress import Progress
from worker.steward import _Steward, run_steward
from worker.stop import StopFlag
from worker.watching import Watch

NOTHING = Swept(due=False, silent_s=0.0, lapsed=0)


class Ledger:
    """Sweeps as told, and notes what it was asked for."""

    def __init__(self):
        self.asked = []
        self.swept = NOTHING
        self.fits = True
        self.holds = True
        self.turned = 0.0

    def check_schema(self):
        if not self.fits:
            msg = "newer"
            raise SchemaError(msg, found="9999", needed="0003")

    def hold_lease(self, name, *, owner, seconds):
        if name == "scrub":
            return False
        self.asked.append("lease")
        return self.holds

    def sweep(self, **_):
        self.asked.append("sweep")
        return self.swept

    def scrub(self, **_):
        raise AssertionError  # without its lease


class Process:
    def __init__(self, ledger):
        self.ledger = ledger
        self.name = "steward-1-00000000"
        self.watch = Watch()
        self.drained = 0

    def beat(self):
        self.ledger.asked.append("beat")

    def drain(self, *, budget_s, beside):
        self.drained += 1
        return True


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setattr(steward, "_make_bell", lambda _: lambda: True)
    ledger, progress = Ledger(), Progress()
    process = Process(ledger)
    return SimpleNamespace(
        ledger=ledger,
        process=process,
        progress=progress,
        steward=_Steward(Settings(home=tmp_path), process, progress),  # type: ignore[arg-type]
    )


def test_on_a_ledger_of_another_release_it_does_nothing_until_it_fits_again(made):
    made.ledger.fits = False
    with capture_logs() as logs:
        for _ in range(5):
            with pytest.raises(SchemaError) as caught:
                made.steward.turn()
            made.steward.say_mismatch(caught.value)
    assert made.ledger.asked == []
    assert not made.progress.schema_fits
    assert logs == [
        {"event": "schema_mismatch", "log_level": "error", "found": "9999", "needed": "0003"}
    ]

    made.ledger.fits = True
    with capture_logs() as logs:
        made.steward.turn()
    assert made.ledger.asked == ["beat", "lease", "sweep"]
    assert made.progress.schema_fits
    assert [one["event"] for one in logs] == ["schema_fits"]


def test_it_tells_how_long_work_stands_unclaimed_and_that_it_drains_by_itself(made, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(steward, "time", SimpleNamespace(monotonic=lambda: now[0]))
    made.ledger.swept = Swept(due=True, silent_s=1_000.0, lapsed=0)
    with capture_logs() as logs:
        for _ in range(10):
            made.steward.turn()
            now[0] += 1
    assert made.progress.unclaimed_s == 9.0
    assert made.process.drained == 6
    assert [one["event"] for one in logs] == ["steward_drains"]

    made.ledger.swept = NOTHING
    made.steward.turn()
    assert made.progress.unclaimed_s == 0


def test_its_sweep_goes_on_beside_its_own_drain_and_holds_no_slot_up(made, monkeypatch):
    monkeypatch.setattr(steward, "SWEEP_EVERY_S", 0.01)
    sweeps: list[threading.Thread] = []
    seen: list[int] = []
    inside, let_go = threading.Event(), threading.Event()

    def sweep(**_):
        if sweeps:
            inside.set()
            let_go.wait(10)
        sweeps.append(threading.current_thread())
        return Swept(due=True, silent_s=1_000.0, lapsed=0)

    async def slots(beside):
        duties = asyncio.ensure_future(beside())
        while not inside.is_set():  # noqa: ASYNC110 - of a thread
            await asyncio.sleep(0.005)
        seen.append(len(sweeps))  # the loop turns while a sweep is stuck
        let_go.set()
        while len(sweeps) < 4:  # noqa: ASYNC110 - of a thread
            await asyncio.sleep(0.005)
        duties.cancel()

    def drain(*, budget_s, beside):
        asyncio.run(asyncio.wait_for(slots(beside), 20))
        return True

    made.ledger.sweep = sweep
    made.process.drain = drain
    made.steward._vigil.must_drain(
        Swept(due=True, silent_s=1_000.0, lapsed=0), rung=True, now=time.monotonic() - 60
    )

    assert made.steward.turn()

    assert seen == [1]
    assert {thread is threading.main_thread() for thread in sweeps[1:]} == {False}


def test_a_ledger_that_fails_beside_its_own_drain_ends_no_duty(made, monkeypatch):
    monkeypatch.setattr(steward, "SWEEP_EVERY_S", 0.01)
    tries = []

    def sweep(**_):
        tries.append(1)
        if len(tries) == 1:
            msg = "away"
            raise LedgerError(msg, cause="57P01")
        if len(tries) == 2:
            msg = "newer"
            raise SchemaError(msg, found="9999", needed="0003")
        return NOTHING

    async def slots():
        duties = asyncio.ensure_future(made.steward._beside())
        while len(tries) < 3:  # noqa: ASYNC110 - of a thread
            await asyncio.sleep(0.005)
        duties.cancel()

    made.ledger.sweep = sweep
    with capture_logs() as logs:
        asyncio.run(asyncio.wait_for(slots(), 20))
    assert [one["event"] for one in logs][:2] == ["sweep_failed", "schema_mismatch"]


def test_who_does_not_sweep_says_nothing_of_what_stands_unclaimed(made):
    made.progress.unclaimed_s = 500.0
    made.ledger.holds = False

    made.steward.turn()

    assert made.progress.unclaimed_s == 0
    assert "sweep" not in made.ledger.asked


def test_a_ledger_that_is_away_at_the_start_is_waited_for(tmp_path, monkeypatch):
    tries = []
    stop, write_end = StopFlag.make()

    def open_process(*_, **__):
        tries.append(1)
        if len(tries) == 1:
            msg = "away"
            raise LedgerError(msg, cause="57P01")
        if len(tries) == 2:
            msg = "newer"
            raise SchemaError(msg, found="9999", needed="0003")
        os.close(write_end)
        return SimpleNamespace(ledger=Ledger(), name="x", watch=Watch(), close=lambda: None)

    monkeypatch.setattr(steward, "Process", open_process)
    monkeypatch.setattr(steward, "_LOOK_AT_SCHEMA_EVERY_S", 0.01)
    progress = Progress()
    with capture_logs() as logs:
        thread = threading.Thread(
            target=run_steward, args=(Settings(home=tmp_path), stop, progress)
        )
        thread.start()
        thread.join(10)
    assert not thread.is_alive()
    assert [one["event"] for one in logs] == ["ledger_away", "schema_mismatch"]
    assert logs[0]["cause"] == "57P01"
