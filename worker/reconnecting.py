"""How soon Celery's main process tries to connect again."""

from typing import Final

from celery.app.amqp import AMQP
from kombu.connection import Connection as KombuConnection

__all__ = ["Amqp", "Connection"]

# Celery's own pauses grow to 30 s, and so long would a worker stay away from a Redis that is back.
_MOST_PAUSE_S: Final = 4.0


class Connection(KombuConnection):
    """Connects as kombu's own, but never waits long before the next time."""

    def ensure_connection(self, *args: object, **kwargs: object) -> object:
        """Connect, however long it takes; the arguments are kombu's."""
        kwargs = {"interval_max": _MOST_PAUSE_S, **kwargs}
        return super().ensure_connection(*args, **kwargs)  # type: ignore[no-untyped-call]


class Amqp(AMQP):  # type: ignore[misc]  # celery has no types
    """Celery's part that makes connections."""

    Connection = Connection
