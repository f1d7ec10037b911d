"""One seed in one process: a ledger, clocks that only it moves, and workers made of two lists.

What happens is drawn from the seed: orders, changes of mind, claims, departures, answers good and
bad, records, sweeps, time, processes that die at any of the product's crash points, and commits
whose answers are lost. Then everything heals, all work is done, and the oracle judges.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from unittest.mock import patch
from uuid import UUID

from sqlalchemy import text

from ledger import Kind
from ledger.crash_points import armed
from ledger.errors import ConflictError, LedgerError
from ledger.tasks import Settlement, Task, Unsent
from tests.support.campaign.memos import Memos, Mood
from tests.support.campaign.score import Score
from tests.support.ledger_facts import LedgerFacts
from tests.support.ledger_world import World, Worlds, make_order
from tests.support.oracle import Evidence, judge, judge_rate
from tests.support.producer_journal import Ordered
from worker.judge import judge as judge_answer

__all__ = ["EVENTS", "run_seed"]

EVENTS = 150
LEASE_S = 30.0
TOO_LATE_S = 0.02
ATTEMPTS = 6
# Low ones show a slot too many; the evening only makes an end.
DAY_RATES, EVENING_RATE = (2.0, 8.0, 100.0), 500.0
IN_FLIGHT = 16
_USERS, _EACH = 12, 40
_ROUNDS = 400


class Crash(Exception):  # noqa: N818 - what happens, no error of ours
    """A process dies here."""


@dataclass
class _Worker:
    """A process that drains: calls that wait for their slot, and answers not yet recorded."""

    name: str
    waiting: list[Task] = field(default_factory=list)
    answered: list[Settlement] = field(default_factory=list)


@dataclass
class _Sender:
    """One order on its way in, under its key, until its receipt comes."""

    order: dict[str, Any]
    place: int


def run_seed(worlds: Worlds, seed: int, *, events: int = EVENTS) -> Score:
    """Run one seed; what goes wrong is in the score."""
    campaign = _Campaign(random.Random(seed))
    try:
        with ExitStack() as stack:
            # Ids decide orders and samples: a seed has to be the same each time that it is run.
            numbers = (UUID(int=number) for number in count(1))
            stack.enter_context(patch("uuid.uuid4", side_effect=numbers))
            random.seed(seed)
            campaign.world = stack.enter_context(worlds.open())
            campaign.go(events)
            campaign.finish()
            verdict = campaign.judged()
        verdict.assert_clean()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this seed's failure
        lines = str(error).splitlines() or [""]
        return campaign.score(seed, worlds.kind, error=f"{type(error).__name__}: {lines[0]}")
    return campaign.score(seed, worlds.kind)


class _Campaign:
    """What happens, and what is known of it outside the product."""

    world: World

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        seeded = {f"u{user}": [f"u{user}-m{n}" for n in range(_EACH)] for user in range(_USERS)}
        self.memos = Memos(seeded)
        self.free = list(seeded)
        self.workers = [_Worker(f"w{n}") for n in range(3)]
        self.orders: list[Ordered] = []
        self.unheard: list[_Sender] = []
        self.requests: list[str] = []
        self.full: set[str] = set()
        self.kills = 0
        self.happened = 0
        self.verdict: Any = None
        self.calm = False
        self.rate = chance.choice(DAY_RATES)
        self.day: dict[str, int] = {}

    # -- the day ----------------------------------------------------------------------------------

    def go(self, events: int) -> None:
        """Let so much happen."""
        what: dict[Callable[[], object], int] = {
            self.submit: 12,
            self.hand_in_again: 4,
            self.control: 5,
            self.claim: 25,
            self.depart: 40,
            self.record: 25,
            self.sweep: 8,
            self.tick: 12,
            self.die: 3,
            self.resume: 3,
        }
        self.limit(self.rate)
        self.submit()
        drawn = self.chance.choices(list(what), weights=list(what.values()), k=events)
        with armed(self.at):
            for event in drawn:
                event()
                self.happened += 1

    def at(self, place: str) -> None:
        """Die, or lose the answer, at some of the product's crash points."""
        if self.calm or self.chance.random() > 0.04:
            return
        if place.endswith("after_commit") and self.chance.random() < 0.5:
            self.kills += 1
            message = "The answer was lost."
            raise LedgerError(message, cause="lost_answer")
        raise Crash(place)

    def submit(self) -> None:
        user = self.chance.choice(self.free)
        order: dict[str, Any] = {"idempotency_key": f"key-{len(self.orders)}"}
        if self.chance.random() < 0.3:
            order |= {"kind": Kind.USER, "subject": user, "ids": []}
        else:
            ids = self.chance.sample(self.memos.seeded[user], self.chance.randint(1, 25))
            ids += [f"never-{len(self.orders)}-{n}" for n in range(self.chance.choice([0, 0, 1]))]
            self.chance.shuffle(ids)
            verify = self.chance.choice(["none", "full", "sample:3", None])
            order |= {"kind": Kind.MEMORIES, "ids": ids, "verify": verify}
            order["subject"] = self.chance.choice([None, user])
        order["project"] = self.chance.choice(["shop", "shop", "blog", "far"])
        order["chunk_size"] = self.chance.choice([1, 4, 10])
        self.orders.append(
            Ordered(
                kind=order["kind"],
                ids=tuple(order["ids"]),
                subject=order["subject"] if order["kind"] is not Kind.MEMORIES else None,
            )
        )
        self.unheard.append(_Sender(order, len(self.orders) - 1))
        self.hand_in(self.unheard[-1])

    def hand_in_again(self) -> None:
        if self.unheard:
            self.hand_in(self.chance.choice(self.unheard))

    def hand_in(self, sender: _Sender) -> None:
        fields = dict(sender.order)
        ids, chunk_size = fields.pop("ids"), fields.pop("chunk_size")
        try:
            intake = self.world.ledger.begin(make_order(**fields), chunk_size=chunk_size)
            if ids:
                intake.add(ids)
            receipt = intake.finish()
        except (Crash, LedgerError):
            return  # it comes again some time, or never
        made = self.orders[sender.place]
        assert receipt.unique == (len(ids) or 1)
        self.orders[sender.place] = Ordered(
            kind=made.kind, ids=made.ids, subject=made.subject, request_id=receipt.id
        )
        self.unheard.remove(sender)
        self.requests.append(receipt.id)
        if self.world.view(receipt.id).verify == "full":
            self.full.add(receipt.id)

    def control(self) -> None:
        if not self.requests:
            return
        request_id = self.chance.choice(self.requests)
        what = self.chance.choice(["hold", "hold", "release", "cancel"])
        reason = {} if what == "release" else {"reason": "test"}
        try:
            getattr(self.world.ledger, what)(request_id, principal="op", **reason)
        except (ConflictError, Crash, LedgerError):
            return

    def claim(self) -> None:
        worker = self.chance.choice(self.workers)
        most = 1_000 if self.calm else IN_FLIGHT
        capacity = most - len(worker.waiting) - len(worker.answered)
        if capacity < 1:
            return
        try:
            claimed = self.world.ledger.claim(
                worker=worker.name, capacity=capacity, lead_s=0.01, lease_s=LEASE_S
            )
        except Crash:
            self.kill(worker)
        except LedgerError:
            return  # what was claimed anyway lapses
        else:
            worker.waiting += claimed.tasks

    def depart(self) -> None:
        busy = [worker for worker in self.workers if worker.waiting]
        if not busy:
            return
        worker = self.chance.choice(busy)
        task = worker.waiting.pop(0)
        late_s = (self.world.clock.ns - task.slot_ns) / 1e9
        if late_s < 0:
            self.world.clock.tick(-late_s)
        halted = self.world.ledger.halts()
        stays = any(
            task.claimed_ns <= halted.get(name, -1)
            for name in (f"account/{task.account}", f"project/{task.project}")
        )
        if late_s > TOO_LATE_S or stays:
            stay = Settlement(task=task, move=Unsent(), outcome="unsent", reason="slot_missed")
            worker.answered.append(stay)
            return
        mood = self.mood(task)
        reply = self.memos.answer(task, mood, at_s=self.world.clock.ns / 1e9)
        if not self.calm and self.chance.random() < 0.02:
            self.kill(worker)  # with the answer in its hands
            return
        worker.answered.append(
            judge_answer(task, reply, max_attempts=ATTEMPTS, chance=self.chance.random)
        )

    def mood(self, task: Task) -> Mood:
        if self.calm or self.chance.random() < 0.6:
            return Mood.WELL
        mood = self.chance.choice(list(Mood))
        if mood is Mood.LIE and task.request_id not in self.full:
            return Mood.WELL  # it could not be found out
        if mood in (Mood.NO_KEY, Mood.NO_QUOTA) and self.chance.random() < 0.7:
            return Mood.LOST_AFTER
        return mood

    def record(self) -> None:
        busy = [worker for worker in self.workers if worker.answered]
        if not busy:
            return
        worker = self.chance.choice(busy)
        most = 100 if self.calm else self.chance.randint(1, 10)
        batch = worker.answered[:most]
        try:
            ready = self.world.record(*batch)
            del worker.answered[: len(batch)]
            for request_id in ready:
                self.world.advance(request_id)
        except Crash:
            self.kill(worker)
        except LedgerError:
            return  # the same is recorded again, or the sweep goes on with the request

    def sweep(self) -> None:
        try:
            self.world.sweep(max_attempts=ATTEMPTS)
        except (Crash, LedgerError):
            return  # the next one does it

    def tick(self) -> None:
        self.world.clock.tick(self.chance.choice([0.01, 0.2, 1.0, 3.0, 9.0, 40.0]))

    def die(self) -> None:
        self.kill(self.chance.choice(self.workers))

    def kill(self, worker: _Worker) -> None:
        self.kills += 1
        worker.waiting.clear()
        worker.answered.clear()

    def resume(self) -> None:
        try:
            for project in ("shop", "blog", "far"):
                self.world.ledger.resume_project(project, principal="op")
        except (Crash, LedgerError):
            return

    # -- the evening ------------------------------------------------------------------------------

    def finish(self) -> None:
        """Heal everything, and work until nothing is left, at a rate that makes it short."""
        self.calm = True
        self.day = judge_rate(self.evidence(self.rate))
        self.limit(EVENING_RATE)
        for request_id in self.requests:
            if self.world.view(request_id).held:
                self.world.ledger.release(request_id, principal="op")
        for _ in range(_ROUNDS):
            self.resume()
            self.sweep()
            self.claim()
            while any(worker.waiting for worker in self.workers):
                self.depart()
            while any(worker.answered for worker in self.workers):
                self.record()
            if all(self.ended()):
                return
            self.world.clock.tick(self.chance.choice([0.5, 3.0, 20.0, 61.0]))
        left = [self.world.view(one) for one in self.requests]
        message = f"Not ended: {[(v.state, v.counts) for v in left if v.finished_at is None][:3]}"
        raise AssertionError(message)

    def ended(self) -> Iterator[bool]:
        rows = self.rows("SELECT state, finished_at FROM request")
        # What was only begun and never handed in again is cancelled after a day.
        return (row[1] is not None or row[0] == "receiving" for row in rows)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return self.world.database.read(
            lambda conn: [tuple(row) for row in conn.execute(text(statement))]
        )

    def limit(self, rate: float) -> None:
        self.world.ledger.register(projects={}, rates={"acme": rate, "beta": rate}, decides=True)

    def judged(self) -> Any:
        self.verdict = judge(self.evidence(EVENING_RATE))
        self.world.check_books()
        assert not self.day, self.day
        return self.verdict

    def evidence(self, rate: float) -> Evidence:
        clock = self.world.clock
        facts = LedgerFacts.read(self.rows)
        begun = [one.id for one in facts.requests.values() if one.state == "receiving"]
        for request_id in begun:
            del facts.requests[request_id]
        return Evidence(
            orders=self.orders,
            calls=self.memos.journal,
            seeded=self.memos.seeded,
            left=frozenset(self.memos.left),
            facts=facts,
            rates={"acme": rate, "beta": rate},
            # Whatever a killed one had under way is `unknown` when its lease has lapsed.
            kills=0,
            wall_offset_us=(clock.wall_ns - clock.ns) // 1_000,
        )

    def score(self, seed: int, ledger: str, *, error: str = "") -> Score:
        return Score(
            name=str(seed),
            kind="in process",
            ledger=ledger,
            events=self.happened,
            kills=self.kills,
            verdict=self.verdict,
            error=error,
        )
