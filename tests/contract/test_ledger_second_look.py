"""The second look: long after a purge has ended its list is read once more."""

import json

import pytest

from ledger.schema import event_body, readback, request
from ledger.states import Certainty, Kind, Lane, RequestState, Result, Sight
from ledger.tasks import Delivered, Retry, Seen
from ledger.walks import Walk
from tests.support.ledger_world import settled

WHY = {"principal": "op", "reason": "test-1"}
HOUR = 3_600
DAY = 86_400
ABSENT = Seen(sight=Sight.ABSENT, walk=Walk())
BLIND = Seen(sight=Sight.UNKNOWN, walk=Walk())
GONE = Seen(sight=Sight.ABSENT)


def seen(*ids, **walk):
    return Seen(sight=Sight.PRESENT, walk=Walk(present=frozenset(ids), **walk))


def answer(task):
    """Everything is deleted, and nothing is seen of it."""
    if task.call == "delete":
        return Delivered()
    return ABSENT if task.call == "list" else GONE


def purged(world, *, answer=answer, **order):
    """Give the id of a purge that has ended."""
    receipt = world.submit(**({"kind": Kind.USER, "subject": "u"} | order))
    world.run(answer)
    world.sweep()
    assert world.view(receipt.id).finished_at is not None
    return receipt.id


def row(world, request_id):
    return world.row(request, request.c.id == request_id)


def looking(world, *, after_s=61.0):
    """Wait for the look, and claim it."""
    world.clock.tick(after_s)
    world.sweep()
    world.clock.tick(1.0)
    (task,) = world.claim().tasks
    assert (task.call, task.second_look) == ("list", True)
    return task


def look(world, move, *, after_s=61.0):
    """Have the look come to something."""
    for request_id in world.record(settled(looking(world, after_s=after_s), move)):
        world.advance(request_id)
    world.sweep()


def children(world):
    return world.rows(request, request.c.follows.is_not(None))


def said(world):
    bodies = [json.loads(bytes(one.payload)) for one in world.rows(event_body)]
    every = ("v", "id", "type", "at", "request")
    return [
        {name: value for name, value in body.items() if name not in every}
        for body in bodies
        if body["type"] == "request.looked_again"
    ]


# -- when -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Kind.USER, Kind.AGENT])
def test_the_look_comes_when_its_time_has_come(world, kind):
    request_id = purged(world, kind=kind)
    due_us = row(world, request_id).second_look_at
    assert due_us == row(world, request_id).finished_at + 60 * 1_000_000
    world.clock.tick((due_us - world.clock.wall_ns // 1_000) / 1e6 - 0.001)
    world.sweep()
    assert world.rows(readback) == []
    world.clock.tick(0.001)
    world.sweep()
    assert row(world, request_id).second_look == "looking"
    (task,) = world.claim().tasks
    assert (task.request_id, task.call, task.kind, task.subject) == (request_id, "list", kind, "u")
    assert (task.second_look, task.cutoff_us) == (True, row(world, request_id).created_at)


def test_one_look_is_enough(world):
    request_id = purged(world)
    look(world, ABSENT)
    world.clock.tick(30 * DAY)
    world.sweep()
    assert world.claim().tasks == ()
    assert (row(world, request_id).second_look, len(said(world))) == ("absent", 1)


def test_sweeping_during_the_look_plans_no_other(world):
    purged(world)
    world.clock.tick(61)
    for _ in range(3):
        world.sweep()
    assert len(world.rows(readback)) == 1


def test_a_purge_that_failed_is_looked_at_as_well(world):
    stays = Seen(sight=Sight.PRESENT, walk=Walk(unsaid=1))
    request_id = purged(world, answer=lambda task: stays if task.call == "list" else Delivered())
    assert row(world, request_id).result == Result.FAILED
    look(world, ABSENT)
    assert row(world, request_id).second_look == "absent"


@pytest.mark.parametrize("subject", [None, "u"])
def test_batches_are_not_looked_at_again(world, subject):
    purged(world, ids=["a", "b"], kind=Kind.MEMORIES, subject=subject)
    world.clock.tick(30 * DAY)
    world.sweep()
    assert world.claim().tasks == ()
    assert world.row(request).second_look_at is None


def test_a_purge_that_was_cancelled_is_not_looked_at(world):
    receipt = world.submit(kind=Kind.USER, subject="u")
    world.ledger.cancel(receipt.id, **WHY, policy=world.policy)
    world.sweep()
    assert world.view(receipt.id).result is Result.CANCELLED
    world.clock.tick(30 * DAY)
    world.sweep()
    assert world.claim().tasks == ()


def test_whom_nobody_knows_any_more_is_not_looked_for(world):
    request_id = purged(world)
    world.sql("UPDATE request SET subject = NULL")
    world.clock.tick(30 * DAY)
    world.sweep()
    assert world.claim().tasks == ()
    assert row(world, request_id).second_look is None


# -- what it comes to -----------------------------------------------------------------------------


def test_a_look_that_shows_nothing_is_told(world):
    request_id = purged(world)
    before = world.view(request_id)
    look(world, ABSENT)
    assert row(world, request_id).second_look == "absent"
    assert said(world) == [
        {"result": "absent", "found": 0, "later": 0, "not_checked": [], "ordered": None}
    ]
    assert world.rows(readback) == []
    assert children(world) == []
    after = world.view(request_id)
    assert (after.result, after.certainty, after.counts) == (
        before.result,
        before.certainty,
        before.counts,
    )


def test_what_appeared_later_is_told_and_nothing_is_ordered(world):
    request_id = purged(world)
    later = frozenset({"x", "y"})
    look(world, Seen(sight=Sight.ABSENT, walk=Walk(later=later, unchecked=("search",))))
    assert (row(world, request_id).second_look, row(world, request_id).later) == ("absent", 2)
    assert said(world) == [
        {"result": "absent", "found": 0, "later": 2, "not_checked": ["search"], "ordered": None}
    ]
    assert children(world) == []


@pytest.mark.parametrize("kind", [Kind.USER, Kind.AGENT])
def test_what_is_found_is_ordered_by_id_in_a_request_of_its_own(world, kind):
    request_id = purged(world, kind=kind, chunk_size=2, reason="gdpr-1")
    look(world, seen("c", "a", "b", later=frozenset({"late"}), unsaid=1))
    (child,) = children(world)
    assert (child.follows, child.kind, child.lane) == (request_id, Kind.MEMORIES, Lane.ERASURE)
    assert (child.subject, child.verify) == ("u" if kind is Kind.USER else None, "full")
    assert (child.unique_ids, child.chunk_size, child.reason) == (3, 2, "gdpr-1")
    (told,) = said(world)
    assert told == {
        "result": "found",
        "found": 4,
        "later": 1,
        "not_checked": [],
        "ordered": child.id,
    }
    assert row(world, request_id).second_look == "found"
    world.run(answer)
    sent = [task.ids for task in world.tasks if task.request_id == child.id and task.ids]
    assert [ids for ids in sent if len(ids) > 1 or ids == ("c",)][:2] == [("a", "b"), ("c",)]
    view = world.view(child.id)
    assert (view.result, view.certainty) == (Result.COMPLETE, Certainty.VERIFIED)
    world.check_books()
    assert row(world, child.id).second_look_at is None


def test_what_may_be_anybodys_is_found_but_nothing_can_be_ordered(world):
    request_id = purged(world)
    look(world, Seen(sight=Sight.PRESENT, walk=Walk(unsaid=2)))
    assert row(world, request_id).second_look == "found"
    assert [one["found"] for one in said(world)] == [2]
    assert children(world) == []


def test_a_look_that_fails_is_taken_again_after_an_hour(world):
    request_id = purged(world)
    look(world, BLIND)
    one = row(world, request_id)
    assert (one.second_look, one.second_look_at) == (
        None,
        world.clock.wall_ns // 1_000 + HOUR * 1_000_000,
    )
    assert said(world) == []
    assert world.rows(readback) == []
    world.clock.tick(HOUR - 1)
    world.sweep()
    assert world.claim().tasks == ()
    look(world, ABSENT, after_s=1)
    assert row(world, request_id).second_look == "absent"


def test_a_look_that_never_succeeds_is_given_up_after_a_week(world):
    request_id = purged(world)
    look(world, BLIND)
    finished = row(world, request_id).finished_at
    to_go_s = (finished - world.clock.wall_ns // 1_000) / 1e6 + 7 * DAY
    look(world, BLIND, after_s=to_go_s - 100)
    assert row(world, request_id).second_look is None
    look(world, BLIND, after_s=HOUR)
    assert row(world, request_id).second_look == "unknown"
    assert [one["result"] for one in said(world)] == ["unknown"]
    world.clock.tick(30 * DAY)
    world.sweep()
    assert world.claim().tasks == ()


def test_a_look_is_repeated_within_its_attempts_and_after_a_lapsed_lease(world):
    request_id = purged(world)
    look(world, Retry(delay_s=1.0, burn=True))
    world.clock.tick(2)
    (lost,) = world.claim().tasks
    assert (lost.second_look, lost.burnt) == (True, 1)
    world.clock.tick(120)
    world.sweep()
    world.clock.tick(2)
    (task,) = world.claim().tasks
    for ready in world.record(settled(task, ABSENT)):
        world.advance(ready)
    # Its worker comes back with what it saw, too late.
    world.record(settled(lost, seen("a")))
    world.sweep()
    assert row(world, request_id).second_look == "absent"
    assert children(world) == []


def test_the_counts_of_the_purge_stay_as_they_were(world):
    request_id = purged(world)
    before = row(world, request_id)
    look(world, seen("a"))
    after = row(world, request_id)
    assert (after.state, after.result, after.certainty, after.finished_at) == (
        before.state,
        before.result,
        before.certainty,
        before.finished_at,
    )
    assert world.view(request_id).counts.verified_absent == 1


# -- killed in between ----------------------------------------------------------------------------


@pytest.mark.parametrize("writes", [1, 2, 3])
def test_killed_between_the_child_and_the_mark_there_is_one_child(world, monkeypatch, writes):
    request_id = purged(world)
    task = looking(world)
    world.record(settled(task, seen("a", "b", "c")))
    left = iter([None] * writes)
    with monkeypatch.context() as patch:
        real = world.database.write
        patch.setattr(world.database, "write", lambda work: (next(left), real(work))[1])
        with pytest.raises(StopIteration):
            world.advance(request_id)
    assert row(world, request_id).second_look == "looking"
    for _ in range(3):
        world.sweep()
    (child,) = children(world)
    assert (child.follows, child.unique_ids) == (request_id, 3)
    assert len(world.rows(request)) == 2
    assert [one["ordered"] for one in said(world)] == [child.id]
    world.run(answer)
    world.check_books()
    assert world.view(child.id).result is Result.COMPLETE


def test_judging_a_look_twice_says_it_once(world):
    request_id = purged(world)
    look(world, seen("a"))
    for _ in range(3):
        world.advance(request_id)
        world.sweep()
    assert (len(children(world)), len(said(world))) == (1, 1)


@pytest.mark.parametrize("found", ["a\x00", "x" * 257, "\ufffe"])
def test_an_id_that_cannot_be_ordered_does_not_stop_the_sweep(world, found):
    """MemOS shows ids that nobody could hand in."""
    request_id = purged(world)
    look(world, seen(found, "a"))
    assert row(world, request_id).second_look == "found"


# -- redrives -------------------------------------------------------------------------------------


def failed(world):
    """Give the id of a purge whose list could never be read."""
    request_id = purged(world, answer=lambda task: BLIND if task.call == "list" else Delivered())
    assert world.view(request_id).certainty is Certainty.UNVERIFIABLE
    return request_id


def redrive(world, request_id):
    world.ledger.redrive(request_id, **WHY)


@pytest.mark.parametrize("result", [ABSENT, seen("a")])
def test_a_redrive_clears_what_the_look_came_to(world, result):
    request_id = failed(world)
    look(world, result)
    redrive(world, request_id)
    one = row(world, request_id)
    assert (one.second_look, one.second_look_at) == (None, None)
    world.run(answer)
    one = row(world, request_id)
    assert (one.result, one.second_look) == (Result.COMPLETE, None)
    assert one.second_look_at == one.finished_at + 60 * 1_000_000
    look(world, seen("b"))
    # The generations have a request each.
    assert len(children(world)) == 1 + (result is not ABSENT)


@pytest.mark.parametrize("when", ["due", "leased", "done"])
def test_a_redrive_during_the_look_takes_nothing_of_it_for_its_own(world, when):
    """What the look saw was before the redriven purge."""
    request_id = failed(world)
    world.clock.tick(61)
    world.sweep()
    world.clock.tick(1)
    tasks = [] if when == "due" else [*world.claim().tasks]
    if when == "done":
        world.record(settled(tasks[0], ABSENT))
    redrive(world, request_id)
    if when == "leased":
        world.record(settled(tasks[0], ABSENT))
    stays = Seen(sight=Sight.PRESENT, walk=Walk(unsaid=1))

    def still_there(task):
        state = row(world, request_id).state
        assert state == (RequestState.OPEN if task.call == "delete" else RequestState.VERIFYING)
        return stays if task.call == "list" else Delivered()

    world.run(still_there)
    assert row(world, request_id).certainty == Certainty.STILL_PRESENT
