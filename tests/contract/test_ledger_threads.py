"""Workers, sweeps and senders at once: no error, nobody waits, and the counts are right."""

import random
import threading
import time
from itertools import pairwise

import pytest
from sqlalchemy import select, text

from ledger.schema import account, attempt, chunk, request
from ledger.states import Kind, Sight
from ledger.tasks import Dead, Delivered, Probe, Retry, Seen, Split, Unsent
from tests.support.ledger_world import settled

SEED = 20261122


def chance_answer(task, chance):
    """Give any answer that a MemOS in trouble may lead to."""
    if task.call != "delete":
        sight = chance.choices([Sight.ABSENT, Sight.PRESENT, Sight.UNKNOWN], [8, 1, 1])[0]
        return chance.choices([Seen(sight=sight), Retry(delay_s=0.1, burn=True)], [9, 1])[0]
    moves = [Delivered(), Retry(delay_s=0.1, burn=True, doubtful=True), Unsent()]
    weights = [10, 2, 1]
    if len(task.ids) > 1:
        moves, weights = [*moves, Split(), Probe()], [*weights, 5, 2]
    elif task.burnt > 3:
        moves, weights = [Dead(bucket="unknown")], [1]
    else:
        moves, weights = [*moves, Dead(bucket="refused")], [*weights, 1]
    return chance.choices(moves, weights)[0]


class Hammer:
    """Threads on one ledger; what they raise is kept."""

    def __init__(self, world, seed):
        self.world = world
        self.seed = seed
        self.errors: list[BaseException] = []
        self.receipts: list[str] = []
        self.sent = threading.Event()
        self.enough = threading.Event()

    def worker(self, number):
        chance = random.Random(f"{self.seed}/{number}")
        late = []
        while not self.enough.is_set():
            claim = self.world.ledger.claim(
                worker=f"w{number}", capacity=chance.randint(1, 30), lead_s=0, lease_s=3
            )
            tasks = [*claim.tasks]
            chance.shuffle(tasks)
            if tasks and chance.random() < 0.1:
                # Comes back after its lease has lapsed, or never.
                late += [tasks.pop()]
            if late and chance.random() < 0.1:
                tasks.append(late.pop())
            ready = self.world.ledger.record(
                [
                    settled(
                        task,
                        chance_answer(task, chance),
                        pause_account_s=0.05 if chance.random() < 0.05 else None,
                        outage=chance.random() < 0.02,
                    )
                    for task in tasks
                ]
            )
            for request_id in ready:
                self.world.advance(request_id)

    def sweeper(self, number):
        while not self.enough.is_set():
            self.world.ledger.sweep(max_attempts=6, policy=self.world.policy)
            time.sleep(0.01)

    def sender(self, number):
        chance = random.Random(f"{self.seed}/sender/{number}")
        for turn in range(5):
            project = chance.choice(["shop", "blog", "far"])
            if chance.random() < 0.3:
                receipt = self.world.submit(kind=Kind.USER, subject="u", project=project)
            else:
                receipt = self.world.submit(
                    (f"m{n}" for n in range(chance.randint(1, 60))),
                    project=project,
                    chunk_size=chance.randint(1, 8),
                    verify=chance.choice(["full", "none", "sample:3"]),
                    subject=chance.choice([None, "u"]),
                    # Both senders use the same keys for different orders now and then.
                    idempotency_key=f"{number}-{turn}" if chance.random() < 0.5 else None,
                )
            self.receipts.append(receipt.id)

    def run(self, seconds):
        jobs = [(self.worker, n) for n in range(4)] + [(self.sweeper, n) for n in range(2)]
        jobs += [(self.sender, n) for n in range(2)]
        threads = [threading.Thread(target=self._guarded, args=job) for job in jobs]
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.errors and not self._over():
            self.world.clock.tick(0.1)
            time.sleep(0.002)
        self.enough.set()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads)

    def _over(self):
        if len(self.receipts) < 10 or random.random() > 0.02:
            return False
        unfinished = self.world.rows(request, request.c.finished_at.is_(None))
        return not unfinished

    def _guarded(self, job, number):
        try:
            job(number)
        except BaseException as error:  # noqa: BLE001 - the test shows it
            self.errors.append(error)


@pytest.mark.parametrize("seed", [SEED])
def test_everything_at_once_ends_with_right_counts_and_without_an_error(world, seed):
    world.ledger.register(projects={}, rates={"acme": 3_000.0, "beta": 3_000.0}, decides=True)
    hammer = Hammer(world, seed)
    hammer.run(seconds=4)
    assert hammer.errors == []
    # Whatever is left ends under one pair of hands.
    chance = random.Random(seed)
    world.clock.tick(10)
    for _ in range(60):
        world.sweep(max_attempts=6)
        world.clock.tick(3)
        for request_id in world.record(
            *(settled(task, chance_answer(task, chance)) for task in world.claim().tasks)
        ):
            world.advance(request_id)
        if not world.rows(request, request.c.finished_at.is_(None)):
            break
    assert len(hammer.receipts) == 10
    assert all(row.finished_at for row in world.rows(request))
    assert not world.rows(chunk, chunk.c.state.in_(("due", "leased", "delivered")))
    world.check_books()
    slots = sorted(row.slot_ns for row in world.rows(attempt) if _account(world, row) == "acme")
    apart = world.row(account, account.c.name == "acme").interval_ns
    assert all(late - early >= apart for early, late in pairwise(slots))


def _account(world, row):
    accounts = world.__dict__.setdefault(
        "_accounts", {one.id: one.account for one in world.rows(request)}
    )
    return accounts[row.request_id]


@pytest.mark.parametrize("worlds", ["postgresql"], indirect=True)
def test_a_claim_that_waits_for_an_account_holds_no_chunk_that_others_want(world):
    """Else a third one closes the circle: the database ends one of them."""
    world.submit(["a"])
    world.record(settled(world.claim_one(), Retry(delay_s=0.1, burn=True)))
    world.clock.tick(5)
    (ripe,) = world.rows(chunk)
    waits = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    with world.database.engine.connect() as holder:
        holder.execute(select(account).where(account.c.name == "acme").with_for_update())
        claiming = threading.Thread(target=world.claim)
        claiming.start()
        while not world.database.read(lambda conn: conn.execute(waits).scalar_one()):
            assert claiming.is_alive()
        wanted = select(chunk.c.id).where(chunk.c.id == ripe.id).with_for_update(nowait=True)
        with world.database.engine.connect() as other:
            assert other.execute(wanted).scalar_one() == ripe.id
    claiming.join(10)
    assert [task.chunk_id for task in world.tasks] == [ripe.id, ripe.id]
