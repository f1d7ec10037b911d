"""Is this row still what was ordered? Checked by MAC before every call."""

from typing import Any

from sqlalchemy import Connection, Row, RowMapping, update

from ledger.events import EventType, append
from ledger.macs import ChunkFields, HeaderFields, Macs, same
from ledger.schema import chunk, readback, request
from ledger.states import ChunkState, Sight

__all__ = ["OrderCheck", "bury_tampered", "header_fields"]


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
        return None if same(row.mac, self._macs.chunk(fields_of_chunk)) else "chunk"


def header_fields(row: RowMapping, *, prefixed: bool = False) -> HeaderFields:
    """Collect what the header MAC covers from a row of the request table."""
    mark = "request_" if prefixed else ""
    return HeaderFields(
        id=row["request_id"] if prefixed else row["id"],
        project=row[f"{mark}project"],
        account=row[f"{mark}account"],
        lane=row[f"{mark}lane"],
        **{
            name: row[name]
            for name in (
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
            )
        },
    )


def bury_tampered(conn: Connection, row: Row[Any], fault: str) -> None:
    """Take a row that is not what was ordered out of the line; no call is made for it."""
    reason = f"tampered_{fault}"
    if row.readback_id is not None:
        conn.execute(
            update(readback)
            .where(readback.c.id == row.readback_id)
            .values(state="done", sight=Sight.UNKNOWN, last_reason=reason)
        )
    else:
        conn.execute(
            update(chunk)
            .where(chunk.c.id == row.chunk_id)
            .values(state=ChunkState.DEAD, last_reason=reason)
        )
        conn.execute(
            update(request)
            .where(request.c.id == row.request_id)
            .values(pending=request.c.pending - row.n, refused=request.c.refused + row.n)
        )
    append(
        conn,
        EventType.ORDER_TAMPERED,
        {"fault": fault, "chunk": row.chunk_id},
        request_id=row.request_id,
    )
