"""The ledger: one handle on everything that producers and workers ask of it."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from ledger import leases, views
from ledger.advance import ReadbackPolicy, advance
from ledger.claims import claim
from ledger.clock import wall_us
from ledger.engine import Database
from ledger.errors import RequestError
from ledger.header import make_header
from ledger.intake import Intake
from ledger.keys import Keys
from ledger.macs import Macs
from ledger.migrate import check_schema
from ledger.model import Order, RequestView
from ledger.pauses import Pause, pauses, resume_project
from ledger.postpone import postpone
from ledger.record import record
from ledger.registry import account_of, register
from ledger.states import Kind, RequestState
from ledger.sweep import Swept, follow_clock, sweep
from ledger.tasks import Claim, Settlement

__all__ = ["Ledger"]

_MOST_IDS_PER_CHUNK = 1_000
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
            LedgerError: The database does not answer.
            SchemaError: It has no tables, or those of another release.
            SettingsError: The URL is none.
        """
        database = Database(url)
        try:
            check_schema(database)
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

    # -- ways in ----------------------------------------------------------------------------------

    def begin(self, order: Order, *, chunk_size: int) -> Intake:
        """Start taking in a request; with an idempotency key its place is reserved at once.

        Args:
            order: What is asked for.
            chunk_size: Most ids per call, 1 to 1,000.

        Raises:
            RequestError: A field is out of bounds, or the project is unknown.
            ConflictError: The idempotency key was used for another order.
        """
        if not 1 <= chunk_size <= _MOST_IDS_PER_CHUNK:
            msg = f"The chunk size must be 1 to {_MOST_IDS_PER_CHUNK} ids; see EXPUNGE_CHUNK_SIZE."
            raise RequestError(msg)
        account = self._database.read(lambda conn: account_of(conn, order.project))
        header = make_header(
            order, account=account, chunk_size=chunk_size, macs=self._macs, now_us=wall_us()
        )
        return Intake(self._database, self._macs, header)

    # -- looking ----------------------------------------------------------------------------------

    def status(self, request_id: str) -> RequestView:
        """Show one request. Raises NotFoundError when there is none."""
        return self._database.read(lambda conn: views.view_request(conn, request_id))

    def list_requests(
        self,
        *,
        state: RequestState | None = None,
        project: str | None = None,
        kind: Kind | None = None,
        limit: int = 50,
    ) -> list[RequestView]:
        """Show the newest `limit` requests that match, newest first."""
        return self._database.read(
            lambda conn: views.list_requests(
                conn, state=state, project=project, kind=kind, limit=limit
            )
        )

    def pauses(self) -> list[Pause]:
        """List what stands still and why (`ledger.pauses`)."""
        return self._database.read(lambda conn: pauses(conn, self._database))

    def resume_project(self, name: str, *, principal: str) -> bool:
        """Let a stopped project go on; False when it was not stopped (`ledger.pauses`)."""
        return self._database.write(lambda conn: resume_project(conn, name, principal=principal))

    # -- the way out ------------------------------------------------------------------------------

    def claim(self, *, worker: str, capacity: int, lead_s: float, lease_s: float) -> Claim:
        """Take due work with slots and record the intent (`ledger.claims`); times in seconds."""
        return claim(
            self._database,
            self._macs,
            worker=worker,
            capacity=capacity,
            lead_ns=int(lead_s * _NS),
            lease_ns=int(lease_s * _NS),
        )

    def postpone(self, account: str, *, by_ns: int) -> None:
        """Move an account's next slot, after a call that departed late (`ledger.postpone`)."""
        self._database.write(lambda conn: postpone(conn, account, by_ns=by_ns))

    def record(self, settlements: Sequence[Settlement]) -> list[str]:
        """Write outcomes (`ledger.record`); gives requests to `advance`."""
        return record(self._database, self._macs, settlements)

    def advance(self, request_id: str, *, policy: ReadbackPolicy) -> None:
        """Take a request to its next state (`ledger.advance`)."""
        advance(self._database, self._macs, request_id, policy=policy)

    # -- duties -----------------------------------------------------------------------------------

    def sweep(self, *, max_attempts: int, policy: ReadbackPolicy) -> Swept:
        """Find what lies around (`ledger.sweep`)."""
        return sweep(self._database, self._macs, max_attempts=max_attempts, policy=policy)

    def hold_lease(self, name: str, *, owner: str, seconds: float) -> bool:
        """Take or renew a named lease (`ledger.leases`)."""
        return leases.hold_lease(self._database, name, owner=owner, seconds=seconds)

    def beat(self, *, process: str, role: str) -> None:
        """Write that a process is alive (`ledger.leases`)."""
        leases.beat(self._database, process=process, role=role)
