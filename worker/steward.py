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
from ledger.errors import LedgerError
from ledger.settings import Settings, load_settings
from ledger.sweep import Swept
from worker.app import make_bell
from worker.logs import configure_logs
from worker.process import Process, readback_policy
from worker.stop import StopFlag

__all__ = ["main", "run_steward"]

SWEEP_EVERY_S: Final = 1.0
_LEASE_S: Final = 5.0
_BEAT_EVERY_S: Final = 5.0
# Work waits and nobody claims: after this long the steward claims by itself.
SILENT_S: Final = 3.0
_OWN_DRAIN_S: Final = 5.0
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
    waiting_since: float | None = None
    beaten = float("-inf")
    while not stop.wait(SWEEP_EVERY_S):
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
        waiting_since = (waiting_since or time.monotonic()) if swept.due else None
        if not swept.due:
            continue
        bell()
        if _unanswered(swept, waiting_since):
            process.drain(budget_s=_OWN_DRAIN_S)
    process.close()


def _unanswered(swept: Swept, waiting_since: float | None) -> bool:
    if waiting_since is None:
        return False
    return min(swept.silent_s, time.monotonic() - waiting_since) > SILENT_S


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
