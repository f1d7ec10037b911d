"""Plain frozen values that producers and workers share."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ledger.ceilings import NO_CEILINGS, Ceilings
from ledger.states import Certainty, Kind, Lane, RequestState, Result

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["COUNT_NAMES", "Counts", "Order", "Receipt", "RequestView", "as_json"]

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
        lane: `erasure` or `bulk`; None takes `default_lane`, then erasure for purges and bulk for
            ids.
        verify: `full`, `sample:N` (N from 1 to 1,000) or `none`; None takes `default_verify`, then
            full for purges and for ids whose user is named, else `sample:50`.
        reason: A short code such as `gdpr-17` (letters, digits, `._:-`, at most 64), no free text.
        idempotency_key: 1 to 200 characters; the same key gives the same request for ever. Only
            an HMAC of it is stored.
        submitted_at: When the person asked, time zone included; None means now.
        due_at: When it must be done, time zone included; None means one calendar month after
            `submitted_at` in the erasure lane and none in bulk.
        not_before: No call is made before this moment, time zone included.
        include_later: Of a purge: what appears between now and its read-back goes too. Without it
            such memories are reported, and stay.
        principal: Who hands it in: a service or operator name, at most 64 characters.
        traceparent: W3C trace context of the sender; only kept, and no part of what is ordered.
        default_lane: What the settings say for an order that names no lane. Not asked for, so the
            same order under other settings is the same one.
        default_verify: What the settings say for an order that names no read-back; like that.
        ceilings: What the settings say the project may order without anybody looking at it.
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
    include_later: bool = False
    principal: str = "local"
    traceparent: str | None = None
    default_lane: Lane | None = None
    default_verify: str | None = None
    ceilings: Ceilings = NO_CEILINGS

    def __repr__(self) -> str:
        """Leave out everything that may name a person."""
        return f"Order(project={self.project!r}, kind={self.kind.value!r})"


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What the sender gets once the request is committed.

    Attributes:
        id: The request's id, a UUID that tells when it was made and nothing else.
        state: `open`, `scheduled`, or any later state when the key was known already.
        requested: Ids handed in, repeats included (1 for a purge).
        unique: Ids after folding repeats (1 for a purge).
        duplicate: True when the idempotency key was known and nothing new was recorded.
        hold_reason: Why nothing of it is sent until somebody releases it, such as `ceiling_ids` or
            `ceiling_purges`; None when it is not held.
    """

    id: str
    state: RequestState
    requested: int
    unique: int
    duplicate: bool
    hold_reason: str | None = None


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
        held: Nothing more of it is sent until somebody releases it, and `hold_reason` why.
        cancelling: Somebody cancelled it; also once it has ended.
        overdue: Its due date is over and it has not ended.
        at_risk: It has not ended, and comes close to its due date (`ledger.risk`).
        seen: What was seen of it, in a sentence; None before its end.
        drawn: Ids that its sample drew; None without one.
        leftovers: Of a purge: memories that its list still showed and that were deleted by id.
        later: Of a purge: memories that its last look showed and that appeared after it was handed
            in; `include_later` says whether those go too.
        not_checked: Categories that MemOS left out of its lists, and `search` when that failed.
        second_look: Of a purge: `absent`, `found` or `unknown`; `looking` meanwhile, None before.
        follows: The purge whose second look brought it about, or the request that it applies again.
        tampered: Something of it was not what was ordered: a person has to look.
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
    hold_reason: str | None = None
    cancelling: bool = False
    overdue: bool = False
    at_risk: bool = False
    seen: str | None = None
    drawn: int | None = None
    leftovers: int = 0
    later: int = 0
    include_later: bool = False
    not_checked: tuple[str, ...] = ()
    second_look: str | None = None
    follows: str | None = None
    tampered: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Give the JSON form that `status -o json` promises; times as ISO 8601 in UTC."""
        return as_json(self)


def as_json(value: "DataclassInstance") -> dict[str, Any]:
    """Give a dataclass's JSON form; times as ISO 8601 in UTC."""
    return {
        name: each.isoformat() if isinstance(each, datetime) else each
        for name, each in asdict(value).items()
    }
