"""Rings the workers' doorbell without ever holding up whoever hands in a request.

A ring that is lost costs seconds, never work: the workers' steward looks by itself. So nothing
here raises, and Redis being down, frozen or unreachable costs a producer 250 ms at most, once, at
the end.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from ledger.doorbell import QUEUE, TASK, celery_settings, ring

__all__ = ["Bell", "DoorBell"]

# Far above a healthy Redis's answer, and small enough that a frozen one is given up at once.
SOCKET_TIMEOUT_S: Final = 0.1
LONGEST_WAIT_S: Final = 0.25
# Importing Celery is this machine's own work, and Redis has no part in it.
IMPORT_WAIT_S: Final = 5.0

# Makes the function that rings once; called in the bell's own thread, since imports take a while.
RingMaker = Callable[[], Callable[[], object]]


class Bell:
    """Rings in a thread of its own; rings that come while one is under way become one.

    Safe to use from several threads, and after a fork.
    """

    def __init__(self, make_ring: RingMaker, *, longest_wait_s: float = LONGEST_WAIT_S) -> None:
        """Start with what makes the ringing function; nothing runs before `start` or `ring`."""
        self._make_ring = make_ring
        self._longest_wait_s = longest_wait_s
        self._pid = 0
        self._set_up()

    def start(self) -> None:
        """Let the imports happen meanwhile, so that the first ring does not wait for them."""
        self._ensure_thread()

    def ring(self) -> None:
        """Ask for a ring; returns at once."""
        self._ensure_thread()
        self._idle.clear()
        self._wanted.set()

    def close(self) -> None:
        """Give a ring under way its 250 ms, then leave it to itself."""
        if self._pid != os.getpid() or self._thread is None:
            return
        if not self._idle.is_set():
            self._ready.wait(IMPORT_WAIT_S)
            self._idle.wait(self._longest_wait_s)
        self._closing = True
        self._wanted.set()

    def _set_up(self) -> None:
        self._wanted = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._ready = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = False

    def _ensure_thread(self) -> None:
        if self._pid != os.getpid():
            # Threads, and what they held, do not come along into a forked child.
            self._set_up()
            self._pid = os.getpid()
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._closing = False
                # A daemon: a frozen Redis must not keep the program from ending.
                self._thread = threading.Thread(target=self._run, name="bell", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        try:
            ring_once = self._make_ring()
        except Exception:  # noqa: BLE001 - the steward rings instead
            ring_once = _nothing
        self._ready.set()
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._closing:
                return
            with suppress(Exception):  # whatever Redis has: the steward rings instead
                ring_once()
            if not self._wanted.is_set():
                self._idle.set()


class DoorBell(Bell):
    """The bell of the workers at one Redis."""

    def __init__(self, redis_url: str) -> None:
        """Ring at `redis_url`, as in `redis://host:port/db`."""
        super().__init__(lambda: _ringer(redis_url))


def _ringer(redis_url: str) -> Callable[[], object]:
    # Imported here: it takes a quarter of a second, and happens beside the work on the ledger.
    from celery import Celery  # noqa: PLC0415
    from redis import Redis  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    # Neither the current app of a host program nor its Django settings are touched.
    app = Celery("expunge-producer", set_as_current=False, fixups=[])
    app.conf.update(celery_settings(redis_url, socket_timeout_s=SOCKET_TIMEOUT_S))
    store = Redis.from_url(
        redis_url,
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=SOCKET_TIMEOUT_S,
        # redis-py would try ten times by itself.
        retry=Retry(NoBackoff(), 0),
    )

    def publish() -> None:
        # The address is named here because CELERY_BROKER_URL in the environment would win else.
        with app.connection_for_write(url=redis_url) as connection:
            app.send_task(TASK, queue=QUEUE, connection=connection, retry=False, ignore_result=True)

    return lambda: ring(store, publish)


def _nothing() -> None:
    """Stand in for a bell that could not be made."""
