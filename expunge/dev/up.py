"""When a dev stack is up: a worker wrote that it lives, and the bridge reads its stream."""

import time
from collections.abc import Callable
from contextlib import closing
from typing import Final

from redis import Redis, RedisError
from sqlalchemy import func, select

from ledger.engine import Database
from ledger.errors import SettingsError
from ledger.schema import heartbeat
from ledger.settings import Settings
from ledger.streams import DEFAULT_STREAM

__all__ = ["Watch"]

_LOOK_S: Final = 0.1
_REDIS_S: Final = 2.0


class Watch:
    """Made before worker and bridge are started: what was there before does not count."""

    def __init__(self, settings: Settings) -> None:
        """Look at the ledger's clock.

        Raises:
            LedgerError: The ledger does not answer.
        """
        self._settings = settings
        with closing(Database(settings.ledger_url)) as database:
            self._since_ns = database.read(database.clock.now_ns)

    def wait(self, check: Callable[[], None], *, seconds: float) -> None:
        """Wait until both are up.

        Args:
            check: Called again and again; raises when a part has ended.
            seconds: How long it may take.

        Raises:
            SettingsError: It took longer.
        """
        until = time.monotonic() + seconds
        url = self._settings.redis_url
        with (
            closing(Database(self._settings.ledger_url)) as database,
            Redis.from_url(url, socket_timeout=_REDIS_S) as redis,
        ):
            while not (self._worker_lives(database) and self._bridge_reads(redis)):
                check()
                if time.monotonic() > until:
                    msg = f"Worker and bridge are not up after {seconds:g} s; see their logs."
                    raise SettingsError(msg)
                time.sleep(_LOOK_S)

    def _worker_lives(self, database: Database) -> bool:
        beats = select(func.count()).where(
            heartbeat.c.beat_ns >= self._since_ns, heartbeat.c.role != "sealer"
        )
        return bool(database.read(lambda conn: conn.execute(beats).scalar_one()))

    def _bridge_reads(self, redis: Redis) -> bool:
        stream = self._settings.streams[DEFAULT_STREAM]
        try:
            return any(redis.xinfo_consumers(stream.name, stream.group))
        except RedisError:
            return False  # no such stream or group yet
