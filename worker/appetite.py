"""How much one process takes on at once: as much as departs in time, found out as it goes.

Slots are spaced by the account's limit, and a process may be slower than that. What it claimed then
departs ever later, until it departs not at all and is claimed again: all work and no progress. So
what is claimed ahead gets less when slots are missed, and more when hardly any was.
"""

from typing import Final

__all__ = ["LEAST", "Appetite"]

LEAST: Final = 8
_FIRST: Final = 32
# One miss in ten costs little: it is claimed again with the next. A busy machine misses some
# whatever the bound is, so only more than that is a reason to take less.
_TOO_MANY: Final = 0.1
_FEW: Final = 0.05
_SHRINK: Final = 0.7
_GROW: Final = 1.25
# Until it was too much for the first time.
_GROW_FIRST: Final = 2.0


class Appetite:
    """The bound on claimed calls that have not come to their slots yet.

    Args:
        most: It never goes beyond this; nor below the lesser of this and 8.
    """

    def __init__(self, most: int) -> None:
        """Start with a few."""
        self._most = most
        self._least = min(most, LEAST)
        self._now = float(min(most, _FIRST))
        self._grow = _GROW_FIRST
        self._missed = 0
        self._met = 0
        self._reached = False

    @property
    def now(self) -> int:
        """The bound as it is."""
        return int(self._now)

    def came(self, *, missed: bool) -> None:
        """Note that a call came to its slot, or missed it, or was late by much of its leeway."""
        self._missed += missed
        self._met += not missed

    def claimed(self, *, filled: bool) -> None:
        """Learn from what came since the last claim.

        Args:
            filled: This one brought as much as it asked for; else the bound bounds nothing.
        """
        came = self._missed + self._met
        if self._missed > _TOO_MANY * came:
            self._now = max(float(self._least), self._now * _SHRINK)
            self._grow = _GROW
        elif came and self._missed <= _FEW * came and self._reached:
            self._now = min(float(self._most), self._now * self._grow + 1)
        self._missed = self._met = 0
        self._reached = filled
