"""The steward: periodic duties, and the drain itself when the doorbell goes unanswered.

`python -m worker.steward --stop-fd N`, started by the supervisor. Every worker has one; a named
lease in the ledger lets one of them sweep.
"""

import argparse
import signal
import time
from typing import Final

import structlog
from celery import Celery

from ledger.doorbell import celery_settings
from ledger.errors import ExpungeError, LedgerError
from ledger.settings import Settings, load_settings
from ledger.sweep import Swept
from worker.app import make_bell
from worker.logs import configure_logs
from worker.process import Process, readback_policy
from worker.stop import StopFlag

__all__ = ["Vigil", "main", "run_steward"]

SWEEP_EVERY_S: Final = 1.0
# Longer than an own drain, or two stewards would take turns in waiting.
_LEASE_S: Final = 6.0
_BEAT_EVERY_S: Final = 5.0
# Work waits and nobody claims: after this long the steward claims by itself, in turn with the
# sweep, and only after a while it keeps still again to see whether the workers are back.
SILENT_S: Final = 3.0
_OWN_DRAIN_S: Final = 3.0
ALONE_S: Final = 30.0
_log = structlog.get_logger()


def run_steward(settings: Settings, stop: StopFlag) -> None:
    """Sweep every second until the stop flag is set.

    Raises:
        ExpungeError: The settings, the keys or the schema do not allow a start.
    """
    process = Process(settings, role="steward", stop=stop)
    app = Celery("expunge-steward", set_as_current=False, fixups=[])
    app.conf.update(celery_settings(settings.redis_url, socket_timeout_s=1.0))
    bell = make_bell(settings, app)
    vigil = Vigil()
    beaten = float("-inf")
    pause_s = SWEEP_EVERY_S
    while not stop.wait(pause_s):
        pause_s = SWEEP_EVERY_S
        try:
            if time.monotonic() - beaten >= _BEAT_EVERY_S:
                process.beat()
                beaten = time.monotonic()
            if not process.ledger.hold_lease("sweep", owner=process.name, seconds=_LEASE_S):
                continue
            swept = process.ledger.sweep(
                max_attempts=settings.max_attempts, policy=readback_policy(settings)
            )
        except LedgerError as error:
            _log.warning("sweep_failed", error=str(error))
            continue
        rung = bell() if swept.due else True
        if not vigil.must_drain(swept, rung=rung, now=time.monotonic()):
            continue
        try:
            left = process.drain(budget_s=_OWN_DRAIN_S)
        except ExpungeError as error:
            _log.warning("drain_failed", error=str(error))
            continue
        if left:
            pause_s = 0.0
    process.close()


class Vigil:
    """Decides when the steward drains by itself: work waits, and the doorbell goes unanswered."""

    def __init__(self) -> None:
        """Start trusting the broker."""
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
            return False
        if self._waiting_since is None:
            self._waiting_since = now
        silent_s = min(swept.silent_s, now - self._waiting_since)
        # The steward's own claims end the silence, so from then on it goes by the clock.
        if silent_s > SILENT_S or (now < self._alone_until and not rung):
            self._alone_until = now + ALONE_S
        return now < self._alone_until


def main() -> None:
    """Run the steward as a process."""
    parser = argparse.ArgumentParser(prog="worker.steward")
    parser.add_argument("--stop-fd", type=int, required=True)
    stop = StopFlag(parser.parse_args().stop_fd)
    configure_logs()
    # The flag ends it, between two steps; a TERM to the whole group must not cut one.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run_steward(load_settings(), stop)


if __name__ == "__main__":
    main()
