"""What a steward's health is judged by: written by its loop, read by the thread that answers."""

import time
from collections.abc import Callable

__all__ = ["Progress"]


class Progress:
    """Moments are seconds of the monotonic clock.

    Attributes:
        unclaimed_s: For how long work that is due has stood there unclaimed, although somebody
            could have claimed it; 0 when there is none.
        schema_fits: Whether the ledger has this release's tables.
    """

    def __init__(self) -> None:
        """Start with a turn just made."""
        self._turned = time.monotonic()
        self._at_work: Callable[[], float] | None = None
        self.unclaimed_s = 0.0
        self.schema_fits = True

    def turn(self) -> None:
        """Note that the loop turned."""
        self._turned = time.monotonic()

    def watch(self, at_work: Callable[[], float]) -> None:
        """Count as a turn whatever *at_work* tells: the ledger's last transaction.

        One sweep may be thousands of them, and is at work all that time.
        """
        self._at_work = at_work

    def idle_s(self) -> float:
        """Give the seconds since the last turn."""
        last = self._turned
        if self._at_work is not None:
            last = max(last, self._at_work())
        return max(0.0, time.monotonic() - last)
