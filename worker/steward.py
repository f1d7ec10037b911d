"""The steward: periodic duties, and the drain itself when the doorbell goes unanswered.

Every worker has one, a process that the supervisor starts; a named lease in the ledger lets one of
them sweep. The rate lives in the ledger, so it does not matter who drains, nor how many do.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn

import structlog
from celery import Celery

from ledger import ReadbackPolicy
from ledger.advance import FEW_CHUNKS
from ledger.doorbell import celery_settings
from ledger.errors import DiskError, ExpungeError, LedgerError, SchemaError
from ledger.settings import Settings
from ledger.sweep import Swept
from worker.app import make_bell
from worker.broker_check import BrokerCheck
from worker.closer import Closer
from worker.desk import Desk, Office
from worker.process import Process, has_clerk
from worker.progress import Progress
from worker.ringer import Ringer
from worker.scrubber import Scrubber
from worker.stop import StopFlag

__all__ = ["Vigil", "run_steward"]

SWEEP_EVERY_S: Final = 1.0
# Renewed each second, also during an own drain; and shorter than the shortest lease of work, so
# that the next steward is there when those of a lost host lapse.
_LEASE_S: Final = 4.0
_BEAT_EVERY_S: Final = 5.0
_LOOK_AT_SCHEMA_EVERY_S: Final = 2.0
_SAY_AGAIN_S: Final = 60.0
# Work waits and nobody claims: after this long the steward claims by itself, the sweep going on
# beside it, and only after a while it keeps still again to see whether the workers are back. They
# do not wait for that: they claim as soon as they hear the bell.
SILENT_S: Final = 3.0
ALONE_S: Final = 30.0
# Longer than a task's: with a broker that takes rings and workers that do not answer them, SILENT_S
# go by between two of its own.
OWN_DRAIN_S: Final = 120.0
_log = structlog.get_logger()


def run_steward(settings: Settings, stop: StopFlag, progress: Progress | None = None) -> None:
    """Sweep every second until the stop flag is set.

    Args:
        settings: All settings.
        stop: The stop flag.
        progress: Is told of each turn and of what is seen, for whoever judges the health.

    Raises:
        ExpungeError: The settings or keys do not allow a start.
    """
    progress = progress or Progress()
    process = _open(settings, stop, progress)
    if process is None:
        return
    progress.watch(lambda: process.ledger.turned)
    steward = _Steward(settings, process, progress)
    pause_s = SWEEP_EVERY_S
    while not stop.wait(pause_s):
        pause_s = SWEEP_EVERY_S
        progress.turn()
        try:
            if steward.turn():
                pause_s = 0.0
        except DiskError as error:
            _end_at_once(error)
        except SchemaError as error:
            steward.say_mismatch(error)
        except LedgerError as error:
            _log.warning("sweep_failed", error=error, cause=error.cause)
        except ExpungeError as error:
            _log.warning("drain_failed", error=error)
    steward.close()
    process.close()


def _open(settings: Settings, stop: StopFlag, progress: Progress) -> Process | None:
    """Open the ledger, however long it is away; the supervisor saw it at the start."""
    while True:
        progress.turn()
        try:
            return Process(settings, role="steward", stop=stop)
        except DiskError as error:
            _end_at_once(error)
        except SchemaError as error:
            progress.schema_fits = False
            _log.error("schema_mismatch", found=error.found, needed=error.needed)
        except LedgerError as error:
            _log.warning("ledger_away", error=error, cause=error.cause)
        if stop.wait(_LOOK_AT_SCHEMA_EVERY_S):
            return None


def _end_at_once(error: DiskError) -> NoReturn:
    """End without closing, which would write once more; the supervisor starts another one."""
    _log.error("disk_failed", cause=error.cause)
    os._exit(os.EX_IOERR)


class _Steward:
    """What is to be done each time, and when each thing was done last."""

    def __init__(self, settings: Settings, process: Process, progress: Progress) -> None:
        self._settings = settings
        self._process = process
        self._progress = progress
        self._ringer = Ringer(_make_bell(settings))
        # Work may wait already; and a broker that is not as it should be is told of at once.
        self._ringer.ring()
        self._vigil = Vigil()
        self._scrubber = Scrubber(settings, process)
        self._policy = ReadbackPolicy.of(settings)
        aside = partial(Desk, Office.of(settings), lines=1, spare=True)
        self._closer = Closer(process, self._policy, desk=aside if has_clerk(settings) else None)
        self._turning = threading.Lock()
        self._beaten = self._looked = self._said = float("-inf")
        self._alone = False

    def turn(self) -> bool:
        """Do the duties, and drain when nobody else does; says whether to come again at once."""
        return self._attend() and self._process.drain(budget_s=OWN_DRAIN_S, beside=self._beside)

    def close(self) -> None:
        """End what it started."""
        self._closer.close()

    async def _beside(self) -> None:
        """Go on with the duties while this process drains; in another thread, for slots wait."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            self._progress.turn()
            try:
                await loop.run_in_executor(None, self._attend)
            except SchemaError as error:
                # The drain sees it as well, and ends.
                self.say_mismatch(error)
            except LedgerError as error:
                _log.warning("sweep_failed", error=error, cause=error.cause)

    def _attend(self) -> bool:
        """Beat, look at the schema, sweep, ring; says whether to drain by oneself."""
        with self._turning:
            now = time.monotonic()
            if not self._progress.schema_fits or now - self._looked >= _LOOK_AT_SCHEMA_EVERY_S:
                self._look_at_schema(now)
            if now - self._beaten >= _BEAT_EVERY_S:
                self._process.beat()
                self._beaten = now
            self._scrubber.turn(now)
            ledger = self._process.ledger
            if not ledger.hold_lease("sweep", owner=self._process.name, seconds=_LEASE_S):
                # Whoever holds it sees what is unclaimed.
                self._progress.unclaimed_s = 0.0
                return False
            return self._sweep()

    def _sweep(self) -> bool:
        swept = self._process.ledger.sweep(
            max_attempts=self._settings.max_attempts,
            policy=self._policy,
            most_chunks=FEW_CHUNKS,
        )
        for ended in swept.ended:
            self._process.watch.ended(ended)
        self._closer.take(swept.large)
        rung = self._ringer.ring() if swept.due else True
        alone = self._vigil.must_drain(swept, rung=rung, now=time.monotonic())
        self._progress.unclaimed_s = self._vigil.unclaimed_s
        if alone and not self._alone:
            _log.warning("steward_drains", silent_s=round(self._vigil.unclaimed_s, 1))
        self._alone = alone
        return alone

    def say_mismatch(self, error: SchemaError) -> None:
        """Say that this release does not fit the ledger, once a minute."""
        self._progress.schema_fits = False
        self._progress.unclaimed_s = 0.0
        now = time.monotonic()
        if now - self._said >= _SAY_AGAIN_S:
            self._said = now
            _log.error("schema_mismatch", found=error.found, needed=error.needed)

    def _look_at_schema(self, now: float) -> None:
        self._process.ledger.check_schema()
        self._looked = now
        if not self._progress.schema_fits:
            self._progress.schema_fits = True
            self._said = float("-inf")
            _log.info("schema_fits")


def _make_bell(settings: Settings) -> Callable[[], bool]:
    app = Celery("expunge-steward", set_as_current=False, fixups=[])
    app.conf.update(celery_settings(settings.redis_url, socket_timeout_s=1.0))
    bell = make_bell(settings, app)
    check = BrokerCheck(settings.redis_url)

    def ring() -> bool:
        taken = bell()
        if taken:
            check.look()
        return taken

    return ring


class Vigil:
    """Decides when the steward drains by itself: work waits, and the doorbell goes unanswered.

    Attributes:
        unclaimed_s: For how long work has waited that nobody claimed, as far as this steward saw.
    """

    def __init__(self) -> None:
        """Start trusting the broker."""
        self.unclaimed_s = 0.0
        self._waiting_since: float | None = None
        self._alone_until = float("-inf")

    def must_drain(self, swept: Swept, *, rung: bool, now: float) -> bool:
        """Say whether to drain now.

        Args:
            swept: What the sweep saw.
            rung: The broker took the last ring.
            now: Seconds of a monotonic clock.
        """
        if not swept.due:
            self._waiting_since = None
            self.unclaimed_s = 0.0
            return False
        if self._waiting_since is None:
            self._waiting_since = now
        self.unclaimed_s = min(swept.silent_s, now - self._waiting_since)
        # The steward's own claims end the silence, so from then on it goes by the clock.
        if self.unclaimed_s > SILENT_S or (now < self._alone_until and not rung):
            self._alone_until = now + ALONE_S
        return now < self._alone_until
