"""The sealer's process: a round each second, until it is told to end."""

import os
import secrets
import time
from contextlib import closing
from typing import Final, Protocol

import structlog

from ledger.audit.halting import halt_all
from ledger.audit.published import Published
from ledger.audit.sealing import Sealed, Sealer
from ledger.audit.signing import SigningKeys
from ledger.crash_points import arm
from ledger.engine import Database
from ledger.errors import DiskError, LedgerError, RolledBackError, SchemaError, StaleLeaseError
from ledger.host import require_local
from ledger.leases import beat
from ledger.migrate import check_schema
from ledger.retention import prune_old
from ledger.scrubbing import truncate_wal
from ledger.settings import Settings
from ledger.sweep import follow_clock

__all__ = ["Stop", "complete_rotation", "run_sealer"]

_EVERY_S: Final = 1.0
_BEAT_EVERY_S: Final = 5.0
_PRUNE_EVERY_S: Final = 3_600.0
_ROLE: Final = "sealer"
_ROTATION_S: Final = 10.0
_LOOK_S: Final = 0.2
_log = structlog.get_logger(__name__)


class Stop(Protocol):
    """Says when to end."""

    def wait(self, seconds: float) -> bool:
        """Sleep for so long, or until it is time to end; says whether it is."""


def run_sealer(
    settings: Settings, *, stop: Stop, once: bool = False, adopt: bool = False
) -> Sealed | None:
    """Seal what is recorded, until told to stop.

    A ledger that goes away is waited for. When the ledger turns out to be an older copy, all
    accounts are paused before it is told.

    Args:
        settings: Where ledger, signing key and published checkpoint are.
        stop: Says when to end.
        once: End when nothing waits any more.
        adopt: Take the ledger's last checkpoint for the published one when that file is missing.

    Returns:
        What the last round came to; None when another sealer was at work in it.

    Raises:
        RolledBackError: The ledger is older than what was published; all accounts are paused.
        AuditError: The log is not what was signed; nothing more was signed.
        KeysError: There is no signing key.
        SchemaError: The ledger has to be migrated first.
        DiskError: Its disk failed.
        LedgerError: It did not answer at the start, or with `once`.
    """
    name = f"{_ROLE}-{os.getpid()}-{secrets.token_hex(4)}"
    with closing(Database(settings.ledger_url)) as database:
        require_local(database)
        check_schema(database)
        follow_clock(database)
        arm(settings.crash_points, home=settings.home)
        sealer = Sealer(
            database,
            keys_dir=settings.keys_dir,
            published=Published(settings.audit_dir),
            owner=name,
            adopt=adopt,
        )
        try:
            loop = _Loop(database, sealer, name, once=once, keep_days=settings.retention_days)
            return loop.run(stop)
        except RolledBackError:
            for account in halt_all(database, principal=_ROLE):
                _log.error("account_halted", account=account)
            raise
        finally:
            _give_back(sealer)


class _Never:
    """Ends nothing."""

    def wait(self, seconds: float) -> bool:
        """Sleep."""
        time.sleep(seconds)
        return False


def complete_rotation(settings: Settings) -> bool:
    """Sign with both keys, or wait until the sealer at work has; says whether that was done.

    Raises:
        AuditError: The log is not what was signed.
        LedgerError: The ledger did not answer.
    """
    until = time.monotonic() + _ROTATION_S
    while SigningKeys.load(settings.keys_dir).following is not None:
        if time.monotonic() > until:
            return False
        if run_sealer(settings, stop=_Never(), once=True) is None:
            time.sleep(_LOOK_S)
    return True


def _give_back(sealer: Sealer) -> None:
    try:
        sealer.close()
    except LedgerError:
        return  # the lease lapses by itself


class _Loop:
    def __init__(
        self, database: Database, sealer: Sealer, name: str, *, once: bool, keep_days: float
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._name = name
        self._once = once
        self._keep_days = keep_days
        self._beaten = self._pruned = float("-inf")
        self._damaged: tuple[str, ...] = ()

    def run(self, stop: Stop) -> Sealed | None:
        sealed: Sealed | None = None
        pause_s = 0.0
        while not stop.wait(pause_s):
            pause_s = _EVERY_S
            try:
                self._beat()
                sealed = self._sealer.round()
                if sealed is not None:
                    self._prune()
            except (DiskError, SchemaError):
                raise
            except (LedgerError, StaleLeaseError) as error:
                if self._once:
                    raise
                _log.warning("seal_failed", error=error, cause=getattr(error, "cause", None))
                continue
            if sealed is not None:
                self._tell(sealed)
                pause_s = 0.0 if sealed.more else _EVERY_S
            if self._once and not (sealed and sealed.more):
                return sealed
        return sealed

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._beaten >= _BEAT_EVERY_S and not self._once:
            beat(self._database, process=self._name, role=_ROLE)
            self._beaten = now

    def _prune(self) -> None:
        """Let bodies go that are older than EXPUNGE_RETENTION_DAYS; once an hour."""
        now = time.monotonic()
        if now - self._pruned < _PRUNE_EVERY_S:
            return
        self._pruned = now
        if pruned := prune_old(self._database, keep_days=self._keep_days, principal=_ROLE):
            truncate_wal(self._database)
            _log.info("bodies_pruned", rows=pruned)

    def _tell(self, sealed: Sealed) -> None:
        if sealed.damaged != self._damaged:
            self._damaged = sealed.damaged
            if sealed.damaged:
                _log.error("events_damaged", rows=len(sealed.damaged))
