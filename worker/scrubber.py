"""The steward's duty to forget: a round a minute, and at once while there is more to do."""

from typing import Final

import structlog

from ledger.errors import DiskError, LedgerError, SchemaError
from ledger.settings import Settings
from worker.process import Process

__all__ = ["Scrubber"]

EVERY_S: Final = 60.0
# Longer than a round, and than the pause between two sweeps.
_LEASE_S: Final = 10.0
_log = structlog.get_logger()


class Scrubber:
    """Scrubs when it is time, under a lease of the ledger.

    Args:
        settings: When to forget what.
        process: Has the ledger.
    """

    def __init__(self, settings: Settings, process: Process) -> None:
        """Begin with the first turn; whoever was killed before may have left old pages."""
        self._settings = settings
        self._process = process
        self._next = float("-inf")
        self._wal_is_old = True

    def turn(self, now: float) -> None:
        """Do a round of about half a second, if one is due.

        Args:
            now: Seconds of a monotonic clock.

        Raises:
            SchemaError: The ledger was migrated meanwhile.
            DiskError: Its disk failed.
        """
        if now < self._next:
            return
        self._next = now + EVERY_S
        ledger = self._process.ledger
        try:
            if not ledger.hold_lease("scrub", owner=self._process.name, seconds=_LEASE_S):
                # Perhaps of one that is gone: it lapses.
                self._next = now + _LEASE_S
                return
            done = ledger.scrub(
                redrive_days=self._settings.redrive_days, row_days=self._settings.row_days
            )
            if done.scrubbed or done.stripped:
                self._wal_is_old = True
                _log.info("scrubbed", requests=len(done.scrubbed), dead=done.dead)
            if done.more:
                self._next = now
            elif self._wal_is_old:
                self._wal_is_old = not ledger.truncate_wal()
        except (DiskError, SchemaError):
            raise
        except LedgerError as error:
            _log.warning("scrub_failed", error=error, cause=error.cause)
