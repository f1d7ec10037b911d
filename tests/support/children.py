"""Which processes come from one of ours, and whether they are gone."""

import subprocess
import time
from collections.abc import Collection
from pathlib import Path

__all__ = ["all_gone", "descendants"]

_PROC = Path("/proc")
_LOOK_S = 0.02


def descendants(pid: int, *, but: Collection[int] = ()) -> list[int]:
    """Give the ids of all processes below *pid* that run, *but* the servers of other tests."""
    parents = _parents()
    found = [pid]
    for each in found:
        found.extend(child for child, parent in parents.items() if parent == each)
    return [each for each in found[1:] if each not in but]


def all_gone(pids: list[int], *, within_s: float) -> bool:
    """Wait until none of *pids* runs any more; says whether that came about."""
    until = time.monotonic() + within_s
    while set(pids) & set(_parents()):
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK_S)
    return True


def _parents() -> dict[int, int]:
    """Give each running process's parent; those that only wait to be reaped do not run."""
    if not (_PROC / "self" / "stat").exists():
        listing = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid=,stat="],  # noqa: S607 - where it is differs
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        rows = [line.split() for line in listing.splitlines()]
        return {int(pid): int(parent) for pid, parent, state in rows if state[0] != "Z"}
    parents = {}
    for path in _PROC.glob("[0-9]*/stat"):
        try:
            # The name in brackets may hold anything, blanks and brackets included.
            state, parent = path.read_text(errors="replace").rpartition(")")[2].split()[:2]
        except OSError:
            continue  # it ended meanwhile
        if state != "Z":
            parents[int(path.parent.name)] = int(parent)
    return parents
