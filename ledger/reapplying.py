"""After the memory store was restored from a backup: what was deleted since is there again.

What still has its ids is ordered again, as requests of their own that follow the first ones. Of
what was scrubbed nobody here knows whom or what it was about; its producer does, and his list can
be compared (`ledger.lookups`, `recognise`).
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, select, update

from ledger.checks import header_holds
from ledger.clock import to_wall, wall_us
from ledger.closing import chain_is_whole
from ledger.engine import Database
from ledger.header import make_header
from ledger.intake import Intake
from ledger.items import list_root
from ledger.macs import Macs
from ledger.model import Order
from ledger.schema import chunk, event, event_body, request
from ledger.states import Kind, Lane

__all__ = ["Reapplied", "Recognised", "reapply", "recognise"]

_AT_ONCE: Final = 100


@dataclass(frozen=True, kw_only=True)
class Reapplied:
    """What became of one request that ended since.

    Attributes:
        id: The request's.
        kind: What it ordered.
        ids: How many ids it has; 1 for a purge.
        again: Id of the request that orders it anew; None when there is none.
        why: `scrubbed`: its names are gone; `tampered`: it is not what was ordered; None else.
    """

    id: str
    kind: Kind
    ids: int
    again: str | None
    why: str | None


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """A scrubbed batch that a list is the list of."""

    id: str
    ended_at: int
    unique: int


def reapply(
    database: Database,
    macs: Macs,
    *,
    since: datetime,
    principal: str,
    reason: str,
    projects: Iterable[str] | None = None,
    dry_run: bool = False,
) -> Iterator[Reapplied]:
    """Order anew what was deleted since the backup was made; safe to run again.

    Args:
        database: Where the ledger is.
        macs: Checks that each is what was ordered.
        since: The moment of the backup; a little earlier does no harm.
        principal: Who orders it, at most 64 characters.
        reason: A short code for the record.
        projects: Of these only; None is all.
        dry_run: Order nothing.

    Yields:
        One for each request that ended since and was carried out, the oldest first.

    Raises:
        RequestError: The reason is no short code.
        LedgerError: The ledger did not confirm; running it again goes on from there.
    """
    wanted = None if projects is None else list(projects)
    ended, after = to_wall(since), ""
    while some := database.read(lambda conn: _ended(conn, ended, after, wanted)):  # noqa: B023 - run at once
        for row in some:
            ended, after = row.finished_at, row.id
            why = None
            again = None
            if row.scrub is not None:
                why = "scrubbed"
            elif not database.read(lambda conn: _is_whole(conn, macs, row)):  # noqa: B023 - as above
                why = "tampered"
            elif not dry_run:
                again = _order(database, macs, row, since, principal=principal, reason=reason)
            yield Reapplied(
                id=row.id, kind=Kind(row.kind), ids=row.unique_ids, again=again, why=why
            )


def recognise(
    database: Database, macs: Macs, ids: Iterable[str], *, since: datetime
) -> list[Recognised]:
    """Say of which scrubbed batches that ended since a list is the whole list, in its order.

    Args:
        database: Where the ledger is.
        macs: Has the pseudonym keys of their epochs.
        ids: The list as it was handed in; repeats are folded.
        since: As for `reapply`.

    Raises:
        LedgerError: The database did not answer.
    """
    unique = list(dict.fromkeys(ids))
    found: list[Recognised] = []
    ended, after = to_wall(since), ""
    while some := database.read(lambda conn: _ended(conn, ended, after, None)):  # noqa: B023 - run at once
        for row in some:
            ended, after = row.finished_at, row.id
            fits = row.kind == Kind.MEMORIES and row.scrub is not None
            if not fits or row.unique_ids != len(unique) or row.key_epoch not in macs.epochs:
                continue
            salt = macs.salt(row.key_epoch, row.project, row.id)
            root, _ = list_root(salt, unique, row.chunk_size)
            if root.hex() in database.read(lambda conn: _roots(conn, row.id)):  # noqa: B023 - as above
                known = Recognised(id=row.id, ended_at=row.finished_at, unique=row.unique_ids)
                found.append(known)
    return found


def _ended(conn: Connection, ended: int, after: str, projects: list[str] | None) -> list[Row[Any]]:
    query = (
        select(request)
        .where(
            request.c.finished_at.is_not(None),
            (request.c.finished_at > ended)
            | ((request.c.finished_at == ended) & (request.c.id > after)),
            # Of the others nothing was ever sent.
            request.c.closing_mac.is_not(None),
            request.c.cancelled < request.c.unique_ids,
        )
        .order_by(request.c.finished_at, request.c.id)
        .limit(_AT_ONCE)
    )
    if projects is not None:
        query = query.where(request.c.project.in_(projects))
    return list(conn.execute(query).all())


def _is_whole(conn: Connection, macs: Macs, row: Row[Any]) -> bool:
    return header_holds(macs, row) and chain_is_whole(conn, macs, row.id)


def _order(
    database: Database,
    macs: Macs,
    row: Row[Any],
    since: datetime,
    *,
    principal: str,
    reason: str,
) -> str:
    order = Order(
        project=row.project,
        kind=Kind(row.kind),
        subject=row.subject,
        lane=Lane(row.lane),
        verify=row.verify,
        reason=reason,
        # The same restore is applied once, however often this is run.
        idempotency_key=f"reapply/{row.id}/{to_wall(since)}",
        include_later=bool(row.include_later),
        principal=principal,
    )
    header = make_header(
        order, account=row.account, chunk_size=row.chunk_size, macs=macs, now_us=wall_us()
    )
    intake = Intake(database, macs, header)
    if row.kind == Kind.MEMORIES:
        for ids in _ids(database, row.id):
            intake.add(ids)
    made = intake.finish().id
    database.write(
        lambda conn: conn.execute(
            update(request).where(request.c.id == made).values(follows=row.id)
        )
    )
    return made


def _ids(database: Database, request_id: str) -> Iterator[list[str]]:
    """Yield the ids of a request as they were handed in, a chunk at a time."""
    after = -1
    while True:
        query = (
            select(chunk.c.no, chunk.c.ids)
            .where(chunk.c.request_id == request_id, chunk.c.parent.is_(None), chunk.c.no > after)
            .order_by(chunk.c.no)
            .limit(_AT_ONCE)
        )
        rows = database.read(lambda conn: conn.execute(query).all())  # noqa: B023 - run at once
        for row in rows:
            after = row.no
            yield json.loads(row.ids)
        if len(rows) < _AT_ONCE:
            return


def _roots(conn: Connection, request_id: str) -> set[str]:
    """Give the roots that the record has of a request's ids."""
    query = (
        select(event_body.c.payload)
        .join(event, event.c.id == event_body.c.event)
        .where(event.c.request == request_id, event.c.type == "request.finished")
    )
    bodies = (json.loads(bytes(payload)) for payload in conn.execute(query).scalars())
    return {str(body.get("items_root")) for body in bodies}
