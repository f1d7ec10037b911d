"""Outcomes on their way into the ledger: gathered for a moment, then recorded together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from ledger.tasks import Settlement

__all__ = ["MOST_AT_ONCE", "Outbox"]

MOST_AT_ONCE: Final = 400
# Nearly half of what a record of a hundred costs is its own, whatever it holds (ADR 17).
_ENOUGH: Final = 200
_GATHER_S: Final = 0.1


class Outbox:
    """Hands outcomes to `write` once there are 200, at the latest 100 ms after the first.

    What came in while others were written goes together, at most 400 of it.

    Args:
        write: Records a batch; it tries until the ledger confirms, or raises.
    """

    def __init__(self, write: Callable[[Sequence[Settlement]], Awaitable[None]]) -> None:
        """Start empty; `run` does the work."""
        self._write = write
        self._waiting: list[Settlement] = []
        self._some = asyncio.Event()
        self._enough = asyncio.Event()
        self._closed = False

    @property
    def empty(self) -> bool:
        """True when nothing waits to be handed over."""
        return not self._waiting

    def put(self, settled: Settlement) -> None:
        """Add an outcome; one that stops traffic is recorded at once."""
        self._waiting.append(settled)
        self._some.set()
        if _is_urgent(settled) or len(self._waiting) >= _ENOUGH:
            self._enough.set()

    def close(self) -> None:
        """Let `run` write what is left and end."""
        self._closed = True
        self._some.set()
        self._enough.set()

    async def run(self) -> None:
        """Write batches until closed and empty."""
        while True:
            await self._some.wait()
            if not self._closed:
                try:
                    async with asyncio.timeout(_GATHER_S):
                        await self._enough.wait()
                except TimeoutError:
                    pass
            batch = self._waiting[:MOST_AT_ONCE]
            if not batch:
                if self._closed:
                    return
                self._some.clear()
                self._enough.clear()
                continue
            await self._write(batch)
            del self._waiting[: len(batch)]
            if self._closed:
                continue
            if not self._waiting:
                self._some.clear()
            # What came in during the write may be urgent itself.
            if len(self._waiting) < _ENOUGH and not any(map(_is_urgent, self._waiting)):
                self._enough.clear()


def _is_urgent(settled: Settlement) -> bool:
    return (
        settled.pause_account_s is not None or settled.pause_project is not None or settled.outage
    )
