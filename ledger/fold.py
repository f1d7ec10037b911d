"""Folding of repeated ids: exact up to a million, beyond that within a window of a million.

A repeat that slips through is harmless (deleting twice is) and is counted as an id of its own.
"""

from typing import Final

__all__ = ["WINDOW", "Folder"]

WINDOW: Final = 1_000_000


class Folder:
    """Remembers ids; memory is bounded by two windows of ids."""

    def __init__(self, window: int = WINDOW) -> None:
        """Start empty; `window` is the number of ids remembered for certain."""
        self._window = window
        self._now: set[str] = set()
        self._before: set[str] = set()

    def is_new(self, item: str) -> bool:
        """Say whether the id was not seen (within the window), and remember it."""
        if item in self._now or item in self._before:
            return False
        if len(self._now) >= self._window:
            self._before, self._now = self._now, set()
        self._now.add(item)
        return True
