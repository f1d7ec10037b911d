"""Ends large requests, in a thread of its own.

Going through all of their chunks takes a while (a million ids 2 s of a core): neither a drain's
calls nor a sweep should wait, and whoever makes calls goes before it.
"""

import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import structlog

from ledger import ReadbackPolicy
from ledger.errors import LedgerError
from worker.process import Process

__all__ = ["Closer"]

# Of the kernel's: it gets a tenth of a core that others want, and all that they leave.
_NICE: Final = 10
_log = structlog.get_logger()


class Closer:
    """Takes requests on in a thread; those that it is handed meanwhile come again later.

    Args:
        process: Has the ledger.
        policy: How read-backs go.
    """

    def __init__(self, process: Process, policy: ReadbackPolicy) -> None:
        """Start with nothing to do."""
        self._process = process
        self._policy = policy
        self._thread: threading.Thread | None = None

    def take(self, request_ids: Sequence[str]) -> None:
        """End these, unless others are being ended.

        Args:
            request_ids: That may have come to their end; what has not is left as it is.
        """
        if not request_ids or (self._thread is not None and self._thread.is_alive()):
            return
        # Nothing waits for it when the process ends: it only reads until its last, short write.
        self._thread = threading.Thread(
            target=self._end, args=(tuple(request_ids),), name="closer", daemon=True
        )
        self._thread.start()

    def _end(self, request_ids: Sequence[str]) -> None:
        _give_way()
        for request_id in request_ids:
            try:
                ended = self._process.ledger.advance(request_id, policy=self._policy)
            except LedgerError as error:
                # The next sweep names it again; if the disk failed, that sweep ends the process.
                _log.warning(
                    "advance_failed", request_id=request_id, error=error, cause=error.cause
                )
                return
            if ended is not None:
                self._process.watch.ended(ended)


def _give_way() -> None:
    """Lower this thread's priority; elsewhere than on Linux its number may be a process's."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
