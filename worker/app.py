"""The Celery side: one task without arguments, and nothing else that a message could start."""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Final

import structlog
from celery import Celery, bootsteps
from celery.signals import setup_logging, worker_process_init, worker_process_shutdown
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ledger.doorbell import QUEUE, TASK, celery_settings, ring
from ledger.errors import DiskError, ExpungeError, LedgerError, SchemaError
from ledger.logs import configure_logs
from ledger.settings import Settings
from worker.broker_faults import fault_of
from worker.busy import Busy
from worker.doorway import TRANSPORT
from worker.process import Process
from worker.pulse import PULSE_EVERY_S, Pulse
from worker.reconnecting import Amqp
from worker.seldom import Seldom
from worker.stop import StopFlag

__all__ = ["DRAIN_S", "make_app", "make_bell"]

# Short enough that another worker, or a new setting, soon has its turn.
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
            except DiskError as error:
                # Not closed, which would write once more. Celery starts another child.
                _log.error("disk_failed", cause=error.cause)
                os._exit(os.EX_IOERR)
            except SchemaError as error:
                _log.error("schema_mismatch", found=error.found, needed=error.needed)
            except LedgerError as error:
                _log.warning("drain_failed", error=error, cause=error.cause)
            except ExpungeError as error:
                _log.warning("drain_failed", error=error)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next ring tries again
                _log.error("drain_failed", error=error)
            return False

    def start(self, **_: object) -> None:
        """Set up after the fork."""
        # A TERM to the whole group must not cut calls short; the flag ends them in order.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        threading.Thread(target=self._end_with_parent, args=(os.getppid(),), daemon=True).start()

    def close(self, **_: object) -> None:
        """See to the end of what is under way, and give the connections back."""
        with self._lock, self._busy.hold():
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


def make_app(
    settings: Settings, stop: StopFlag, busy: Busy, *, pulse: Pulse | None = None
) -> Celery:
    """Make the worker's Celery app.

    Whoever can write to the broker can make a worker look into the ledger, no more: messages go
    no further than the transport (`worker.doorway`), and the built-in tasks (`celery.map`,
    `celery.chain` and the like), which run other tasks, are taken out.

    Args:
        settings: All settings.
        stop: The stop flag; drains end when it is set.
        busy: Held while a drain is under way.
        pulse: Beaten by the loop of Celery's main process while it is connected to the broker.
    """
    app = Celery("expunge", set_as_current=True, fixups=[], amqp=Amqp)
    app.conf.update(celery_settings(settings.redis_url), broker_transport=TRANSPORT)
    bell = make_bell(settings, app)

    child = _Child(settings, stop, busy)

    @app.task(name=TASK, ignore_result=True, shared=False)  # type: ignore[untyped-decorator]
    def drain() -> None:
        if child.drain():
            bell()

    app.finalize()
    for name in [name for name in app.tasks if name != TASK]:
        app.tasks.unregister(name)
    if pulse is not None:
        app.steps["worker"].add(_beating(pulse))
    # Celery would otherwise set up its own.
    setup_logging.connect(lambda **_: configure_logs(settings), weak=False)
    worker_process_init.connect(child.start, weak=False)
    worker_process_shutdown.connect(child.close, weak=False)
    return app


def make_bell(settings: Settings, app: Celery) -> Callable[[], bool]:
    """Make the function that rings; it says whether the broker took it, and never raises.

    It logs the first failure, and while it goes on one a minute for each reason.
    """
    seldom = Seldom()
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
            fault = fault_of(error)
            if tries := seldom.count(fault):
                _log.warning("bell_not_rung", reason=fault, error=error, tries=tries)
            return False
        seldom.forget()
        return True

    return bell


def _beating(pulse: Pulse) -> type:
    """Make the part of Celery's main process that beats the pulse from its loop."""

    class Beating(bootsteps.StartStopStep):  # type: ignore[misc]  # celery has no types
        requires = frozenset({"celery.worker.components:Timer"})

        def start(self, parent: object) -> None:
            timer = parent.timer  # type: ignore[attr-defined]  # the worker that this is a part of
            timer.call_repeatedly(PULSE_EVERY_S, pulse.beat, priority=10)

    return Beating
