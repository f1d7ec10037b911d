"""The simulator's own clock: delayed effects go by it, and a test may move it ahead."""

from __future__ import annotations

import math
import time

__all__ = ["Clock"]


class Clock:
    """The host's monotonic clock and what it was moved ahead by."""

    def __init__(self) -> None:
        """Start with the host's time."""
        self._ahead_s = 0.0

    def now(self) -> float:
        """Give seconds that never go back."""
        return time.monotonic() + self._ahead_s

    def pass_time(self, seconds: float) -> None:
        """Move ahead.

        Raises:
            ValueError: It would go back, or to the end of time.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"time passes by 0 s or more, not by {seconds!r}")
        self._ahead_s += seconds
