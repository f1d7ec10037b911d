"""The drain: claim, call, judge, record, until nothing is due or its time is over.

One asyncio loop makes the calls; one thread talks to the ledger. The ledger decides what is due
and when it may depart, so any number of drains may run at once, on any number of hosts.

When a drain's time is over its calls go on, and the next one of this process claims meanwhile:
waiting for the last answer first would leave the account's slots unused, as often as it ends.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Final, TypeVar

import structlog

from ledger import ReadbackPolicy
from ledger.advance import FEW_CHUNKS
from ledger.crash_points import reached
from ledger.errors import DiskError, LedgerError, SchemaError
from ledger.slots import AHEAD_NS
from ledger.tasks import Claim, Retry, Settlement, Task, Unsent
from memos_api import Call, KeptBackError, MemosClient, Outcome
from worker.appetite import Appetite
from worker.clerk import Books
from worker.halts import LOOK_S, Halts
from worker.judge import judge
from worker.leeway import Leeway
from worker.outbox import Outbox
from worker.prepared import PreparedClaim, prepare
from worker.punctual import LEEWAY, STRICT, Allowance, Punctual
from worker.stop import StopFlag
from worker.watching import Watch

__all__ = ["Drain"]

T = TypeVar("T")
# How long before an account's next free slot a drain claims again, and how long it sleeps at most:
# an urgent request that comes in meanwhile is seen after that.
_AHEAD_S: Final = 0.12
_NAP_S: Final = 0.25
# Work farther off than this is the steward's to ring for.
_SOON_S: Final = 3.0
_LEAST_NAP_S: Final = 0.002
_LEAST_LEAD_S: Final = 0.008
# On a ledger that takes longer, all slots would be missed: half the rate is better than none of it.
# With what a claim books and what is booked ahead it stays below a second (`ledger.slots`).
_MOST_LEAD_S: Final = 0.5
_FIRST_CLAIM_S: Final = 0.1
# A call wakes up this long before its slot, to have its connection by then.
_EARLY_NS: Final = 5_000_000
# Slots are booked less than a second ahead: what is later cannot be made up for.
_MOST_OWED_NS: Final = 1_000_000_000
_LEDGER_AGAIN_S: Final = 0.25
# How long a drain that was told to stop goes on trying to record.
_LAST_WORD_S: Final = 0.5
# Why this process did not send a call; all other reasons are of calls that it tried.
_MISSED: Final = "slot_missed"
_STOPPING: Final = "stopping"
_HALTED: Final = "halted"
_STAYED: Final = frozenset({_MISSED, _STOPPING, _HALTED})
_log = structlog.get_logger()


class Drain:
    """A process's drain, which runs again and again, one run at a time.

    What it learns holds for its next run: how much it can take on, how long claims take, and what
    was stopped. All runs are on one loop, which goes on in between.

    Args:
        ledger: Opened after the fork; or whoever talks to it for us.
        database: Executor whose threads wait for the ledger.
        lookout: Executor with a thread that asks the ledger what was stopped.
        clients: MemOS client by project.
        worker: Name of this process, for the record.
        in_flight: Most calls at once, claimed ones included.
        lease_s: Seconds that claimed work stays this drain's; more than a call can take.
        max_attempts: Calls that may count against a chunk.
        policy: How read-backs go.
        watch: Is told of calls and ends; metrics and spans are made of it.
        stop: Set when the process shall end.
    """

    def __init__(
        self,
        *,
        ledger: Books,
        database: Executor,
        lookout: Executor,
        clients: Mapping[str, MemosClient],
        worker: str,
        in_flight: int,
        lease_s: float,
        max_attempts: int,
        policy: ReadbackPolicy,
        watch: Watch,
        stop: StopFlag,
    ) -> None:
        """Keep the parts; nothing happens until `run`."""
        self._ledger = ledger
        self._database = database
        self._lookout = lookout
        self._clients = clients
        self._worker = worker
        self._in_flight = in_flight
        self._lease_s = lease_s
        self._max_attempts = max_attempts
        self._policy = policy
        self._stop = stop
        self._punctual = Punctual()
        self._appetite = Appetite(in_flight)
        self._leeway = Leeway()
        self._outbox = Outbox(self._record)
        self._writing: asyncio.Task[None] | None = None
        self._attending: asyncio.Task[None] | None = None
        self._claiming = False
        self._senders: set[asyncio.Task[None]] = set()
        self._calls: set[asyncio.Task[None]] = set()
        self._watch = watch
        self._halts = Halts()
        # Calls that wait for their slot: while there are some, stops are looked for.
        self._waiting = 0
        # The first claims of a process are slow; a lead that is too long costs nothing.
        self._claim_took_s = _FIRST_CLAIM_S
        # The last claim brought as much as it asked for.
        self._filled = False
        self._stopping = False
        self._refused = False

    async def run(self, *, budget_s: float) -> bool:
        """Claim for at most `budget_s` seconds, and see to what was claimed.

        Returns:
            True when the seconds are over; what was claimed goes on then, and is the next run's
            too, or `settle`'s. Else nothing is under way.
        """
        end = time.monotonic() + budget_s
        self._refused = False
        self._claiming = True
        writing = self._begin()
        left = False
        try:
            while not (self._stopping or self._refused or writing.done()):
                if time.monotonic() >= end:
                    left = True
                    break
                capacity = self._capacity()
                claim = await self._claim(capacity) if capacity > 0 else None
                if claim is not None:
                    self._start(claim)
                    if self._idle and _nothing_soon(claim):
                        break
                await self._nap(claim)
        finally:
            self._claiming = False
            if not left:
                await self.settle()
        return left

    async def settle(self) -> None:
        """Wait until nothing is under way: all calls are answered and recorded, and all is paid."""
        for some in (self._senders, self._calls):
            if some:
                await asyncio.wait(some)
        writing, self._writing = self._writing, None
        self._outbox.close()
        for task in (writing, self._attending):
            if task is not None:
                await task

    def _begin(self) -> asyncio.Task[None]:
        """Have outcomes recorded and stops looked for, if the last run's tasks are over."""
        if self._writing is None:
            self._outbox = Outbox(self._record)
            self._writing = asyncio.create_task(self._outbox.run())
        if self._attending is None or self._attending.done():
            self._attending = asyncio.create_task(self._attend())
        return self._writing

    @property
    def _under_way(self) -> bool:
        return bool(self._claiming or self._senders or self._calls)

    @property
    def _idle(self) -> bool:
        return not self._calls and not self._waiting and self._outbox.empty

    # -- claim ------------------------------------------------------------------------------------

    def _capacity(self) -> int:
        """Say how many calls to claim now; a few at a time would cost a transaction each."""
        bound = self._appetite.now
        room = min(self._in_flight - len(self._calls), bound) - self._waiting
        return room if room >= max(1, min(bound, self._in_flight) // 4) else 0

    @property
    def _lead_s(self) -> float:
        """Time from a claim to its first slot: what it takes to commit and to be handed over."""
        return min(_MOST_LEAD_S, max(_LEAST_LEAD_S, 2 * self._claim_took_s))

    async def _claim(self, capacity: int) -> Claim | None:
        owed = self._punctual.take_owed()
        leeway = self._leeway.asked(bounded=self._filled)
        confirmed = False
        try:
            claim = await self._in_thread(
                lambda: self._ledger.claim(
                    worker=self._worker,
                    capacity=capacity,
                    lead_s=self._lead_s,
                    lease_s=self._lease_s,
                    owed=owed,
                    leeway=leeway,
                )
            )
            confirmed = True
        except DiskError:
            raise  # this process must end; what is under way comes back when its lease lapses
        except SchemaError as error:
            # What is under way is still recorded; migrations leave that possible for one release.
            _log.error("schema_mismatch", found=error.found, needed=error.needed)
            self._refused = True
            return None
        except LedgerError as error:
            # Nothing departs that the ledger did not confirm.
            _log.warning("claim_failed", error=error, cause=error.cause)
            return None
        finally:
            if not confirmed:
                self._owe_again(owed)
        # From the moment that slots are counted from, not from the wait for the thread.
        took_s = (time.monotonic_ns() - claim.mono_ns) / 1e9
        self._claim_took_s += (took_s - self._claim_took_s) / 4
        self._punctual.learn(claim)
        # One that brought nothing says nothing of it: others had the slots.
        if claim.tasks:
            self._filled = len(claim.tasks) >= capacity
        self._appetite.claimed(filled=len(claim.tasks) >= capacity)
        self._watch.claimed(claim)
        return claim

    def _owe_again(self, owed: Mapping[str, int]) -> None:
        for account, ns in owed.items():
            self._punctual.owe(account, ns)

    async def _pay(self) -> None:
        """Move the next slots of accounts whose last calls departed late, at the end."""
        for account, ns in self._punctual.take_owed().items():
            try:
                await self._in_thread(
                    lambda name=account, by_ns=ns: self._ledger.postpone(name, by_ns=by_ns)  # type: ignore[misc]
                )
            except LedgerError as error:
                _log.warning("postpone_failed", error=error, cause=error.cause)

    def _start(self, claim: Claim) -> None:
        self._waiting += len(claim.tasks)
        sending = asyncio.create_task(self._send_off(claim))
        self._senders.add(sending)
        sending.add_done_callback(self._senders.discard)

    async def _send_off(self, claim: Claim) -> None:
        """Begin each call of a claim shortly before its slot."""
        claimed_ns = time.monotonic_ns()
        calls = claim.calls if isinstance(claim, PreparedClaim) else [None] * len(claim.tasks)
        for task, call in zip(claim.tasks, calls, strict=True):
            slot_ns = self._punctual.here(task.slot_ns)
            await _until(slot_ns - _EARLY_NS)
            self._waiting -= 1
            # A slot that was over when it came tells of the ledger, and not of this loop.
            in_time = slot_ns > claimed_ns
            carrying = self._carry_out(task, call, claim, slot_ns=slot_ns, in_time=in_time)
            running = asyncio.create_task(carrying)
            self._calls.add(running)
            running.add_done_callback(self._ended)

    def _ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        if not call.cancelled() and (error := call.exception()) is not None:
            # Its lease lapses, and the work is tried again until its attempts are used up.
            _log.error("call_failed", error=error)

    async def _nap(self, claim: Claim | None) -> None:
        """Sleep until a further claim makes sense."""
        if claim is None and self._calls and not self._waiting:
            # As many calls are under way as may be (or the ledger is away): one has to end first.
            await asyncio.wait(self._calls, timeout=_NAP_S, return_when=asyncio.FIRST_COMPLETED)
            return
        if claim is None and self._waiting:
            await asyncio.sleep(_LEAST_NAP_S)
            return
        seconds = _NAP_S
        if claim is not None and claim.wake_ns is not None:
            passed_s = (time.monotonic_ns() - claim.mono_ns) / 1e9
            seconds = claim.wake_ns / 1e9 - passed_s
            if claim.tasks:
                # Not yet: what may be claimed a little later comes along with it.
                seconds += max(0.0, AHEAD_NS / 1e9 - max(_AHEAD_S, self._lead_s))
        await asyncio.sleep(min(_NAP_S, max(_LEAST_NAP_S, seconds)))

    # -- call -------------------------------------------------------------------------------------

    async def _carry_out(
        self, task: Task, call: Call | None, claim: Claim, *, slot_ns: int, in_time: bool
    ) -> None:
        if task.project not in self._clients:
            self._outbox.put(_without_key(task))
            return
        client = self._clients[task.project]
        if call is None:
            # Not before: all calls of a claim at once would hold up those whose slots are now.
            call = prepare(task, client.dialect)
        allowed = _allowance(task, claim)
        late_ns = time.monotonic_ns() - slot_ns
        missed = late_ns > allowed.most_ns
        if in_time:
            self._appetite.came(missed=late_ns > allowed.much_ns)
            self._leeway.came(task.account, late=late_ns > STRICT.most_ns)
        reason = self._reason_to_stay(task, claim) or (_MISSED if missed else None)
        if reason is not None:
            self._outbox.put(_unsent(task, reason))
            return
        reached("call.before_send")
        reply = await client.send(
            call,
            leaves=lambda: self._depart(task, claim, slot_ns),
        )
        reached("call.after_answer")
        if reply.answer.outcome is Outcome.NOT_APPLIED and reply.answer.reason in _STAYED:
            self._outbox.put(_unsent(task, reply.answer.reason))
            return
        settled = judge(
            task,
            reply,
            dialect=client.dialect,
            max_attempts=self._max_attempts,
            chance=random.random,
        )
        self._halts.note(settled)
        self._watch.called(settled)
        self._outbox.put(settled)

    async def _depart(self, task: Task, claim: Claim, slot_ns: int) -> None:
        """Wait for a call's slot, with its connection in its hand, and note how late it is.

        Raises:
            KeptBackError: It must not depart.
        """
        connected_ns = time.monotonic_ns()
        if connected_ns - slot_ns > _MOST_OWED_NS:
            # Sending it again would make another connection, as slow: the breaker has to see it.
            raise KeptBackError("connect_deadline")
        await _until(slot_ns)
        allowed = _allowance(task, claim)
        # Making its connection may take a while; whoever was stopped here sends nothing more.
        missed = time.monotonic_ns() - max(connected_ns, slot_ns) > allowed.most_ns
        reason = self._reason_to_stay(task, claim) or (_MISSED if missed else None)
        if reason is not None:
            raise KeptBackError(reason)
        departed = partial(
            self._punctual.departed,
            task.account,
            claimed_ns=claim.mono_ns,
            slot_ns=slot_ns,
            free_ns=allowed.free_ns,
        )
        # At the loop's next turn: the call is written by then, whatever held that up from here on.
        asyncio.get_running_loop().call_soon(departed)

    def _reason_to_stay(self, task: Task, claim: Claim) -> str | None:
        """Say why a call must not depart now, or None when it may."""
        if self._stopping:
            return _STOPPING
        if self._halts.hold(task, claimed_mono_ns=claim.mono_ns):
            return _HALTED
        return None

    # -- record -----------------------------------------------------------------------------------

    async def _record(self, batch: Sequence[Settlement]) -> None:
        """Record until the ledger confirms, but not beyond the leases: others have it then."""
        started = time.monotonic()
        while True:
            try:
                ready = await self._in_thread(lambda: self._ledger.record(batch))
                break
            except DiskError:
                raise
            except LedgerError as error:
                _log.warning("record_failed", error=error, cause=error.cause, outcomes=len(batch))
                patience_s = _LAST_WORD_S if self._stopping else self._lease_s
                if time.monotonic() - started > patience_s:
                    self._lift_halts(batch)
                    await self._in_thread(self._watch.work_off)
                    return
                await asyncio.sleep(_LEDGER_AGAIN_S)
        self._lift_halts(batch)
        for request_id in ready:
            try:
                await self._in_thread(lambda id_=request_id: self._advance(id_))  # type: ignore[misc]
            except LedgerError as error:
                # The steward's sweep comes by.
                _log.warning(
                    "advance_failed", request_id=request_id, error=error, cause=error.cause
                )
        await self._in_thread(self._watch.work_off)

    def _advance(self, request_id: str) -> None:
        ended = self._ledger.advance(request_id, policy=self._policy, most_chunks=FEW_CHUNKS)
        if ended is not None:
            self._watch.ended(ended)

    def _lift_halts(self, batch: Sequence[Settlement]) -> None:
        for settled in batch:
            self._halts.lift(settled)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._database, work)

    async def _attend(self) -> None:
        """Look for stops as long as anything is under way, and pay what it owes at the end."""
        while self._under_way:
            looking = asyncio.create_task(self._look_out())
            while self._under_way:
                self._stopping = self._stop.is_set()
                await asyncio.sleep(LOOK_S)
            looking.cancel()
            await self._pay()

    async def _look_out(self) -> None:
        """Ask the ledger what was stopped, as long as a claimed call may still depart."""
        loop = asyncio.get_running_loop()
        while True:
            if self._waiting:
                try:
                    self._halts.learn(await loop.run_in_executor(self._lookout, self._ledger.halts))
                except LedgerError as error:
                    # Claims fail too then; what was claimed departs within a third of a second.
                    _log.warning("look_failed", error=error, cause=error.cause)
            await asyncio.sleep(LOOK_S)


async def _until(moment_ns: int) -> None:
    wait_ns = moment_ns - time.monotonic_ns()
    if wait_ns > 0:
        await asyncio.sleep(wait_ns / 1e9)


def _allowance(task: Task, claim: Claim) -> Allowance:
    return LEEWAY if task.account in claim.leeway else STRICT


def _nothing_soon(claim: Claim) -> bool:
    return not claim.tasks and (claim.wake_ns is None or claim.wake_ns > _SOON_S * 1e9)


def _unsent(task: Task, reason: str) -> Settlement:
    return Settlement(task=task, move=Unsent(), outcome="unsent", reason=reason)


def _without_key(task: Task) -> Settlement:
    """Stop a project that this process has no key for; its work waits until it is resumed."""
    return Settlement(
        task=task,
        move=Retry(delay_s=0.0, burn=False),
        outcome="pause_project",
        reason="no_api_key",
        pause_project="no_api_key",
    )
