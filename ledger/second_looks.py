"""The second look: long after a purge has ended its list is read once more.

MemOS may still have been extracting memories from messages when the purge went through, and what
was restored from a backup comes back. What the look finds is an alarm, and what was part of the
order gets a request of its own that deletes it by id.
"""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, select, update

from ledger.clock import wall_us
from ledger.engine import Database
from ledger.errors import RequestError
from ledger.events import EventType, append
from ledger.header import make_header
from ledger.ids import check_memory_id
from ledger.in_force import epoch_fault
from ledger.intake import Intake
from ledger.macs import Macs
from ledger.model import Order
from ledger.reads import LIST, forget, plan
from ledger.schema import readback, request
from ledger.states import Kind, Lane, Sight
from ledger.walks import Walk

__all__ = ["begin_looks", "judge_look", "looked"]

_AT_ONCE: Final = 20
_AGAIN_US: Final = 3_600 * 1_000_000
_GIVE_UP_US: Final = 7 * 86_400 * 1_000_000
_PRINCIPAL: Final = "second-look"


def begin_looks(conn: Connection, *, now_ns: int) -> int:
    """Put the lists of purges whose second look is due in line; gives how many."""
    now = wall_us()
    due = conn.execute(
        select(request)
        .where(
            request.c.second_look_at <= now,
            request.c.second_look.is_(None),
            request.c.finished_at.is_not(None),
            # Scrubbed since: nobody knows any more whom to look for.
            request.c.subject.is_not(None),
        )
        .order_by(request.c.second_look_at)
        .limit(_AT_ONCE)
        .with_for_update(key_share=True, skip_locked=True)
    ).all()
    for row in due:
        plan(conn, row, [LIST], due_ns=now_ns)
        conn.execute(update(request).where(request.c.id == row.id).values(second_look="looking"))
    return len(due)


def looked(conn: Connection) -> list[str]:
    """Give requests whose second look is over, and not yet judged."""
    over = (
        select(readback.c.id)
        .where(readback.c.request_id == request.c.id, readback.c.state == "done")
        .exists()
    )
    return list(
        conn.execute(
            select(request.c.id).where(request.c.second_look == "looking", over).limit(_AT_ONCE)
        ).scalars()
    )


def judge_look(database: Database, macs: Macs, request_id: str) -> None:
    """Say what a second look came to; does nothing while it is under way.

    Raises:
        LedgerError: The ledger did not confirm; calling again is safe.
    """
    found = database.read(lambda conn: _found(conn, request_id))
    if found is None:
        return
    row, sight, walk = found
    child = None
    ids = sorted(one for one in walk.present if _can_be_ordered(one))
    if sight is Sight.PRESENT and ids:
        # Before the look is over: killed in between, the same request is found by its key.
        child = _order(database, macs, row, ids)
    database.write(lambda conn: _settle(conn, row, sight, walk, child))


def _found(conn: Connection, request_id: str) -> tuple[Row[Any], Sight, Walk] | None:
    row = conn.execute(
        select(request).where(request.c.id == request_id, request.c.second_look == "looking")
    ).first()
    seen = conn.execute(
        select(readback).where(readback.c.request_id == request_id, readback.c.state == "done")
    ).first()
    if row is None or seen is None:
        return None
    return row, Sight(seen.sight), Walk.from_json(seen.seen) or Walk()


def _can_be_ordered(memory_id: str) -> bool:
    """Say whether it is an id as orders may have them: MemOS may show others."""
    try:
        check_memory_id(memory_id, where="A memory id")
    except RequestError:
        return False
    return True


def _order(database: Database, macs: Macs, row: Row[Any], ids: Sequence[str]) -> str:
    """Order what was found to be deleted by id."""
    order = Order(
        project=row.project,
        kind=Kind.MEMORIES,
        subject=row.subject if row.kind == Kind.USER else None,
        lane=Lane.ERASURE,
        verify="full",
        reason=row.reason,
        idempotency_key=f"second-look/{row.id}/{row.generation}",
        principal=_PRINCIPAL,
    )
    # A worker may lack the key in force, and what has to be deleted does not wait for it: that of
    # the purge is not destroyed as long as the purge has its names.
    lacks = database.read(lambda conn: epoch_fault(conn, macs.epoch)) is not None
    header = make_header(
        order,
        account=row.account,
        chunk_size=row.chunk_size,
        macs=macs,
        now_us=wall_us(),
        follows=row.id,
        like=row if lacks else None,
    )
    intake = Intake(database, macs, header)
    intake.add(ids)
    return intake.finish().id


def _settle(conn: Connection, row: Row[Any], sight: Sight, walk: Walk, child: str | None) -> None:
    now = wall_us()
    held = request.c.id == row.id
    still = conn.execute(
        select(request.c.second_look).where(held).with_for_update(key_share=True)
    ).scalar_one()
    if still != "looking":
        return
    forget(conn, row.id)
    if sight is Sight.UNKNOWN and now < row.finished_at + _GIVE_UP_US:
        conn.execute(
            update(request).where(held).values(second_look=None, second_look_at=now + _AGAIN_US)
        )
        return
    result = {Sight.PRESENT: "found", Sight.ABSENT: "absent", Sight.UNKNOWN: "unknown"}[sight]
    conn.execute(update(request).where(held).values(second_look=result, later=len(walk.later)))
    append(
        conn,
        EventType.REQUEST_LOOKED_AGAIN,
        {
            "result": result,
            "found": len(walk.present) + walk.unsaid,
            "later": len(walk.later),
            "not_checked": list(walk.unchecked),
            "ordered": child,
        },
        request_id=row.id,
    )
