"""Taking in many small requests at once: one answer each, a few hundred to a transaction.

A request that comes alone costs a transaction, and a transaction costs a disk's flush. Messages
and lines of a file come by the thousand, so here they share one. Their rows, MACs and events are
those that `ledger.intake` writes, and a bad one among them spoils no other.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection

from ledger.clock import wall_us
from ledger.commits import leave_witness
from ledger.crash_points import reached
from ledger.engine import Database
from ledger.errors import LedgerError, RequestError
from ledger.events import EventType, event_rows
from ledger.header import Header, make_header
from ledger.ids import are_plain_ids, check_memory_id, ids_as_json
from ledger.in_force import take_in_force
from ledger.insert import insert_all, mark, marks
from ledger.intake import CHUNKS_PER_TRANSACTION, Intake, conflict
from ledger.macs import ChunkFields, Macs, chained, same
from ledger.model import Order, Receipt
from ledger.purge_rate import recent_purges
from ledger.registry import account_of
from ledger.release import place_in_line
from ledger.rows import accepted_payload, chunk_row, header_row
from ledger.schema import FOREVER_NS, chunk, event, event_body, request
from ledger.states import Kind, RequestState

__all__ = ["REQUESTS_PER_TRANSACTION", "take_many"]

# Some 10 ms on SQLite, with a chunk each; long ones count by their chunks.
REQUESTS_PER_TRANSACTION: Final = 200
_MOST_CHUNKS: Final = CHUNKS_PER_TRANSACTION
# Others that commit the same keys at the same moment are found by then.
_TRIES: Final = 5

_Answer = Receipt | RequestError
_Known = dict[str, Any]  # a row by its key


@dataclass(frozen=True, kw_only=True, slots=True)
class _Made:
    """One request, checked; its chunks are cut when its id is certain."""

    place: int
    order: Order
    header: Header
    requested: int
    ids: tuple[str, ...]

    @property
    def key(self) -> str | None:
        return self.header.fields.idempotency_ref

    def chunks(self, request_id: str, chunk_size: int) -> Iterator[ChunkFields]:
        """Cut as `Intake` would."""
        fields = self.header.fields
        # A purge is one chunk without ids.
        for no, first in enumerate(range(0, max(1, len(self.ids)), chunk_size)):
            yield ChunkFields(
                request_id=request_id,
                project=fields.project,
                kind=fields.kind,
                generation=1,
                no=no,
                parent=None,
                first=first,
                places=None,
                ids=ids_as_json(self.ids[first : first + chunk_size]),
            )


def take_many(
    database: Database,
    macs: Macs,
    orders: Sequence[tuple[Order, Sequence[str]]],
    *,
    chunk_size: int,
) -> list[_Answer]:
    """Take requests in, several to a transaction.

    Args:
        database: The ledger's.
        macs: Makes the MACs.
        orders: Each with its memory ids; a purge has none. One with more ids than fit into a
            transaction is taken in by itself, as `Intake` does.
        chunk_size: Most ids per call.

    Returns:
        For each order, in the same place, its receipt, or the error that says why it is not taken;
        of that one nothing is recorded.

    Raises:
        KeysError: The epoch of these keys is not in force; said of the first transaction with a new
            request in it, and of a later one when an epoch begins meanwhile.
        LedgerError: The ledger did not confirm. Requests before that may be recorded, those of
            whole transactions; handed in again, they are found by their keys. Without keys, hand
            in at most `REQUESTS_PER_TRANSACTION` of one chunk each: they are in all or none.
    """
    return _Taking(database, macs, chunk_size).run(orders)


class _Taking:
    def __init__(self, database: Database, macs: Macs, chunk_size: int) -> None:
        self._database = database
        self._macs = macs
        self._chunk_size = chunk_size
        self._accounts: dict[str, str | RequestError] = {}
        self._answers: dict[int, _Answer] = {}

    def run(self, orders: Sequence[tuple[Order, Sequence[str]]]) -> list[_Answer]:
        some: list[_Made] = []
        keys: set[str] = set()
        chunks = 0
        for place, (order, ids) in enumerate(orders):
            try:
                made = self._checked(place, order, ids)
            except RequestError as error:
                self._answers[place] = error
                continue
            size = -(-len(made.ids) // self._chunk_size) or 1
            full = len(some) == REQUESTS_PER_TRANSACTION or chunks + size > _MOST_CHUNKS
            # The same key twice: the second one has to find the first.
            if some and (full or made.key in keys):
                self._take(some)
                some, keys, chunks = [], set(), 0
            if size > _MOST_CHUNKS:
                self._take_alone(made)
                continue
            some.append(made)
            chunks += size
            if made.key is not None:
                keys.add(made.key)
        if some:
            self._take(some)
        return [self._answers[place] for place in range(len(orders))]

    # -- checking ---------------------------------------------------------------------------------

    def _checked(self, place: int, order: Order, ids: Sequence[str]) -> _Made:
        header = make_header(
            order,
            account=self._account(order.project),
            chunk_size=self._chunk_size,
            macs=self._macs,
            now_us=wall_us(),
        )
        unique = _unique(order, ids)
        return _Made(place=place, order=order, header=header, requested=len(ids) or 1, ids=unique)

    def _account(self, project: str) -> str:
        if project not in self._accounts:
            try:
                found: str | RequestError = self._database.read(
                    lambda conn: account_of(conn, project)
                )
            except RequestError as error:
                found = error
            self._accounts[project] = found
        known = self._accounts[project]
        if isinstance(known, RequestError):
            raise known
        return known

    # -- one transaction --------------------------------------------------------------------------

    def _take(self, some: Sequence[_Made]) -> None:
        known = self._known(some)
        for left in range(_TRIES, 0, -1):
            fresh = [made for made in some if made.key not in known]
            if not fresh:
                break
            try:
                self._insert(fresh)
                break
            except LedgerError:
                # Another process may have committed one of these keys, or we did and the answer
                # was lost; anything else is the ledger's own trouble.
                now = self._known(some)
                if left == 1 or now.keys() == known.keys():
                    raise
                known = now
        for made in some:
            if made.key is not None and made.key in known:
                self._answer_known(made, known[made.key])

    def _known(self, some: Sequence[_Made]) -> _Known:
        keys = [made.key for made in some if made.key is not None]
        if not keys:
            return {}
        projects = {made.header.fields.project for made in some}

        def ask(conn: Connection) -> _Known:
            query = _question(mark(conn), len(projects), len(keys))
            rows = conn.exec_driver_sql(query, (*projects, *keys))
            return {row.idempotency_ref: row for row in rows}

        return self._database.read(ask)

    def _insert(self, fresh: Sequence[_Made]) -> None:
        rows = _Rows(self._macs)
        for made in fresh:
            rows.add(made, self._chunk_size)
        self._database.write_bulk(rows.insert)
        reached("submit.after_commit")
        self._answers.update(rows.receipts)

    # -- what is known already, and what is too long ----------------------------------------------

    def _answer_known(self, made: _Made, row: Any) -> None:  # noqa: ANN401 - a row of `_known`
        if row.fingerprint != made.header.fingerprint:
            self._answers[made.place] = conflict(row.id)
            return
        if row.state == RequestState.RECEIVING:
            # Somebody's stream under this key is under way: go on with it as a stream.
            self._take_alone(made)
            return
        chain, count = b"", 0
        for fields in made.chunks(row.id, row.chunk_size):
            chain, count = chained(chain, self._macs.chunk(fields)), count + 1
        if not same(row.closing_mac, self._macs.closing(row.id, count, chain)):
            self._answers[made.place] = conflict(row.id)
            return
        self._answers[made.place] = Receipt(
            id=row.id,
            state=RequestState(row.state),
            requested=row.requested,
            unique=row.unique_ids,
            # It is our own when the answer to our commit was lost.
            duplicate=row.id != made.header.fields.id,
            hold_reason=row.hold_reason,
        )

    def _take_alone(self, made: _Made) -> None:
        try:
            intake = Intake(self._database, self._macs, made.header)
            try:
                if made.ids:
                    intake.add(made.ids)
                self._answers[made.place] = intake.finish()
            except BaseException:
                # With a key, what is in already is found by whoever hands it in again.
                if made.key is None:
                    with suppress(LedgerError):
                        intake.abandon()
                raise
        except RequestError as error:
            self._answers[made.place] = error


@dataclass(frozen=True, kw_only=True, slots=True)
class _Purge:
    """A purge of a project that has a ceiling: whether it is held, its transaction says."""

    made: _Made
    event: int
    request: dict[str, Any]
    chunk: dict[str, Any]
    payload: dict[str, Any]
    due_ns: int


class _Rows:
    """The rows of one transaction, made before it begins.

    All but the places in line, and which purges are beyond the ceiling of their project.
    """

    def __init__(self, macs: Macs) -> None:
        self._macs = macs
        self._requests: list[dict[str, Any]] = []
        self._chunks: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
        self._events: list[dict[str, Any]] = []
        self._bodies: list[dict[str, Any]] = []
        self._purges: dict[str, list[_Purge]] = {}
        self._epoch = macs.epoch  # every header was made with these keys
        self.receipts: dict[int, Receipt] = {}

    def add(self, made: _Made, chunk_size: int) -> None:
        """Make the rows of one request."""
        header, fields = made.header, made.header.fields
        now = wall_us()
        waits = fields.not_before is not None and fields.not_before > now
        state = RequestState.SCHEDULED if waits else RequestState.OPEN
        unique = len(made.ids) or 1
        kind = Kind(fields.kind)
        # The purges' ceiling counts what others have committed, too.
        ceiling = header.ceilings.hold_for(kind, unique=unique) if made.ids else None
        parked = waits or ceiling is not None
        line = self._chunks.setdefault((fields.project, fields.account, fields.lane), [])
        chain, count = b"", 0
        for cut in made.chunks(fields.id, chunk_size):
            mac = self._macs.chunk(cut)
            chain, count = chained(chain, mac), count + 1
            n = min(chunk_size, unique - cut.first)
            line.append(chunk_row(header, cut, mac=mac, n=n, tag=0, parked=parked))
        closing_mac = self._macs.closing(fields.id, count, chain)
        self._requests.append(
            header_row(header)
            | {
                "state": state,
                "chunks": count,
                "next_no": count,
                "requested": made.requested,
                "unique_ids": unique,
                "pending": unique,
                "closing_mac": closing_mac,
                "touched_at": now,
                "held": int(ceiling is not None),
                "hold_reason": ceiling,
            }
        )
        payload = accepted_payload(
            header,
            requested=made.requested,
            unique=unique,
            chunks=count,
            closing_mac=closing_mac,
            held_for=ceiling,
        )
        head, body = event_rows(EventType.REQUEST_ACCEPTED, payload, request_id=fields.id)
        self._events.append(head)
        self._bodies.append(body)
        self.receipts[made.place] = Receipt(
            id=fields.id,
            state=state,
            requested=made.requested,
            unique=unique,
            duplicate=False,
            hold_reason=ceiling,
        )
        if not made.ids and header.ceilings.max_purges_per_hour is not None:
            purge = _Purge(
                made=made,
                event=len(self._events) - 1,
                request=self._requests[-1],
                chunk=line[-1],
                payload=payload,
                due_ns=line[-1]["due_ns"],
            )
            self._purges.setdefault(fields.project, []).append(purge)

    def insert(self, conn: Connection) -> None:
        """Write them; safe to run again in another transaction."""
        counted: set[str] = set()
        # Always in this order: two processes that lock several lines cannot block each other.
        for (project, account, lane), line in sorted(self._chunks.items()):
            if project not in counted:
                counted.add(project)
                self._count_purges(conn, project)
            start = place_in_line(conn, project, account, lane, len(line))
            for place, row in enumerate(line):
                row["tag"] = start + place
        leave_witness(conn, {request.c.id: self._requests[0]["id"]})
        take_in_force(conn, self._epoch)
        insert_all(conn, request, self._requests)
        insert_all(conn, chunk, [row for line in self._chunks.values() for row in line])
        insert_all(conn, event, self._events)
        insert_all(conn, event_body, self._bodies)
        reached("submit.before_commit")

    def _count_purges(self, conn: Connection, project: str) -> None:
        """Hold the purges that are beyond the project's ceiling, those before them counted."""
        purges = self._purges.get(project, ())
        if not purges:
            return
        most = max(one.made.header.ceilings.max_purges_per_hour or 0 for one in purges)
        recent = recent_purges(conn, project, now_us=wall_us(), most=most)
        for before, one in enumerate(purges, start=recent):
            header = one.made.header
            self._hold(
                one, header.ceilings.hold_for(Kind(header.fields.kind), unique=1, recent=before)
            )

    def _hold(self, one: _Purge, reason: str | None) -> None:
        if one.request["hold_reason"] == reason:
            return
        held = reason is not None
        one.request.update(held=int(held), hold_reason=reason)
        one.chunk["due_ns"] = FOREVER_NS if held else one.due_ns
        self._events[one.event], self._bodies[one.event] = event_rows(
            EventType.REQUEST_ACCEPTED,
            one.payload | {"held_for": reason},
            request_id=one.made.header.fields.id,
        )
        place = one.made.place
        self.receipts[place] = replace(self.receipts[place], hold_reason=reason)


@lru_cache(maxsize=64)
def _question(sign: str, projects: int, keys: int) -> str:
    columns = "id, idempotency_ref, fingerprint, closing_mac, chunk_size, state, requested"
    return (
        f"SELECT {columns}, unique_ids, hold_reason FROM request"  # noqa: S608 - names of our own, and marks
        f" WHERE project IN ({marks(sign, projects)})"
        f" AND idempotency_ref IN ({marks(sign, keys)})"
    )


def _unique(order: Order, ids: Sequence[str]) -> tuple[str, ...]:
    """Check the ids and fold repeats."""
    if isinstance(ids, str | bytes | bytearray):
        msg = "The memory ids are one piece of text; give a list of ids."
        raise RequestError(msg)
    if order.kind is not Kind.MEMORIES:
        if ids:
            msg = f"A purge of one {order.kind.value} takes no memory ids; hand them in apart."
            raise RequestError(msg)
        return ()
    if not ids:
        msg = "The batch has no memory ids; an empty batch is never taken for a purge."
        raise RequestError(msg)
    if not are_plain_ids(ids):
        for number, item in enumerate(ids, start=1):
            check_memory_id(item, where=f"Memory id number {number}")
    return tuple(dict.fromkeys(ids))
