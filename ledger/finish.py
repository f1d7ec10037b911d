"""The end of a generation: one final state, with how surely it is known."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, select, update

from ledger.clock import wall_us
from ledger.crash_points import reached
from ledger.dead import is_being_redriven
from ledger.endings import Ending, finished_payload
from ledger.events import EventType, append
from ledger.policy import parse_verify
from ledger.schema import chunk, request
from ledger.states import Certainty, ChunkState, Kind, Result, state_of
from ledger.tampering import note_tampered

__all__ = ["Ended", "certainty_of", "finish", "result_of"]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A request that came to its end just now.

    Attributes:
        seconds: From its acceptance to here.
        tampered: Something of it was not what was ordered: a person has to look.
    """

    request_id: str
    kind: Kind
    result: Result
    certainty: Certainty | None
    attempts: int
    unique: int
    seconds: float
    tampered: bool = False


_COMPLETE: Final = (Result.COMPLETE, Result.COMPLETE_WITH_ALREADY_ABSENT)


def finish(
    conn: Connection, request_id: str, *, second_look_s: float, ending: Ending
) -> Ended | None:
    """Give a request its final state, unless it has one or something of it is due again.

    Args:
        conn: The transaction.
        request_id: The request.
        second_look_s: Seconds until a purge is looked at once more.
        ending: What else the record says of it. If it is not whole, it ends `failed`, whatever the
            counts say.

    Returns:
        What it came to; None when it has not ended here.
    """
    row = conn.execute(
        select(request).where(request.c.id == request_id).with_for_update(key_share=True)
    ).one()
    if row.finished_at is not None or row.pending or is_being_redriven(conn, row):
        return None
    if _is_delivered(conn, request_id):
        # Redriven since the caller looked: this generation has still to be read back.
        return None
    result, certainty = result_of(row), certainty_of(row)
    tampered = bool(row.tampered) or not ending.whole
    if not ending.whole or (tampered and result in _COMPLETE):
        # Whatever the counts say: they are of what somebody changed.
        result, certainty = Result.FAILED, Certainty.UNVERIFIABLE
    now = wall_us()
    # Of a purge that was never sent there is nothing to look for.
    look_again = row.kind != Kind.MEMORIES and result is not Result.CANCELLED
    conn.execute(
        update(request)
        .where(request.c.id == request_id)
        .values(
            state=state_of(result),
            result=result,
            certainty=certainty,
            finished_at=now,
            touched_at=now,
            second_look_at=now + int(second_look_s * 1_000_000) if look_again else None,
            held=0,
            hold_reason=None,
            releasing=0,
            tampered=int(tampered),
        )
    )
    if not ending.whole:
        note_tampered(conn, request_id, {"fault": "closing"})
    payload = finished_payload(row, ending, result=result, certainty=certainty, tampered=tampered)
    # Of the same moment as the row, which is held against it when the log is verified.
    append(conn, EventType.REQUEST_FINISHED, payload, request_id=request_id, at_us=now)
    reached("finish.before_commit")
    return Ended(
        request_id=request_id,
        kind=Kind(row.kind),
        result=result,
        certainty=certainty,
        attempts=row.attempts,
        unique=row.unique_ids,
        seconds=max(0, now - row.created_at) / 1_000_000,
        tampered=tampered,
    )


def result_of(row: Row[Any]) -> Result:
    """Say how it ended, from the counts alone."""
    if row.cancelled == row.unique_ids:
        return Result.CANCELLED
    bad = row.refused + row.unknown + row.still_present + row.cancelled
    good = row.verified_absent + row.already_absent + row.acknowledged
    if bad:
        return Result.PARTIAL if good else Result.FAILED
    return Result.COMPLETE_WITH_ALREADY_ABSENT if row.already_absent else Result.COMPLETE


def certainty_of(row: Row[Any]) -> Certainty | None:
    """Say how surely it is known; the weakest part decides. None when nothing was carried out."""
    if row.cancelled == row.unique_ids:
        return None
    if row.still_present:
        return Certainty.STILL_PRESENT
    if row.unknown or row.refused:
        # What was refused is not gone for all that anybody has seen.
        return Certainty.UNVERIFIABLE
    policy = parse_verify(row.verify_now)
    if policy.none or (policy.full and row.acknowledged):
        return Certainty.ACKNOWLEDGED
    return Certainty.VERIFIED if policy.full else Certainty.SAMPLED


def _is_delivered(conn: Connection, request_id: str) -> bool:
    delivered = select(chunk.c.id).where(
        chunk.c.request_id == request_id, chunk.c.state == ChunkState.DELIVERED
    )
    return conn.execute(delivered.limit(1)).first() is not None
