"""A ledger in memory and a client without a network, for drains on a clock that tests let pass."""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from ledger import ReadbackPolicy
from ledger.errors import LedgerError
from ledger.slots import AHEAD_NS, LEEWAY_AHEAD_NS, book, interval_ns, most_at_once
from ledger.states import Kind
from ledger.tasks import Claim, Retry, Settlement, Task, Unsent
from memos_api import CLOUD, Answer, Call, KeptBackError, Listing, Outcome, Reply, Sight
from tests.support.virtual_time import VirtualThread
from worker.drain import Drain
from worker.stop import StopFlag
from worker.watching import Watch

__all__ = ["FakeClient", "FakeLedger", "make_drain", "make_task", "reply"]

# The ledger's clock is another one than this process's.
_OFFSET_NS = 7_000_000_000_000


def make_task(**changed: Any) -> Task:
    """Make a task: the deletion of one memory `a`, unless *changed*."""
    values: dict[str, Any] = {
        "claim": "c",
        "place": 0,
        "slot_ns": 0,
        "account": "default",
        "project": "default",
        "request_id": "r",
        "generation": 1,
        "kind": Kind.MEMORIES,
        "call": "delete",
        "chunk_id": 1,
        "readback_id": None,
        "fence": 1,
        "burnt": 0,
        "doubtful": False,
        "sightings": 0,
        "subject": None,
        "ids": ("a",),
    }
    return Task(**(values | changed))


def reply(
    outcome: Outcome,
    *,
    retry_after_s: float | None = None,
    listing: Listing | None = None,
    sight: Sight | None = None,
    reason: str = "why",
) -> Reply:
    """Make the answer of a call."""
    answer = Answer(
        outcome=outcome, code=None, http_status=None, retry_after_s=retry_after_s, reason=reason
    )
    return Reply(answer=answer, listing=listing, sight=sight, seconds=0.25)


class FakeLedger:
    """Claims and records like the ledger, for one chunk an id.

    Attributes:
        recorded: All settlements, in order.
        done: Ids that need no further call.
        postponed: What was owed, as (account, nanoseconds).
        claim_faults: So many of the next claims fail.
        record_faults: So many of the next records fail.
        postpone_faults: So many of the next moves of a slot fail.
        late_ns: How late claimed slots are when the drain gets them.
        claim_s: How long the commit of a claim takes.
        leeways: Accounts that each claim asked leeway for.
        batches: Sizes of what was recorded together.
    """

    def __init__(self, work: Mapping[str, int], *, rates: Mapping[str, float]) -> None:
        """Put so many chunks of each account in line; ids are like `account/7`."""
        self._due = {
            name: deque(f"{name}/{number}" for number in range(count))
            for name, count in work.items()
        }
        self._rates = dict(rates)
        self._next_slot_ns: dict[str, int] = defaultdict(int)
        self._paused_until_ns: dict[str, int] = defaultdict(int)
        self._later: list[tuple[int, str]] = []
        self._leased: set[str] = set()
        self._claims = 0
        self.recorded: list[Settlement] = []
        self.batches: list[int] = []
        self.done: set[str] = set()
        self.postponed: list[tuple[str, int]] = []
        self.claim_faults = 0
        self.record_faults = 0
        self.postpone_faults = 0
        self.late_ns = 0
        self.claim_s = 0.0
        self.leeways: list[frozenset[str]] = []
        self._leeway_until_ns: dict[str, int] = defaultdict(int)

    @property
    def leased(self) -> set[str]:
        """Ids that are with a drain."""
        return set(self._leased)

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
        """Claim as `ledger.claims` does."""
        if self.claim_faults:
            self.claim_faults -= 1
            raise LedgerError
        self.leeways.append(leeway)
        for account, by_ns in (owed or {}).items():
            self.postpone(account, by_ns=by_ns)
        now = time.monotonic_ns() + _OFFSET_NS
        self._promote(now)
        self._claims += 1
        tasks: list[Task] = []
        wakes = [at for at, _ in self._later]
        for name, due in self._due.items():
            if self._paused_until_ns[name] > now:
                wakes.append(self._paused_until_ns[name])
                continue
            ahead = usual = max(AHEAD_NS, int(lead_s * 1e9))
            if name in leeway or self._leeway_until_ns[name] > now:
                ahead = max(ahead, LEEWAY_AHEAD_NS)
            if self._next_slot_ns[name] - now > ahead:
                wakes.append(self._next_slot_ns[name] - ahead)
                continue
            interval = interval_ns(self._rates[name])
            booking = book(
                next_slot_ns=self._next_slot_ns[name],
                now_ns=now,
                lead_ns=int(lead_s * 1e9),
                interval=interval,
                wanted=min(capacity - len(tasks), len(due), most_at_once(interval)),
                leeway=name in leeway,
                leeway_until_ns=self._leeway_until_ns[name],
            )
            self._leeway_until_ns[name] = booking.leeway_until_ns
            self._next_slot_ns[name] = booking.next_slot_ns
            if len(booking.slots) < len(due):
                wakes.append(max(now, booking.next_slot_ns - usual))
            tasks += [
                make_task(
                    claim=str(self._claims),
                    place=place,
                    slot_ns=slot - self.late_ns,
                    account=name,
                    project=name,
                    ids=(due.popleft(),),
                )
                for place, slot in enumerate(booking.slots)
            ]
        self._leased |= {task.ids[0] for task in tasks}
        tasks.sort(key=lambda task: task.slot_ns)
        time.sleep(self.claim_s)
        return Claim(
            tasks=tuple(tasks),
            now_ns=now,
            mono_ns=now - _OFFSET_NS,
            wake_ns=max(0, min(wakes) - now) if wakes else None,
            leeway=leeway,
        )

    def record(self, settlements: Sequence[Settlement]) -> list[str]:
        """Record as `ledger.record` does."""
        if self.record_faults:
            self.record_faults -= 1
            raise LedgerError
        now = time.monotonic_ns() + _OFFSET_NS
        self.batches.append(len(settlements))
        for settled in settlements:
            (name,) = settled.task.ids
            self._leased.remove(name)  # a KeyError tells of an outcome recorded twice
            self.recorded.append(settled)
            if settled.pause_account_s is not None:
                until = now + int(settled.pause_account_s * 1e9)
                account = settled.task.account
                self._paused_until_ns[account] = max(self._paused_until_ns[account], until)
            if isinstance(settled.move, Unsent):
                self._due[settled.task.account].append(name)
            elif isinstance(settled.move, Retry):
                self._later.append((now + int(settled.move.delay_s * 1e9), name))
            else:
                self.done.add(name)
        return []

    def advance(self, request_id: str, *, policy: ReadbackPolicy) -> None:
        """Nothing is read back here."""

    def halts(self) -> dict[str, int]:
        """Nobody else stops anything."""
        return {}

    def postpone(self, account: str, *, by_ns: int) -> None:
        """Move the account's next slot."""
        if self.postpone_faults:
            self.postpone_faults -= 1
            raise LedgerError
        self.postponed.append((account, by_ns))
        self._next_slot_ns[account] += by_ns

    def _promote(self, now: int) -> None:
        ripe = [one for one in self._later if one[0] <= now]
        self._later = [one for one in self._later if one[0] > now]
        for _, name in ripe:
            self._due[name.split("/")[0]].append(name)


class FakeClient:
    """Answers each call after a while, without a network.

    Attributes:
        departures: Moment and id of each call that left, seconds of the monotonic clock.
        dialect: How calls are encoded.
        under_way: Calls that have left and are not answered.
        most_under_way: The most of them at a time.
    """

    dialect = CLOUD

    def __init__(
        self, answer: Callable[[str], Reply] | None = None, *, latency_s: float = 0.005
    ) -> None:
        """Take the answer by id; by default every call is acknowledged."""
        self._answer = answer or (lambda _: reply(Outcome.ACKNOWLEDGED))
        self._latency_s = latency_s
        self.departures: list[tuple[float, str]] = []
        self.under_way = 0
        self.most_under_way = 0

    async def send(self, call: Call, *, leaves: Callable[[], Awaitable[None]]) -> Reply:
        """Answer as `memos_api.MemosClient` does."""
        name = call.body.decode().split('"')[3]
        try:
            await leaves()
        except KeptBackError as error:
            return reply(Outcome.NOT_APPLIED, reason=error.reason)
        self.departures.append((time.monotonic(), name))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(self._latency_s)
        self.under_way -= 1
        return self._answer(name)


def make_drain(
    ledger: FakeLedger,
    clients: Mapping[str, FakeClient],
    *,
    in_flight: int = 64,
    stop: StopFlag | None = None,
    lease_s: float = 10.0,
) -> Drain:
    """Make a drain of these parts, for a loop of `VirtualTime`."""
    return Drain(
        ledger=ledger,  # type: ignore[arg-type]  # has what a drain asks of it
        database=VirtualThread(),
        lookout=VirtualThread(),
        clients=clients,  # type: ignore[arg-type]  # as above
        worker="test",
        in_flight=in_flight,
        lease_s=lease_s,
        max_attempts=4,
        policy=ReadbackPolicy(),
        watch=Watch(),
        stop=stop or StopFlag(),
    )
