"""What a purge left behind is deleted by id: nothing else goes with it, and it has an end."""

import json
from collections.abc import Iterable

import pytest

from ledger.schema import chunk, event_body, request
from ledger.states import Certainty, ChunkState, Kind, RequestState, Result, Sight
from ledger.tasks import Dead, Delivered, Move, Retry, Seen, Split, Task
from ledger.walks import Walk
from tests.support.ledger_world import settled

# What somebody could do to a purge's rows while some of its leftovers are on their way.
STRIPPED = [
    "UPDATE chunk SET leftover = 0 WHERE ids <> '[]'",
    "UPDATE chunk SET leftover = 0, state = 'done' WHERE ids <> '[]'",
    "UPDATE chunk SET leftover = 0, state = 'split' WHERE ids <> '[]'",
    "UPDATE chunk SET leftover = 1 WHERE ids = '[]'",
]
WHY = {"principal": "op", "reason": "test-1"}


class Shelf:
    """A MemOS with memories of one user.

    Args:
        mine: Ids that the server says are the user's.
        later: Ids that appeared after the purge was ordered.
        unsaid: So many are there that may be anybody's.
        stubborn: Ids that no deletion removes.
        obeys: From which purge on it is carried out; None for never.
    """

    def __init__(
        self,
        mine: Iterable[str] = (),
        *,
        later: Iterable[str] = (),
        unsaid: int = 0,
        stubborn: Iterable[str] = (),
        obeys: int | None = None,
    ) -> None:
        self.mine = set(mine)
        self.later = set(later)
        self.unsaid = unsaid
        self.stubborn = set(stubborn)
        self.obeys = obeys
        self.purges = 0
        self.looks = 0
        self.sent: list[tuple[str, ...]] = []

    def __call__(self, task: Task) -> Move:
        return self.look(task) if task.call == "list" else self.delete(task)

    def look(self, task: Task) -> Seen:
        self.looks += 1
        apart = self.later if task.cutoff_us is not None else set()
        part = self.mine if task.cutoff_us is not None else self.mine | self.later
        sight = Sight.PRESENT if part or self.unsaid else Sight.ABSENT
        walk = Walk(present=frozenset(part), later=frozenset(apart), unsaid=self.unsaid)
        return Seen(sight=sight, walk=walk)

    def delete(self, task: Task) -> Delivered:
        if task.ids:
            self.sent.append(task.ids)
            gone = set(task.ids) - self.stubborn
            self.mine -= gone
            self.later -= gone
            return Delivered()
        self.purges += 1
        if self.obeys is not None and self.purges >= self.obeys:
            self.mine, self.later, self.unsaid = set(), set(), 0
        return Delivered()


def ids(n, mark="m"):
    return [f"{mark}{i:03}" for i in range(n)]


def leftovers(world, *states):
    conditions = [chunk.c.leftover == 1]
    if states:
        conditions.append(chunk.c.state.in_(states))
    return world.rows(chunk, *conditions)


def purge(world, answer, *, kind=Kind.USER, **order):
    """Order a purge and let everything run; gives the final view."""
    receipt = world.submit(kind=kind, subject="u", **order)
    world.run(answer)
    world.sweep()
    world.check_books()
    view = world.view(receipt.id)
    assert view.finished_at is not None
    assert view.counts.unique == 1
    return view


def until_leftovers(world, shelf, **order):
    """Order a purge and let it run until its leftovers are in line."""
    receipt = world.submit(kind=Kind.USER, subject="u", **order)
    world.run(shelf, stop=lambda: bool(leftovers(world)))
    assert not shelf.sent
    return receipt.id


def events(world, kind):
    bodies = [json.loads(bytes(row.payload)) for row in world.rows(event_body)]
    return [body for body in bodies if body["type"] == kind]


# -- what is done ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Kind.USER, Kind.AGENT])
@pytest.mark.parametrize(
    ("n", "size", "sizes"), [(1, 10, [1]), (10, 10, [10]), (25, 10, [10, 10, 5]), (3, 1, [1] * 3)]
)
def test_what_a_list_shows_is_deleted_by_id_and_the_purge_is_not_sent_again(
    world, kind, n, size, sizes
):
    shelf = Shelf(ids(n))
    view = purge(world, shelf, kind=kind, chunk_size=size)
    assert (view.result, view.certainty) == (Result.COMPLETE, Certainty.VERIFIED)
    assert (view.counts.verified_absent, shelf.purges, shelf.looks) == (1, 1, 2)
    assert [len(one) for one in shelf.sent] == sizes
    assert sorted(one for sent in shelf.sent for one in sent) == ids(n)
    row = world.row(request)
    assert (row.leftovers, row.later, row.attempts) == (n, 0, 3 + len(sizes))
    assert {one.state for one in leftovers(world)} == {ChunkState.DONE}
    tasks = [task for task in world.tasks if task.call == "delete" and task.ids]
    assert all(task.leftover and task.kind is kind for task in tasks)
    assert [body["why"] for body in events(world, "request.reopened")] == ["leftovers"]


def test_the_list_is_read_only_when_all_leftovers_are_out(world):
    shelf = Shelf(ids(25))
    until_leftovers(world, shelf)
    world.clock.tick(5)
    first, *others = world.claim(3).tasks
    assert world.record(*(settled(task, shelf(task)) for task in others)) != []
    world.sweep()
    assert world.row(request).state == RequestState.OPEN
    for request_id in world.record(settled(first, shelf(first))):
        world.advance(request_id)
    assert world.row(request).state == RequestState.VERIFYING


def test_the_pause_before_what_stays_is_deleted_again_grows_fivefold(world):
    world.submit(kind=Kind.USER, subject="u")
    shelf = Shelf(ids(1), stubborn=ids(1))
    pauses = []
    for _ in range(2):
        task = world.claim_one()
        for request_id in world.record(settled(task, shelf(task))):
            world.advance(request_id)
        world.clock.tick(3)
        task = world.claim_one()
        for request_id in world.record(settled(task, shelf(task))):
            world.advance(request_id)
        (due,) = leftovers(world, ChunkState.DUE)
        pauses.append((due.due_ns - world.clock.ns) / 1e9)
        world.clock.tick(pauses[-1])
    assert pauses == [2.0, 10.0]


# -- when it is given up --------------------------------------------------------------------------


def test_what_is_still_there_after_each_round_is_given_up(world):
    shelf = Shelf(ids(12), stubborn=["m003"])
    view = purge(world, shelf)
    assert (view.result, view.certainty) == (Result.FAILED, Certainty.STILL_PRESENT)
    assert (view.counts.still_present, shelf.purges) == (1, 1)
    assert [one for one in shelf.sent if "m003" in one] == [*shelf.sent[:1], *[("m003",)] * 2]
    # The first round left one of twelve: as long as it becomes less, that is no sighting.
    assert shelf.looks == world.policy.most_sightings + 2
    (row,) = world.chunks(view.id, ChunkState.DEAD)
    assert (row.no, row.last_reason) == (0, "still_present")


def test_what_is_new_each_time_counts_as_no_sighting(world):
    """A list longer than one round shows is no stubborn server."""
    rounds = iter(range(1, 6))
    shelf = Shelf(ids(3, "r0-"))

    def answer(task):
        if task.call == "list" and not shelf.mine:
            shelf.mine = set(ids(3, f"r{number}-")) if (number := next(rounds, 0)) else set()
        return shelf(task)

    view = purge(world, answer)
    assert (view.result, view.certainty) == (Result.COMPLETE, Certainty.VERIFIED)
    assert (world.row(request).leftovers, shelf.purges, shelf.looks) == (18, 1, 7)
    (row,) = world.chunks(view.id, ChunkState.DONE)[:1]
    assert (row.no, row.sightings) == (0, 1)  # the first sight of all


def test_one_id_of_the_last_round_is_enough_to_count(world):
    extra = iter(range(1_000))
    shelf = Shelf(["old"], stubborn=["old"])

    def answer(task):
        if task.call == "list":
            shelf.mine.add(f"new{next(extra)}")
        return shelf(task)

    view = purge(world, answer)
    assert view.certainty is Certainty.STILL_PRESENT
    assert shelf.looks == world.policy.most_sightings + 1


def test_somebody_who_writes_faster_than_we_delete_is_given_up(world, monkeypatch):
    monkeypatch.setattr("ledger.reading.MOST_EVER", 50)
    numbers = iter(range(10_000))
    shelf = Shelf()

    def answer(task):
        if task.call == "list":
            shelf.mine |= {f"n{next(numbers):05}" for _ in range(20)}
        return shelf(task)

    view = purge(world, answer)
    assert (view.result, view.certainty) == (Result.FAILED, Certainty.STILL_PRESENT)
    assert (world.row(request).leftovers, shelf.looks) == (40, 3)


def test_a_redriven_purge_may_delete_as_many_again(world, monkeypatch):
    """As many as `MOST_EVER` in one generation's life."""
    monkeypatch.setattr("ledger.reading.MOST_EVER", 50)
    numbers = iter(range(60))
    shelf = Shelf()

    def answer(task):
        if task.call == "list":
            shelf.mine |= {f"n{number:05}" for number, _ in zip(numbers, range(20), strict=False)}
        return shelf(task)

    view = purge(world, answer)
    assert view.certainty is Certainty.STILL_PRESENT
    world.ledger.redrive(view.id, **WHY)
    world.run(answer)
    world.check_books()
    assert world.view(view.id).result is Result.COMPLETE


def test_halves_of_a_leftover_are_of_its_round(world):
    """Two ids; the batch is refused, and one of them never goes."""
    shelf = Shelf(["a", "b"], stubborn=["a"])

    def answer(task):
        return Split(hunt=False) if len(task.ids) > 1 else shelf(task)

    def again(task):
        # Both are there once more each time, so that each round has two.
        if task.call == "list":
            shelf.mine.add(f"b{shelf.looks}")
        return answer(task)

    view = purge(world, again)
    assert view.certainty is Certainty.STILL_PRESENT
    assert shelf.looks == world.policy.most_sightings + 2


@pytest.mark.parametrize("move", [Split(hunt=False), Split()])
def test_leftovers_that_are_refused_together_are_sent_apart(world, move):
    shelf = Shelf(ids(8))

    def answer(task):
        return move if len(task.ids) > 2 else shelf(task)

    view = purge(world, answer)
    assert (view.result, shelf.purges) == (Result.COMPLETE, 1)
    assert sorted(one for sent in shelf.sent for one in sent) == ids(8)
    assert {one.leftover for one in world.chunks(view.id)[1:]} == {1}


# -- in no count, and no dead letters -------------------------------------------------------------


@pytest.mark.parametrize("move", [Dead(bucket="refused"), Dead(bucket="unknown")])
def test_leftovers_that_are_given_up_are_no_dead_letters(world, move):
    shelf = Shelf(ids(5))

    def answer(task):
        return move if task.ids else shelf(task)

    view = purge(world, answer)
    assert view.certainty is Certainty.STILL_PRESENT
    assert (view.counts.still_present, view.counts.refused, view.counts.unknown) == (1, 0, 0)
    letters = world.ledger.dead_letters()
    assert len(letters) == 1
    assert {one.state for one in leftovers(world)} == {ChunkState.DONE}


def test_what_was_refused_by_id_and_is_gone_all_the_same_is_done(world):
    shelf = Shelf(ids(5))

    def answer(task):
        if task.ids:
            shelf.delete(task)
            return Dead(bucket="unknown")
        return shelf(task)

    view = purge(world, answer)
    assert (view.result, view.certainty) == (Result.COMPLETE, Certainty.VERIFIED)


def test_the_books_are_right_at_each_step(world):
    shelf = Shelf(ids(25), stubborn=["m001"])

    def answer(task):
        world.check_books()
        counts = vars(world.view(task.request_id).counts)
        there = [name for name, n in counts.items() if n and name not in ("requested", "unique")]
        assert there in (["pending"], ["acknowledged"]) or sum(counts[name] for name in there) == 1
        return shelf(task)

    purge(world, answer)


def test_what_was_refused_is_not_deleted_in_another_way(world):
    """Of a disputed chunk only what is seen to be gone is done (`judge_chunk`)."""
    shelf = Shelf(ids(3))

    def answer(task):
        purge_ = task.call == "delete" and not task.ids
        return Dead(bucket="refused") if purge_ else shelf(task)

    view = purge(world, answer)
    assert shelf.sent == []
    assert (view.counts.refused, view.certainty) == (1, Certainty.UNVERIFIABLE)


def test_a_purge_never_answered_that_left_something_goes_on_by_id(world):
    shelf = Shelf(ids(3))

    def answer(task):
        purge_ = task.call == "delete" and not task.ids
        return Dead(bucket="unknown") if purge_ else shelf(task)

    view = purge(world, answer)
    assert (view.result, view.certainty) == (Result.COMPLETE, Certainty.VERIFIED)
    assert [len(one) for one in shelf.sent] == [3]


# -- what comes between ---------------------------------------------------------------------------


def test_a_lapsed_lease_brings_leftovers_back_without_a_count(world):
    shelf = Shelf(ids(5))
    request_id = until_leftovers(world, shelf)
    world.clock.tick(5)
    (lost,) = world.claim().tasks
    assert lost.leftover
    before = world.view(request_id).counts
    world.clock.tick(120)
    assert world.sweep().lapsed == 1
    assert world.view(request_id).counts == before
    world.check_books()
    world.run(shelf)
    # Its worker comes back when all is over.
    world.record(settled(lost, Dead(bucket="refused")))
    world.check_books()
    view = world.view(request_id)
    assert (view.result, shelf.purges, len(shelf.sent)) == (Result.COMPLETE, 1, 1)


def test_leftovers_that_kill_each_worker_leave_the_judgement_to_the_list(world):
    shelf = Shelf(ids(5))
    request_id = until_leftovers(world, shelf)
    for _ in range(3):
        world.clock.tick(120)
        (task,) = world.claim().tasks
        assert task.leftover
        world.clock.tick(120)
        world.sweep()
    assert [one.state for one in leftovers(world)] == [ChunkState.DONE]
    world.check_books()
    shelf.mine = set()
    world.run(shelf)
    view = world.view(request_id)
    assert (view.result, view.certainty) == (Result.COMPLETE, Certainty.VERIFIED)


def test_leftovers_are_tried_again_after_a_while(world):
    shelf = Shelf(ids(5))
    tries = iter([Retry(delay_s=3.0, burn=True, doubtful=True)])

    def answer(task):
        return next(tries, None) or shelf(task) if task.ids else shelf(task)

    view = purge(world, answer)
    assert (view.result, shelf.purges, len(shelf.sent)) == (Result.COMPLETE, 1, 1)


@pytest.mark.parametrize(
    ("there", "result", "certainty"),
    [
        (True, Result.FAILED, Certainty.STILL_PRESENT),
        (False, Result.COMPLETE, Certainty.VERIFIED),
    ],
)
def test_leftovers_of_a_cancelled_purge_stay_and_are_looked_at(world, there, result, certainty):
    shelf = Shelf(ids(25))
    request_id = until_leftovers(world, shelf)
    world.ledger.cancel(request_id, **WHY, policy=world.policy)
    shelf.mine = shelf.mine if there else set()
    world.run(shelf)
    world.sweep()
    view = world.view(request_id)
    assert (view.result, view.certainty) == (result, certainty)
    assert (shelf.sent, shelf.purges) == ([], 1)
    assert {one.state for one in leftovers(world)} == {ChunkState.CANCELLED}
    world.check_books()


def test_leftovers_under_way_at_a_cancel_end_by_themselves(world):
    shelf = Shelf(ids(25))
    request_id = until_leftovers(world, shelf)
    world.clock.tick(5)
    (task,) = world.claim(1).tasks
    world.ledger.cancel(request_id, **WHY, policy=world.policy)
    for ready in world.record(settled(task, shelf(task))):
        world.advance(ready)
    world.run(shelf)
    assert len(shelf.sent) == 1
    assert world.view(request_id).certainty is Certainty.STILL_PRESENT
    world.check_books()


def test_a_held_purge_keeps_its_leftovers_waiting(world):
    shelf = Shelf(ids(25))
    request_id = until_leftovers(world, shelf)
    world.ledger.hold(request_id, **WHY)
    world.clock.tick(1_000)
    world.sweep()
    assert world.claim().tasks == ()
    world.ledger.release(request_id, principal="op")
    world.run(shelf)
    view = world.view(request_id)
    assert (view.result, shelf.purges, len(shelf.sent)) == (Result.COMPLETE, 1, 3)
    world.check_books()


def test_a_purge_held_while_its_list_is_read_finds_its_leftovers_later(world):
    shelf = Shelf(ids(3))
    receipt = world.submit(kind=Kind.USER, subject="u")
    world.run(shelf, stop=lambda: world.row(request).state == RequestState.VERIFYING)
    world.clock.tick(3)
    (task,) = world.claim().tasks
    world.ledger.hold(receipt.id, **WHY)
    for ready in world.record(settled(task, shelf(task))):
        world.advance(ready)
    world.sweep()
    world.clock.tick(1_000)
    assert world.claim().tasks == ()
    world.ledger.release(receipt.id, principal="op")
    world.run(shelf)
    assert world.view(receipt.id).result is Result.COMPLETE


# -- changed rows ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        """ids = '["other"]'""",
        """ids = '["m000","m001","other"]', n = 3""",
        "ids = '[]'",
        "leftover = 0",
        "project = 'blog'",
        "first = 9",
    ],
)
def test_a_changed_leftover_is_not_sent_and_stops_the_purge_until_a_person_looked(world, change):
    shelf = Shelf(ids(3))
    request_id = until_leftovers(world, shelf)
    assert world.sql(f"UPDATE chunk SET {change} WHERE leftover = 1") == 1  # noqa: S608 - ours
    shelf.mine = set()
    world.run(shelf)
    world.sweep()
    world.run(shelf)
    assert (world.view(request_id).hold_reason, world.view(request_id).result) == ("tampered", None)
    world.ledger.release(request_id, principal="op")
    for _ in range(2):
        world.sweep()
        world.run(shelf)
    assert shelf.sent == []
    view = world.view(request_id)
    assert (view.result, view.certainty) == (Result.FAILED, Certainty.UNVERIFIABLE)
    assert (view.tampered, view.counts.verified_absent) == (True, 1)
    assert events(world, "order.tampered")
    if change != "leftover = 0":
        assert world.chunks(request_id, ChunkState.DEAD) == []


def test_a_purge_that_is_made_a_leftover_is_not_sent(world):
    shelf = Shelf(ids(3))
    receipt = world.submit(kind=Kind.USER, subject="u")
    world.sql("UPDATE chunk SET leftover = 1")
    world.run(shelf)
    world.sweep()
    assert (shelf.purges, shelf.sent) == (0, [])
    view = world.view(receipt.id)
    assert view.result is Result.FAILED
    assert events(world, "order.tampered")


# -- what is not part of the order ----------------------------------------------------------------


def test_what_appeared_later_is_told_and_stays(world):
    shelf = Shelf(ids(3), later=["late1", "late2"])
    view = purge(world, shelf)
    assert (view.result, view.certainty) == (Result.COMPLETE, Certainty.VERIFIED)
    assert (world.row(request).later, shelf.later) == (2, {"late1", "late2"})
    assert [sorted(one) for one in shelf.sent] == [ids(3)]
    assert shelf.purges == 1


def test_of_a_purge_that_left_only_later_ones_nothing_is_sent_again(world):
    shelf = Shelf(later=["late"])
    view = purge(world, shelf)
    assert (view.result, shelf.purges, shelf.sent) == (Result.COMPLETE, 1, [])
    assert world.row(request).later == 1


def test_what_appeared_later_goes_when_it_was_ordered_so(world):
    shelf = Shelf(ids(3), later=["late1", "late2"])
    view = purge(world, shelf, include_later=True)
    assert (view.result, view.certainty) == (Result.COMPLETE, Certainty.VERIFIED)
    assert (world.row(request).later, shelf.later, shelf.purges) == (0, set(), 1)
    assert [sorted(one) for one in shelf.sent] == [["late1", "late2", *ids(3)]]


def test_the_cut_off_is_when_the_purge_was_handed_in(world):
    purge(world, Shelf(ids(3)))
    lists = [task for task in world.tasks if task.call == "list"]
    made = world.row(request).created_at
    assert [task.cutoff_us for task in lists] == [made, made]
    assert [task.cutoff_us for task in world.tasks if task.call == "delete"] == [None, None]


# -- what may be anybody's ------------------------------------------------------------------------


def test_what_has_no_owner_has_the_purge_sent_again(world):
    shelf = Shelf(unsaid=2, obeys=2)
    view = purge(world, shelf)
    assert (view.result, view.certainty) == (Result.COMPLETE, Certainty.VERIFIED)
    assert (shelf.purges, shelf.sent, leftovers(world)) == (2, [], [])


def test_what_has_no_owner_and_never_goes_is_given_up(world):
    shelf = Shelf(unsaid=2)
    view = purge(world, shelf)
    assert (view.result, view.certainty) == (Result.FAILED, Certainty.STILL_PRESENT)
    assert shelf.purges == world.policy.most_sightings + 1


def test_beside_what_has_an_owner_the_purge_is_not_sent_again(world):
    """First by id what can be; and again only when nothing else is left."""
    shelf = Shelf(ids(3), unsaid=1, obeys=2)
    view = purge(world, shelf)
    assert view.result is Result.COMPLETE
    assert ([sorted(one) for one in shelf.sent], shelf.purges) == ([ids(3)], 2)


def test_a_purge_is_not_sent_again_when_it_would_take_later_ones_with_it(world):
    shelf = Shelf(unsaid=2, later=["late"], obeys=2)
    view = purge(world, shelf)
    assert (view.result, view.certainty) == (Result.FAILED, Certainty.STILL_PRESENT)
    assert (shelf.purges, shelf.sent, shelf.later) == (1, [], {"late"})


def test_with_later_ones_included_the_purge_may_be_sent_again(world):
    shelf = Shelf(unsaid=2, obeys=2)
    view = purge(world, shelf, include_later=True)
    assert (view.result, shelf.purges) == (Result.COMPLETE, 2)


@pytest.mark.parametrize("change", STRIPPED)
def test_a_purge_whose_leftovers_lost_their_mark_never_ends_as_complete(world, change):
    shelf = Shelf(["a", "b"], obeys=None)
    receipt = world.submit(kind=Kind.USER, subject="u")
    world.run(shelf, stop=lambda: world.rows(chunk, chunk.c.leftover == 1))
    assert world.sql(change)
    shelf.mine.clear()  # as though all were gone by themselves
    for _ in range(3):
        world.run(shelf)
        world.sweep()
        if world.view(receipt.id).held:
            world.ledger.release(receipt.id, principal="op")
    view = world.view(receipt.id)
    assert view.tampered
    assert (view.result, view.certainty) == (Result.FAILED, Certainty.UNVERIFIABLE)


@pytest.mark.fault("F117")
@pytest.mark.parametrize("change", ["leftover = 0", "leftover = 0, n = 1000000", "n = 7"])
def test_a_lapsed_leftover_that_was_changed_stops_its_request_and_not_the_sweep(world, change):
    until_leftovers(world, Shelf(ids(1)))
    world.clock.tick(5)
    task = world.claim_one(lease_s=10)
    assert task.leftover
    other = world.submit(ids(6), verify="none")
    world.claim_one(lease_s=10)
    world.sql(f"UPDATE chunk SET {change} WHERE id = :id", id=task.chunk_id)  # noqa: S608 - ours
    world.clock.tick(60)
    assert world.sweep(max_attempts=1).lapsed == 2
    view = world.view(other.id)
    assert (view.counts.unknown, view.tampered) == (6, False)
    # The number of a leftover's ids is in no count.
    assert world.view(task.request_id).tampered == (change != "n = 7")
