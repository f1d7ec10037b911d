"""The ledger of a drain, looked after by a process of its own.

Claims and records are Python's work as much as the database's, and one interpreter does one thing
at a time: beside the calls of a fast account, either would hold up the other. So they are done in
a process that this one starts (`worker.clerk_main`), and only what was claimed and what became of
it goes to and fro, over sockets that nobody else has.
"""

import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from ledger import Ledger, ReadbackPolicy
from ledger.errors import LedgerError
from ledger.finish import Ended
from ledger.settings import Settings
from ledger.tasks import Claim, Settlement
from memos_api import Dialect
from worker.clients import dialects_of
from worker.prepared import PreparedClaim

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

__all__ = ["Books", "Clerk", "Office"]

# Longer than a transaction may keep still, with its tries (`ledger.engine`).
_PATIENCE_S: Final = 90.0
_LEAVES_S: Final = 5.0
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


@dataclass(frozen=True, kw_only=True, repr=False)
class Office:
    """What a clerk is told before its first task.

    Attributes:
        ledger_url: Of the ledger.
        keys_dir: Where its keys are.
        home: Where crash points leave their marks.
        crash_points: Of a test.
        dialects: By project: in which calls are prepared.
        doubtful: Whether an earlier clerk was lost: what is recorded may be there already.
    """

    ledger_url: str
    keys_dir: Path
    home: Path
    crash_points: str | None
    dialects: Mapping[str, Dialect]
    doubtful: bool = False


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
        self._desk = _Desk(self._office(doubtful=False), lines)

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

    def _replace(self, lost: "_Desk") -> None:
        with self._lock:
            if self._desk is not lost:
                return  # another thread did
            _log.warning("clerk_lost")
            lost.close(wait=False)
            self._desk = _Desk(self._office(doubtful=True), self._lines)

    def _office(self, *, doubtful: bool) -> Office:
        return Office(
            ledger_url=self._settings.ledger_url,
            keys_dir=self._settings.keys_dir,
            home=self._settings.home,
            crash_points=self._settings.crash_points,
            dialects=dialects_of(self._settings),
            doubtful=doubtful,
        )


class _Desk:
    """One such process, and the lines to it: each carries one question at a time."""

    def __init__(self, office: Office, lines: int) -> None:
        self._all: list[Connection] = []
        self._free: SimpleQueue[Connection] = SimpleQueue()
        theirs = []
        for _ in range(lines):
            ours, other = Pipe()
            self._all.append(ours)
            theirs.append(other)
        fds = [other.fileno() for other in theirs]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "worker.clerk_main", *map(str, fds)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=fds,
        )
        for other in theirs:
            other.close()
        for line in self._all:
            # One that is gone already shows when it is asked.
            with suppress(OSError):
                line.send(office)
            self._free.put(line)

    def ask(self, name: str, given: Mapping[str, Any]) -> tuple[bool, Any]:
        """Ask, and wait for the answer: whether it went well, and the result or the error.

        Raises:
            EOFError: The process is gone, or does not answer.
            OSError: As before.
        """
        line = self._free.get()
        try:
            line.send((name, given))
            if not line.poll(_PATIENCE_S):
                raise EOFError
            answer: tuple[bool, Any] = line.recv()
        finally:
            self._free.put(line)
        return answer

    def close(self, *, wait: bool = True) -> None:
        """End it: by itself when its lines are closed, at once when nobody shall wait."""
        if not wait:
            self._process.kill()
        for line in self._all:
            line.close()
        try:
            self._process.wait(_LEAVES_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
