"""The process behind a desk: `python -m worker.clerk_main FD…`, one descriptor for each line.

Whoever started it asks, it answers, and it ends when the lines are closed, which they also are when
the other process is killed.
"""

import argparse
import os
import signal
import threading
from multiprocessing.connection import Connection
from typing import Any

import structlog

from ledger import Keys, Ledger
from ledger.crash_points import arm
from ledger.errors import DiskError, ExpungeError, LedgerError
from ledger.logs import configure_logs
from worker.desk import Office
from worker.garbage import collect_seldom
from worker.prepared import prepared

__all__ = ["main"]

_log = structlog.get_logger()


class _Room:
    """The ledger, opened when it is first needed and can be."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ledger: Ledger | None = None

    def answer(self, office: Office, name: str, given: dict[str, Any]) -> tuple[bool, Any]:
        """Do what was asked; gives whether it went well, and the result or the error."""
        try:
            answer = getattr(self._opened(office), name)(**given)
            return True, prepared(answer, office.dialects) if name == "claim" else answer
        except ExpungeError as error:
            return False, error
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told without values
            _log.error("clerk_failed", error=error)
            msg = f"The ledger's process failed ({type(error).__name__}); it is safe to try again."
            return False, LedgerError(msg, cause=type(error).__name__)

    def _opened(self, office: Office) -> Ledger:
        with self._lock:
            if self._ledger is None:
                arm(office.crash_points, home=office.home)
                keys = Keys.load(office.keys_dir)
                self._ledger = Ledger.open(office.ledger_url, keys=keys)
                if office.doubtful:
                    self._ledger.doubt()
                collect_seldom()
            return self._ledger

    def close(self) -> None:
        """Give the connections back."""
        if self._ledger is not None:
            self._ledger.close()


def main() -> None:
    """Answer until the lines are closed."""
    parser = argparse.ArgumentParser(prog="worker.clerk_main")
    parser.add_argument("fds", type=int, nargs="+")
    given = parser.parse_args()
    # Who started it says when to end, and has calls under way until then.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    configure_logs()
    room = _Room()
    threads = [
        threading.Thread(target=_serve, args=(Connection(fd), room), name=f"line-{fd}")
        for fd in given.fds
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    room.close()


def _serve(line: Connection, room: _Room) -> None:
    try:
        office: Office = line.recv()
        while True:
            name, given = line.recv()
            well, answer = room.answer(office, name, given)
            line.send((well, answer))
            if isinstance(answer, DiskError):
                # Not closed, which would write once more.
                os._exit(os.EX_IOERR)
    except (EOFError, OSError):
        pass  # its end, or the other process's


if __name__ == "__main__":
    main()
