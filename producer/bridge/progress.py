"""How a bridge is doing, for whoever watches it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["BridgeProgress", "StreamProgress", "StreamState"]


class StreamState(StrEnum):
    """What a stream's thread is at."""

    STARTING = "starting"
    READING = "reading"
    WAITING_FOR_QUEUE = "waiting_for_queue"
    WAITING_FOR_LEDGER = "waiting_for_ledger"
    ENDED = "ended"


@dataclass
class StreamProgress:
    """One stream, as its own thread writes it down.

    Attributes:
        stream: Its name.
        state: What its thread is at.
        last_turn: When it last did or tried something, by `time.monotonic()`, in seconds.
    """

    stream: str
    state: StreamState = StreamState.STARTING
    last_turn: float = field(default_factory=time.monotonic)

    def turn(self, state: StreamState) -> None:
        """Note that the thread is alive, and what it is at."""
        self.state = state
        self.last_turn = time.monotonic()


@dataclass(frozen=True)
class BridgeProgress:
    """All streams of one bridge."""

    streams: Sequence[StreamProgress]

    @property
    def last_turn(self) -> float:
        """When the slowest of them last turned; waiting for a queue or the ledger is turning."""
        return min(each.last_turn for each in self.streams)
