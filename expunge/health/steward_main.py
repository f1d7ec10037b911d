"""The steward's process: `python -m expunge.health.steward_main`.

The worker's steward, and beside it, on threads, who answers for the worker's health. They are put
together here because a worker knows nothing of the front door.
"""

import argparse
import os
import signal
import socket
import time
from typing import Final

from expunge.health.server import serve
from expunge.health.worker import worker_health
from ledger.logs import configure_logs
from ledger.settings import load_settings
from worker.folder import Folder
from worker.progress import Progress
from worker.steward import run_steward
from worker.stop import StopFlag

__all__ = ["main"]

_ORPHANED_S: Final = 0.5
_LOOK_S: Final = 0.02


def main() -> None:
    """Run the steward as a process."""
    parser = argparse.ArgumentParser(prog="expunge.health.steward_main")
    parser.add_argument("--stop-fd", type=int, required=True)
    parser.add_argument("--folder", type=Folder, required=True)
    parser.add_argument("--health-fd", type=int, default=None)
    given = parser.parse_args()
    supervisor = os.getppid()
    configure_logs()
    settings = load_settings()
    configure_logs(settings)
    # The flag ends it, between two steps; a TERM to the whole group must not cut one.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    progress = Progress()
    if given.health_fd is not None:
        listener = socket.socket(fileno=given.health_fd)
        serve(worker_health(settings, progress, given.folder), listener)
    run_steward(settings, StopFlag(given.stop_fd), progress)
    if _was_killed(supervisor):
        given.folder.remove()


def _was_killed(supervisor: int) -> bool:
    """Say whether the supervisor is gone, so that it cannot tidy up by itself.

    The kernel closes its end of the pipe, which is the stop flag, before it gives its children to
    another parent. Celery takes longer than this to end, so nobody waits for it.
    """
    until = time.monotonic() + _ORPHANED_S
    while os.getppid() == supervisor:
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK_S)
    return True


if __name__ == "__main__":
    main()
