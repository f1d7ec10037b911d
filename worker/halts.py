"""What must not depart although it was claimed: somebody stopped its account or project since.

Outcomes of this process stop its own calls at once. What other processes and people stopped is
read from the ledger every few milliseconds, for a pause holds for every call from then on, and
claims are made up to a third of a second ahead.
"""

import time
from collections.abc import Mapping
from typing import Final

from ledger.tasks import Settlement, Task

__all__ = ["LOOK_S", "Halts"]

# With the time that a look takes, well below the 100 ms that a pause may take to reach all calls.
LOOK_S: Final = 0.03
_FOREVER: Final = 2**63


class Halts:
    """One drain's view of what is stopped."""

    def __init__(self) -> None:
        """Start with nothing stopped."""
        # Account or project -> claims up to this moment are halted: of the ledger's clock, and for
        # what this process knows before the ledger does, of `time.monotonic_ns()`.
        self._ledger_ns: dict[str, int] = {}
        self._own_ns: dict[str, int] = {}

    def learn(self, halted: Mapping[str, int]) -> None:
        """Take in what the ledger says."""
        for name, moment in halted.items():
            self._ledger_ns[name] = max(moment, self._ledger_ns.get(name, 0))

    def note(self, settled: Settlement) -> None:
        """Stop what an outcome stops, before it is recorded."""
        for name in _stopped_by(settled):
            self._own_ns[name] = _FOREVER

    def lift(self, settled: Settlement) -> None:
        """From here on the ledger itself keeps stopped work back: only older claims stay."""
        for name in _stopped_by(settled):
            self._own_ns[name] = time.monotonic_ns()

    def hold(self, task: Task, *, claimed_mono_ns: int) -> bool:
        """Say whether a task must stay, claimed at that moment of `time.monotonic_ns()`."""
        account, project = f"account/{task.account}", f"project/{task.project}"
        ledger, own = self._ledger_ns, self._own_ns
        return task.claimed_ns <= max(
            ledger.get(account, -1), ledger.get(project, -1)
        ) or claimed_mono_ns <= max(own.get(account, -1), own.get(project, -1))


def _stopped_by(settled: Settlement) -> list[str]:
    names = []
    if settled.pause_account_s is not None:
        names.append(f"account/{settled.task.account}")
    if settled.pause_project is not None:
        names.append(f"project/{settled.task.project}")
    return names
