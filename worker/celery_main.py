"""The Celery process that the supervisor starts: `python -m worker.celery_main --stop-fd N`."""

import argparse
import os
import signal
import threading

from ledger.settings import load_settings
from worker.app import make_app
from worker.stop import StopFlag

__all__ = ["main"]


def main() -> None:
    """Run Celery's prefork pool until the stop flag is set."""
    parser = argparse.ArgumentParser(prog="worker.celery_main")
    parser.add_argument("--stop-fd", type=int, required=True)
    stop = StopFlag(parser.parse_args().stop_fd)
    settings = load_settings()
    app = make_app(settings, stop)
    threading.Thread(target=_end_when_set, args=(stop,), daemon=True).start()
    app.worker_main(
        [
            "worker",
            "--pool=prefork",
            f"--concurrency={settings.processes or os.cpu_count() or 1}",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            "--loglevel=WARNING",
            f"--hostname=expunge-{os.getpid()}@local",
        ]
    )


def _end_when_set(stop: StopFlag) -> None:
    while not stop.wait(3_600):
        pass
    # Celery's warm shutdown: the drains see the flag by themselves and end.
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
