"""Finding the ids that MemOS does not take, in a batch that it refused as a whole.

MemOS refuses a batch for one unknown id and does not say which. The batch is halved, and the second
half waits for the answer to the first: when the first half is taken, the second is known to hold
the culprit and is halved without being sent; when it is not, nothing is known about the second any
more. What nothing is known about is put together again, and sent when the culprit is found. So one
unknown id among a hundred costs about nine calls instead of fourteen, and k of them about
1.4 log2 C(100, k) (`docs/performance.md`). Once two were found, what is left is cut into pieces
that hold none as likely as not.

It is only a guess what a piece holds: every id is sent, and each unknown one alone at last. Should
MemOS answer otherwise than all-or-nothing, more calls are made and nothing else is different.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    bindparam,
    case,
    func,
    or_,
    select,
    update,
)

from ledger.divide import Part, divide
from ledger.macs import Macs
from ledger.schema import FOREVER_NS, chunk
from ledger.states import ChunkState

__all__ = ["SEARCH_OVER", "go_on", "halves", "ripe"]

# In `chunk.waits_on`: until no part of the hunt waits for another one.
SEARCH_OVER: Final = -1
_LIVE: Final = (ChunkState.DUE, ChunkState.LEASED)
_TAKEN: Final = (ChunkState.DELIVERED, ChunkState.DONE)
_SETTLED: Final = (*_TAKEN, ChunkState.DEAD)
_HUNTS_AT_ONCE: Final = 50
_KNOWN_ENOUGH: Final = 2
# So many of the whole are counted as known besides, or two in the first five would look like all.
# Tried with 0.1 to 0.5 on random batches: 1.4 log2 C(100, k) calls for 1 to 30 unknown ids.
_CAUTION: Final = 0.3


def halves(row: Row[Any]) -> list[Part]:
    """Give the parts of a chunk that is known to hold an id that is not taken.

    Args:
        row: A chunk of two ids or more.
    """
    hunt = row.no if row.hunt is None else row.hunt
    common = {"sightings": row.sightings, "doubtful": row.doubtful, "hunt": hunt}
    middle = row.n // 2
    return [
        Part(items=range(middle), state=ChunkState.DUE, **common),
        Part(
            items=range(middle, row.n),
            state=ChunkState.DUE,
            due_ns=FOREVER_NS,
            waits_for=0,
            **common,
        ),
    ]


def ripe(request_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Condition on a request: a hunt of it can go on without another answer."""
    return _ripe_hunts(request_id).exists()


def _ripe_hunts(request_id: ColumnElement[str]) -> Select[tuple[int]]:
    waiting, decider, other = chunk.alias("waiting"), chunk.alias("decider"), chunk.alias("other")
    live = (
        select(decider.c.id)
        .where(
            decider.c.request_id == waiting.c.request_id,
            decider.c.no == waiting.c.waits_on,
            or_(*(decider.c.state == state for state in _LIVE)),
        )
        .exists()
    )
    searching = (
        select(other.c.id)
        .where(
            other.c.request_id == waiting.c.request_id,
            other.c.hunt == waiting.c.hunt,
            other.c.waits_on > SEARCH_OVER,
        )
        .exists()
    )
    return select(waiting.c.hunt).where(
        waiting.c.request_id == request_id,
        waiting.c.waits_on.is_not(None),
        or_(
            (waiting.c.waits_on > SEARCH_OVER) & ~live,
            (waiting.c.waits_on == SEARCH_OVER) & ~searching,
        ),
    )


# Built once: each step of each request asks it.
_RIPE: Final = _ripe_hunts(bindparam("of_request")).distinct().limit(_HUNTS_AT_ONCE)


def go_on(conn: Connection, macs: Macs, request_id: str) -> bool:
    """Take the hunts of a request as far as the answers so far lead.

    Args:
        conn: The transaction; it holds the lock of the request's row.
        macs: Makes the MACs of parts.
        request_id: A request that is open.

    Returns:
        True when something changed, and calling again may change more.
    """
    hunts = conn.execute(_RIPE, {"of_request": request_id}).scalars().all()
    if not hunts:
        return False
    waiting = conn.execute(
        select(chunk)
        .where(
            chunk.c.request_id == request_id,
            chunk.c.hunt.in_(hunts),
            chunk.c.waits_on.is_not(None),
        )
        .order_by(chunk.c.no)
    ).all()
    left: dict[int, list[Row[Any]]] = defaultdict(list)
    searching: set[int] = set()
    deciders = _deciders(conn, request_id, [row.waits_on for row in waiting])
    for row in waiting:
        if row.waits_on == SEARCH_OVER:
            left[row.hunt].append(row)
            continue
        decider = deciders.get(row.waits_on)
        if decider is not None and decider.state in _LIVE:
            searching.add(row.hunt)
        elif decider is not None and decider.state in _TAKEN and _was_taken(decider):
            _follow(conn, macs, row)
            searching.add(row.hunt)
        else:
            # The culprit is, or was, in the other one; or nobody will ever know.
            _set(conn, row, waits_on=SEARCH_OVER, due_ns=FOREVER_NS)
            left[row.hunt].append(row)
    for hunt in left.keys() - searching:
        _release(conn, macs, request_id, hunt, left[hunt])
    return True


def _deciders(conn: Connection, request_id: str, numbers: Sequence[int]) -> dict[int, Row[Any]]:
    rows = conn.execute(
        select(chunk.c.no, chunk.c.state, chunk.c.was_absent, chunk.c.disputed).where(
            chunk.c.request_id == request_id, chunk.c.no.in_(numbers)
        )
    )
    found: dict[int, Row[Any]] = {row.no: row for row in rows.all()}  # type: ignore[misc]
    return found


def _was_taken(row: Row[Any]) -> bool:
    return not row.was_absent and row.disputed is None


def _follow(conn: Connection, macs: Macs, row: Row[Any]) -> None:
    """Go on in the part that must hold the culprit."""
    if row.n == 1:
        _set(conn, row, waits_on=None, due_ns=0)
    else:
        divide(conn, macs, [row], halves(row))


def _release(
    conn: Connection, macs: Macs, request_id: str, hunt: int, rows: Sequence[Row[Any]]
) -> None:
    """Send what nothing is known about: together, or in pieces when many were found."""
    rows = sorted(rows, key=lambda row: row.first)
    size = _piece(conn, request_id, hunt)
    total = sum(row.n for row in rows)
    if len(rows) == 1 and total <= size:
        _set(conn, rows[0], waits_on=None, due_ns=0)
        return
    parts = [
        Part(
            items=range(first, min(first + size, total)),
            state=ChunkState.DUE,
            sightings=max(row.sightings for row in rows),
            doubtful=max(row.doubtful for row in rows),
            hunt=hunt,
        )
        for first in range(0, total, size)
    ]
    divide(conn, macs, rows, parts)


def _piece(conn: Connection, request_id: str, hunt: int) -> int:
    """How many ids to send at once: as many as hold no unknown one as likely as not."""
    culprit = (chunk.c.n == 1) & or_(
        chunk.c.was_absent == 1, chunk.c.state == ChunkState.DEAD, chunk.c.disputed.is_not(None)
    )
    settled, found = conn.execute(
        select(
            func.coalesce(func.sum(chunk.c.n), 0),
            func.coalesce(func.sum(case((culprit, 1), else_=0)), 0),
        ).where(chunk.c.request_id == request_id, chunk.c.hunt == hunt, chunk.c.state.in_(_SETTLED))
    ).one()
    whole = conn.execute(
        select(chunk.c.n).where(chunk.c.request_id == request_id, chunk.c.no == hunt)
    ).scalar_one()
    if found < _KNOWN_ENOUGH:
        return int(whole)
    share = found / (settled + _CAUTION * whole)
    return max(1, int(math.log(2) / share))


def _set(conn: Connection, row: Row[Any], *, waits_on: int | None, due_ns: int) -> None:
    conn.execute(update(chunk).where(chunk.c.id == row.id).values(waits_on=waits_on, due_ns=due_ns))
