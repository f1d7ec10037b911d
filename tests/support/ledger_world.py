"""A ledger with clocks that only a test moves, on SQLite and on PostgreSQL."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

import pytest
from sqlalchemy import Connection, Row, Table, delete, event, select, text

from ledger import Keys, Kind, Ledger, Order, ReadbackPolicy, Receipt, RequestView
from ledger.engine import Database
from ledger.migrate import upgrade
from ledger.schema import chunk, metadata, request
from ledger.states import ChunkState
from ledger.tasks import Claim, Move, Settlement, Task
from tests.support.unguarded import tamper_file, unguarded

__all__ = [
    "KEYS",
    "RATE",
    "TestClock",
    "World",
    "Worlds",
    "make_order",
    "places_and_ids",
    "settled",
    "world",
    "worlds",
]

KEYS: Final = Keys(order=b"o" * 32, pseudonym=b"p" * 32)
RATE: Final = 100.0
POLICY: Final = ReadbackPolicy(settle_s=2.0, most_sightings=2, second_look_s=60.0)
_NS: Final = 1_000_000_000


class TestClock:
    """The ledger's clock and the wall's; both stand still until a test moves them."""

    __test__ = False

    def __init__(self, source: str = "test") -> None:
        self.source = source
        self.ns = 1_000 * _NS
        self.wall_ns = 1_800_000_000 * _NS

    def now_ns(self, conn: Connection) -> int:
        return self.ns

    def tick(self, seconds: float) -> None:
        self.ns += round(seconds * _NS)
        self.wall_ns += round(seconds * _NS)


def make_order(kind: Kind = Kind.MEMORIES, **fields: Any) -> Order:
    return Order(**({"project": "shop"} | fields), kind=kind)


def settled(task: Task, move: Move, **fields: Any) -> Settlement:
    plain = {"outcome": type(move).__name__.lower(), "reason": "test"}
    return Settlement(task=task, move=move, **(plain | fields))


@dataclass
class World:
    """A ledger with projects `shop` and `blog` (account `acme`) and `far` (account `beta`)."""

    url: str
    ledger: Ledger
    clock: TestClock
    policy: ReadbackPolicy = POLICY
    tasks: list[Task] = field(default_factory=list)

    @property
    def database(self) -> Database:
        return self.ledger._database

    # -- ways in ----------------------------------------------------------------------------------

    def submit(
        self, ids: Iterable[str] = (), *, kind: Kind = Kind.MEMORIES, chunk_size: int = 10, **order
    ) -> Receipt:
        intake = self.ledger.begin(make_order(kind, **order), chunk_size=chunk_size)
        ids = list(ids)
        if ids:
            intake.add(ids)
        return intake.finish()

    # -- the way out ------------------------------------------------------------------------------

    def claim(
        self,
        capacity: int = 1_000,
        *,
        worker: str = "w1",
        lead_s: float = 0.0,
        lease_s: float = 60,
        leeway: Collection[str] = (),
    ) -> Claim:
        claim = self.ledger.claim(
            worker=worker,
            capacity=capacity,
            lead_s=lead_s,
            lease_s=lease_s,
            leeway=frozenset(leeway),
        )
        self.tasks.extend(claim.tasks)
        return claim

    def claim_one(self, **options: Any) -> Task:
        """Claim one call at a moment when slots are free."""
        self.clock.tick(1.5)
        (task,) = self.claim(1, **options).tasks
        return task

    def record(self, *settlements: Settlement) -> list[str]:
        return self.ledger.record(settlements)

    def advance(self, request_id: str, **options: Any) -> Any:
        return self.ledger.advance(request_id, policy=self.policy, **options)

    def sweep(self, max_attempts: int = 3, **options: Any) -> Any:
        return self.ledger.sweep(max_attempts=max_attempts, policy=self.policy, **options)

    def run(
        self,
        answer: Callable[[Task], Move],
        *,
        seconds: float = 600.0,
        stop: Callable[..., Any] = bool,
    ) -> None:
        """Claim, answer, record and advance until nothing is waiting or the time is over."""
        end = self.clock.ns + round(seconds * _NS)
        while self.clock.ns < end:
            claim = self.claim()
            ready = self.record(*(settled(task, answer(task)) for task in claim.tasks))
            for request_id in ready:
                self.advance(request_id)
            if stop():
                return
            if not claim.tasks and not ready and claim.wake_ns is None:
                return
            self.clock.tick(0.25 if claim.tasks else max(0.25, (claim.wake_ns or 0) / _NS))
        if not stop():
            pytest.fail("the work did not end in time")

    def view(self, request_id: str) -> RequestView:
        return self.ledger.status(request_id)

    # -- behind its back --------------------------------------------------------------------------

    def rows(self, table: Table, *conditions: Any) -> Sequence[Row[Any]]:
        query = select(table).where(*conditions).order_by(*table.primary_key)
        return self.database.read(lambda conn: conn.execute(query).all())

    def row(self, table: Table, *conditions: Any) -> Row[Any]:
        (only,) = self.rows(table, *conditions)
        return only

    def chunks(self, request_id: str, *states: ChunkState) -> Sequence[Row[Any]]:
        conditions = [chunk.c.request_id == request_id]
        if states:
            conditions.append(chunk.c.state.in_(states))
        return self.rows(chunk, *conditions)

    def sql(self, statement: str, **values: Any) -> int:
        """Change rows as somebody with access to the database could; gives how many."""
        return self.database.write(lambda conn: conn.execute(text(statement), values).rowcount)

    def tamper(self, *statements: str, **values: Any) -> int:
        """Change rows of the record as the database's owner could; gives how many at the end."""
        if self.database.is_sqlite:
            return tamper_file(str(self.database.engine.url.database), statements, values)

        def work(conn: Connection) -> int:
            with unguarded(conn):
                for statement in statements:
                    changed = conn.execute(text(statement), values).rowcount
            return changed

        return self.database.write(work)

    def check_books(self) -> None:
        """The counts of each request are those of its chunks, and no id was lost or doubled."""
        for row in self.rows(request, request.c.state != "receiving", request.c.chunks > 0):
            chunks = self.chunks(row.id)
            live = [one for one in chunks if one.state != ChunkState.SPLIT and not one.leftover]
            sizes = dict.fromkeys(ChunkState, 0)
            for one in live:
                sizes[ChunkState(one.state)] += one.n
            assert row.pending == sizes[ChunkState.DUE] + sizes[ChunkState.LEASED]
            assert sum(sizes.values()) == row.unique_ids
            given_up = row.refused + row.unknown + row.still_present + row.cancelled
            ended = sizes[ChunkState.DEAD] + sizes[ChunkState.CANCELLED]
            ended += sum(one.n for one in live if one.disputed)
            if "sample" in row.verify_now:
                assert given_up >= ended
            else:
                assert given_up == ended
            known_absent = sum(one.n for one in live if one.was_absent and one.state == "delivered")
            assert row.already_absent >= known_absent


def places_and_ids(world: World, request_id: str) -> dict[int, str]:
    """Give the ids of the chunks that were not divided, by place; each place once."""
    found: dict[int, str] = {}
    for one in world.chunks(request_id):
        if one.state == ChunkState.SPLIT:
            continue
        ids = json.loads(one.ids)
        places = json.loads(one.places) if one.places else range(one.first, one.first + one.n)
        assert len(ids) == len(places) == one.n
        assert places[0] == one.first
        for place, item in zip(places, ids, strict=True):
            assert place not in found
            found[place] = item
    return found


class Worlds:
    """Gives empty ledgers of one database kind, one at a time.

    Tables are emptied, and the engine is kept: making a database, and compiling each statement
    anew, would take several times as long as the tests themselves.
    """

    def __init__(self, kind: str, url: str) -> None:
        self.kind = kind
        self.url = url
        upgrade(url)
        self.database = Database(url)
        if self.database.is_sqlite:
            # The machine does not lose power in mid-test.
            event.listen(self.database.engine, "connect", _without_fsync)

    @contextmanager
    def open(self) -> Iterator[World]:
        clock = TestClock()
        self.database.clock = clock
        self.database.followed = None
        self.database.doubtful = False
        # What a test put over it on this one, and not on the class, stays when it is undone.
        vars(self.database).pop("write_bulk", None)
        with patch("ledger.clock.time", SimpleNamespace(time_ns=lambda: clock.wall_ns)):
            self.database.write(lambda conn: _empty(conn, clock.source))
            ledger = Ledger(self.database, KEYS)
            ledger.register(
                projects={"shop": "acme", "blog": "acme", "far": "beta"},
                rates={"acme": RATE, "beta": RATE},
            )
            yield World(url=self.url, ledger=ledger, clock=clock)

    def close(self) -> None:
        self.database.close()


def _empty(conn: Connection, source: str) -> None:
    with unguarded(conn):
        for table in reversed(metadata.sorted_tables):
            if table.name != "clock":
                conn.execute(delete(table))
    conn.execute(text("UPDATE clock SET source = :source"), {"source": source})


def _without_fsync(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous = OFF")


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def worlds(request, tmp_path_factory):
    """Makes ledgers, once on SQLite and once on PostgreSQL."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path_factory.mktemp('ledgers') / 'ledger.db'}"
        else:
            url = stack.enter_context(request.getfixturevalue("postgres").database())
        yield stack.enter_context(closing(Worlds(request.param, url)))


@pytest.fixture
def world(worlds):
    """An empty ledger."""
    with worlds.open() as made:
        yield made
