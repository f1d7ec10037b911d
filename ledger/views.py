"""Reading requests as anybody may see them: counts, states and times, no names."""

from typing import Any

from sqlalchemy import Connection, Row, select

from ledger.clock import from_wall
from ledger.errors import NotFoundError
from ledger.model import COUNT_NAMES, Counts, RequestView
from ledger.schema import request
from ledger.states import Certainty, Kind, Lane, RequestState, Result

__all__ = ["list_requests", "view_request"]


def view_request(conn: Connection, request_id: str) -> RequestView:
    """Show one request.

    Raises:
        NotFoundError: There is none with this id.
    """
    row = None
    # What no database can hold is no request either.
    if request_id.isprintable():
        row = conn.execute(select(request).where(request.c.id == request_id)).first()
    if row is None:
        msg = (
            "There is no request with this id in this ledger; `expunge list` shows those there "
            "are, and `expunge config show` which ledger this is."
        )
        raise NotFoundError(msg)
    return _view(row)


def list_requests(
    conn: Connection,
    *,
    state: RequestState | None,
    project: str | None,
    kind: Kind | None,
    limit: int,
) -> list[RequestView]:
    """Show the newest requests that match, newest first."""
    if project is not None and not project.isprintable():
        return []
    newest = (request.c.created_at.desc(), request.c.id.desc())
    query = select(request).order_by(*newest).limit(max(0, limit))
    for column, value in (("state", state), ("project", project), ("kind", kind)):
        if value is not None:
            query = query.where(request.c[column] == value)
    return [_view(row) for row in conn.execute(query)]


def _view(row: Row[Any]) -> RequestView:
    return RequestView(
        id=row.id,
        project=row.project,
        kind=Kind(row.kind),
        lane=Lane(row.lane),
        state=RequestState(row.state),
        generation=row.generation,
        verify=row.verify_now,
        result=row.result and Result(row.result),
        certainty=row.certainty and Certainty(row.certainty),
        counts=Counts(
            requested=row.requested,
            unique=row.unique_ids,
            **{name: getattr(row, name) for name in COUNT_NAMES},
        ),
        attempts=row.attempts,
        retried=row.retried,
        chunks=row.chunks,
        held=bool(row.held),
        reason=row.reason,
        created_at=from_wall(row.created_at),
        submitted_at=from_wall(row.submitted_at),
        due_at=row.due_at and from_wall(row.due_at),
        not_before=row.not_before and from_wall(row.not_before),
        finished_at=row.finished_at and from_wall(row.finished_at),
    )
