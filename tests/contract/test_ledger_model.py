"""Any sequence of claims, answers, lapses and sweeps against a model of a page."""

import json
from collections import Counter

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ledger.schema import chunk, request
from ledger.states import CHUNK_MOVES, REQUEST_MOVES, ChunkState, Kind, RequestState, Sight
from ledger.tasks import Dead, Delivered, Probe, Retry, Seen, Split, Unsent
from ledger.walks import Walk
from tests.support.ledger_memos import Memos
from tests.support.ledger_world import places_and_ids, settled

LEASE_S = 30.0
MOST_ATTEMPTS = 3
BUCKETS = ["pending", "acknowledged", "already_absent", "refused", "unknown"]
# A chunk may take two steps between two looks at it.
TWO_STEPS = {
    state: {after for one in moves for after in (one, *CHUNK_MOVES[one])}
    for state, moves in CHUNK_MOVES.items()
}


class LedgerModel(RuleBasedStateMachine):
    """What each id of an unverified request counts as, and who holds what, kept apart.

    Verified requests are judged by read-backs, too; for them the rules of the books must hold.
    """

    def __init__(self, worlds):
        super().__init__()
        self.worlds = worlds
        self.held = []
        self.buckets: dict[str, dict[str, str]] = {}
        self.attempts: Counter[str] = Counter()
        self.orders: dict[str, list[str]] = {}
        self.chunk_states: dict[int, str] = {}
        self.request_states: dict[str, str] = {}
        self.burnt: Counter[int] = Counter()

    @initialize()
    def open(self):
        self.context = self.worlds.open()
        self.world = self.context.__enter__()

    def teardown(self):
        try:
            self.end_all()
        finally:
            self.context.__exit__(None, None, None)

    # -- what can happen --------------------------------------------------------------------------

    @rule(
        n=st.integers(1, 30),
        chunk_size=st.integers(1, 11),
        verify=st.sampled_from(["none", "none", "full", "sample:3"]),
        subject=st.sampled_from([None, "u"]),
    )
    def submit(self, n, chunk_size, verify, subject):
        ids = [f"m{len(self.orders)}-{i}" for i in range(n)]
        receipt = self.world.submit(ids, chunk_size=chunk_size, verify=verify, subject=subject)
        self.orders[receipt.id] = ids
        if verify == "none":
            self.buckets[receipt.id] = dict.fromkeys(ids, "pending")

    @rule()
    def purge(self):
        receipt = self.world.submit(kind=Kind.USER, subject="u", verify="none")
        self.orders[receipt.id] = [""]
        self.buckets[receipt.id] = {"": "pending"}

    @rule(capacity=st.integers(1, 12))
    def claim(self, capacity):
        until = self.world.clock.ns + LEASE_S * 1e9
        tasks = self.world.claim(capacity, lease_s=LEASE_S).tasks
        self.held += [(task, until) for task in tasks]

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def answer(self, data):
        """Record an answer to one call, which may come long after its lease."""
        place = data.draw(st.integers(0, len(self.held) - 1))
        task, until = self.held.pop(place)
        move = data.draw(st.sampled_from(self.moves(task)))
        ours = self.world.row(chunk, chunk.c.id == task.chunk_id) if task.call == "delete" else None
        current = ours is not None and ours.fence == task.fence and ours.state == "leased"
        assert not current or not self.lapsed(until)
        if task.call == "delete" and current:
            self.follow(task, move)
        for request_id in self.world.record(settled(task, move)):
            if data.draw(st.booleans()):
                self.world.advance(request_id)

    @rule(seconds=st.sampled_from([0.01, 0.5, 2.0, 9.0, 40.0]))
    def tick(self, seconds):
        self.world.clock.tick(seconds)

    @rule()
    def sweep(self):
        lapsing = [
            row
            for row in self.world.rows(chunk, chunk.c.state == "leased")
            if row.lease_until_ns <= self.world.clock.ns
        ]
        for row in lapsing:
            if row.request_id in self.buckets:
                self.attempts[row.request_id] += 1
                if row.burnt + 1 >= MOST_ATTEMPTS:
                    self.move(row.request_id, json.loads(row.ids), "unknown")
        self.swept_ns = self.world.clock.ns
        self.world.sweep(max_attempts=MOST_ATTEMPTS)

    @rule(data=st.data())
    def advance(self, data):
        if self.orders:
            self.world.advance(data.draw(st.sampled_from(list(self.orders))))

    # -- the model --------------------------------------------------------------------------------

    swept_ns = 0

    def lapsed(self, until):
        return until <= self.swept_ns

    def moves(self, task):
        if task.call == "read":
            return [*(Seen(sight=sight) for sight in Sight), Retry(delay_s=1, burn=True), Unsent()]
        if task.call == "list":
            some = frozenset(self.orders[task.request_id][::3])
            if task.kind is not Kind.MEMORIES:
                some = frozenset({"left-1", "left-2"})
            return [
                Seen(sight=Sight.ABSENT),
                Seen(sight=Sight.PRESENT, walk=Walk(present=some)),
                Unsent(),
            ]
        moves = [Delivered(), Retry(delay_s=3, burn=True, doubtful=True), Unsent()]
        moves += [Retry(delay_s=0, burn=False), Dead(bucket="refused"), Dead(bucket="unknown")]
        if task.leftover:
            return [*moves, Split(hunt=False)] if len(task.ids) > 1 else moves
        if len(task.ids) > 1:
            # What probes lead to is beyond the model, but not beyond the books.
            return [*moves, Split(), Split() if task.request_id in self.buckets else Probe()]
        return [*moves, Delivered(was_absent=True)]

    def follow(self, task, move):
        if task.request_id not in self.buckets:
            return
        if task.leftover:
            self.attempts[task.request_id] += not isinstance(move, Unsent)
            return
        self.attempts[task.request_id] += not isinstance(move, Unsent)
        match move:
            case Delivered():
                into = "already_absent" if move.was_absent else "acknowledged"
                self.move(task.request_id, task.ids, into)
            case Dead():
                self.move(task.request_id, task.ids, move.bucket)

    def move(self, request_id, ids, bucket):
        for item in ids or [""]:
            assert self.buckets[request_id][item] == "pending"
            self.buckets[request_id][item] = bucket

    # -- what must hold ---------------------------------------------------------------------------

    @invariant()
    def counts_are_those_of_the_model(self):
        for request_id, ids in self.buckets.items():
            view = self.world.view(request_id)
            expected = Counter(ids.values())
            assert {name: getattr(view.counts, name) for name in BUCKETS} == {
                name: expected[name] for name in BUCKETS
            }
            assert view.attempts == self.attempts[request_id]

    @invariant()
    def the_books_are_right_and_no_id_is_lost(self):
        self.world.check_books()
        for request_id, ids in self.orders.items():
            if ids != [""]:
                assert places_and_ids(self.world, request_id) == dict(enumerate(ids))

    @invariant()
    def states_follow_each_other_as_they_may(self):
        for row in self.world.rows(chunk):
            before = self.chunk_states.get(row.id, row.state)
            after = ChunkState(row.state)
            assert after == before or after in TWO_STEPS[ChunkState(before)], (before, after)
            self.chunk_states[row.id] = after
        for row in self.world.rows(request):
            before = self.request_states.get(row.id, row.state)
            if row.state != before:
                final = not REQUEST_MOVES[RequestState(before)] - {RequestState.OPEN}
                assert not final, (before, row.state)
            self.request_states[row.id] = row.state

    # -- the end ----------------------------------------------------------------------------------

    def end_all(self):
        """Whatever happened: with a MemOS that works, everything ends."""
        memos = Memos(item for ids in self.orders.values() for item in ids)
        memos.subjects.add("u")
        self.world.ledger.register(projects={}, rates={"acme": 5_000.0}, decides=True)
        self.held.clear()
        self.world.clock.tick(LEASE_S + 1)
        for _ in range(40):
            self.world.sweep(max_attempts=99)
            self.world.run(memos, seconds=3_600)
            if all(row.finished_at for row in self.world.rows(request)):
                break
        assert all(row.finished_at for row in self.world.rows(request))
        self.world.check_books()


def test_any_sequence_of_events_keeps_the_books_right_and_ends(worlds):
    run_state_machine_as_test(
        lambda: LedgerModel(worlds),  # type: ignore[arg-type]
        settings=settings(
            max_examples=10 if worlds.kind == "sqlite" else 3,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
