"""Any sequence of calls, holds, releases and cancels against a model of a page."""

import json
from collections import Counter
from contextlib import ExitStack
from itertools import count
from unittest.mock import patch
from uuid import UUID

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

from ledger.errors import ConflictError
from ledger.schema import chunk, request
from ledger.states import FINAL_REQUEST_STATES, ChunkState, Kind, Sight
from ledger.tasks import Dead, Delivered, Probe, Retry, Seen, Split, Unsent
from ledger.walks import Walk
from tests.support.ledger_memos import Memos
from tests.support.ledger_world import places_and_ids, settled

LEASE_S = 30.0
WHY = {"principal": "op", "reason": "test"}


class ControlModel(RuleBasedStateMachine):
    """Which requests may send what, and which ids MemOS may have been asked to delete."""

    def __init__(self, worlds):
        super().__init__()
        self.worlds = worlds
        self.calls = []
        self.orders: dict[str, list[str]] = {}
        self.held: set[str] = set()
        self.cancelled: set[str] = set()
        # Chunk and id of each call that may have been carried out, and chunks of which a probe
        # showed that theirs was not.
        self.maybe: set[tuple[str, str]] = set()
        self.refuted: set[tuple[str, str]] = set()

    @initialize()
    def open(self):
        self.context = ExitStack()
        # Ids decide orders and samples: a case has to be the same each time that it is run.
        numbers = (UUID(int=number) for number in count(1))
        self.context.enter_context(patch("uuid.uuid4", side_effect=numbers))
        self.world = self.context.enter_context(self.worlds.open())

    def teardown(self):
        try:
            self.end_all()
        finally:
            self.context.close()

    # -- what can happen --------------------------------------------------------------------------

    @rule(
        n=st.integers(1, 24),
        chunk_size=st.integers(1, 9),
        verify=st.sampled_from(["none", "full", "sample:3"]),
        subject=st.sampled_from([None, "u"]),
    )
    def submit(self, n, chunk_size, verify, subject):
        ids = [f"m{len(self.orders)}-{i}" for i in range(n)]
        receipt = self.world.submit(ids, chunk_size=chunk_size, verify=verify, subject=subject)
        self.orders[receipt.id] = ids

    @rule()
    def purge(self):
        self.orders[self.world.submit(kind=Kind.USER, subject="u").id] = [""]

    @rule(capacity=st.integers(1, 12))
    def claim(self, capacity):
        for task in self.world.claim(capacity, lease_s=LEASE_S).tasks:
            assert task.request_id not in self.held
            assert task.call != "delete" or task.request_id not in self.cancelled
            self.calls.append(task)

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def answer(self, data):
        task = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        move = data.draw(st.sampled_from(self.moves(task)))
        self.follow(task, move)
        for request_id in self.world.record(settled(task, move)):
            if data.draw(st.booleans()):
                self.world.advance(request_id)

    @rule(seconds=st.sampled_from([0.01, 0.5, 2.0, 9.0, 40.0]))
    def tick(self, seconds):
        self.world.clock.tick(seconds)

    @rule()
    def sweep(self):
        self.world.sweep(max_attempts=3)

    @precondition(lambda self: self.orders)
    @rule(data=st.data(), what=st.sampled_from(["hold", "hold", "release", "release", "cancel"]))
    def control(self, data, what):
        request_id = data.draw(st.sampled_from(sorted(self.orders)))
        before = self.world.view(request_id)
        final = before.state in FINAL_REQUEST_STATES
        reason = {} if what == "release" else {"reason": "test"}
        try:
            changed = getattr(self.world.ledger, what)(request_id, principal="op", **reason)
        except ConflictError:
            assert before.cancelling or final
            assert not (what == "cancel" and before.cancelling)
            return
        if what == "cancel":
            assert changed is (request_id not in self.cancelled)
            self.held.discard(request_id)
            self.cancelled.add(request_id)
            assert not self.world.chunks(request_id, ChunkState.DUE)
        elif what == "hold":
            assert changed is (request_id not in self.held)
            self.held.add(request_id)
        else:
            assert changed is (request_id in self.held)
            self.held.discard(request_id)

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
            return [*moves, Split(), Probe()]
        return [*moves, Delivered(was_absent=True)]

    def follow(self, task, move):
        if task.call == "delete":
            row = self.world.row(chunk, chunk.c.id == task.chunk_id)
            in_time = (row.state, row.fence) == ("leased", task.fence)
            if not in_time or isinstance(move, Delivered) or getattr(move, "doubtful", False):
                self.maybe |= self.named(task.request_id, task.ids)
        elif task.probe and move == Seen(sight=Sight.PRESENT):
            row = self.world.row(chunk, chunk.c.id == task.chunk_id)
            self.refuted |= self.named(task.request_id, json.loads(row.ids))

    @staticmethod
    def named(request_id, ids):
        return {(request_id, item) for item in ids or [""]}

    # -- what must hold ---------------------------------------------------------------------------

    @invariant()
    def the_books_are_right_and_no_id_is_lost(self):
        for row in self.world.rows(request):
            chunks = self.world.chunks(row.id)
            live = [one for one in chunks if one.state != ChunkState.SPLIT and not one.leftover]
            sizes = Counter[str]()
            for one in live:
                sizes["dead" if one.disputed else one.state] += one.n
            assert row.pending == sizes["due"] + sizes["leased"]
            assert sizes.total() == row.unique_ids
            over = row.refused + row.unknown + row.still_present + row.cancelled
            # A sample counts what it saw of chunks that are done.
            more = over - sizes["dead"] - sizes["cancelled"]
            assert more >= 0
            assert not more or "sample" in row.verify_now
            if self.orders[row.id] != [""]:
                found = places_and_ids(self.world, row.id)
                assert found == dict(enumerate(self.orders[row.id]))

    @invariant()
    def what_counts_as_cancelled_was_in_no_call_that_could_have_been_carried_out(self):
        sizes = Counter[str]()
        gone = (chunk.c.state == ChunkState.CANCELLED, chunk.c.leftover == 0)
        for row in self.world.rows(chunk, *gone):
            assert row.request_id in self.cancelled
            if not row.doubtful and not row.sightings and row.generation == 1:
                sizes[row.request_id] += row.n
                named = self.named(row.request_id, json.loads(row.ids))
                assert not named & (self.maybe - self.refuted)
        for request_id in self.orders:
            assert self.world.view(request_id).counts.cancelled == sizes[request_id]

    # -- the end ----------------------------------------------------------------------------------

    def end_all(self):
        """Whatever happened: released, and with a MemOS that works, everything ends."""
        memos = Memos(item for ids in self.orders.values() for item in ids)
        memos.subjects.add("u")
        self.world.ledger.register(projects={}, rates={"acme": 5_000.0}, decides=True)
        for request_id in self.held:
            if self.world.view(request_id).held:
                assert self.world.ledger.release(request_id, principal="op")
        self.held.clear()
        for task in self.calls:
            if task.call == "delete":
                self.maybe |= self.named(task.request_id, task.ids)
        self.calls.clear()
        self.world.clock.tick(LEASE_S + 1)
        for _ in range(40):
            self.world.sweep(max_attempts=99)
            self.world.run(memos, seconds=3_600)
            if all(row.finished_at for row in self.world.rows(request)):
                break
        self.the_books_are_right_and_no_id_is_lost()
        self.what_counts_as_cancelled_was_in_no_call_that_could_have_been_carried_out()
        for row in self.world.rows(request):
            assert row.finished_at is not None
            assert not row.held
            assert row.cancelled == 0 or row.id in self.cancelled
            assert (row.state == "cancelled") == (row.cancelled == row.unique_ids)


def test_any_sequence_of_holds_releases_and_cancels_keeps_the_books_right_and_ends(worlds):
    run_state_machine_as_test(
        lambda: ControlModel(worlds),  # type: ignore[arg-type]
        settings=settings(
            max_examples=10 if worlds.kind == "sqlite" else 3,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
