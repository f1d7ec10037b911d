"""What a bridge asks of a queue: five methods, whatever broker it is."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from ledger.errors import ExpungeError
from producer.bridge.reasons import Reason

__all__ = ["IntakeSource", "Message", "Parked", "QueueFault", "SourceError"]


class QueueFault(StrEnum):
    """What a queue has: a closed list, since a broker's own words may hold an address or a key."""

    UNREACHABLE = "unreachable"
    TOO_LATE = "too_late"
    LOGIN_REFUSED = "login_refused"
    NOT_ALLOWED = "not_allowed"
    NO_STREAM = "no_stream"
    FULL = "full"
    READ_ONLY = "read_only"
    OTHER = "other"


class SourceError(ExpungeError):
    """The queue did not answer, or refused; what it holds stays there, and it is asked again."""

    def __init__(self, fault: QueueFault) -> None:
        """Keep which."""
        self.fault = fault
        super().__init__(f"The queue does not do what is asked ({fault.value}).")


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One message as it came.

    Attributes:
        position: Its place in the queue, as the broker counts.
        body: Its bytes; the event when `fault` is None.
        deliveries: How often it was handed out, this time included; 0 where nobody knows.
        fault: What is wrong with how it lies in the queue, so that it cannot even be read.
    """

    position: str
    body: bytes = field(repr=False)
    deliveries: int = 1
    fault: Reason | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Parked:
    """A message that the ledger has parked: its place, the row's id, and the reason."""

    position: str
    reference: str
    reason: str


class IntakeSource(Protocol):
    """One queue. All methods but `open` are called inside its context, by one thread.

    A message stays with the queue until `ack` or `park`, and is handed out again, to whichever
    bridge, when the one that had it is gone.
    """

    def open(self) -> AbstractContextManager[None]:
        """Connect; at the end of the context say good-bye. Raises SourceError."""

    def receive(self, most: int, timeout_s: float) -> Sequence[Message]:
        """Hand out up to `most` messages; none after `timeout_s` seconds. Raises SourceError."""

    def ack(self, positions: Sequence[str]) -> None:
        """Take messages out for good: the ledger has what they order. Raises SourceError."""

    def park(self, parked: Sequence[Parked]) -> None:
        """Move messages to the dead ones: the ledger has why. Raises SourceError."""

    def lag(self) -> int | None:
        """Count what is still to do, as far as the broker knows. Raises SourceError."""
