"""What the doctor reads from a Redis server, and what it makes of it."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError
from redis.retry import Retry

from expunge.doctor.findings import Finding, fail, ok, warn
from ledger.doorbell import QUEUE
from ledger.streams import Stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "RedisFacts",
    "StreamFacts",
    "check_redis",
    "check_stream",
    "connect",
    "read_redis",
    "read_stream",
    "unreachable",
]

_TIMEOUT_S: Final = 2.0
_LEAST_VERSION: Final = (6, 2)
_MANY_MESSAGES: Final = 100
_MUCH_LAG: Final = 10_000
_GONE_MS: Final = 60_000


@dataclass(frozen=True, kw_only=True)
class RedisFacts:
    """How a server is.

    Attributes:
        version: As it says itself.
        policy: What it does when its memory is full; None when it does not say.
        appends: It writes what it takes to disk at once (AOF); None when it does not say.
        messages: Doorbells that wait to be heard.
        skew_s: How far its clock is ahead of this host's.
    """

    version: str
    policy: str | None
    appends: bool | None
    messages: int
    skew_s: float


@dataclass(frozen=True, kw_only=True)
class StreamFacts:
    """How a stream is read.

    Attributes:
        known: It has our consumer group.
        lag: Messages that no bridge has read yet; None when the server cannot tell.
        pending: Messages that a bridge has read and not finished.
        readers: Consumers heard of within the last minute.
    """

    known: bool
    lag: int | None = None
    pending: int = 0
    readers: int = 0


def connect(url: str) -> "Redis":
    """Give a client that answers or fails within seconds."""
    return Redis.from_url(
        url,
        socket_timeout=_TIMEOUT_S,
        socket_connect_timeout=_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )


def read_redis(client: "Redis") -> RedisFacts:
    """Look at a server.

    Raises:
        RedisError: It does not answer, or does not let us in.
    """
    before = time.time()
    seconds, microseconds = _any(client.time())
    ours = (before + time.time()) / 2
    about: Mapping[str, Any] = _any(client.info())
    return RedisFacts(
        version=str(about.get("valkey_version") or about.get("redis_version") or ""),
        policy=about.get("maxmemory_policy"),
        appends=bool(about["aof_enabled"]) if "aof_enabled" in about else None,
        messages=int(_any(client.llen(QUEUE))),
        skew_s=int(seconds) + int(microseconds) / 1_000_000 - ours,
    )


def read_stream(client: "Redis", stream: Stream) -> StreamFacts:
    """Look at a stream.

    Raises:
        RedisError: The server does not answer, or does not let us look.
    """
    try:
        groups: Sequence[Mapping[str, Any]] = _any(client.xinfo_groups(stream.name))
        group = next((one for one in groups if one["name"] == stream.group), None)
        if group is None:
            return StreamFacts(known=False)
        consumers: Sequence[Mapping[str, Any]] = _any(
            client.xinfo_consumers(stream.name, stream.group)
        )
    except NoPermissionError:
        raise
    except ResponseError:
        return StreamFacts(known=False)  # no such key
    return StreamFacts(
        known=True,
        lag=group.get("lag"),
        pending=int(group["pending"]),
        readers=sum(int(one["idle"]) < _GONE_MS for one in consumers),
    )


def unreachable(setting: str, error: RedisError) -> Finding:
    """Say why a server gives no answer, without its address: that may hold a password."""
    if isinstance(error, AuthenticationError):
        return fail(
            "redis", f"The server of {setting} refuses the password.", fix=f"Correct {setting}."
        )
    if isinstance(error, NoPermissionError):
        return warn(
            "redis",
            f"The server of {setting} does not let this user look at it.",
            fix="Let the user run INFO, TIME, LLEN and XINFO.",
        )
    return fail(
        "redis",
        f"The server of {setting} does not answer ({type(error).__name__}). Workers find their "
        "work without it, a little later; a bridge finds nothing.",
        fix=f"Start Redis or Valkey, or correct {setting}.",
    )


def check_redis(facts: RedisFacts, *, streams: bool) -> list[Finding]:
    """Is the broker fit for its work?

    Args:
        facts: What it says.
        streams: Messages of other services come in through it.
    """
    found = []
    if _number(facts.version) < _LEAST_VERSION:
        found.append(
            fail("redis", f"It is version {facts.version or 'unknown'}.", fix="Take 6.2 or newer.")
        )
    if facts.policy != "noeviction":
        found.append(
            warn(
                "redis",
                f"When its memory is full it evicts keys ({facts.policy or 'it does not say'}).",
                fix="CONFIG SET maxmemory-policy noeviction, and the same in its config file.",
            )
        )
    if streams and not facts.appends:
        found.append(
            warn(
                "redis",
                "It does not write what it takes to disk (AOF): a restart loses messages that no "
                "bridge has read yet.",
                fix="CONFIG SET appendonly yes, and the same in its config file.",
            )
        )
    if facts.messages > _MANY_MESSAGES:
        found.append(
            warn(
                "redis",
                f"{facts.messages:,} doorbells wait, where a few per worker are enough.",
                fix="Give Expunge a Redis database of its own.",
            )
        )
    return found or [ok("redis", f"Version {facts.version} answers; nothing is evicted.")]


def check_stream(stream: Stream, facts: StreamFacts) -> Finding:
    """Is a stream read, and in time?"""
    check = f"stream {stream.name}"
    fix = "Start `expunge bridge`, or one more of it."
    if not facts.known:
        return warn(check, "No bridge has ever read it.", fix=fix)
    lag = "an unknown number of" if facts.lag is None else f"{facts.lag:,}"
    says = f"{lag} messages wait, {facts.pending:,} are being taken in"
    if not facts.readers:
        grade = fail if facts.lag or facts.pending else warn
        return grade(check, f"No bridge reads it; {says}.", fix=fix)
    if (facts.lag or 0) > _MUCH_LAG:
        return warn(check, f"{says}.", fix=fix)
    return ok(check, f"{says}.")


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in version.split(".")[:2])


def _any(answer: Any) -> Any:  # noqa: ANN401 - redis-py types each answer as perhaps awaitable
    return answer
