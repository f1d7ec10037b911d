"""Is this row still what was ordered? Checked by MAC before every call."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, RowMapping, func, or_, select, update

from ledger.claimed import ids_of
from ledger.macs import ChunkFields, HeaderFields, Macs, same
from ledger.schema import chunk, readback, request
from ledger.states import ChunkState, Kind, RequestState, Sight
from ledger.tampering import note_tampered

__all__ = [
    "OrderCheck",
    "bury_tampered",
    "header_fields",
    "header_holds",
    "may_delete",
    "request_columns",
]


# What the header MAC covers beside what the work's own row has too (id, project, account, lane).
_HEADER_ONLY: Final = (
    "kind",
    "verify",
    "subject",
    "reason",
    "principal",
    "idempotency_ref",
    "chunk_size",
    "created_at",
    "submitted_at",
    "due_at",
    "not_before",
    "salt",
    "include_later",
)


class OrderCheck:
    """Checks header and chunk MACs; remembers the headers that it has checked."""

    def __init__(self, macs: Macs) -> None:
        """Start with nothing checked; one of these lives as long as one claim."""
        self._macs = macs
        self._headers: dict[str, bool] = {}

    def fault(self, row: Row[Any]) -> str | None:
        """Name what does not match: `header`, `chunk`, or None when all is as ordered.

        Args:
            row: A claimed row with the request's columns (`request_lane`, `request_project` and
                `request_account` for those that chunks have too) and the chunk's.
        """
        known = self._headers.get(row.request_id)
        if known is None:
            fields = header_fields(row._mapping, prefixed=True)  # noqa: SLF001 - SQLAlchemy's name
            known = same(row.header_mac, self._macs.header(fields))
            self._headers[row.request_id] = known
        if not known or (row.project, row.account) != (row.request_project, row.request_account):
            return "header"
        if row.chunk_id is None:
            return None  # a list of the subject, which the header names
        fields_of_chunk = ChunkFields(
            request_id=row.request_id,
            project=row.project,
            kind=row.kind,
            generation=row.generation,
            no=row.no,
            parent=row.parent,
            first=row.first,
            places=row.places,
            ids=row.ids,
        )
        if not same(row.mac, self._macs.chunk(fields_of_chunk)):
            return "chunk"
        # Under no MAC of their own, but the ids are: a wrong one would wreck the counts.
        n = len(ids_of(row.ids))
        whole = row.n == (n or 1) if row.readback_id is None else 0 <= row.item < n
        if row.readback_id is None and bool(row.leftover) != (row.kind != Kind.MEMORIES and n > 0):
            whole = False
        return None if whole else "chunk"


def header_fields(row: Mapping[str, Any] | RowMapping, *, prefixed: bool = False) -> HeaderFields:
    """Collect what the header MAC covers from a row of the request table."""
    mark = "request_" if prefixed else ""
    return HeaderFields(
        id=row["request_id"] if prefixed else row["id"],
        project=row[f"{mark}project"],
        account=row[f"{mark}account"],
        lane=row[f"{mark}lane"],
        **{name: row[name] for name in _HEADER_ONLY},
    )


def header_holds(macs: Macs, row: Row[Any]) -> bool:
    """Say whether a row of the request table has the header that was handed in."""
    fields = header_fields(row._mapping)  # noqa: SLF001 - SQLAlchemy's name
    return same(row.header_mac, macs.header(fields))


def request_columns() -> list[ColumnElement[Any]]:
    """Columns of the request that `OrderCheck.fault` takes beside those of the work itself."""
    return [request.c[name] for name in (*_HEADER_ONLY, "header_mac")] + [
        request.c.lane.label("request_lane"),
        request.c.project.label("request_project"),
        request.c.account.label("request_account"),
    ]


def bury_tampered(conn: Connection, row: Row[Any], fault: str) -> None:
    """Take a row that is not what was ordered out of the line; no call is made for it."""
    reason = f"tampered_{fault}"
    if row.readback_id is not None:
        conn.execute(
            update(readback)
            .where(readback.c.id == row.readback_id)
            .values(state="done", sight=Sight.UNKNOWN, last_reason=reason)
        )
    elif row.leftover:
        # It is in no count, and the purge's list shows what is still there.
        conn.execute(
            update(chunk)
            .where(chunk.c.id == row.chunk_id)
            .values(state=ChunkState.DONE, last_reason=reason)
        )
    else:
        conn.execute(
            update(chunk)
            .where(chunk.c.id == row.chunk_id)
            .values(state=ChunkState.DEAD, last_reason=reason, doubtful=0)
        )
        pending = conn.execute(
            select(request.c.pending)
            .where(request.c.id == row.request_id)
            .with_for_update(key_share=True)
        ).scalar_one()
        # The row's own number may be what was changed; the sum has to stay right.
        others = select(func.coalesce(func.sum(chunk.c.n), 0)).where(
            chunk.c.request_id == row.request_id,
            chunk.c.state.in_((ChunkState.DUE, ChunkState.LEASED)),
            chunk.c.leftover == 0,
        )
        n = max(0, pending - conn.execute(others).scalar_one())
        conn.execute(
            update(request)
            .where(request.c.id == row.request_id)
            .values(pending=pending - n, refused=request.c.refused + n)
        )
    note_tampered(conn, row.request_id, {"fault": fault, "chunk": row.chunk_id})


def may_delete() -> ColumnElement[bool]:
    """Condition on a request: its chunks may be sent now, unless it is held.

    Nothing of a cancelled one is. While a list is judged, nothing is deleted again: the list was
    read before, and would show what the second call deletes.
    """
    settled = or_(request.c.state == RequestState.OPEN, request.c.subject.is_(None))
    return (request.c.cancelling == 0) & settled
