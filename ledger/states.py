"""The closed lists: states of requests and chunks, certainty, result, and who may follow whom."""

from enum import StrEnum
from typing import Final

__all__ = [
    "CHUNK_MOVES",
    "FINAL_REQUEST_STATES",
    "REQUEST_MOVES",
    "Certainty",
    "ChunkState",
    "Kind",
    "Lane",
    "RequestState",
    "Result",
    "Sight",
    "state_of",
]


class Kind(StrEnum):
    """What a request orders: named memories, everything of a user, everything of an agent."""

    MEMORIES = "memories"
    USER = "user"
    AGENT = "agent"


class Lane(StrEnum):
    """Which line work stands in; every tenth slot belongs to `bulk`."""

    ERASURE = "erasure"
    BULK = "bulk"


class RequestState(StrEnum):
    """Life of a request; a redrive opens the next generation of a final one."""

    RECEIVING = "receiving"
    SCHEDULED = "scheduled"
    OPEN = "open"
    VERIFYING = "verifying"
    COMPLETE = "complete"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ChunkState(StrEnum):
    """Life of a chunk, the ids that one call carries."""

    DUE = "due"
    LEASED = "leased"
    DELIVERED = "delivered"
    DONE = "done"
    SPLIT = "split"
    DEAD = "dead"
    CANCELLED = "cancelled"


class Certainty(StrEnum):
    """How surely the outcome of a request is known."""

    ACKNOWLEDGED = "acknowledged"
    VERIFIED = "verified"
    SAMPLED = "sampled"
    STILL_PRESENT = "still_present"
    UNVERIFIABLE = "unverifiable"


class Result(StrEnum):
    """How a request ended."""

    COMPLETE = "complete"
    COMPLETE_WITH_ALREADY_ABSENT = "complete_with_already_absent"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Sight(StrEnum):
    """What one read-back saw; `unknown` never counts as `absent`."""

    ABSENT = "absent"
    PRESENT = "present"
    UNKNOWN = "unknown"


FINAL_REQUEST_STATES: Final = frozenset(
    {RequestState.COMPLETE, RequestState.PARTIAL, RequestState.FAILED, RequestState.CANCELLED}
)

REQUEST_MOVES: Final[dict[RequestState, frozenset[RequestState]]] = {
    RequestState.RECEIVING: frozenset(
        {RequestState.SCHEDULED, RequestState.OPEN, RequestState.CANCELLED}
    ),
    RequestState.SCHEDULED: frozenset({RequestState.OPEN, RequestState.CANCELLED}),
    RequestState.OPEN: frozenset({RequestState.VERIFYING, *FINAL_REQUEST_STATES}),
    # Something was seen to be still there: its chunk is due again, and so is the request open.
    RequestState.VERIFYING: frozenset({RequestState.OPEN, *FINAL_REQUEST_STATES}),
    # A redrive opens the next generation.
    **dict.fromkeys(FINAL_REQUEST_STATES, frozenset({RequestState.OPEN})),
}

CHUNK_MOVES: Final[dict[ChunkState, frozenset[ChunkState]]] = {
    ChunkState.DUE: frozenset({ChunkState.LEASED, ChunkState.DEAD, ChunkState.CANCELLED}),
    ChunkState.LEASED: frozenset(
        {ChunkState.DELIVERED, ChunkState.DONE, ChunkState.DUE, ChunkState.SPLIT, ChunkState.DEAD}
    ),
    ChunkState.DELIVERED: frozenset(
        {ChunkState.DONE, ChunkState.DUE, ChunkState.SPLIT, ChunkState.DEAD}
    ),
    ChunkState.DONE: frozenset(),
    ChunkState.SPLIT: frozenset(),
    ChunkState.DEAD: frozenset({ChunkState.DUE}),
    ChunkState.CANCELLED: frozenset(),
}


def state_of(result: Result) -> RequestState:
    """Give the state that a request with this result ends in."""
    if result is Result.COMPLETE_WITH_ALREADY_ABSENT:
        return RequestState.COMPLETE
    return RequestState(result.value)
