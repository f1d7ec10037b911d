"""A process with a ledger of its own, and the lines to it: what is asked there is done beside us.

One interpreter does one thing at a time, and the kernel shares out cores by process. So what would
hold up the calls of a fast account is done in another one (`worker.clerk_main`), over sockets that
nobody else has. It ends with them, also when this process is killed.
"""

import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from ledger.settings import Settings
from memos_api import Dialect
from worker.clients import dialects_of

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

__all__ = ["Desk", "Office"]

# Longer than a transaction may keep still, with its tries (`ledger.engine`).
_PATIENCE_S: Final = 90.0
_LEAVES_S: Final = 5.0


@dataclass(frozen=True, kw_only=True, repr=False)
class Office:
    """What such a process is told before its first task.

    Attributes:
        ledger_url: Of the ledger.
        keys_dir: Where its keys are.
        home: Where crash points leave their marks.
        crash_points: Of a test.
        dialects: By project: in which calls are prepared.
        doubtful: Whether an earlier one was lost: what is recorded may be there already.
    """

    ledger_url: str
    keys_dir: Path
    home: Path
    crash_points: str | None
    dialects: Mapping[str, Dialect]
    doubtful: bool = False

    @classmethod
    def of(cls, settings: Settings, *, doubtful: bool = False) -> "Office":
        """Take from the settings what is needed."""
        return cls(
            ledger_url=settings.ledger_url,
            keys_dir=settings.keys_dir,
            home=settings.home,
            crash_points=settings.crash_points,
            dialects=dialects_of(settings),
            doubtful=doubtful,
        )


class Desk:
    """One such process, and the lines to it: each carries one question at a time.

    Args:
        office: What it works on.
        lines: How many things may be asked at the same time.
        spare: It gets only what others leave of the cores.
    """

    def __init__(self, office: Office, *, lines: int, spare: bool = False) -> None:
        """Start it; its first answer waits until it is ready."""
        self._all: list[Connection] = []
        self._free: SimpleQueue[Connection] = SimpleQueue()
        theirs = []
        for _ in range(lines):
            ours, other = Pipe()
            self._all.append(ours)
            theirs.append(other)
        main = "worker.spare_main" if spare else "worker.clerk_main"
        fds = [other.fileno() for other in theirs]
        self._process = subprocess.Popen(
            [sys.executable, "-m", main, *map(str, fds)],
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

    def ask(
        self, name: str, given: Mapping[str, Any], *, patience_s: float | None = None
    ) -> tuple[bool, Any]:
        """Ask, and wait for the answer: whether it went well, and the result or the error.

        Args:
            name: A method of `Ledger`.
            given: Its arguments.
            patience_s: After so many seconds without an answer it counts as lost; None takes 90.

        Raises:
            EOFError: The process is gone, or does not answer.
            OSError: As before.
        """
        line = self._free.get()
        try:
            line.send((name, given))
            if not line.poll(_PATIENCE_S if patience_s is None else patience_s):
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
