"""The ledger as it lies in its tables, read by plain SQL: what the oracle compares with the truth.

Nothing of the product's own reading is used, so that a mistake in it cannot hide itself.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

__all__ = ["Attempt", "Chunk", "Event", "LedgerFacts", "Request"]

Rows = Callable[[str], Sequence[tuple[Any, ...]]]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A row of `request`, as far as it matters here."""

    id: str
    account: str
    kind: str
    state: str
    generation: int
    verify: str
    result: str | None
    certainty: str | None
    subject: str | None
    unique: int
    pending: int
    ended: bool
    attempts: int


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A row of `chunk`; `places` are those of its ids in the request."""

    id: int
    request_id: str
    generation: int
    state: str
    ids: tuple[str, ...]
    places: tuple[int, ...]
    sightings: int


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A row of `attempt`; `chunk_id` of deletions only."""

    claim: str
    place: int
    request_id: str
    generation: int
    chunk_id: int | None
    readback_id: int | None
    fence: int
    call: str
    slot_ns: int
    claimed_us: int
    outcome: str | None
    reason: str | None
    stale: bool


@dataclass(frozen=True, kw_only=True)
class Event:
    """A row of `event` with what it says."""

    request_id: str | None
    type: str
    payload: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class LedgerFacts:
    """Everything at one moment (nothing may be under way)."""

    requests: dict[str, Request]
    chunks: dict[int, Chunk]
    attempts: list[Attempt]
    events: list[Event]

    @classmethod
    def read(cls, rows: Rows) -> "LedgerFacts":
        """Read all of it by `rows`, which runs a SELECT."""
        return cls(
            requests={row[0]: _request(row) for row in rows(_REQUESTS)},
            chunks={row[0]: _chunk(row) for row in rows(_CHUNKS)},
            attempts=[_attempt(row) for row in rows(_ATTEMPTS)],
            events=[_event(row) for row in rows(_EVENTS)],
        )

    @cached_property
    def parts(self) -> Mapping[str, list[Chunk]]:
        """The chunks of each request that were not divided."""
        found: dict[str, list[Chunk]] = {id_: [] for id_ in self.requests}
        for one in self.chunks.values():
            if one.state != "split":
                found[one.request_id].append(one)
        return found

    def kind_of(self, part: Chunk) -> str:
        """Give the kind of the call that carries it out: what a purge left goes by id."""
        return "memories" if part.ids else self.requests[part.request_id].kind

    @cached_property
    def accepted(self) -> frozenset[str]:
        """The requests of which the sender was told that they are taken."""
        kinds = ("request.accepted",)
        return frozenset(str(one.request_id) for one in self.events if one.type in kinds)


_REQUESTS = (
    "SELECT id, account, kind, state, generation, verify_now, result, certainty, subject,"
    " unique_ids, pending, finished_at IS NOT NULL, attempts FROM request ORDER BY id"
)
_CHUNKS = "SELECT id, request_id, generation, state, ids, n, first, places, sightings FROM chunk"
_ATTEMPTS = (
    "SELECT claim, place, request_id, generation, chunk_id, readback_id, fence, call, slot_ns,"
    " claimed_at, outcome, reason, stale FROM attempt ORDER BY claimed_at, claim, place"
)
_EVENTS = (
    "SELECT event.request, event.type, event_body.payload FROM event"
    " JOIN event_body ON event_body.event = event.id ORDER BY event.id"
)


def _request(row: tuple[Any, ...]) -> Request:
    names = "id account kind state generation verify result certainty subject unique pending"
    values = dict(zip([*names.split(), "ended", "attempts"], row, strict=True))
    return Request(**values | {"ended": bool(values["ended"])})


def _chunk(row: tuple[Any, ...]) -> Chunk:
    id_, request_id, generation, state, ids, n, first, places, sightings = row
    return Chunk(
        id=id_,
        request_id=request_id,
        generation=generation,
        state=state,
        ids=tuple(json.loads(ids)),
        places=tuple(json.loads(places) if places else range(first, first + n)),
        sightings=sightings,
    )


def _attempt(row: tuple[Any, ...]) -> Attempt:
    names = "claim place request_id generation chunk_id readback_id fence call slot_ns claimed_us"
    values = dict(zip([*names.split(), "outcome", "reason", "stale"], row, strict=True))
    return Attempt(**values | {"slot_ns": int(values["slot_ns"]), "stale": bool(values["stale"])})


def _event(row: tuple[Any, ...]) -> Event:
    return Event(request_id=row[0], type=row[1], payload=json.loads(bytes(row[2])))
