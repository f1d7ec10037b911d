"""Cuts connections whose server keeps still: a swallowed answer would be waited for for ever.

libpq has no time-out for an answer, and TCP sees nothing wrong while the other side (or a proxy
before it) acknowledges what it gets. So one thread looks every second, and shuts the socket of a
transaction that is overdue; its caller then sees a broken connection.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from sqlalchemy import Connection, event
from sqlalchemy.engine import Engine

__all__ = ["Patience"]

_SOCKET: Final = "expunge_socket"
_LOOK_S: Final = 1.0


class Patience:
    """Watches the transactions of one engine (psycopg).

    Args:
        engine: Made, not used yet.
        seconds: How long a transaction may take, its COMMIT apart.
    """

    def __init__(self, engine: Engine, *, seconds: float) -> None:
        """Listen for connections; the thread starts with the first transaction."""
        self.seconds = seconds
        self._lock = threading.Lock()
        self._until: dict[int, float] = {}
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        event.listen(engine, "connect", _keep_socket)
        event.listen(engine, "close", self._drop_socket)

    @contextmanager
    def watch(self, conn: Connection, *, patient: bool) -> Iterator[None]:
        """Cut the connection when this takes too long; `patient` never does."""
        watched = None if patient else conn.info.get(_SOCKET)
        if watched is None:
            yield
            return
        self.extend(conn)
        try:
            yield
        finally:
            with self._lock:
                self._until.pop(watched, None)

    def extend(self, conn: Connection) -> None:
        """Give the transaction of a watched connection its whole time once more."""
        watched = conn.info.get(_SOCKET)
        if watched is None:
            return
        with self._lock:
            self._until[watched] = time.monotonic() + self.seconds
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._look, name="ledger-patience", daemon=True
                )
                self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()

    def _look(self) -> None:
        while not self._closed.wait(min(_LOOK_S, self.seconds / 4)):
            now = time.monotonic()
            with self._lock:
                overdue = [each for each, until in self._until.items() if until < now]
                for each in overdue:
                    del self._until[each]
                    _shut(each)

    def _drop_socket(self, _connection: object, record: Any) -> None:  # noqa: ANN401 - SQLAlchemy's
        descriptor = record.info.pop(_SOCKET, None)
        if descriptor is not None:
            with self._lock:
                self._until.pop(descriptor, None)
                os.close(descriptor)


def _shut(descriptor: int) -> None:
    with socket.socket(fileno=os.dup(descriptor)) as one, suppress(OSError):  # broken already
        one.shutdown(socket.SHUT_RDWR)


def _keep_socket(connection: Any, record: Any) -> None:  # noqa: ANN401 - a driver's connection
    # A copy of our own: the driver's number may belong to something else a moment after it closed.
    record.info[_SOCKET] = os.dup(connection.fileno())
