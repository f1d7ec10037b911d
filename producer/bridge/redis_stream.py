"""A Redis stream as a queue: a consumer group of our own, on redis-py.

Each entry has one field, `event`. An entry is handed to one bridge of the group; it stays pending
until it is confirmed, and is then deleted. What a bridge that died had pending is claimed by the
others. Works from Redis 6.2 on, and on Valkey.
"""

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as GoneError
from redis.exceptions import TimeoutError as TooLateError
from redis.retry import Retry

from producer.bridge.reasons import Reason
from producer.bridge.source import Message, Parked, QueueFault, SourceError

__all__ = ["FIELD", "RedisStream", "dead_name"]

FIELD: Final = b"event"
# The newest so many are kept for whoever watches; the ledger has all of them.
MOST_DEAD: Final = 10_000

_T = TypeVar("_T")
_CONNECT_S: Final = 2.0
# Beyond the longest time that a read may block.
_ANSWER_S: Final = 3.0
_DAY_MS: Final = 86_400_000
_FORGET_EVERY_S: Final = 3_600.0

# The first that fits: the more special ones stand above those they are made of.
_FAULTS: Final[Mapping[type[Exception], QueueFault]] = {
    AuthenticationError: QueueFault.LOGIN_REFUSED,
    NoPermissionError: QueueFault.NOT_ALLOWED,
    OutOfMemoryError: QueueFault.FULL,
    ReadOnlyError: QueueFault.READ_ONLY,
    GoneError: QueueFault.UNREACHABLE,
    TooLateError: QueueFault.TOO_LATE,
    OSError: QueueFault.UNREACHABLE,
}

# In one step on the server: a consumer that is taken out with something pending loses it.
_FORGET: Final = """
local gone = 0
for _, found in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local about = {}
  for at = 1, #found, 2 do about[found[at]] = found[at + 1] end
  if about.pending == 0 and (about.name == ARGV[2] or about.idle > tonumber(ARGV[3])) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], about.name)
    gone = gone + 1
  end
end
return gone
"""


def dead_name(stream: str) -> str:
    """Give the name of the stream that gets a reference to each parked message."""
    return f"{stream}.dead"


class RedisStream:
    """One consumer of one stream; see `producer.bridge.source.IntakeSource`.

    Args:
        url: `redis://` or `rediss://` with database and, if need be, user and password.
        stream: The stream's key.
        group: The group's name; made at the stream's beginning when it is not there.
        claim_idle_s: After so long without confirmation, another one's message is taken over.
        claim_every_s: How often to look for such messages.
    """

    broker: Final = "redis"

    def __init__(
        self,
        *,
        url: str,
        stream: str,
        group: str,
        claim_idle_s: float = 45.0,
        claim_every_s: float = 5.0,
    ) -> None:
        """Prepare; nothing is connected yet."""
        self._url = url
        self._stream = stream
        self._group = group
        self._claim_idle_ms = round(claim_idle_s * 1_000)
        self._claim_every_s = claim_every_s
        self._name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._redis: Redis | None = None
        self._claim_at = 0.0
        self._claim_from: bytes | str = "0-0"
        self._forget_at = 0.0

    @contextmanager
    def open(self) -> Iterator[None]:
        """Connect and make sure of the group; at the end take the consumer's name out.

        Raises:
            SourceError: The server does not answer, or refuses.
        """
        # One name, and one connection that is made anew when it breaks; asking again is ours.
        with Redis.from_url(
            self._url,
            socket_timeout=_ANSWER_S,
            socket_connect_timeout=_CONNECT_S,
            retry=Retry(NoBackoff(), 0),
            decode_responses=False,
            client_name="expunge-bridge",
        ) as self._redis:
            for command in ("XREADGROUP", "XAUTOCLAIM"):
                # As the server says it: in redis-py's dict of an entry's fields, one that comes
                # twice would hide the other.
                self._redis.set_response_callback(command, _as_it_is)
            self._ask(self._make_group)
            try:
                yield
            finally:
                with suppress(SourceError):
                    self._ask(lambda redis: self._forget(redis, self._name))

    def receive(self, most: int, timeout_s: float) -> list[Message]:
        """Hand out up to `most` messages: those of dead consumers first, now and then.

        Args:
            most: At least 1.
            timeout_s: How long to wait for a first one, 0.001 to 2 seconds.

        Raises:
            SourceError: The server does not answer, or refuses.
        """
        return self._ask(lambda redis: self._receive(redis, most, timeout_s))

    def ack(self, positions: Sequence[str]) -> None:
        """Confirm and delete entries, both or neither.

        Raises:
            SourceError: The server does not answer, or refuses; then do it again.
        """
        if positions:
            self._ask(lambda redis: self._take_out(redis, positions))

    def park(self, parked: Sequence[Parked]) -> None:
        """Put a reference to each into `<stream>.dead`, and confirm and delete them: all or none.

        A server that takes no new entry (out of memory, or the user may not write there) still has
        them taken out: the ledger has the row that counts, and they would come again for ever.

        Raises:
            SourceError: The server does not answer, or refuses; then do it again.
        """
        if parked:
            self._ask(lambda redis: self._move_to_dead(redis, parked))

    def lag(self) -> int | None:
        """Count entries that are pending or not yet handed out; None when the server cannot say.

        Raises:
            SourceError: The server does not answer, or refuses.
        """
        return self._ask(self._count)

    # -- one question to the server ---------------------------------------------------------------

    def _ask(self, question: Callable[[Redis], _T]) -> _T:
        if self._redis is None:
            raise SourceError(QueueFault.UNREACHABLE)
        try:
            try:
                return question(self._redis)
            except ResponseError as error:
                if _word(error) != "NOGROUP":
                    raise
                # Somebody emptied the server; what was in it is gone, what comes is to be read.
                self._make_group(self._redis)
                return question(self._redis)
        except (RedisError, OSError, UnicodeError) as error:
            raise SourceError(_fault(error)) from None

    def _make_group(self, redis: Redis) -> None:
        try:
            # From the beginning: messages may have been there before us.
            redis.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except ResponseError as error:
            if _word(error) != "BUSYGROUP":
                raise

    def _receive(self, redis: Redis, most: int, timeout_s: float) -> list[Message]:
        now = time.monotonic()
        if now >= self._forget_at:
            self._forget_at = now + _FORGET_EVERY_S
            self._forget(redis, "")
        if now >= self._claim_at:
            claimed = self._claim(redis, most)
            if claimed:
                return claimed
        found: Any = redis.xreadgroup(
            self._group,
            self._name,
            {self._stream: ">"},
            count=most,
            block=max(1, round(timeout_s * 1_000)),
        )
        return [_message(*entry, deliveries=1) for entry in _entries(found)]

    def _claim(self, redis: Redis, most: int) -> list[Message]:
        answer: Any = redis.xautoclaim(
            self._stream,
            self._group,
            self._name,
            min_idle_time=self._claim_idle_ms,
            start_id=self._claim_from,
            count=most,
        )
        self._claim_from = answer[0]
        if self._claim_from in (b"0-0", "0-0"):
            self._claim_at = time.monotonic() + self._claim_every_s
        # Redis 6.2 gives empty ones for entries that somebody deleted.
        entries = [entry for entry in answer[1] if entry is not None and entry[1] is not None]
        if not entries:
            return []
        counts = self._deliveries(redis, [position for position, _ in entries])
        return [_message(*entry, deliveries=counts.get(entry[0], 0)) for entry in entries]

    def _deliveries(self, redis: Redis, positions: Sequence[bytes]) -> dict[bytes, int]:
        counts: dict[bytes, int] = {}
        start, last, most = positions[0], positions[-1], len(positions)
        while True:
            # Others that we hold, and that are not due again, may lie in between.
            pending: Any = redis.xpending_range(
                self._stream, self._group, min=start, max=last, count=most, consumername=self._name
            )
            counts |= {each["message_id"]: each["times_delivered"] for each in pending}
            if len(pending) < most or last in counts:
                return counts
            start = b"(" + pending[-1]["message_id"]

    def _take_out(self, redis: Redis, positions: Sequence[str]) -> None:
        with redis.pipeline(transaction=True) as both:
            both.xack(self._stream, self._group, *positions)
            both.xdel(self._stream, *positions)
            both.execute()

    def _move_to_dead(self, redis: Redis, parked: Sequence[Parked]) -> None:
        positions = [each.position for each in parked]
        with redis.pipeline(transaction=True) as all_of_it:
            for each in parked:
                all_of_it.xadd(
                    dead_name(self._stream),
                    {"reference": each.reference, "reason": each.reason},
                    maxlen=MOST_DEAD,
                    approximate=True,
                )
            all_of_it.xack(self._stream, self._group, *positions)
            all_of_it.xdel(self._stream, *positions)
            try:
                all_of_it.execute()
            except (GoneError, TooLateError):
                raise
            except RedisError:
                self._take_out(redis, positions)

    def _count(self, redis: Redis) -> int | None:
        groups: Any = redis.xinfo_groups(self._stream)
        for group in groups:
            if group["name"] == self._group.encode():
                lag = group.get("lag")
                return None if lag is None else int(lag) + int(group["pending"])
        return None

    def _forget(self, redis: Redis, name: str) -> None:
        # A server or user without scripts keeps the names of bridges that are gone, no more.
        with suppress(ResponseError):
            redis.eval(_FORGET, 1, self._stream, self._group, name, str(_DAY_MS))


def _as_it_is(answer: _T, **_options: object) -> _T:
    return answer


def _entries(found: object) -> list[tuple[bytes, Sequence[bytes]]]:
    # Over RESP3 a map by stream, over RESP2 a list of pairs.
    pairs = found.items() if isinstance(found, dict) else found or ()
    return [entry for _stream, part in pairs for entry in part]  # type: ignore[attr-defined]


def _message(position: bytes, fields: Sequence[bytes], *, deliveries: int) -> Message:
    """Read an entry; its fields are names and values by turns, as often as they were written."""
    where = position.decode("ascii")
    if len(fields) == 2 and fields[0] == FIELD:  # noqa: PLR2004 - one name, one value
        return Message(position=where, body=fields[1], deliveries=deliveries)
    # Only for the digest: nobody reads it.
    body = b"\x00".join(fields)
    return Message(position=where, body=body, deliveries=deliveries, fault=Reason.NO_EVENT_FIELD)


def _word(error: Exception) -> str:
    """Give the code word that Redis's refusals begin with."""
    return str(error).partition(" ")[0]


def _fault(error: Exception) -> QueueFault:
    if _word(error) == "WRONGTYPE":
        return QueueFault.NO_STREAM
    return next(
        (fault for kind, fault in _FAULTS.items() if isinstance(error, kind)), QueueFault.OTHER
    )
