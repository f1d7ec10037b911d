"""The ledger: one handle on everything that producers and workers ask of it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from ledger import control, dead_letters, leases, pauses, views
from ledger.advance import advance
from ledger.audit.published import Published
from ledger.audit.state import require_published
from ledger.claims import claim
from ledger.clock import wall_us
from ledger.dead_letters import DeadChunk, DeadLetters
from ledger.endings import Ending, look_back
from ledger.engine import Database
from ledger.errors import RequestError
from ledger.filters import Filter
from ledger.finish import Ended
from ledger.fitting import require_own_keys
from ledger.header import make_header
from ledger.host import require_local, require_locks
from ledger.in_force import learn_epoch, require_in_force
from ledger.intake import Intake
from ledger.keys import Keys
from ledger.macs import Macs
from ledger.many import take_many
from ledger.migrate import check_schema, require_schema
from ledger.model import Order, Receipt, RequestView
from ledger.parked import ParkedMessage, UnusableMessage, list_parked, park_messages
from ledger.pauses import Pause
from ledger.postpone import postpone
from ledger.probes import Probe, ProbeRefused, book_probe, may_probe, record_probe
from ledger.purge_rate import count_purges
from ledger.readback import ReadbackPolicy
from ledger.record import record
from ledger.redrive import redrive
from ledger.redrive_chunks import Pace
from ledger.registry import account_of, register
from ledger.scrubbing import Scrubbed, scrub, truncate_wal
from ledger.stops import halts
from ledger.sweep import Swept, follow_clock, sweep
from ledger.tasks import Claim, Settlement

__all__ = ["Ledger"]

_MOST_IDS_PER_CHUNK = 1_000
_MOST_PURGES = 100_000
_NS = 1_000_000_000


class Ledger:
    """The only truth: requests, work, leases, rate, pauses, outcomes, events.

    Every method is one or more short transactions and may be repeated after a LedgerError. Safe
    to use from several threads; do not carry it across a fork.
    """

    def __init__(self, database: Database, keys: Keys) -> None:
        """Use `Ledger.open`."""
        self._database = database
        self._macs = Macs(keys)

    @classmethod
    def open(cls, url: str, *, keys: Keys) -> "Ledger":
        """Open a ledger.

        Args:
            url: `sqlite:///path` or `postgresql://…`.
            keys: The order and the pseudonym key.

        Raises:
            LedgerError: The database does not answer, or is a file that several hosts share.
            SchemaError: It has no tables, or those of another release.
            KeysError: The keys are another ledger's.
            SettingsError: The URL is none.
        """
        database = Database(url)
        try:
            check_schema(database)
            require_local(database)
            require_own_keys(database, Macs(keys))
            learn_epoch(database, Macs(keys))
            follow_clock(database)
        except BaseException:
            database.close()
            raise
        return cls(database, keys)

    def close(self) -> None:
        """Give the connections back."""
        self._database.close()

    def __enter__(self) -> Self:
        """Give the ledger itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def renew(self, keys: Keys) -> None:
        """Go on with keys that were read anew, since an epoch has begun.

        Raises:
            KeysError: They are another ledger's; it goes on with those that it has.
            LedgerError: The database did not answer.
        """
        macs = Macs(keys)
        require_own_keys(self._database, macs)
        learn_epoch(self._database, macs)
        self._macs = macs

    def require_in_force(self) -> None:
        """Refuse keys that nothing new can be recorded under (`ledger.in_force`).

        Raises:
            KeysError: The newest one is missing or was destroyed; the message says what to do.
        """
        self._database.read(lambda conn: require_in_force(conn, self._macs.epoch))

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a SQLite file, which has one writer at a time."""
        return self._database.is_sqlite

    def register(
        self,
        *,
        projects: Mapping[str, str],
        rates: Mapping[str, float],
        decides: bool = False,
    ) -> None:
        """Record accounts (limit in calls per second) and projects (their account).

        Workers decide; those who only hand in fill what is missing (`ledger.registry`).
        """
        self._database.write(
            lambda conn: register(conn, projects=projects, rates=rates, decides=decides)
        )

    def require_locks(self) -> None:
        """Refuse a file whose locks keep no other process out (`ledger.host`); takes 50 ms."""
        require_locks(self._database)

    def require_published(self, audit_dir: Path) -> None:
        """Refuse a ledger that is older than its last published checkpoint (`ledger.audit.state`).

        Raises:
            RolledBackError: It is; the message says what to do.
        """
        require_published(self._database, Published(audit_dir))

    def check_schema(self) -> None:
        """Make sure that the tables are still this release's; cheap enough for every few seconds.

        Raises:
            SchemaError: The ledger was migrated meanwhile; it names both revisions.
            LedgerError: The database did not answer.
        """
        check_schema(self._database)

    @property
    def turned(self) -> float:
        """When a transaction last ended, well or not: seconds of `time.monotonic()`."""
        return self._database.turned

    # -- ways in ----------------------------------------------------------------------------------

    def begin(self, order: Order, *, chunk_size: int) -> Intake:
        """Start taking in a request; with an idempotency key its place is reserved at once.

        Args:
            order: What is asked for.
            chunk_size: Most ids per call, 1 to 1,000.

        Raises:
            RequestError: A field is out of bounds, or the project is unknown.
            ConflictError: The idempotency key was used for another order.
            KeysError: It is new, and its pseudonym key is not the one in force.
        """
        _check_chunk_size(chunk_size)
        account = self._database.read(lambda conn: account_of(conn, order.project))
        header = make_header(
            order, account=account, chunk_size=chunk_size, macs=self._macs, now_us=wall_us()
        )
        return Intake(self._database, self._macs, header)

    def take_many(
        self, orders: Sequence[tuple[Order, Sequence[str]]], *, chunk_size: int
    ) -> list[Receipt | RequestError]:
        """Take many small requests in, with one answer each (`ledger.many`).

        Args:
            orders: What is asked for, each with its memory ids; a purge has none.
            chunk_size: Most ids per call, 1 to 1,000.

        Raises:
            RequestError: The chunk size is out of bounds; what is wrong with one order is its
                answer.
            SchemaError: The ledger was migrated meanwhile; nothing was taken in.
            KeysError: Some are new, and their pseudonym key is not the one in force.
            LedgerError: The ledger did not confirm; what has a key may be handed in again.
        """
        _check_chunk_size(chunk_size)
        self._database.read(require_schema)
        return take_many(self._database, self._macs, orders, chunk_size=chunk_size)

    def park_messages(self, messages: Sequence[UnusableMessage]) -> list[str]:
        """Write down messages that cannot be an order (`ledger.parked`); gives their ids."""
        self._database.read(require_schema)
        return self._database.write_bulk(lambda conn: park_messages(conn, self._macs, messages))

    # -- looking ----------------------------------------------------------------------------------

    def status(self, request_id: str) -> RequestView:
        """Show one request. Raises NotFoundError when there is none."""
        return self._database.read(lambda conn: views.view_request(conn, request_id))

    def list_requests(
        self,
        *,
        filter: Filter = Filter(),  # noqa: A002, B008 - the word of all commands; frozen
        limit: int = 50,
    ) -> list[RequestView]:
        """Show the newest `limit` requests that match, newest first (`ledger.filters`)."""
        return self._database.read(
            lambda conn: views.list_requests(conn, matching=filter, limit=limit)
        )

    def count_requests(self, *, filter: Filter = Filter()) -> int:  # noqa: A002, B008 - as above
        """Count the requests that match."""
        return self._database.read(lambda conn: views.count_requests(conn, matching=filter))

    def find_requests(self, *, filter: Filter) -> list[str]:  # noqa: A002 - as above
        """Give the ids of all requests that match now, newest first: 90 bytes of memory each."""
        return views.find_requests(self._database, matching=filter)

    def recent_purges(self, project: str) -> int:
        """Count the purges of a project in the last hour (`ledger.purge_rate`); 100,000 at most."""
        return self._database.read(
            lambda conn: count_purges(conn, project, now_us=wall_us(), most=_MOST_PURGES)
        )

    def list_parked(self, *, limit: int = 50) -> list[ParkedMessage]:
        """Show the newest `limit` parked messages, newest first (`ledger.parked`)."""
        return self._database.read(lambda conn: list_parked(conn, limit=limit))

    def pauses(self) -> list[Pause]:
        """List what stands still and why (`ledger.pauses`)."""
        return self._database.read(lambda conn: pauses.pauses(conn, self._database))

    def pause_project(self, name: str, *, principal: str, reason: str) -> bool:
        """Let nothing more of a project depart; False when it was paused (`ledger.pauses`)."""
        return self._database.write(
            lambda conn: pauses.pause_project(
                conn, self._database, name, principal=principal, reason=reason
            )
        )

    def pause_account(self, name: str, *, principal: str, reason: str) -> bool:
        """Let nothing more of an account depart; False when it was paused (`ledger.pauses`)."""
        return self._database.write(
            lambda conn: pauses.pause_account(
                conn, self._database, name, principal=principal, reason=reason
            )
        )

    def resume_project(self, name: str, *, principal: str, reason: str | None = None) -> bool:
        """Let a stopped project go on; False when it did not stand still (`ledger.pauses`)."""
        return self._database.write(
            lambda conn: pauses.resume_project(
                conn, self._database, name, principal=principal, reason=reason
            )
        )

    def resume_account(self, name: str, *, principal: str, reason: str | None = None) -> bool:
        """Let an account go on; False when it did not stand still (`ledger.pauses`)."""
        return self._database.write(
            lambda conn: pauses.resume_account(
                conn, self._database, name, principal=principal, reason=reason
            )
        )

    # -- changing one's mind ----------------------------------------------------------------------

    def hold(self, request_id: str, *, principal: str, reason: str) -> bool:
        """Let nothing more of a request depart; False when it was held (`ledger.control`)."""
        return control.hold(self._database, request_id, principal=principal, reason=reason)

    def release(self, request_id: str, *, principal: str, reason: str | None = None) -> bool:
        """Let a held request go on; False when it was not held (`ledger.control`)."""
        return control.release(self._database, request_id, principal=principal, reason=reason)

    def cancel(
        self,
        request_id: str,
        *,
        principal: str,
        reason: str,
        policy: ReadbackPolicy = ReadbackPolicy(),  # noqa: B008 - frozen
    ) -> bool:
        """Send nothing more of a request, for good; False when it was cancelled before.

        See `ledger.control`. `policy` says how what was delivered is read back.
        """
        return control.cancel(
            self._database,
            self._macs,
            request_id,
            principal=principal,
            reason=reason,
            policy=policy,
        )

    # -- dead letters ------------------------------------------------------------------------------

    def dead_letters(
        self,
        *,
        filter: Filter = Filter(),  # noqa: A002, B008 - as above
        limit: int = 50,
    ) -> list[DeadLetters]:
        """List the dead letters of the newest `limit` requests that match and have some.

        One for each request and reason (`ledger.dead_letters`).
        """
        return self._database.read(
            lambda conn: dead_letters.list_dead(conn, matching=filter, limit=limit)
        )

    def show_dead(
        self, request_id: str, *, limit: int = 50, reveal_to: str | None = None
    ) -> list[DeadChunk]:
        """Show the first dead letters of a request by number; raises NotFoundError without it.

        Their ids are in it only with `reveal_to`, the name of whoever sees them, which an event
        records (`ledger.dead_letters`).
        """
        if reveal_to is None:
            return dead_letters.show_dead(self._database, request_id, limit=limit)
        return dead_letters.reveal_dead(
            self._database, request_id, limit=limit, principal=reveal_to
        )

    def redrive(
        self,
        request_id: str,
        *,
        principal: str,
        reason: str,
        redrive_days: float = 14.0,
        pace: Pace | None = None,
    ) -> bool:
        """Open the next generation of a request for its dead letters (`ledger.redrive`).

        False when a redrive of it was under way. One `pace` may go from request to request.
        """
        return redrive(
            self._database,
            self._macs,
            request_id,
            principal=principal,
            reason=reason,
            redrive_days=redrive_days,
            pace=pace or Pace(),
        )

    def discard(self, request_id: str, *, principal: str, reason: str) -> bool:
        """Give a request's dead letters up; False when it has none (`ledger.dead_letters`)."""
        return dead_letters.discard(self._database, request_id, principal=principal, reason=reason)

    # -- the way out ------------------------------------------------------------------------------

    def claim(
        self,
        *,
        worker: str,
        capacity: int,
        lead_s: float,
        lease_s: float,
        owed: Mapping[str, int] | None = None,
        leeway: frozenset[str] = frozenset(),
    ) -> Claim:
        """Take due work with slots and record the intent (`ledger.claims`); times in seconds."""
        return claim(
            self._database,
            self._macs,
            worker=worker,
            capacity=capacity,
            lead_ns=int(lead_s * _NS),
            lease_ns=int(lease_s * _NS),
            owed=owed or {},
            leeway=leeway,
        )

    def halts(self) -> dict[str, int]:
        """Tell since when claims are halted, by account and project (`ledger.stops`)."""
        return self._database.read(halts)

    def postpone(self, account: str, *, by_ns: int) -> None:
        """Move an account's next slot, after a call that departed late (`ledger.postpone`)."""
        self._database.write(lambda conn: postpone(conn, account, by_ns=by_ns))

    def doubt(self) -> None:
        """Look from now on whether outcomes are there before they are recorded.

        For whoever takes over from a process that was lost while it recorded.
        """
        self._database.doubtful = True

    def record(self, settlements: Sequence[Settlement]) -> list[str]:
        """Write outcomes (`ledger.record`); gives requests to `advance`."""
        return record(self._database, self._macs, settlements)

    def advance(
        self,
        request_id: str,
        *,
        policy: ReadbackPolicy,
        most_chunks: int | None = None,
        ending_of: Callable[[str], Ending] | None = None,
    ) -> Ended | None:
        """Take a request to its next state (`ledger.advance`); says how it ended, if it did."""
        parts = (self._database, self._macs, request_id)
        return advance(*parts, policy=policy, most_chunks=most_chunks, ending_of=ending_of)

    def look_back(self, request_id: str, *, policy: ReadbackPolicy) -> Ending:
        """Gather what the record will say of a request's end (`ledger.endings`)."""
        return look_back(self._database.read, self._macs, request_id, policy)

    # -- probes -----------------------------------------------------------------------------------

    def book_probe(self, project: str, *, principal: str, lead_s: float) -> Probe | ProbeRefused:
        """Book one slot for a harmless call and record the intent (`ledger.probes`)."""
        return book_probe(self._database, project, principal=principal, lead_s=lead_s)

    def may_probe(self, probe: Probe) -> bool:
        """Say whether a booked call may still be made (`ledger.probes`)."""
        return may_probe(self._database, probe)

    def record_probe(
        self,
        probe: Probe,
        *,
        outcome: str,
        reason: str,
        http_status: int | None = None,
        code: int | None = None,
    ) -> None:
        """Write what came of a probe (`ledger.probes`)."""
        record_probe(
            self._database,
            probe,
            outcome=outcome,
            reason=reason,
            http_status=http_status,
            code=code,
        )

    # -- duties -----------------------------------------------------------------------------------

    def sweep(
        self, *, max_attempts: int, policy: ReadbackPolicy, most_chunks: int | None = None
    ) -> Swept:
        """Find what lies around (`ledger.sweep`)."""
        return sweep(
            self._database,
            self._macs,
            max_attempts=max_attempts,
            policy=policy,
            most_chunks=most_chunks,
        )

    def scrub(self, *, redrive_days: float, row_days: float) -> Scrubbed:
        """Take names out of what nobody redrives any more (`ledger.scrubbing`)."""
        return scrub(self._database, self._macs, redrive_days=redrive_days, row_days=row_days)

    def truncate_wal(self) -> bool:
        """Empty SQLite's write-ahead log; False while somebody is at it (`ledger.scrubbing`)."""
        return truncate_wal(self._database)

    def hold_lease(self, name: str, *, owner: str, seconds: float) -> bool:
        """Take or renew a named lease (`ledger.leases`)."""
        return leases.hold_lease(self._database, name, owner=owner, seconds=seconds)

    def beat(self, *, process: str, role: str) -> None:
        """Write that a process is alive (`ledger.leases`)."""
        leases.beat(self._database, process=process, role=role)


def _check_chunk_size(chunk_size: int) -> None:
    if not 1 <= chunk_size <= _MOST_IDS_PER_CHUNK:
        msg = f"The chunk size must be 1 to {_MOST_IDS_PER_CHUNK} ids; see EXPUNGE_CHUNK_SIZE."
        raise RequestError(msg)
