"""The end of a generation: one final state, with how surely it is known."""

from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, Row, select, update

from ledger.clock import wall_us
from ledger.crash_points import reached
from ledger.dead import is_being_redriven
from ledger.events import EventType, append
from ledger.macs import ChunkFields, Macs, chained, same
from ledger.model import COUNT_NAMES
from ledger.policy import parse_verify
from ledger.schema import chunk, request
from ledger.states import Certainty, ChunkState, Kind, RequestState, Result

__all__ = ["Ended", "certainty_of", "chain_is_whole", "finish", "result_of"]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A request that came to its end just now; `seconds` is from its acceptance to here."""

    request_id: str
    kind: Kind
    result: Result
    certainty: Certainty | None
    attempts: int
    unique: int
    seconds: float


def chain_is_whole(conn: Connection, macs: Macs, request_id: str) -> bool:
    """Check the closing MAC: are the submitted chunks all there, and only they?"""
    row = conn.execute(
        select(request.c.kind, request.c.chunks, request.c.closing_mac).where(
            request.c.id == request_id
        )
    ).one()
    covered = {field.name for field in fields(ChunkFields)} - {"kind", "generation"}
    submitted = (
        select(*(chunk.c[name] for name in sorted(covered)))
        .where(chunk.c.request_id == request_id, chunk.c.parent.is_(None))
        .order_by(chunk.c.no)
        .execution_options(yield_per=1_000)
    )
    chain, n = b"", 0
    with conn.execute(submitted) as stored:
        for one in stored:
            # Made anew: what stands in the row may have been changed after its call.
            # All were handed in under the first generation, whichever they are of by now.
            handed_in = ChunkFields(kind=row.kind, generation=1, **one._mapping)  # noqa: SLF001 - SQLAlchemy's name
            chain = chained(chain, macs.chunk(handed_in))
            n += 1
    return n == row.chunks and same(row.closing_mac, macs.closing(request_id, n, chain))


def finish(conn: Connection, request_id: str, *, whole: bool, second_look_s: float) -> Ended | None:
    """Give a request its final state, unless it has one or something of it is due again.

    Args:
        conn: The transaction.
        request_id: The request.
        whole: Whether its closing MAC holds; if not it ends `failed`, whatever the counts say.
        second_look_s: Seconds until a purge is looked at once more.

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
    result = result_of(row) if whole else Result.FAILED
    certainty = certainty_of(row) if whole else Certainty.UNVERIFIABLE
    now = wall_us()
    # Of a purge that was never sent there is nothing to look for.
    look_again = row.kind != Kind.MEMORIES and result is not Result.CANCELLED
    conn.execute(
        update(request)
        .where(request.c.id == request_id)
        .values(
            state=_state_of(result),
            result=result,
            certainty=certainty,
            finished_at=now,
            touched_at=now,
            second_look_at=now + int(second_look_s * 1_000_000) if look_again else None,
            held=0,
            hold_reason=None,
            releasing=0,
        )
    )
    if not whole:
        append(conn, EventType.ORDER_TAMPERED, {"fault": "closing"}, request_id=request_id)
    append(
        conn,
        EventType.REQUEST_FINISHED,
        {
            "generation": row.generation,
            "result": result.value,
            "certainty": None if certainty is None else certainty.value,
            "attempts": row.attempts,
            "counts": {name: getattr(row, name) for name in COUNT_NAMES},
            "requested": row.requested,
            "unique": row.unique_ids,
        },
        request_id=request_id,
    )
    reached("finish.before_commit")
    return Ended(
        request_id=request_id,
        kind=Kind(row.kind),
        result=result,
        certainty=certainty,
        attempts=row.attempts,
        unique=row.unique_ids,
        seconds=max(0, now - row.created_at) / 1_000_000,
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


def _state_of(result: Result) -> RequestState:
    if result is Result.COMPLETE_WITH_ALREADY_ABSENT:
        return RequestState.COMPLETE
    return RequestState(result.value)
