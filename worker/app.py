"""The Celery side: one task without arguments, and nothing else that a message could start."""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Final

import structlog
from celery import Celery
from celery.signals import setup_logging, worker_process_init, worker_process_shutdown
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ledger.doorbell import QUEUE, TASK, celery_settings, ring
from ledger.errors import ExpungeError
from ledger.settings import Settings
from worker.busy import Busy
from worker.logs import configure_logs
from worker.process import Process
from worker.stop import StopFlag

__all__ = ["DRAIN_S", "make_app", "make_bell"]

# A tenth of the visibility timeout, so that no message of a running drain is ever sent twice.
DRAIN_S: Final = 30.0
_RING_TIMEOUT_S: Final = 1.0
_LOOK_UP_S: Final = 1.0
_log = structlog.get_logger()


class _Child:
    """One prefork child: its parts, opened by the first drain after the fork."""

    def __init__(self, settings: Settings, stop: StopFlag, busy: Busy) -> None:
        self._settings = settings
        self._stop = stop
        self._busy = busy
        self._process: Process | None = None
        self._lock = threading.Lock()

    def drain(self) -> bool:
        """Drain once; says whether to ring again. Never raises: the next ring tries again."""
        with self._lock, self._busy.hold():
            if self._stop.is_set():
                return False
            try:
                if self._process is None:
                    self._process = Process(self._settings, role="drain", stop=self._stop)
                self._process.beat()
                return self._process.drain(budget_s=DRAIN_S) and not self._stop.is_set()
            except ExpungeError as error:
                _log.warning("drain_failed", error=str(error))
            except Exception as error:  # noqa: BLE001 - its text may show what is being deleted
                _log.error("drain_failed", error=type(error).__name__)
            return False

    def start(self, **_: object) -> None:
        """Set up after the fork."""
        # A TERM to the whole group must not cut calls short; the flag ends them in order.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        threading.Thread(target=self._end_with_parent, args=(os.getppid(),), daemon=True).start()

    def close(self, **_: object) -> None:
        """Give the connections back."""
        with self._lock:
            if self._process is not None:
                self._process.close()
                self._process = None

    def _end_with_parent(self, parent: int) -> None:
        """Outlive neither the flag nor the parent: an orphan would wait for messages for ever."""
        while os.getppid() == parent and not self._stop.wait(_LOOK_UP_S):
            pass
        self.close()
        while os.getppid() == parent:
            time.sleep(_LOOK_UP_S)
        os._exit(0)


def make_app(settings: Settings, stop: StopFlag, busy: Busy) -> Celery:
    """Make the worker's Celery app.

    Whoever can write to the broker can make a worker look into the ledger, no more: the built-in
    tasks (`celery.map`, `celery.chain` and the like) run other tasks and are taken out.

    Args:
        settings: All settings.
        stop: The stop flag; drains end when it is set.
        busy: Held while a drain is under way.
    """
    app = Celery("expunge", set_as_current=True, fixups=[])
    app.conf.update(celery_settings(settings.redis_url))
    bell = make_bell(settings, app)

    child = _Child(settings, stop, busy)

    @app.task(name=TASK, ignore_result=True, shared=False)  # type: ignore[untyped-decorator]
    def drain() -> None:
        if child.drain():
            bell()

    app.finalize()
    for name in [name for name in app.tasks if name != TASK]:
        app.tasks.unregister(name)
    setup_logging.connect(_configure_logs, weak=False)
    worker_process_init.connect(child.start, weak=False)
    worker_process_shutdown.connect(child.close, weak=False)
    return app


def make_bell(settings: Settings, app: Celery) -> Callable[[], bool]:
    """Make the function that rings; it says whether the broker took it, and never raises."""
    store = Redis.from_url(
        settings.redis_url,
        socket_timeout=_RING_TIMEOUT_S,
        socket_connect_timeout=_RING_TIMEOUT_S,
        # redis-py would try ten times by itself, and the steward has other duties.
        retry=Retry(NoBackoff(), 0),
    )

    def bell() -> bool:
        try:
            ring(store, lambda: app.send_task(TASK, queue=QUEUE, retry=False, ignore_result=True))
        except Exception as error:  # noqa: BLE001 - whatever the broker has, work goes on
            _log.warning("bell_not_rung", error=type(error).__name__)
            return False
        return True

    return bell


def _configure_logs(**_: object) -> None:
    configure_logs()
