"""Says a thing that happens again and again only now and then, with how often it was."""

import time
from collections.abc import Callable
from typing import Final

__all__ = ["SAY_AGAIN_S", "Seldom"]

SAY_AGAIN_S: Final = 60.0


class Seldom:
    """Lets the first of many equal events through, and after that one a minute.

    Args:
        every_s: Seconds between two of a kind.
        clock: Seconds of a monotonic clock.
    """

    def __init__(
        self, *, every_s: float = SAY_AGAIN_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start with nothing said."""
        self._every_s = every_s
        self._clock = clock
        # What happened -> when it was said, and how often it happened since. Kinds are words of
        # closed lists, so there are few.
        self._said: dict[str, float] = {}
        self._since: dict[str, int] = {}

    def count(self, what: str) -> int:
        """Count one; gives how many to tell of now, this one included, or 0 to keep quiet."""
        now = self._clock()
        self._since[what] = self._since.get(what, 0) + 1
        if now - self._said.get(what, float("-inf")) < self._every_s:
            return 0
        self._said[what] = now
        return self._since.pop(what)

    def forget(self) -> None:
        """Let the next of each kind through at once: what was wrong is over."""
        self._said.clear()
        self._since.clear()
