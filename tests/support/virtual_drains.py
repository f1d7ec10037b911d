"""Many workers in one thread, on a clock that only they move: hours of an outage in seconds.

The ledger is real, and so is the judgement of answers; what MemOS says is a function. A worker
claims, lets its calls depart at their slots unless they are halted, and records what came, as
`worker.drain` does it.
"""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from ledger.tasks import Claim, Settlement, Task, Unsent
from memos_api import CLOUD, Answer, Dialect, Listing, Outcome, Reply, Sight
from memos_api.simulator.remote import worst_window
from tests.support.ledger_world import World
from worker.judge import judge

__all__ = ["Answers", "Memos", "VirtualDrains", "answered"]

_NS: Final = 1_000_000_000
_LATENCY_S: Final = 0.03
_DEADLINE_S: Final = 1.0
_NAP_S: Final = 0.25
_RING_S: Final = 1.0
_SWEEP_S: Final = 2.0
_GATHER_S: Final = 0.03

Weather: TypeAlias = Callable[[Task, float], "Answer | None"]


def answered(outcome: Outcome, reason: str, **members: object) -> Answer:
    """Make an answer; *members* as in `Answer`."""
    plain = {"code": None, "http_status": None, "retry_after_s": None}
    return Answer(outcome=outcome, reason=reason, **(plain | members))  # type: ignore[arg-type]


@dataclass
class Memos:
    """A MemOS that holds memories of no user in particular, and the weather before it.

    Attributes:
        held: Memory ids that are there.
        weather: Gives what a call gets instead of its answer, and None when all is well.
        applies: Says of a call that got no proper answer whether it was carried out all the same.
        calls: Seconds and task of each call that was sent.
        carried_out: How many deletions of each id MemOS looked at.
        dialect: As calls are encoded.
    """

    held: set[str]
    weather: Weather = lambda _task, _now: None
    applies: Callable[[Task, float], bool] = lambda _task, _now: False
    calls: list[tuple[float, Task]] = field(default_factory=list)
    carried_out: Counter[str] = field(default_factory=Counter)
    dialect: Dialect = CLOUD

    def reply(self, task: Task, now: float) -> Reply:
        """Carry a call out, or let the weather have it."""
        self.calls.append((now, task))
        odd = self.weather(task, now)
        if task.call == "delete" and (odd is None or self.applies(task, now)):
            unknown = not self.held.issuperset(task.ids)
            self.held -= set() if unknown else set(task.ids)
            self.carried_out.update(task.ids)
        else:
            unknown = False
        if odd is not None:
            sight = Sight.UNKNOWN if task.call == "read" else None
            seconds = _DEADLINE_S if "deadline" in odd.reason else _LATENCY_S
            return Reply(answer=odd, sight=sight, seconds=seconds)
        if unknown:
            return Reply(answer=answered(Outcome.NOT_FOUND, "code_40307"), seconds=_LATENCY_S)
        ok = answered(Outcome.ACKNOWLEDGED, "ok", code=0, http_status=200)
        if task.control:
            return Reply(answer=ok, listing=Listing(items=(), ids=frozenset()), seconds=_LATENCY_S)
        if task.call == "read":
            seen = Sight.PRESENT if task.ids[0] in self.held else Sight.ABSENT
            return Reply(answer=ok, sight=seen, seconds=_LATENCY_S)
        return Reply(answer=ok, seconds=_LATENCY_S)

    def between(self, start: float, end: float) -> list[float]:
        """Give the moments of the calls in a span."""
        return [at for at, _ in self.calls if start <= at < end]

    def worst_window(self, seconds: float) -> int:
        """Count the most calls in any window."""
        return worst_window([at for at, _ in self.calls], seconds)


class Answers(Protocol):
    """Whatever answers calls."""

    @property
    def dialect(self) -> Dialect:
        """As calls are encoded."""

    def reply(self, task: Task, now: float) -> Reply:
        """Answer a call that departs at a second of the ledger's clock."""


class VirtualDrains:
    """Workers of one ledger.

    Args:
        world: The ledger, whose clock is moved.
        memos: Answers the calls.
        workers: How many.
        capacity: Most calls each has under way.
        lease_s: Of their claims.
        seed: Of all jitter.
        sweep_s: Seconds between two sweeps.
    """

    def __init__(
        self,
        world: World,
        memos: "Answers",
        *,
        workers: int = 8,
        capacity: int = 64,
        lease_s: float = 60.0,
        max_attempts: int = 8,
        seed: int = 0,
        sweep_s: float = _SWEEP_S,
    ) -> None:
        self._world = world
        self._memos = memos
        self._capacity = capacity
        self._lease_s = lease_s
        self._max_attempts = max_attempts
        self._sweep_s = sweep_s
        random.seed(seed)  # the breaker draws its rests from there
        self._numbers = itertools.count()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._under_way = [0] * workers
        self._ended = False
        for worker in range(workers):
            self._at(self.now + worker * 0.01, lambda worker=worker: self._turn(worker))  # type: ignore[misc]
        self._at(self.now + self._sweep_s, self._sweep)

    @property
    def now(self) -> float:
        """Seconds of the ledger's clock."""
        return self._world.clock.ns / _NS

    def run(self, seconds: float, *, until_done: bool = False) -> float:
        """Let so much time pass; gives the seconds that did (fewer when all requests ended)."""
        start, end = self.now, self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            at, _, action = heapq.heappop(self._queue)
            self._world.clock.tick(max(0.0, at - self.now))
            action()
            if until_done and self._ended:
                return self.now - start
        self._world.clock.tick(max(0.0, end - self.now))
        return self.now - start

    def _at(self, moment: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (moment, next(self._numbers), action))

    def _turn(self, worker: int) -> None:
        capacity = self._capacity - self._under_way[worker]
        claim = self._world.ledger.claim(
            worker=f"w{worker}", capacity=capacity, lead_s=0.01, lease_s=self._lease_s
        )
        self._under_way[worker] += len(claim.tasks)
        for task in claim.tasks:
            self._at(task.slot_ns / _NS, lambda task=task: self._depart(worker, task))  # type: ignore[misc]
        self._at(self.now + self._nap_s(claim), lambda: self._turn(worker))

    def _nap_s(self, claim: Claim) -> float:
        # A real one ends when nothing is due soon, and the steward rings when something is.
        wake_s = _RING_S if claim.wake_ns is None else claim.wake_ns / _NS
        return max(0.002, min(_NAP_S, wake_s + _GATHER_S) if claim.tasks else wake_s)

    def _depart(self, worker: int, task: Task) -> None:
        halted = self._world.ledger.halts()
        names = (f"account/{task.account}", f"project/{task.project}")
        if any(task.claimed_ns <= halted.get(name, -1) for name in names):
            unsent = Settlement(task=task, move=Unsent(), outcome="unsent", reason="halted")
            self._record(worker, unsent)
            return
        reply = self._memos.reply(task, self.now)
        settled = judge(
            task,
            reply,
            dialect=self._memos.dialect,
            max_attempts=self._max_attempts,
            chance=random.random,
        )
        self._at(self.now + reply.seconds, lambda: self._record(worker, settled))

    def _record(self, worker: int, settled: Settlement) -> None:
        self._under_way[worker] -= 1
        for request_id in self._world.ledger.record([settled]):
            self._world.advance(request_id)

    def _sweep(self) -> None:
        self._world.sweep(self._max_attempts)
        views = self._world.ledger.list_requests(limit=1_000)
        self._ended = all(view.finished_at is not None for view in views)
        self._at(self.now + self._sweep_s, self._sweep)
