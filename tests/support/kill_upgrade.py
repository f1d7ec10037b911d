"""Migrations for a test that kills them: `python -m tests.support.kill_upgrade`.

Reads lines `URL STATEMENT` and answers each: it forks a process that migrates the ledger and kills
itself before that statement (0: never), and says `killed`, or how many statements there were.
"""

import os
import signal
import sys
from itertools import count

from sqlalchemy import event
from sqlalchemy.engine import Engine

from ledger.migrate import upgrade

__all__: list[str] = []


def main() -> None:
    """Fork as told."""
    for line in sys.stdin:
        url, at = line.split()
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(writing, str(_upgrade(url, int(at))).encode())
            os._exit(0)
        os.close(writing)
        _, status = os.waitpid(pid, 0)
        said = os.read(reading, 100).decode()
        os.close(reading)
        killed = os.WIFSIGNALED(status)
        sys.stdout.write(f"{'killed' if killed else said or 'failed'}\n")
        sys.stdout.flush()


def _upgrade(url: str, at: int) -> int:
    numbers = count(1)
    last = 0

    def before(*_: object) -> None:
        nonlocal last
        last = next(numbers)
        if last == at:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", before)
    # Not a statement of SQLAlchemy's, but the last moment at which nothing may be left.
    event.listen(Engine, "commit", before)
    upgrade(url)
    return last


if __name__ == "__main__":
    main()
