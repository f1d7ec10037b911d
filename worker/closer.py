"""Ends large requests, in a thread of its own.

Going through all of their chunks takes a while (a million ids 2 s of a core): neither a drain's
calls nor a sweep should wait, and whoever makes calls goes before it.
"""

import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog

from ledger import ReadbackPolicy
from ledger.endings import Ending
from ledger.errors import LedgerError
from worker.desk import Desk
from worker.process import Process

__all__ = ["Closer"]

# Of the kernel's: it gets a tenth of a core that others want, and all that they leave.
_NICE: Final = 10
# A process that gets only what others leave may get nothing for as long as they are busy.
_PATIENCE_S: Final = 60.0
_log = structlog.get_logger()


class Closer:
    """Takes requests on in a thread; those that it is handed meanwhile come again later.

    Args:
        process: Has the ledger.
        policy: How read-backs go.
        desk: Starts a process that goes through the chunks (`worker.desk`), where calls are so many
            that they would feel it; None does it in the thread.
    """

    def __init__(
        self,
        process: Process,
        policy: ReadbackPolicy,
        desk: Callable[[], Desk] | None = None,
    ) -> None:
        """Start with nothing to do."""
        self._process = process
        self._policy = policy
        self._open_desk = desk
        self._desk: Desk | None = None
        self._closed = False
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

    def close(self) -> None:
        """End the process that it started."""
        self._closed = True
        if (desk := self._desk) is not None:
            desk.close(wait=False)

    def _end(self, request_ids: Sequence[str]) -> None:
        _give_way()
        for request_id in request_ids:
            try:
                ended = self._process.ledger.advance(
                    request_id, policy=self._policy, ending_of=self._ending_of
                )
            except LedgerError as error:
                # The next sweep names it again; if the disk failed, that sweep ends the process.
                _log.warning(
                    "advance_failed", request_id=request_id, error=error, cause=error.cause
                )
                return
            if ended is not None:
                self._process.watch.ended(ended)

    def _ending_of(self, request_id: str) -> Ending:
        if self._open_desk is not None:
            self._desk = self._desk or self._open_desk()
            if (ending := self._asked(self._desk, request_id)) is not None:
                return ending
        return self._process.ledger.look_back(request_id, policy=self._policy)

    def _asked(self, desk: Desk, request_id: str) -> Ending | None:
        """Have another process go through the chunks; None when it comes to nothing."""
        given = {"request_id": request_id, "policy": self._policy}
        try:
            well, answer = desk.ask("look_back", given, patience_s=_PATIENCE_S)
        except (EOFError, OSError):
            desk.close(wait=False)
            self._desk = None
            if self._closed:
                msg = "This process ends; whoever sweeps next ends the request."
                raise LedgerError(msg, cause="stopping") from None
            _log.info("closer_alone", request_id=request_id)
            return None
        if not well:
            raise answer
        ending: Ending = answer
        return ending


def _give_way() -> None:
    """Lower this thread's priority; elsewhere than on Linux its number may be a process's."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
