"""Ends what a stack started when the stack itself is killed and cannot.

    python -m expunge.guard        reads lines from stdin, which the stack holds open

A line is `group PID` (the leader of a session that the stack made) or `folder PATH` (its temporary
directory). When stdin ends and the last line was not `done`, the stack was killed: then the groups
are killed and the folder is removed.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from typing import Final

__all__ = ["guard"]

_TRIES: Final = 50
_PAUSE_S: Final = 0.1


def guard(lines: Iterable[str]) -> None:
    """Take the lines until they end, then do what has to be done."""
    groups: list[int] = []
    folder = None
    for line in lines:
        word, _, rest = line.rstrip("\n").partition(" ")
        if word == "done":
            return
        if word == "group":
            groups.append(int(rest))
        elif word == "folder":
            folder = rest
    # All of them at once, again and again: where nobody reaps the dead, each looks alive for ever.
    for _ in range(_TRIES):
        groups = [leader for leader in groups if _killed(leader)]
        if not groups:
            break
        time.sleep(_PAUSE_S)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _killed(leader: int) -> bool:
    """Kill a group; False when there was nothing left of it."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    # Whatever ends the stack must not end its guard.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    guard(sys.stdin)
