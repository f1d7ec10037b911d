"""The ledger of a drain, looked after by a process of its own.

Claims and records are Python's work as much as the database's, and one interpreter does one thing
at a time: beside the calls of a fast account, either would hold up the other. So they are done in
a process that this one starts (`worker.clerk_main`), and only what was claimed and what became of
it goes to and fro, over sockets that nobody else has.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import structlog

from ledger import Ledger, ReadbackPolicy
from ledger.errors import LedgerError
from ledger.finish import Ended
from ledger.settings import Settings
from ledger.tasks import Claim, Settlement
from worker.desk import Desk, Office
from worker.prepared import PreparedClaim

__all__ = ["Books", "Clerk"]

_log = structlog.get_logger()


class Books(Protocol):
    """What a drain needs of a ledger; see there."""

    def claim(
        self,
        *,
        worker: str,
        capacity: int,
        lead_s: float,
        lease_s: float,
        owed: Mapping[str, int] | None = None,
        leeway: frozenset[str] = frozenset(),
    ) -> Claim:
        """Take due work with its slots."""

    def record(self, settlements: Sequence[Settlement]) -> list[str]:
        """Write outcomes."""

    def advance(
        self, request_id: str, *, policy: ReadbackPolicy, most_chunks: int | None = None
    ) -> Ended | None:
        """Take a request to its next state."""

    def postpone(self, account: str, *, by_ns: int) -> None:
        """Move an account's next free slot."""

    def halts(self) -> dict[str, int]:
        """Say when what was stopped."""


class Clerk:
    """Has claims and records made by another process; one that is lost is replaced.

    Args:
        settings: Where the ledger and its keys are.
        ledger: This process's own, for what is asked beside the drain.
        lines: How many things may be asked at the same time.
    """

    def __init__(self, settings: Settings, ledger: Ledger, *, lines: int) -> None:
        """Start the process; its first answer waits until it is ready."""
        self._settings = settings
        self._ledger = ledger
        self._lines = lines
        self._lock = threading.Lock()
        self._desk = Desk(Office.of(settings), lines=lines)

    def claim(self, **given: Any) -> PreparedClaim:  # noqa: ANN401 - as `Ledger.claim` has them
        """Take due work with its slots (`Ledger.claim`), and with its calls.

        Raises:
            LedgerError: As there, or the process was lost: what it claimed lapses with its lease.
        """
        claim: PreparedClaim = self._ask("claim", **given)
        return claim

    def record(self, settlements: Sequence[Settlement]) -> list[str]:
        """Write outcomes (`Ledger.record`).

        Raises:
            LedgerError: As there, or the process was lost: recording the same again is safe.
        """
        ready: list[str] = self._ask("record", settlements=list(settlements))
        return ready

    def advance(
        self, request_id: str, *, policy: ReadbackPolicy, most_chunks: int | None = None
    ) -> Ended | None:
        """Take a request to its next state (`Ledger.advance`).

        Raises:
            LedgerError: As there, or the process was lost: asking again is safe.
        """
        ended: Ended | None = self._ask(
            "advance", request_id=request_id, policy=policy, most_chunks=most_chunks
        )
        return ended

    def postpone(self, account: str, *, by_ns: int) -> None:
        """Move an account's next free slot (`Ledger.postpone`).

        Raises:
            LedgerError: As there, or the process was lost.
        """
        self._ask("postpone", account=account, by_ns=by_ns)

    def halts(self) -> dict[str, int]:
        """Say when what was stopped; asked of this process's own ledger, beside everything else."""
        return self._ledger.halts()

    def close(self) -> None:
        """Let the process end; it finishes what it was asked."""
        with self._lock:
            self._desk.close()

    def _ask(self, name: str, **given: Any) -> Any:  # noqa: ANN401 - one way for all of them
        desk = self._desk
        try:
            well, answer = desk.ask(name, given)
        except (EOFError, OSError):
            self._replace(desk)
            msg = (
                "The process that writes to the ledger for this one was lost, so nobody confirmed; "
                "another one was started, and it is safe to try again."
            )
            raise LedgerError(msg, cause="clerk_lost") from None
        if not well:
            raise answer
        return answer

    def _replace(self, lost: Desk) -> None:
        with self._lock:
            if self._desk is not lost:
                return  # another thread did
            _log.warning("clerk_lost")
            lost.close(wait=False)
            self._desk = Desk(Office.of(self._settings, doubtful=True), lines=self._lines)
