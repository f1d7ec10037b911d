"""The Celery process that the supervisor starts: `python -m worker.celery_main`.

Its main process beats a pulse in the worker's folder, for the worker's health.
"""

import argparse
import os
import signal
import threading
import time
import warnings
from typing import Final

from celery.exceptions import SecurityWarning

from ledger.logs import configure_logs
from ledger.settings import load_settings
from worker.app import make_app
from worker.busy import Busy
from worker.folder import Folder
from worker.process import processes
from worker.stop import StopFlag

__all__ = ["main"]

# After the call deadline: when the drains are over by then, nobody waits for Celery's own end.
_LEAVE_S: Final = 0.5
_LOOK_AGAIN_S: Final = 0.05


def main() -> None:
    """Run Celery's prefork pool until the stop flag is set."""
    parser = argparse.ArgumentParser(prog="worker.celery_main")
    parser.add_argument("--stop-fd", type=int, required=True)
    parser.add_argument("--folder", type=Folder, required=True)
    given = parser.parse_args()
    stop = StopFlag(given.stop_fd)
    configure_logs()
    # It is about pickled messages run as root; ours are JSON without a single argument.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    settings = load_settings()
    configure_logs(settings)
    busy = Busy()
    app = make_app(settings, stop, busy, pulse=given.folder.celery_pulse())
    leave_s = settings.call_deadline_seconds + _LEAVE_S
    threading.Thread(target=_end_when_set, args=(stop, busy, leave_s), daemon=True).start()
    app.worker_main(
        [
            "--quiet",
            "worker",
            "--pool=prefork",
            f"--concurrency={processes(settings, cores=os.cpu_count() or 1)}",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            "--loglevel=WARNING",
            f"--hostname=expunge-{os.getpid()}@local",
        ]
    )


def _end_when_set(stop: StopFlag, busy: Busy, leave_s: float) -> None:
    while not stop.wait(3_600):
        pass
    # Celery's warm shutdown: the drains see the flag by themselves and end.
    os.kill(os.getpid(), signal.SIGTERM)
    # It takes 2 s after the last task (billiard's children sleep before they exit), and longer
    # without a broker. What is not acknowledged by then is a doorbell, no work.
    time.sleep(leave_s)
    while not busy.nobody():
        time.sleep(_LOOK_AGAIN_S)
    os._exit(0)


if __name__ == "__main__":
    main()
