"""How much one process takes on at once: as much as departs in time, found out as it goes.

Slots are spaced by the account's limit, and a process may be slower than that. What it claimed then
departs ever later, until it departs not at all and is claimed again: all work and no progress. So
what is claimed ahead gets less when departures come late, and more when all were on time.
"""

from typing import Final

__all__ = ["Appetite"]

_FIRST: Final = 32
# Half of what a departure may be late at all (`worker.punctual.TOO_LATE_NS`).
_LATE_NS: Final = 10_000_000
_ON_TIME_NS: Final = 4_000_000
_SHRINK: Final = 0.7
_GROW: Final = 1.25


class Appetite:
    """The bound on claimed calls that have not departed yet; at least 1.

    Args:
        most: It never goes beyond this.
    """

    def __init__(self, most: int) -> None:
        """Start with a few."""
        self._most = most
        self._now = float(min(most, _FIRST))
        self._latest_ns = 0
        self._reached = False

    @property
    def now(self) -> int:
        """The bound as it is."""
        return int(self._now)

    def departed(self, late_ns: int) -> None:
        """Note how late a call came to its slot, whether it departed or not."""
        self._latest_ns = max(self._latest_ns, late_ns)

    def claimed(self, waiting: int) -> None:
        """Learn from what departed since the last claim; `waiting` calls have not departed now."""
        if self._latest_ns > _LATE_NS:
            self._now = max(1.0, self._now * _SHRINK)
        elif self._reached and self._latest_ns < _ON_TIME_NS:
            self._now = min(float(self._most), self._now * _GROW + 1)
        self._latest_ns = 0
        # A bound that nothing comes up to is not known to be too low.
        self._reached = waiting >= self.now
