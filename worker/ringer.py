"""Rings in a thread of its own, so that a broker that does not answer holds up no duty."""

import threading
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Ringer"]

_TAKES_S: Final = 1.0


class Ringer:
    """Made around a bell that says whether the broker took the ring, and never raises.

    Args:
        bell: Rings once; may take seconds.
        clock: Seconds of a monotonic clock.
    """

    def __init__(
        self, bell: Callable[[], bool], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start trusting the broker; the thread begins with the first ring."""
        self._bell = bell
        self._clock = clock
        self._wanted = threading.Event()
        self._taken = True
        self._began: float | None = None
        self._thread: threading.Thread | None = None

    def ring(self) -> bool:
        """Ask for a ring and return at once.

        Returns:
            Whether the broker took the last one; False also while one is overdue.
        """
        if self._thread is None:
            # A daemon: it must not keep the process from ending.
            self._thread = threading.Thread(target=self._run, name="ringer", daemon=True)
            self._thread.start()
        began = self._began
        if began is not None and self._clock() - began > _TAKES_S:
            return False
        self._wanted.set()
        return self._taken

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            self._began = self._clock()
            self._taken = self._bell()
            self._began = None
