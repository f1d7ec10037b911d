"""The closing MAC: are the submitted chunks all there, and only they?"""

from dataclasses import fields

from sqlalchemy import Connection, select

from ledger.macs import ChunkFields, Macs, chained, same
from ledger.schema import chunk, request

__all__ = ["chain_is_whole"]


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
