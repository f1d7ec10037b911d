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

from sqlalchemy import Connection, Row, select

from ledger.acting import check_act, check_principal
from ledger.chains import Chains, restore_key
from ledger.checks import header_holds
from ledger.clock import to_wall, wall_us
from ledger.closing import chain_is_whole
from ledger.engine import Database
from ledger.events import EventType, append
from ledger.fitting import require_own_keys
from ledger.header import make_header
from ledger.in_force import learn_epoch
from ledger.intake import Intake
from ledger.items import list_root
from ledger.macs import Macs
from ledger.model import Order
from ledger.schema import chunk, event, event_body, request
from ledger.states import Kind, Lane

__all__ = ["Reapplied", "Recognised", "reapply", "recognise"]

_AT_ONCE: Final = 100
# So far may the wall clocks of hosts be apart.
_SKEW_US: Final = 300_000_000


@dataclass(frozen=True, kw_only=True)
class Reapplied:
    """What became of one request that ended since.

    Attributes:
        id: The request's.
        kind: What it ordered.
        ids: How many ids it has; 1 for a purge.
        again: Id of the request that orders it anew; None when there is none.
        why: `scrubbed`: its names are gone; `tampered`: it is not what was ordered; `ordered`: an
            earlier run for the same restore ordered it, as `again`; None else.
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
    times: int = 1,
) -> Iterator[Reapplied]:
    """Order anew what was deleted since the backup was made, once for each restore of it.

    Running it again orders nothing twice, also when it was broken off, and after what it ordered
    has ended. Of a request and its re-applications for other restores the one that ended last goes
    for all. What was taken in after the first order for this restore was not undone by it.

    Args:
        database: Where the ledger is.
        macs: Checks that each is what was ordered.
        since: The moment of the backup, the very same in each run; a little earlier does no harm.
        principal: Who orders it, at most 64 characters.
        reason: A short code for the record.
        projects: Of these only; None is all.
        dry_run: Order nothing.
        times: How often this backup has been restored by now; each time is a restore of its own.

    Yields:
        One for each request that ended since and was carried out, the oldest first; of those that
        order the same again, one.

    Raises:
        RequestError: The reason is no short code.
        KeysError: The keys are another ledger's, or that of the epoch in force is not among them.
        LedgerError: The ledger did not confirm; running it again goes on from there.
    """
    check_act(principal=principal, reason=reason)
    require_own_keys(database, macs)
    learn_epoch(database, macs)
    moment = to_wall(since)
    restore = str(moment) if times == 1 else f"{moment}/{times}"
    chains = database.read(lambda conn: Chains(conn, macs, since=moment, restore=restore))
    first = chains.first_made_at
    taken_in_by = (wall_us() if first is None else first) + _SKEW_US
    told: set[str] = set()
    for some in _pages(database, moment, None if projects is None else list(projects), taken_in_by):
        if chains.lack(some):
            database.read(chains.read)
        for row in some:
            root = chains.root(row.id)
            if root in told or not (root in chains.made or chains.is_latest(row)):
                continue
            told.add(root)
            made = chains.made.get(root)
            why: str | None = "ordered"
            if made is None:
                made, why = _anew(
                    database,
                    macs,
                    row,
                    key=restore_key(root, restore),
                    principal=principal,
                    reason=reason,
                    dry_run=dry_run,
                )
            yield Reapplied(id=row.id, kind=Kind(row.kind), ids=row.unique_ids, again=made, why=why)


def recognise(
    database: Database,
    macs: Macs,
    ids: Iterable[str],
    *,
    since: datetime,
    principal: str,
    projects: Iterable[str] | None = None,
) -> list[Recognised]:
    """Say of which scrubbed batches that ended since a list is the whole list, in its order.

    The look is recorded, without the ids.

    Args:
        database: Where the ledger is.
        macs: Has the pseudonym keys of their epochs.
        ids: The list as it was handed in; repeats are folded.
        since: As for `reapply`.
        principal: Who asks, for the record; at most 64 characters.
        projects: Of these only; None is all.

    Raises:
        RequestError: The principal is none.
        KeysError: The keys are another ledger's.
        LedgerError: The ledger did not confirm that it recorded the look; nothing is shown then.
    """
    check_principal(principal)
    require_own_keys(database, macs)
    unique = list(dict.fromkeys(ids))
    wanted = None if projects is None else list(projects)
    found: list[Recognised] = []
    for some in _pages(database, to_wall(since), wanted):
        for row in some:
            fits = row.kind == Kind.MEMORIES and row.scrub is not None
            if not fits or row.unique_ids != len(unique) or row.key_epoch not in macs.epochs:
                continue
            salt = macs.salt(row.key_epoch, row.project, row.id)
            root, _ = list_root(salt, unique, row.chunk_size)
            if root.hex() in database.read(lambda conn: _roots(conn, row.id)):  # noqa: B023 - run at once
                known = Recognised(id=row.id, ended_at=row.finished_at, unique=row.unique_ids)
                found.append(known)
    payload = {"principal": principal, "asked": len(unique), "known": len(found)}
    database.write(lambda conn: append(conn, EventType.BATCHES_LOOKED_UP, payload))
    return found


def _pages(
    database: Database, ended: int, projects: list[str] | None, taken_in_by: int | None = None
) -> Iterator[list[Row[Any]]]:
    """Yield what ended since, the oldest first, some at a time."""
    after = ""
    while some := database.read(lambda conn: _ended(conn, ended, after, projects, taken_in_by)):  # noqa: B023 - run at once
        ended, after = some[-1].finished_at, some[-1].id
        yield some


def _ended(
    conn: Connection, ended: int, after: str, projects: list[str] | None, taken_in_by: int | None
) -> list[Row[Any]]:
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
    if taken_in_by is not None:
        query = query.where(request.c.created_at <= taken_in_by)
    return list(conn.execute(query).all())


def _anew(
    database: Database,
    macs: Macs,
    row: Row[Any],
    *,
    key: str,
    principal: str,
    reason: str,
    dry_run: bool,
) -> tuple[str | None, str | None]:
    """Order one anew, if that can be; gives the new request's id, and why it is not ordered."""
    ref = macs.idempotency(row.project, key)
    known = database.read(lambda conn: _under(conn, row.project, ref))
    if known is not None and known.closing_mac is not None:
        return known.id, "ordered"  # by another run, at the same time
    if row.scrub is not None:
        return None, "scrubbed"
    if not (header_holds(macs, row) and chain_is_whole(database.read, macs, row.id)):
        return None, "tampered"
    if dry_run:
        return None, None
    # What an earlier run began is gone on with; the reason given then stands.
    reason = reason if known is None else known.reason
    return _order(database, macs, row, key=key, principal=principal, reason=reason), None


def _under(conn: Connection, project: str, ref: str) -> Row[Any] | None:
    query = select(request).where(request.c.project == project, request.c.idempotency_ref == ref)
    return conn.execute(query).first()


def _order(
    database: Database, macs: Macs, row: Row[Any], *, key: str, principal: str, reason: str
) -> str:
    order = Order(
        project=row.project,
        kind=Kind(row.kind),
        subject=row.subject,
        lane=Lane(row.lane),
        verify=row.verify,
        reason=reason,
        idempotency_key=key,
        include_later=bool(row.include_later),
        principal=principal,
    )
    header = make_header(
        order,
        account=row.account,
        chunk_size=row.chunk_size,
        macs=macs,
        now_us=wall_us(),
        follows=row.id,
    )
    intake = Intake(database, macs, header)
    if row.kind == Kind.MEMORIES:
        for ids in _ids(database, row.id):
            intake.add(ids)
    return intake.finish().id


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
