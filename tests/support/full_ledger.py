"""Fills a ledger as months of work would, but faster: open chunks that can be claimed, old events.

Used by the fault suite and by `bench/claims.py`.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, select, text, update

from ledger import Keys, Kind, Ledger, Order
from ledger.engine import Database
from ledger.macs import ChunkFields, Macs
from ledger.schema import chunk, project, request

__all__ = ["add_events", "add_open_chunks", "analyze"]

_ROWS_AT_ONCE: Final = 10_000
_EVENT_COLUMNS: Final = ("id", "request", "type", "leaf_hash")
_BODY_COLUMNS: Final = ("event", "payload", "salt")
# As long as an average one.
_PAYLOAD: Final = b"{" + b'"x":1,' * 50 + b'"v":1}'


def add_open_chunks(
    url: str,
    keys: Keys,
    *,
    chunks: int,
    ids_per_chunk: int = 10,
    chunks_per_request: int = 10_000,
    project_name: str = "default",
    **order: Any,
) -> None:
    """Hand in requests until so many more chunks are due; each can be claimed and is as ordered.

    A request comes in by the front door with its first chunk; the others are put beside it. *order*
    is what else is said of each, such as its read-back policy.
    """
    macs = Macs(keys)
    with Ledger.open(url, keys=keys) as ledger, closing(Database(url)) as database:
        left = chunks
        while left > 0:
            some = min(left, chunks_per_request)
            ordered = Order(project=project_name, kind=Kind.MEMORIES, **order)
            intake = ledger.begin(ordered, chunk_size=ids_per_chunk)
            intake.add(f"{number:036d}" for number in range(ids_per_chunk))
            receipt = intake.finish()
            database.write(lambda conn: _copy(conn, macs, receipt.id, some), patient=True)  # noqa: B023 - run at once
            left -= some


def _copy(conn: Connection, macs: Macs, request_id: str, chunks: int) -> None:
    """Put further chunks beside a request's first, of other ids."""
    first = conn.execute(select(chunk).where(chunk.c.request_id == request_id)).one()
    model = dict(first._mapping)
    del model["id"]
    columns = tuple(model)

    def rows() -> Iterator[tuple[Any, ...]]:
        for no in range(1, chunks):
            ids = [f"{no}/{number:036d}"[-36:] for number in range(first.n)]
            row = model | {
                "no": no,
                "first": no * first.n,
                "tag": first.tag + no,
                "ids": json.dumps(ids, separators=(",", ":")),
            }
            fields = {name: row[name] for name in ChunkFields.__dataclass_fields__ if name in row}
            row["mac"] = macs.chunk(ChunkFields(**fields, kind=Kind.MEMORIES.value))
            yield tuple(row.values())

    _insert(conn, "chunk", columns, rows())
    total = chunks * first.n
    conn.execute(
        update(request)
        .where(request.c.id == request_id)
        .values(chunks=chunks, next_no=chunks, requested=total, unique_ids=total, pending=total)
    )
    tail = f"{first.lane}_tail"
    conn.execute(
        update(project)
        .where(project.c.name == first.project)
        .values({tail: project.c[tail] + chunks})
    )


def add_events(url: str, *, events: int, begin: int = 0) -> None:
    """Add so many events with their bodies, older than any other."""
    with closing(Database(url)) as database:
        for start in range(begin, begin + events, 20 * _ROWS_AT_ONCE):
            numbers = range(start, min(begin + events, start + 20 * _ROWS_AT_ONCE))
            database.write(lambda conn: _events(conn, numbers), patient=True)  # noqa: B023 - run at once


def _events(conn: Connection, numbers: Sequence[int]) -> None:
    # Version 7 ids of 2020, so in the order of their numbers as real ones are.
    ids = [f"016f5e66-e800-7000-8000-{number:012x}" for number in numbers]
    digest, salt = b"l" * 32, b"s" * 32
    heads = ((one, None, "calls.intent", digest) for one in ids)
    _insert(conn, "event", _EVENT_COLUMNS, heads)
    _insert(conn, "event_body", _BODY_COLUMNS, ((one, _PAYLOAD, salt) for one in ids))


def analyze(url: str) -> None:
    """Let the database know how large its tables are, as its own upkeep does in time."""
    with closing(Database(url)) as database:
        if database.is_sqlite:
            return  # nobody does it there
        database.write(lambda conn: conn.execute(text("ANALYZE")), patient=True)


def _insert(
    conn: Connection, table: str, columns: Sequence[str], rows: Iterator[tuple[Any, ...]]
) -> None:
    names = ", ".join(f'"{name}"' for name in columns)
    driver: Any = conn.connection.driver_connection
    if conn.dialect.name == "postgresql":
        with driver.cursor().copy(f'COPY "{table}" ({names}) FROM STDIN') as copy:
            for row in rows:
                copy.write_row(row)
        return
    marks = ", ".join("?" * len(columns))
    statement = f'INSERT INTO "{table}" ({names}) VALUES ({marks})'  # noqa: S608 - our own names
    while some := list(islice(rows, _ROWS_AT_ONCE)):
        driver.executemany(statement, some)
