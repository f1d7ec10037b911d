"""The ledger's clock for leases, slots and pauses: one for all who share the ledger.

PostgreSQL: the server's `clock_timestamp()`. SQLite is one host: CLOCK_BOOTTIME, which goes on
during suspend and cannot be set, together with the boot id; after a reboot it starts anew, which
`ledger.engine` notices by the boot id. Wall time is for people, due dates and the audit only.
"""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import Connection, text

__all__ = ["Clock", "HostClock", "PostgresClock", "from_wall", "to_wall", "wall_us"]

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_READING: Final = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")


class Clock(Protocol):
    """What the ledger asks of a clock."""

    @property
    def source(self) -> str:
        """Name of the time line; readings of two sources are never compared."""

    def now_ns(self, conn: Connection) -> int:
        """Nanoseconds on the time line."""


class HostClock:
    """CLOCK_BOOTTIME of this host, or CLOCK_MONOTONIC where there is none (macOS)."""

    def __init__(self) -> None:
        """Read the boot id once."""
        self._id = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        self._boot = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else "host"

    @property
    def source(self) -> str:
        """The boot id."""
        return f"boot:{self._boot}"

    def now_ns(self, conn: Connection) -> int:  # noqa: ARG002 - the protocol passes it
        """Nanoseconds since this host started."""
        return time.clock_gettime_ns(self._id)


class PostgresClock:
    """The PostgreSQL server's clock."""

    source = "postgresql"

    def now_ns(self, conn: Connection) -> int:
        """Nanoseconds since 1970 by the server, in steps of a microsecond."""
        return int(conn.execute(_READING).scalar_one()) * 1_000


def wall_us() -> int:
    """Microseconds since 1970 by this host's wall clock."""
    return time.time_ns() // 1_000


def to_wall(moment: datetime) -> int:
    """Turn an aware datetime into microseconds since 1970."""
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def from_wall(microseconds: int) -> datetime:
    """Turn microseconds since 1970 into an aware datetime in UTC."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return datetime.fromtimestamp(seconds, tz=UTC).replace(microsecond=rest)
