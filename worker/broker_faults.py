"""What a broker has, in a word: its own texts may hold an address, a user or a password."""

import ssl
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Final

from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as GoneError
from redis.exceptions import TimeoutError as TooLateError

__all__ = ["BrokerFault", "fault_of"]


class BrokerFault(StrEnum):
    """A closed list."""

    CERTIFICATE = "certificate"
    LOGIN_REFUSED = "login_refused"
    NOT_ALLOWED = "not_allowed"
    FULL = "full"
    READ_ONLY = "read_only"
    WRONG_TYPE = "wrong_type"
    TOO_LATE = "too_late"
    UNREACHABLE = "unreachable"
    OTHER = "other"


# The first that fits: the more special ones stand above those they are made of.
_FAULTS: Final[Mapping[type[BaseException], BrokerFault]] = {
    ssl.SSLError: BrokerFault.CERTIFICATE,
    AuthenticationError: BrokerFault.LOGIN_REFUSED,
    NoPermissionError: BrokerFault.NOT_ALLOWED,
    OutOfMemoryError: BrokerFault.FULL,
    ReadOnlyError: BrokerFault.READ_ONLY,
    TooLateError: BrokerFault.TOO_LATE,
    GoneError: BrokerFault.UNREACHABLE,
    OSError: BrokerFault.UNREACHABLE,
}


def fault_of(error: BaseException) -> BrokerFault:
    """Give the word for an error of redis-py or kombu, whatever it is wrapped in."""
    for kind, fault in _FAULTS.items():
        if any(isinstance(one, kind) for one in _chain(error)):
            return fault
    for one in _chain(error):
        if isinstance(one, ResponseError):
            text = str(one)
            if "WRONGTYPE " in text:
                return BrokerFault.WRONG_TYPE
            if "NOAUTH " in text or "WRONGPASS " in text:
                return BrokerFault.LOGIN_REFUSED
    return BrokerFault.OTHER


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those it came from, the newest first."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__
