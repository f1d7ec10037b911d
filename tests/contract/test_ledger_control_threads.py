"""Holding and cancelling while workers claim and record: after the answer nothing more is given."""

import random
import threading
import time

import pytest
from sqlalchemy import select, text

from ledger.schema import account, request
from ledger.tasks import Delivered, Probe, Retry, Split, Unsent
from tests.support.ledger_memos import Memos
from tests.support.ledger_world import settled

WORKERS = 3
ROUNDS = 3
WITHIN_S = 60.0


class Workers:
    """Threads that claim, answer and advance; they note what each claim gave, and when."""

    def __init__(self, world, memos):
        self.world = world
        self.memos = memos
        self.claims: list[tuple[float, float, set[tuple[str, str]]]] = []
        self.errors: list[BaseException] = []
        self.enough = threading.Event()

    def work(self, number):
        chance = random.Random(number)
        try:
            while not self.enough.is_set():
                started = time.monotonic()
                tasks = self.world.ledger.claim(
                    worker=f"w{number}", capacity=20, lead_s=0, lease_s=600
                ).tasks
                given = {(task.request_id, task.call) for task in tasks}
                self.claims.append((started, time.monotonic(), given))
                moves = [(task, self.answer(task, chance)) for task in tasks]
                for request_id in self.world.record(*(settled(*each) for each in moves)):
                    self.world.advance(request_id)
                self.world.clock.tick(0.02)
                # As drains do; without it nobody else gets at SQLite's one writer.
                time.sleep(0.005)
        except BaseException as error:  # noqa: BLE001 - told by the test
            self.errors.append(error)
            self.enough.set()

    def answer(self, task, chance):
        if task.call != "delete":
            return self.memos(task)
        moves = [Unsent(), Retry(delay_s=0.1, burn=False), Retry(delay_s=0.1, burn=True)]
        rare = [Delivered(), Retry(delay_s=0.1, burn=True, doubtful=True)]
        rare += [Split(), Probe()] if len(task.ids) > 1 else []
        return chance.choice(rare if chance.random() < 0.1 else moves)

    def some_more(self):
        """Wait until each worker may have claimed once more."""
        wanted = len(self.claims) + 2 * WORKERS
        until = time.monotonic() + WITHIN_S
        while len(self.claims) < wanted:
            assert not self.errors
            assert time.monotonic() < until
            time.sleep(0.001)


@pytest.fixture
def busy(world):
    """Requests of which workers carry out what they may, until the test has seen enough."""
    world.ledger.register(projects={}, rates={"acme": 2_000.0}, decides=True)
    ids = [f"m{number}" for number in range(240)]
    receipts = [
        world.submit(ids[start : start + 60], chunk_size=2, subject="u")
        for start in range(0, 240, 60)
    ]
    workers = Workers(world, Memos(ids))
    threads = [threading.Thread(target=workers.work, args=[number]) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    yield workers, [receipt.id for receipt in receipts]
    workers.enough.set()
    for thread in threads:
        thread.join(timeout=WITHIN_S)


def test_no_claim_that_begins_after_a_hold_or_cancel_gives_what_it_stopped(world, busy):
    workers, ids = busy
    # From when to when a request was held, and from when on it was cancelled.
    held: dict[str, tuple[float, float]] = {}
    cancelled: dict[str, float] = {}
    for request_id in ids[:ROUNDS]:
        assert world.ledger.hold(request_id, principal="op", reason="x")
        start = time.monotonic()
        workers.some_more()
        held[request_id] = (start, time.monotonic())
        assert world.ledger.release(request_id, principal="op")
        workers.some_more()
        assert world.ledger.cancel(request_id, principal="op", reason="x")
        cancelled[request_id] = time.monotonic()
        workers.some_more()
    workers.enough.set()
    assert not workers.errors
    if not world.database.is_sqlite:
        query = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        assert world.database.read(lambda conn: conn.execute(query).scalar_one()) == 0
    for started, ended, given in workers.claims:
        for request_id, call in given:
            if request_id not in cancelled:
                continue
            start, end = held[request_id]
            # One that waits for the account's lock until the release has committed is after it.
            assert not start < started < ended < end
            assert call != "delete" or started < cancelled[request_id]
    world.run(workers.memos)
    for _ in range(20):
        world.clock.tick(700)
        world.sweep(max_attempts=9)
        world.run(workers.memos)
        if all(row.finished_at for row in world.rows(request)):
            break
    assert all(row.finished_at for row in world.rows(request))


def test_a_hold_answers_only_after_the_claim_that_is_under_way(world):
    receipt = world.submit(["m"])
    answered = threading.Event()

    def hold():
        world.ledger.hold(receipt.id, principal="op", reason="x")
        answered.set()

    holding = threading.Thread(target=hold)

    def claim(conn):
        # Just as a claim does it, from its first statement to its commit.
        conn.execute(select(account.c.name).with_for_update(key_share=True)).all()
        holding.start()
        assert not answered.wait(0.3)

    world.database.write(claim)
    assert answered.wait(WITHIN_S)
    holding.join()
    assert not world.claim().tasks
