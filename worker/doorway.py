"""The way that a doorbell's message takes into Celery: kombu's Redis transport, made narrow.

Celery and kombu trust what stands in the broker: a list or a nested text in the wrong place ends
the main process, and headers set time limits, callbacks and the like (ADR 10). Here nothing of a
message gets further than `worker.quarantine.judge`. What may ring becomes a message that is made
right here, of constants; what may not is counted and gone, since Redis handed it out for good.

Nothing is acknowledged either: a ring that is lost costs a second, for the steward rings again.
So there is no hash of unacknowledged messages from which a bad one could come back, no visibility
timeout, and no clock that either could be wrong by.
"""

import time
from collections.abc import Callable
from queue import Empty
from typing import Any, Final, TypeVar
from uuid import uuid4

import structlog
from kombu.transport import redis as kombu_redis
from redis.exceptions import RedisError, ResponseError

from ledger.doorbell import QUEUE, TASK
from worker.broker_faults import fault_of
from worker.metrics import count_rejected
from worker.quarantine import judge
from worker.seldom import Seldom

__all__ = ["TRANSPORT", "Channel", "Transport", "make_ring"]

TRANSPORT: Final = "worker.doorway:Transport"
# Reading was refused, not broken off: asking at once would be refused as well.
_ASK_AGAIN_S: Final = 2.0
# `[[], {}, {}]` in base64: no arguments, no callbacks.
_NO_ARGUMENTS: Final = "W1tdLCB7fSwge31d"
T = TypeVar("T")
_log = structlog.get_logger()
_seldom = Seldom()


def make_ring() -> dict[str, Any]:
    """Make the one message that Celery ever sees; only its own number is new each time."""
    number = str(uuid4())
    return {
        "body": _NO_ARGUMENTS,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "task": TASK,
            "id": number,
            "root_id": number,
            "lang": "py",
            "argsrepr": "()",
            "kwargsrepr": "{}",
            "retries": 0,
            "ignore_result": True,
        },
        "properties": {
            "body_encoding": "base64",
            "correlation_id": number,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "delivery_mode": 2,
            "delivery_tag": number,
            "priority": 0,
        },
    }


class Channel(kombu_redis.Channel):
    """Reads one list, and lets nothing of it through but that it rang."""

    ack_emulation = False
    do_restore = False
    _ask_again_at = float("-inf")

    def _brpop_start(self, timeout: float | None = None) -> None:
        if time.monotonic() >= self._ask_again_at:
            super()._brpop_start(timeout)  # type: ignore[no-untyped-call]

    def _brpop_read(self, **options: object) -> bool:
        try:
            found = self._answer(lambda: self._read(**options))
        finally:
            self._in_poll = False
        if not found or not _passes(found[1]):
            raise Empty
        self.connection._deliver(make_ring(), QUEUE)  # noqa: SLF001 - as kombu's own channel does
        return True

    def _get(self, queue: str, timeout: object = None) -> dict[str, Any]:  # noqa: ARG002 - kombu's signature
        """Read without waiting, as kombu does where it has no event loop."""
        with self.conn_or_acquire() as client:
            raw = self._answer(lambda: client.rpop(queue))
        if not raw or not _passes(raw):
            raise Empty
        return make_ring()

    def _answer(self, ask: Callable[[], T]) -> T | None:
        """Ask Redis; a refusal is told and comes to nothing, for a while."""
        try:
            return ask()
        except ResponseError as error:
            self._ask_again_at = time.monotonic() + _ASK_AGAIN_S
            fault = fault_of(error)
            if times := _seldom.count(fault):
                _log.warning("broker_refuses", reason=fault, tries=times)
            return None

    def _read(self, **options: object) -> list[bytes] | None:
        connection = self.client.connection
        try:
            found: list[bytes] | None = self.client.parse_response(connection, "BRPOP", **options)
        except ResponseError:
            raise
        except self.connection_errors:
            # The next turn of the loop connects anew.
            connection.disconnect()
            raise
        return found

    def _restore(self, message: object, leftmost: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's signature
        """Put nothing back: the steward rings when there is work."""

    # What kombu asks and writes when it declares a queue: nobody looks at it, and a Redis that
    # refuses it (full, read-only, a missing right) would be connected to anew again and again.

    def _size(self, queue: str) -> int:  # noqa: ARG002 - kombu's signature
        return 0

    def _queue_bind(self, *args: object) -> None:
        """Bind nothing: the default exchange needs none."""

    def maybe_refresh_binding_expiry(self) -> None:
        """Refresh nothing: as above, and it would take scripting."""


class Transport(kombu_redis.Transport):
    """Redis, with whatever it says taken for a broken connection that is made anew."""

    Channel = Channel
    # kombu leaves refusals (no permission, memory full) to end the worker.
    connection_errors = (*kombu_redis.Transport.connection_errors, RedisError)


def _passes(raw: bytes) -> bool:
    reason = judge(raw)
    if reason is None:
        return True
    count_rejected(reason)
    if messages := _seldom.count(f"rejected/{reason}"):
        _log.warning("doorbell_rejected", reason=reason, messages=messages)
    return False
