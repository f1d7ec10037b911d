"""The Celery side: one task without arguments, and nothing else that a message could start."""

from collections.abc import Callable
from typing import Final

import structlog
from celery import Celery
from celery.signals import setup_logging, worker_process_shutdown
from redis import Redis

from ledger.doorbell import QUEUE, TASK, celery_settings, ring
from ledger.settings import Settings
from worker.logs import configure_logs
from worker.process import Process
from worker.stop import StopFlag

__all__ = ["DRAIN_S", "make_app", "make_bell"]

# A tenth of the visibility timeout, so that no message of a running drain is ever sent twice.
DRAIN_S: Final = 30.0
_RING_TIMEOUT_S: Final = 1.0
_log = structlog.get_logger()


class _Holder:
    """The process's parts, opened by the first drain after the fork."""

    process: Process | None = None


def make_app(settings: Settings, stop: StopFlag) -> Celery:
    """Make the worker's Celery app.

    Whoever can write to the broker can make a worker look into the ledger, no more: the built-in
    tasks (`celery.map`, `celery.chain` and the like) run other tasks and are taken out.
    """
    app = Celery("expunge", set_as_current=True, fixups=[])
    app.conf.update(celery_settings(settings.redis_url))
    bell = make_bell(settings, app)

    @app.task(name=TASK, ignore_result=True)  # type: ignore[untyped-decorator]
    def drain() -> None:
        if stop.is_set():
            return
        if _Holder.process is None:
            _Holder.process = Process(settings, role="drain", stop=stop)
        process = _Holder.process
        process.beat()
        if process.drain(budget_s=DRAIN_S) and not stop.is_set():
            bell()

    app.finalize()
    for name in [name for name in app.tasks if name != TASK]:
        app.tasks.unregister(name)
    setup_logging.connect(_configure_logs, weak=False)
    worker_process_shutdown.connect(_close, weak=False)
    return app


def make_bell(settings: Settings, app: Celery) -> Callable[[], None]:
    """Make the function that rings; it never raises, since the next sweep rings again."""
    store = Redis.from_url(
        settings.redis_url,
        socket_timeout=_RING_TIMEOUT_S,
        socket_connect_timeout=_RING_TIMEOUT_S,
    )

    def bell() -> None:
        try:
            ring(store, lambda: app.send_task(TASK, queue=QUEUE, retry=False, ignore_result=True))
        except Exception as error:  # noqa: BLE001 - whatever the broker has, work goes on
            _log.warning("bell_not_rung", error=type(error).__name__)

    return bell


def _configure_logs(**_: object) -> None:
    configure_logs()


def _close(**_: object) -> None:
    if _Holder.process is not None:
        _Holder.process.close()
        _Holder.process = None
