"""Keeps departures on the account's grid of slots, although clocks, loops and networks are late.

The limit holds because the call that comes one full limit after another one departs a second later.
A call that departs late, with the next ones on time, would break that. Little lateness is within
the slack of `ledger.slots`. What it is late beyond that is made up for *before* it departs, by
moving the account's next free slot, so that nothing is owed by whoever is killed or stopped then.
"""

import time
from collections import deque
from typing import Final

from ledger.slots import late_ns
from ledger.tasks import Claim

__all__ = ["TOO_LATE_NS", "Punctual"]

# A call that wakes up later than this gives its slot up and is claimed again.
TOO_LATE_NS: Final = 20_000_000

_REMEMBERED_NS: Final = 2_000_000_000


class Punctual:
    """One drain's sense of time; all moments are `time.monotonic_ns()`."""

    def __init__(self) -> None:
        """Start with nothing known."""
        self._offsets: deque[tuple[int, int]] = deque()
        self._offset = 0
        self._allowed: dict[str, int] = {}
        self._moves: dict[str, deque[tuple[int, int]]] = {}

    def learn(self, claim: Claim) -> None:
        """Compare clocks: the answer took a while, so the least difference of late is the best.

        Notes on the way how late the calls of each account may be.
        """
        for account, interval in claim.intervals.items():
            self._allowed[account] = late_ns(interval)
        while self._offsets and self._offsets[0][0] < claim.mono_ns - _REMEMBERED_NS:
            self._offsets.popleft()
        self._offsets.append((claim.mono_ns, claim.mono_ns - claim.now_ns))
        self._offset = min(offset for _, offset in self._offsets)

    def here(self, slot_ns: int) -> int:
        """Turn a slot of a claim that was learnt into this process's time."""
        return slot_ns + self._offset

    def debt_ns(self, account: str, *, claimed_ns: int, slot_ns: int) -> int:
        """Give by how much the account's next free slot has to move before a call departs now.

        Args:
            account: Whose slot it is; of a claim that was learnt.
            claimed_ns: When it was claimed. What was moved since then moves the call that comes a
                full limit after this one, too, and counts.
            slot_ns: The slot, as `here` gave it.

        Returns:
            Nanoseconds; 0 or less when it may depart.
        """
        debt = time.monotonic_ns() - slot_ns - self._allowed[account]
        for at, ns in reversed(self._moves.get(account, ())):
            if at <= claimed_ns or debt <= 0:
                break
            debt -= ns
        return debt

    def moved(self, account: str, *, at_ns: int, by_ns: int) -> None:
        """Note that the ledger moved an account's next free slot.

        Args:
            account: Whose.
            at_ns: A moment before that was asked for: what was claimed since then may come after.
            by_ns: By how much.
        """
        moves = self._moves.setdefault(account, deque())
        while moves and moves[0][0] < at_ns - _REMEMBERED_NS:
            moves.popleft()
        moves.append((at_ns, by_ns))
