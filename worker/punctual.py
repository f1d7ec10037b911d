"""Keeps departures on the account's grid of slots, although clocks, loops and networks are late.

The limit holds because the call that comes one full limit after another one departs a second later.
A call that departs late, with the next ones on time, would break that: what it was late must be
made up for within the second, by moving the account's next free slot. Little lateness is within
the slack of `ledger.slots`; much of it is not sent at all.
"""

import time
from collections import deque
from dataclasses import dataclass
from typing import Final

from ledger.slots import LATE_NS, LEEWAY_NS
from ledger.tasks import Claim

__all__ = ["LEEWAY", "STRICT", "Allowance", "Punctual"]


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """How late a call may be, in nanoseconds.

    Attributes:
        free_ns: What is within it is not owed.
        much_ns: From there on its process has taken on more than it can do.
        most_ns: A call that has come no farther by then gives its slot up and is claimed again.
    """

    free_ns: int
    much_ns: int
    most_ns: int


STRICT: Final = Allowance(free_ns=LATE_NS, much_ns=20_000_000, most_ns=20_000_000)
LEEWAY: Final = Allowance(free_ns=LEEWAY_NS, much_ns=LEEWAY_NS // 2, most_ns=LEEWAY_NS)
_MOST_OWED_NS: Final = 1_000_000_000
_REMEMBERED_NS: Final = 2_000_000_000


class Punctual:
    """One drain's sense of time; all moments are `time.monotonic_ns()`."""

    def __init__(self) -> None:
        """Start with nothing known."""
        self._offsets: deque[tuple[int, int]] = deque()
        self._offset = 0
        self._moves: dict[str, deque[tuple[int, int]]] = {}
        self._owed: dict[str, int] = {}

    def learn(self, claim: Claim) -> None:
        """Compare clocks: the answer took a while, so the least difference of late is the best."""
        while self._offsets and self._offsets[0][0] < claim.mono_ns - _REMEMBERED_NS:
            self._offsets.popleft()
        self._offsets.append((claim.mono_ns, claim.mono_ns - claim.now_ns))
        self._offset = min(offset for _, offset in self._offsets)

    def here(self, slot_ns: int) -> int:
        """Turn a slot of a claim that was learnt into this process's time."""
        return slot_ns + self._offset

    def departed(
        self, account: str, *, claimed_ns: int, slot_ns: int, free_ns: int = LATE_NS
    ) -> None:
        """Note that a call departs now, and owe what it is late beyond the slack.

        Args:
            account: Whose slot it was.
            claimed_ns: When it was claimed. What was owed since then moves the slots that follow
                this one by a second too, and counts.
            slot_ns: Its slot, as `here` gave it.
            free_ns: The slack; 3 ms, more for a call with leeway.
        """
        now = time.monotonic_ns()
        late_ns = now - slot_ns - free_ns
        if late_ns <= 0:
            return
        moves = self._moves.setdefault(account, deque())
        while moves and moves[0][0] < now - _REMEMBERED_NS:
            moves.popleft()
        more_ns = min(late_ns, _MOST_OWED_NS)
        for at, ns in reversed(moves):
            if at <= claimed_ns or more_ns <= 0:
                break
            more_ns -= ns
        if more_ns > 0:
            moves.append((now, more_ns))
            self.owe(account, more_ns)

    def owe(self, account: str, ns: int) -> None:
        """Add to what the account's next slot has to move by."""
        self._owed[account] = self._owed.get(account, 0) + ns

    def take_owed(self) -> dict[str, int]:
        """Give nanoseconds by account by which its next slot has to move, and forget them."""
        owed, self._owed = self._owed, {}
        return owed
