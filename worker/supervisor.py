"""`expunge worker`: starts Celery and the steward, restarts what ends, and stops them in order.

It holds no database connection and no thread, so there is little in it that could fail.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib import metadata
from typing import Final

import structlog

from ledger.logs import configure_logs
from ledger.settings import Settings, environment_for
from worker.folder import METRICS_VARIABLE, Folder
from worker.process import open_ledger
from worker.stop import StopFlag

__all__ = ["run"]

_CELERY: Final = "worker.celery_main"
_POLL_S: Final = 0.2
_FIRST_PAUSE_S: Final = 0.5
_MOST_PAUSE_S: Final = 30.0
# A part that ran so long is healthy: its next end starts the pauses anew.
_HEALTHY_S: Final = 60.0
# After the call deadline: what it takes to record the last outcomes and to end.
_GRACE_S: Final = 2.0
_log = structlog.get_logger()


@dataclass
class _Part:
    module: str
    arguments: list[str]
    descriptors: list[int]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    again_at: float = 0.0


@dataclass
class _Signals:
    write_end: int
    stopping: bool = field(default=False)

    def note(self, _number: int, _frame: object) -> None:
        if not self.stopping:
            self.stopping = True
            os.close(self.write_end)  # sets the stop flag


def run(settings: Settings, *, steward: str, listener: socket.socket | None = None) -> int:
    """Run a worker until TERM or INT; gives the exit code.

    TERM ends it within the call deadline plus 2 s: calls in flight end, nothing new is claimed.

    Args:
        settings: All settings.
        steward: Module that runs the steward (`worker.steward.run_steward`), together with what
            only the front door may put together.
        listener: Socket on which the steward shall answer for the health of all; None for none.

    Raises:
        ExpungeError: The settings, keys or ledger do not allow a start; nothing was started.
    """
    configure_logs(settings)
    # Say what is wrong here, once and readably, rather than in a loop of restarts.
    with open_ledger(settings) as ledger:
        ledger.require_locks()
        ledger.require_published(settings.audit_dir)
    stop, write_end = StopFlag.make()
    signals = _Signals(write_end)
    signal.signal(signal.SIGTERM, signals.note)
    signal.signal(signal.SIGINT, signals.note)
    folder = Folder.make()
    environment = _environment(settings, folder, counted=listener is not None)
    try:
        parts = _parts(steward, stop, folder, listener)
        _say_start(settings)
        while not signals.stopping:
            for part in parts:
                _keep_alive(part, environment)
            time.sleep(_POLL_S)
        code = _wait_for_end(parts, settings.call_deadline_seconds + _GRACE_S)
    finally:
        folder.remove()
    _log.info("worker_ended", exit_code=code)
    return code


def _environment(settings: Settings, folder: Folder, *, counted: bool) -> dict[str, str]:
    environment = environment_for(settings)
    # Celery's children leave a directory behind when they are not given the time to end.
    environment["TMPDIR"] = str(folder.temporary)
    environment.pop(METRICS_VARIABLE, None)
    if counted:
        # Without somebody who asks, nothing is counted in files.
        environment[METRICS_VARIABLE] = str(folder.metrics)
    return environment


def _say_start(settings: Settings) -> None:
    _log.info(
        "worker_started",
        version=metadata.version("expunge"),
        projects=sum(one.api_key is not None for one in settings.projects.values()),
        accounts=len(settings.accounts),
        rate_per_second=settings.rate_per_second,
    )


def _parts(
    steward: str, stop: StopFlag, folder: Folder, listener: socket.socket | None
) -> list[_Part]:
    arguments = ["--stop-fd", str(stop.fd), "--folder", str(folder.path)]
    descriptors = [] if stop.fd is None else [stop.fd]
    serving = [] if listener is None else ["--health-fd", str(listener.fileno())]
    handed_down = [] if listener is None else [listener.fileno()]
    return [
        _Part(_CELERY, arguments, descriptors),
        _Part(steward, arguments + serving, descriptors + handed_down),
    ]


def _keep_alive(part: _Part, environment: dict[str, str]) -> None:
    now = time.monotonic()
    if part.process is not None:
        code = part.process.poll()
        if code is None:
            return
        part.process = None
        part.failures = 1 if now - part.started > _HEALTHY_S else part.failures + 1
        pause = min(_MOST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(part.failures - 1, 10))
        part.again_at = now + pause * random.uniform(1, 1.5)  # noqa: S311 - spreads restarts
        _log.error("part_ended", part=part.module, exit_code=code, restart_in_s=round(pause, 1))
    if now < part.again_at:
        return
    part.process = subprocess.Popen(
        [sys.executable, "-m", part.module, *part.arguments],
        pass_fds=part.descriptors,
        env=environment,
        stdin=subprocess.DEVNULL,
        # Celery says good-bye there in plain text; our logs are on stderr.
        stdout=subprocess.DEVNULL,
    )
    part.started = now


def _wait_for_end(parts: list[_Part], seconds: float) -> int:
    end = time.monotonic() + seconds
    late = 0
    for part in parts:
        if part.process is None:
            continue
        try:
            part.process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            # Its leases lapse and others take the work: nothing is lost, only later.
            part.process.kill()
            part.process.wait()
            late += 1
            _log.error("part_killed", part=part.module)
    return 1 if late else 0
