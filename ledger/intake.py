"""Taking a request in: one stream of ids becomes chunks with MACs, in short transactions.

While ids come in, the request is `receiving` and its chunks are parked, so nothing of it is sent
before the sender has said that this is all. With an idempotency key, a sender that starts over is
compared chunk by chunk with what was recorded, and goes on where that ends.

On PostgreSQL a batch is recorded by a thread beside the one that takes ids in. That one looks at
nothing the other writes before it has ended, and `add` returns when all have.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, Row, func, insert, select, update

from ledger.behind import Behind
from ledger.clock import wall_us
from ledger.commits import leave_witness
from ledger.crash_points import reached
from ledger.engine import Database
from ledger.errors import ConflictError, LedgerError, RequestError
from ledger.events import EventType, append
from ledger.fold import Folder
from ledger.header import Header
from ledger.ids import are_plain_ids, check_memory_id, ids_as_json
from ledger.in_force import require_in_force, take_in_force
from ledger.insert import insert_all
from ledger.macs import ChunkFields, Macs, chained, same
from ledger.model import Receipt
from ledger.purge_rate import recent_purges
from ledger.release import place_in_line, release_chunks
from ledger.rows import accepted_payload, chunk_row, header_row, recorded_header
from ledger.schema import chunk, request
from ledger.states import Kind, RequestState

__all__ = ["CHUNKS_PER_TRANSACTION", "Intake", "conflict"]

# About 8 ms on SQLite with chunks of a hundred UUIDs, so that an import never stalls the calls.
CHUNKS_PER_TRANSACTION: Final = 200
_IDS_AT_ONCE: Final = 4_096
# Where workers write to the same SQLite file, a stream leaves them nine tenths of the time.
_REST: Final = 9.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ready:
    """A chunk that waits to be recorded: what its MAC covers, that MAC, and how many ids."""

    fields: ChunkFields
    mac: bytes
    n: int


class _ClosedByOtherError(Exception):
    """A sender with the same key finished the request meanwhile."""


class Intake:
    """One request on its way in. Made by `Ledger.begin`; end it with `finish` or `abandon`."""

    def __init__(self, database: Database, macs: Macs, header: Header) -> None:
        """Start with a checked header; nothing is written yet unless a key reserves the place.

        Raises:
            KeysError: It is a new request, and not of the epoch in force (`ledger.in_force`).
            ConflictError: The idempotency key was used for another order.
            LedgerError: The ledger did not confirm.
        """
        self._database = database
        self._macs = macs
        self._header = header
        self._id = header.fields.id
        self._chunk_size = header.fields.chunk_size
        self._kind = Kind(header.fields.kind)
        self._folder = Folder()
        self._open_chunk: list[str] = []
        self._waiting: list[_Ready] = []
        self._chain = b""
        self._requested = 0
        self._unique = 0
        self._next_no = 0
        self._stored = 0  # chunks that an earlier stream under the same key had recorded
        self._written = False
        self._over = False
        self._known_state: RequestState | None = None
        if header.fields.idempotency_ref is not None:
            self._reserve()
        elif not header.inherits:
            # Not only when the first ids are written: whoever reads them may take his time.
            database.read(lambda conn: require_in_force(conn, header.key_epoch))

    @property
    def request_id(self) -> str:
        """Id of the request; that of the first sender when the key was known."""
        return self._id

    def add(self, ids: Iterable[str]) -> None:
        """Take ids in; repeats are folded, full chunks are committed as they come.

        Raises:
            RequestError: An id is not acceptable (the message names its place), or the request is
                a purge and takes none.
            ConflictError: The ids differ from those first handed in under the same key.
            LedgerError: The ledger did not confirm; start over with the same key.
        """
        if isinstance(ids, str | bytes):
            msg = "The memory ids are one piece of text; give a list of ids."
            raise RequestError(msg)
        if self._kind is not Kind.MEMORIES:
            msg = f"A purge of one {self._kind.value} takes no memory ids; hand them in apart."
            raise RequestError(msg)
        numbered = iter(ids)
        # As many as fill a transaction at most, so that none waits for more than it needs.
        at_once = min(_IDS_AT_ONCE, self._chunk_size * CHUNKS_PER_TRANSACTION)
        with Behind() as behind:
            while some := list(islice(numbered, at_once)):
                if not are_plain_ids(some):
                    self._take_good_ones(some, behind)
                    continue
                self._take(some, behind)

    def finish(self) -> Receipt:
        """Say that this was all, and commit.

        Raises:
            RequestError: There was not a single id; nothing is left behind.
            ConflictError: Fewer ids, or others, than first handed in under the same key.
            LedgerError: The ledger did not confirm; start over with the same key.
        """
        if self._kind is not Kind.MEMORIES:
            self._requested = self._unique = 1
            self._ready(self._chunk(first=0, ids="[]"), n=1)
        elif self._open_chunk:
            self._cut(self._open_chunk)
            self._open_chunk = []
        if self._next_no == 0:
            self.abandon()
            msg = "The batch has no memory ids; an empty batch is never taken for a purge."
            raise RequestError(msg)
        if self._known_state not in (None, RequestState.RECEIVING):
            return self._replayed()
        try:
            receipt = self._database.write(self._close)
        except _ClosedByOtherError:
            # Another sender with the same key finished meanwhile: compare with what it left.
            return self._replayed()
        reached("submit.after_commit")
        self._over = True
        if self._stored or self._written:
            release_chunks(self._database, self._id)
        return receipt

    def abandon(self) -> None:
        """Give up: what was recorded so far is cancelled and will never be sent."""
        if self._over or not self._written or self._known_state is not None:
            self._over = True
            return
        self._over = True
        now = wall_us()
        self._database.write(
            lambda conn: conn.execute(
                update(request)
                .where(request.c.id == self._id, request.c.state == RequestState.RECEIVING)
                .values(
                    state=RequestState.CANCELLED,
                    result="cancelled",
                    finished_at=now,
                    touched_at=now,
                    idempotency_ref=None,
                )
            )
        )

    # -- one key, one request ---------------------------------------------------------------------

    def _reserve(self) -> None:
        def work(conn: Connection) -> Row[Any] | None:
            fields = self._header.fields
            known = conn.execute(
                select(request).where(
                    request.c.project == fields.project,
                    request.c.idempotency_ref == fields.idempotency_ref,
                )
            ).first()
            if known is None:
                self._insert_header(conn)
            return known

        try:
            known = self._database.write(work)
        except LedgerError:
            # Two senders with one key at the same moment: the slower one finds the other's row.
            known = self._database.read(
                lambda conn: conn.execute(
                    select(request).where(
                        request.c.project == self._header.fields.project,
                        request.c.idempotency_ref == self._header.fields.idempotency_ref,
                    )
                ).first()
            )
            if known is None:
                raise
        if known is None:
            self._written = True
            return
        if known.fingerprint != self._header.fingerprint:
            raise conflict(known.id)
        # The settings may be others by now, and the request's own lane and read-back stand.
        self._header = recorded_header(known, self._header.ceilings)
        self._id = known.id
        self._chunk_size = known.chunk_size
        self._known_state = RequestState(known.state)
        self._written = True

    def _replayed(self) -> Receipt:
        """Compare a whole repeated stream with the request that is recorded already."""
        self._chain_up(self._waiting)
        # Not twice, should the sender try again.
        self._waiting.clear()
        row = self._database.read(
            lambda conn: conn.execute(select(request).where(request.c.id == self._id)).one()
        )
        closing = self._macs.closing(self._id, self._next_no, self._chain)
        if not same(row.closing_mac, closing):
            raise conflict(self._id)
        self._over = True
        return Receipt(
            id=self._id,
            state=RequestState(row.state),
            requested=row.requested,
            unique=row.unique_ids,
            duplicate=True,
            hold_reason=row.hold_reason,
        )

    # -- chunks -----------------------------------------------------------------------------------

    def _take_good_ones(self, some: Sequence[str], behind: Behind) -> None:
        """Take ids up to the first that is none, and say of that one what is wrong."""
        good: list[str] = []
        try:
            for item in some:
                number = self._requested + len(good) + 1
                good.append(check_memory_id(item, where=f"Memory id number {number}"))
        finally:
            self._take(good, behind)

    def _take(self, some: Sequence[str], behind: Behind) -> None:
        """Fold ids that were checked, cut full chunks, and have those recorded."""
        self._requested += len(some)
        ids, size = self._open_chunk + self._folder.fresh(some), self._chunk_size
        full = len(ids) - len(ids) % size
        for start in range(0, full, size):
            self._cut(ids[start : start + size])
            if len(self._waiting) >= CHUNKS_PER_TRANSACTION:
                # Before that, so that nothing is lost when it raises.
                self._open_chunk = ids[start + size :]
                self._flush(behind)
        self._open_chunk = ids[full:]

    def _cut(self, ids: Sequence[str]) -> None:
        fields = self._chunk(first=self._unique, ids=ids_as_json(ids))
        self._ready(fields, n=len(ids))
        self._unique += len(ids)

    def _ready(self, fields: ChunkFields, *, n: int) -> None:
        self._waiting.append(_Ready(fields=fields, mac=self._macs.chunk(fields), n=n))

    def _chain_up(self, some: list[_Ready]) -> None:
        for each in some:
            self._chain = chained(self._chain, each.mac)

    def _chunk(self, *, first: int, ids: str) -> ChunkFields:
        made = ChunkFields(
            request_id=self._id,
            project=self._header.fields.project,
            kind=self._kind.value,
            generation=1,
            no=self._next_no,
            parent=None,
            first=first,
            places=None,
            ids=ids,
        )
        self._next_no += 1
        return made

    def _flush(self, behind: Behind) -> None:
        """Have what waits recorded, once what was before it is."""
        behind.settle()
        batch, self._waiting = self._waiting, []
        if self._database.is_sqlite:
            # Python's lock is what both would wait for, this one with SQLite's writer in its hand.
            self._record(batch)
        else:
            behind.begin(lambda: self._record(batch))

    def _record(self, batch: list[_Ready]) -> None:
        """Record chunks in one transaction, or compare them with those of a finished request."""
        if self._known_state not in (None, RequestState.RECEIVING):
            self._chain_up(batch)
            return

        def work(conn: Connection) -> bytes:
            if self._written:
                self._still_receiving(conn)
            else:
                self._insert_header(conn)
            return self._insert_chunks(conn, batch, parked=True)

        try:
            self._chain = self._database.write_bulk(work, rest=_REST)
        except _ClosedByOtherError:
            self._known_state = RequestState.OPEN
            self._chain_up(batch)
            return
        except BaseException:
            # Nothing is lost: they come before those that were made ready meanwhile.
            self._waiting[:0] = batch
            raise
        self._written = True

    def _close(self, conn: Connection) -> Receipt:
        streamed = self._written
        held_for = None
        if streamed:
            held_for = self._still_receiving(conn)
        else:
            self._insert_header(conn)
        if self._next_no < self._stored:
            raise conflict(self._id)
        now = wall_us()
        not_before = self._header.fields.not_before
        waits = not_before is not None and not_before > now
        state = RequestState.SCHEDULED if waits else RequestState.OPEN
        ceiling = self._ceiling(conn, now)
        chain = self._insert_chunks(
            conn, self._waiting, parked=streamed or waits or ceiling is not None
        )
        closing_mac = self._macs.closing(self._id, self._next_no, chain)
        values = {
            "state": state,
            "chunks": self._next_no,
            "next_no": self._next_no,
            "requested": self._requested,
            "unique_ids": self._unique,
            "pending": self._unique,
            # Of what stays on hold, every chunk is parked already.
            "releasing": int(streamed and not waits and ceiling is None),
            "closing_mac": closing_mac,
            "touched_at": now,
        }
        if ceiling is not None and held_for is None:
            values |= {"held": 1, "hold_reason": ceiling}
        conn.execute(
            update(request)
            .where(request.c.id == self._id, request.c.state == RequestState.RECEIVING)
            .values(values)
        )
        payload = accepted_payload(
            self._header,
            requested=self._requested,
            unique=self._unique,
            chunks=self._next_no,
            closing_mac=closing_mac,
            held_for=ceiling,
        )
        append(conn, EventType.REQUEST_ACCEPTED, payload, request_id=self._id)
        reached("submit.before_commit")
        return Receipt(
            id=self._id,
            state=state,
            requested=self._requested,
            unique=self._unique,
            duplicate=False,
            hold_reason=held_for or ceiling,
        )

    def _ceiling(self, conn: Connection, now_us: int) -> str | None:
        """Say which ceiling the request goes beyond, counted before anybody else adds to it."""
        ceilings, recent = self._header.ceilings, 0
        most = ceilings.max_purges_per_hour
        if self._kind is not Kind.MEMORIES and most is not None:
            project = self._header.fields.project
            recent = recent_purges(conn, project, now_us=now_us, most=most, but=self._id)
        return ceilings.hold_for(self._kind, unique=self._unique, recent=recent)

    def _still_receiving(self, conn: Connection) -> str | None:
        """Lock the request's row, and see how far a stream under the same key has come.

        Returns:
            Why somebody holds it, when somebody does.
        """
        row = conn.execute(
            select(request.c.state, request.c.hold_reason)
            .where(request.c.id == self._id)
            .with_for_update(key_share=True)
        ).one()
        if row.state == RequestState.CANCELLED:
            msg = (
                f"Request {self._id} was cancelled while its ids came in (a stream without "
                "progress for a day is); hand it in again."
            )
            raise ConflictError(msg)
        if row.state != RequestState.RECEIVING:
            raise _ClosedByOtherError
        self._stored = _submitted(conn, self._id)
        return row.hold_reason and str(row.hold_reason)

    def _insert_header(self, conn: Connection) -> None:
        leave_witness(conn, {request.c.id: self._id})
        if not self._header.inherits:
            take_in_force(conn, self._header.key_epoch)
        conn.execute(
            insert(request).values(
                **header_row(self._header),
                state=RequestState.RECEIVING,
                touched_at=self._header.fields.created_at,
            )
        )

    def _insert_chunks(self, conn: Connection, some: Sequence[_Ready], *, parked: bool) -> bytes:
        """Record chunks; those recorded before must be the same, MAC for MAC."""
        chain = self._chain
        for each in some:
            chain = chained(chain, each.mac)
        stored = [each for each in some if each.fields.no < self._stored]
        fresh = some[len(stored) :]
        if stored:
            self._compare(conn, stored)
        if fresh:
            first = fresh[0].fields.no
            leave_witness(conn, {chunk.c.request_id: self._id, chunk.c.no: first})
            fields = self._header.fields
            tag = place_in_line(conn, fields.project, fields.account, fields.lane, len(fresh))
            rows = [
                chunk_row(
                    self._header,
                    each.fields,
                    mac=each.mac,
                    n=each.n,
                    tag=tag + place,
                    parked=parked,
                )
                for place, each in enumerate(fresh)
            ]
            insert_all(conn, chunk, rows)
            conn.execute(
                update(request).where(request.c.id == self._id).values(touched_at=wall_us())
            )
        return chain

    def _compare(self, conn: Connection, some: Sequence[_Ready]) -> None:
        """Compare chunks, numbered without gaps, with those recorded under their numbers."""
        first, last = some[0].fields.no, some[-1].fields.no
        found = conn.execute(
            select(chunk.c.no, chunk.c.mac).where(
                chunk.c.request_id == self._id, chunk.c.no.between(first, last)
            )
        )
        macs = {row.no: row.mac for row in found}
        if not all(same(macs.get(each.fields.no), each.mac) for each in some):
            raise conflict(self._id)


def _submitted(conn: Connection, request_id: str) -> int:
    # Numbered without gaps, and nothing is divided before all are there.
    last = select(func.max(chunk.c.no)).where(chunk.c.request_id == request_id)
    found = conn.execute(last).scalar()
    return 0 if found is None else int(found) + 1


def conflict(request_id: str) -> ConflictError:
    """Make the error for a key that stands for something else."""
    msg = (
        "The idempotency key was used before for something else: request "
        f"{request_id} stands under it with another payload. Use a new key for a new order."
    )
    return ConflictError(msg)
