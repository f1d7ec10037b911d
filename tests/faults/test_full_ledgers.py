"""A ledger that is full of work and of history: claims go by the indexes, and take no longer."""

import json
import re
import statistics
import time
from contextlib import ExitStack

import pytest
from sqlalchemy import event

from ledger import Keys, Ledger
from ledger.migrate import upgrade
from ledger.tasks import Delivered, Settlement
from tests.support.full_ledger import add_events, add_open_chunks, analyze

pytestmark = pytest.mark.fault("F48")

KEYS = Keys(order=b"o" * 32, pseudonym=b"p" * 32)
# What grows with the work and its history.
LARGE = ("chunk", "readback", "attempt", "event", "event_body", "request")


class AheadClock:
    """The ledger's own clock, asked as ever, and as far ahead as free slots need."""

    def __init__(self, own):
        self.own = own
        self.source = own.source
        self.ahead_ns = 0

    def now_ns(self, conn):
        return self.own.now_ns(conn) + self.ahead_ns


class Full:
    """A ledger with as many open chunks as are asked for."""

    def __init__(self, url):
        self.url = url
        self.chunks = 0
        upgrade(url)
        self.ledger = Ledger.open(url, keys=KEYS)
        self.ledger.register(projects={"default": "default"}, rates={"default": 50})
        self.database = self.ledger._database
        self.clock = AheadClock(self.database.clock)
        self.database.clock = self.clock

    def fill(self, chunks):
        add_open_chunks(self.url, KEYS, chunks=chunks - self.chunks, ids_per_chunk=2)
        add_events(self.url, events=chunks - self.chunks, begin=self.chunks)
        analyze(self.url)
        self.chunks = chunks

    def claim(self):
        """Claim some work and record what came of it; gives the milliseconds of the claim."""
        self.clock.ahead_ns += 250_000_000
        began = time.perf_counter()
        claim = self.ledger.claim(worker="w", capacity=100, lead_s=0.02, lease_s=3_600)
        took = 1_000 * (time.perf_counter() - began)
        assert claim.tasks
        self.ledger.record(
            [
                Settlement(task=task, move=Delivered(), outcome="acknowledged", reason="ok")
                for task in claim.tasks
            ]
        )
        return took

    def typical_ms(self):
        """Give what a claim takes when nothing is in its way: of many, the faster quarter."""
        for _ in range(10):
            self.claim()
        return statistics.quantiles([self.claim() for _ in range(60)], n=4)[0]

    def statements_of_a_claim(self):
        found = []

        def note(_conn, _cursor, statement, parameters, *_):
            many = isinstance(parameters, list)
            if not many and statement.lstrip().startswith(("SELECT", "UPDATE")):
                found.append((statement, parameters))

        event.listen(self.database.engine, "before_cursor_execute", note)
        try:
            self.claim()
        finally:
            event.remove(self.database.engine, "before_cursor_execute", note)
        assert len(found) > 5
        return found

    def walks(self, statement, parameters):
        """Name the large tables that a statement would walk through from end to end."""

        def ask(conn):
            if self.database.is_sqlite:
                rows = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                # A SCAN by a partial index is a walk over what waits now, which is the point.
                steps = [row.detail for row in rows]
                return [re.match(r"SCAN (\w+)(?! USING)", step) for step in steps]
            # Some tables are tiny here: one is walked through only where no index would do.
            conn.exec_driver_sql("SET LOCAL enable_seqscan = off")
            plan = conn.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar()
            return [
                re.search(r'"Relation Name": "(\w+)"', json.dumps(node))
                for node in _nodes(plan[0]["Plan"])
                if node["Node Type"] == "Seq Scan"
            ]

        found = self.database.read(ask)
        return [one[1] for one in found if one is not None and one[1] in LARGE]


def _nodes(plan):
    children = plan.pop("Plans", [])
    yield plan
    for child in children:
        yield from _nodes(child)


@pytest.fixture
def full(ledger_url):
    with ExitStack() as stack:
        made = Full(ledger_url)
        stack.callback(made.ledger.close)
        yield made


def test_no_statement_of_a_claim_walks_through_a_table_that_grows(full):
    full.fill(20_000)
    walked = {
        statement: found
        for statement, parameters in full.statements_of_a_claim()
        if (found := full.walks(statement, parameters))
    }
    assert walked == {}
    # And one that must would be noticed.
    assert full.walks("SELECT count(*) FROM chunk WHERE last_reason = 'x'", ()) == ["chunk"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_claim_takes_no_longer_with_twenty_times_the_work(full):
    full.fill(10_000)
    few = full.typical_ms()
    full.fill(200_000)
    many = full.typical_ms()
    assert many < 3 * few, (few, many)
