"""The closing MAC: are the submitted chunks all there, and only they?"""

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import BigInteger, Connection, Row, bindparam, or_, select

from ledger.macs import ChunkFields, Macs, chained, same
from ledger.schema import chunk, request
from ledger.states import ChunkState, Kind

__all__ = ["Reads", "chain_is_whole", "has_unsent"]

T = TypeVar("T")
# A few megabytes where chunks are large.
_AT_ONCE: Final = 200
_COVERED: Final = sorted({field.name for field in fields(ChunkFields)} - {"kind", "generation"})
_SUBMITTED: Final = (
    select(*(chunk.c[name] for name in _COVERED))
    .where(
        chunk.c.request_id == bindparam("of_request"),
        chunk.c.parent.is_(None),
        chunk.c.no > bindparam("after", type_=BigInteger),
    )
    .order_by(chunk.c.no)
    .limit(_AT_ONCE)
)


class Reads(Protocol):
    """How a walk reads, such as `Database.read`."""

    def __call__(self, work: Callable[[Connection], T], /) -> T:
        """Run `work` in a transaction, and give what it gives."""


def chain_is_whole(
    read: Reads,
    macs: Macs,
    request_id: str,
    *,
    each: Callable[[Row[Any]], None] = lambda _row: None,
) -> bool:
    """Check the closing MAC: are the submitted chunks all there, and only they?

    A large request is read piece by piece. Its chunks need not be of one moment, for each of them
    is shown to be what was handed in; and a reader that takes minutes would keep SQLite from
    using its write-ahead log anew, and PostgreSQL from tidying up.

    Args:
        read: Runs each piece's transaction.
        macs: Makes the MACs anew.
        request_id: The request.
        each: Is shown each submitted chunk's row in its order, the very one that is checked.
    """
    row = read(
        lambda conn: conn.execute(
            select(request.c.kind, request.c.chunks, request.c.closing_mac).where(
                request.c.id == request_id
            )
        ).one()
    )
    chain, n = b"", 0
    for one in _submitted(read, request_id):
        # Made anew: what stands in the row may have been changed after its call.
        # All were handed in under the first generation, whichever they are of by now.
        handed_in = ChunkFields(kind=row.kind, generation=1, **one._mapping)  # noqa: SLF001 - SQLAlchemy's name
        chain = chained(chain, macs.chunk(handed_in))
        each(one)
        n += 1
    if row.kind != Kind.MEMORIES and read(lambda conn: _is_odd(conn, request_id)):
        return False
    return n == row.chunks and same(row.closing_mac, macs.closing(request_id, n, chain))


def _submitted(read: Reads, request_id: str) -> Iterator[Row[Any]]:
    after: int | None = -1
    while after is not None:
        of = {"of_request": request_id, "after": after}
        some = read(lambda conn: conn.execute(_SUBMITTED, of).all())  # noqa: B023 - run at once
        yield from some
        after = some[-1].no if len(some) == _AT_ONCE else None


def has_unsent(conn: Connection, request_id: str) -> bool:
    """Say whether a purge that is about to end has a chunk that is still to be sent.

    Of those that are marked as leftovers it waits; one that lost its mark would stay behind.
    """
    unsent = (
        select(chunk.c.id)
        .join(request, request.c.id == chunk.c.request_id)
        .where(
            chunk.c.request_id == request_id,
            request.c.kind != Kind.MEMORIES,
            chunk.c.state.in_((ChunkState.DUE, ChunkState.LEASED)),
        )
    )
    return conn.execute(unsent.limit(1)).first() is not None


def _is_odd(conn: Connection, request_id: str) -> bool:
    """Say whether a purge has a chunk that is neither itself nor one of its leftovers.

    The mark is under no MAC, and without it somebody could make a purge end with something left.
    """
    odd = or_(
        chunk.c.parent.is_not(None) & (chunk.c.leftover == 0),
        chunk.c.parent.is_(None) & (chunk.c.leftover == 1),
    )
    found = select(chunk.c.id).where(chunk.c.request_id == request_id, odd).limit(1)
    return conn.execute(found).first() is not None
