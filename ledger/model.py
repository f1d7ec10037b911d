"""Plain frozen values that producers and workers share."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from ledger.states import Certainty, Kind, Lane, RequestState, Result

__all__ = ["COUNT_NAMES", "Counts", "Order", "Receipt", "RequestView"]

COUNT_NAMES = (
    "pending",
    "acknowledged",
    "verified_absent",
    "already_absent",
    "still_present",
    "refused",
    "unknown",
    "cancelled",
)


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is asked for, without the ids themselves.

    Attributes:
        project: Name of a configured MemOS project.
        kind: Memories by id, everything of a user, or everything of an agent.
        subject: For purges the user or agent id, 1 to 100 characters, kept byte for byte.
            For memories the user whose ids they are, when the sender knows (then the read-back
            can use that user's list); else None.
        lane: `erasure` or `bulk`; None means erasure for purges and bulk for ids.
        verify: `full`, `sample:N` (N from 1 to 1,000) or `none`; None means full for purges and
            for ids whose user is named, else `sample:50`.
        reason: A short code such as `gdpr-17` (letters, digits, `._:-`, at most 64), no free text.
        idempotency_key: 1 to 200 characters; the same key gives the same request for ever. Only
            an HMAC of it is stored.
        submitted_at: When the person asked, time zone included; None means now.
        due_at: When it must be done, time zone included; None means one calendar month after
            `submitted_at` in the erasure lane and none in bulk.
        not_before: No call is made before this moment, time zone included.
        principal: Who hands it in: a service or operator name, at most 64 characters.
    """

    project: str
    kind: Kind
    subject: str | None = None
    lane: Lane | None = None
    verify: str | None = None
    reason: str | None = None
    idempotency_key: str | None = None
    submitted_at: datetime | None = None
    due_at: datetime | None = None
    not_before: datetime | None = None
    principal: str = "local"

    def __repr__(self) -> str:
        """Leave out everything that may name a person."""
        return f"Order(project={self.project!r}, kind={self.kind.value!r})"


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What the sender gets once the request is committed.

    Attributes:
        id: The request's id, a random UUID without meaning.
        state: `open`, `scheduled`, or any later state when the key was known already.
        requested: Ids handed in, repeats included (1 for a purge).
        unique: Ids after folding repeats (1 for a purge).
        duplicate: True when the idempotency key was known and nothing new was recorded.
    """

    id: str
    state: RequestState
    requested: int
    unique: int
    duplicate: bool


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Disjoint counts of ids (of subjects for a purge); all but the first two sum to `unique`."""

    requested: int = 0
    unique: int = 0
    pending: int = 0
    acknowledged: int = 0
    verified_absent: int = 0
    already_absent: int = 0
    still_present: int = 0
    refused: int = 0
    unknown: int = 0
    cancelled: int = 0


@dataclass(frozen=True, kw_only=True)
class RequestView:
    """One request as anybody may see it: no user id, no memory id.

    Attributes:
        attempts: Calls made for it so far, read-backs included.
        retried: Deletion calls beyond the first of each chunk.
        chunks: Calls that carrying it takes at least (chunks as submitted).
        verify: The policy in force; `sample:N` becomes `full` when a sample was still present.
    """

    id: str
    project: str
    kind: Kind
    lane: Lane
    state: RequestState
    generation: int
    verify: str
    result: Result | None
    certainty: Certainty | None
    counts: Counts
    attempts: int
    retried: int
    chunks: int
    held: bool
    reason: str | None
    created_at: datetime
    submitted_at: datetime
    due_at: datetime | None
    not_before: datetime | None
    finished_at: datetime | None

    def as_dict(self) -> dict[str, Any]:
        """Give the JSON form that `status -o json` promises; times as ISO 8601 in UTC."""
        plain = asdict(self)
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in plain.items()
        }
