"""Keeps departures on the account's grid of slots, although clocks, loops and networks are late.

The limit holds because the call that comes one full limit after another one departs a second later.
A call that departs late, with the next ones on time, would break that. Little lateness is within
the slack of `ledger.slots`; with more, a call does not depart at its slot any more.
"""

import time
from collections import deque
from typing import Final

from ledger.slots import late_ns
from ledger.tasks import Claim

__all__ = ["Punctual"]

_REMEMBERED_NS: Final = 2_000_000_000


class Punctual:
    """One drain's sense of time; all moments are `time.monotonic_ns()`."""

    def __init__(self) -> None:
        """Start with nothing known."""
        self._offsets: deque[tuple[int, int]] = deque()
        self._offset = 0
        self._allowed: dict[str, int] = {}

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

    def is_over(self, account: str, slot_ns: int) -> bool:
        """Say whether a call may not depart at its slot any more.

        Args:
            account: Whose slot it is; of a claim that was learnt.
            slot_ns: The slot, as `here` gave it.
        """
        return time.monotonic_ns() - slot_ns > self._allowed[account]
