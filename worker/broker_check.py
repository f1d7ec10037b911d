"""Looks now and then whether the broker is set as it should be, and says so when it is not."""

import time
from collections.abc import Callable
from typing import Final

import structlog
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

__all__ = ["BrokerCheck"]

_EVERY_S: Final = 600.0
_TIMEOUT_S: Final = 1.0
_log = structlog.get_logger()


class BrokerCheck:
    """Warns of a broker that throws keys away when its memory is full; the ledger keeps the work.

    `expunge doctor` checks more, and says how to mend it.

    Args:
        redis_url: The broker.
        clock: Seconds of a monotonic clock.
    """

    def __init__(self, redis_url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare; nothing is asked before `look`."""
        self._store = Redis.from_url(
            redis_url,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )
        self._clock = clock
        self._again_at = float("-inf")

    def look(self) -> None:
        """Look unless it was done a while ago; never raises."""
        if self._clock() < self._again_at:
            return
        try:
            policy = self._store.info("memory").get("maxmemory_policy")
        except (RedisError, OSError):
            # It is away, or does not let this user look: the ring tells of the first.
            return
        self._again_at = self._clock() + _EVERY_S
        if policy not in {None, "noeviction"}:
            _log.warning("broker_unfit", reason="evicts")
