"""Reading requests as anybody may see them: counts, states and times, no names."""

import json
from typing import Any, Final

from sqlalchemy import Connection, Row, func, select, tuple_

from ledger.clock import from_wall, wall_us
from ledger.engine import Database
from ledger.errors import NotFoundError
from ledger.filters import Filter
from ledger.model import COUNT_NAMES, Counts, RequestView
from ledger.risk import at_risk, overdue
from ledger.schema import request
from ledger.states import Certainty, Kind, Lane, RequestState, Result
from ledger.words import in_words

__all__ = [
    "account_of_request",
    "count_requests",
    "find_requests",
    "list_requests",
    "view_request",
]

_IDS_AT_ONCE: Final = 5_000
_NEWEST: Final = (request.c.created_at.desc(), request.c.id.desc())


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
        raise _not_found()
    return _view(row, wall_us())


def account_of_request(conn: Connection, request_id: str) -> str:
    """Give the account of a request.

    Raises:
        NotFoundError: There is none with this id.
    """
    name = None
    if request_id.isprintable():
        name = conn.execute(select(request.c.account).where(request.c.id == request_id)).scalar()
    if name is None:
        raise _not_found()
    return str(name)


def list_requests(conn: Connection, *, matching: Filter, limit: int) -> list[RequestView]:
    """Show the newest requests that match, newest first."""
    now = wall_us()
    query = select(request).where(matching.condition(now)).order_by(*_NEWEST).limit(max(0, limit))
    return [_view(row, now) for row in conn.execute(query)]


def count_requests(conn: Connection, *, matching: Filter) -> int:
    """Count the requests that match."""
    query = select(func.count()).select_from(request).where(matching.condition(wall_us()))
    return conn.execute(query).scalar_one()


def find_requests(database: Database, *, matching: Filter) -> list[str]:
    """Give the ids of all requests that match, newest first, read in short transactions."""
    now = wall_us()
    found: list[str] = []
    after: tuple[int, str] | None = None
    while True:
        query = (
            select(request.c.created_at, request.c.id)
            .where(matching.condition(now))
            .order_by(*_NEWEST)
            .limit(_IDS_AT_ONCE)
        )
        if after is not None:
            query = query.where(tuple_(request.c.created_at, request.c.id) < after)
        page = database.read(lambda conn: conn.execute(query).all())  # noqa: B023 - run at once
        found += [row.id for row in page]
        if len(page) < _IDS_AT_ONCE:
            return found
        after = (page[-1].created_at, page[-1].id)


def _not_found() -> NotFoundError:
    msg = (
        "There is no request with this id in this ledger; `expunge list` shows those there "
        "are, and `expunge config show` which ledger this is."
    )
    return NotFoundError(msg)


def _view(row: Row[Any], now_us: int) -> RequestView:
    due = row.due_at
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
        hold_reason=row.hold_reason,
        cancelling=bool(row.cancelling),
        overdue=overdue(due_us=due, now_us=now_us, ended=row.finished_at is not None),
        at_risk=at_risk(
            submitted_us=row.submitted_at,
            due_us=due,
            now_us=now_us,
            ended=row.finished_at is not None,
        ),
        reason=row.reason,
        created_at=from_wall(row.created_at),
        submitted_at=from_wall(row.submitted_at),
        due_at=due and from_wall(due),
        not_before=row.not_before and from_wall(row.not_before),
        finished_at=row.finished_at and from_wall(row.finished_at),
        seen=in_words(row),
        drawn=row.drawn,
        leftovers=row.leftovers,
        later=row.later,
        include_later=bool(row.include_later),
        not_checked=tuple(json.loads(row.not_checked)) if row.not_checked else (),
        second_look=row.second_look,
        follows=row.follows,
        tampered=bool(row.tampered),
    )
