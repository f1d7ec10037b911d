"""What became of calls: fences, counts, halves, probes, pauses."""

import json

import pytest

from ledger.crash_points import armed
from ledger.errors import LedgerError
from ledger.policy import draw
from ledger.schema import FOREVER_NS, attempt, chunk, event_body, readback
from ledger.states import ChunkState, Kind, Result, Sight
from ledger.tasks import Dead, Delivered, Move, Page, Probe, Retry, Seen, Split, Unsent
from ledger.walks import Walk
from tests.support.ledger_memos import Memos
from tests.support.ledger_world import places_and_ids, settled

SECOND = 1_000_000_000


def ids(n, mark="m"):
    return [f"{mark}{i}" for i in range(n)]


def lapse(world, task, max_attempts=9):
    """Let the lease of a task run out, and give the chunk to another worker."""
    world.clock.tick(61)
    world.sweep(max_attempts=max_attempts)
    return world.claim_one(worker="w2")


# -- what each move does --------------------------------------------------------------------------


def test_a_delivered_chunk_is_acknowledged(world):
    receipt = world.submit(ids(4), chunk_size=3)
    world.record(settled(world.claim_one(), Delivered()))
    counts = world.view(receipt.id).counts
    assert (counts.pending, counts.acknowledged) == (1, 3)
    (row,) = world.chunks(receipt.id, ChunkState.DELIVERED)
    assert (row.lease_until_ns, row.burnt) == (0, 0)
    world.check_books()


def test_an_unknown_single_id_is_already_absent(world):
    receipt = world.submit(["m"])
    world.record(settled(world.claim_one(), Delivered(was_absent=True)))
    assert world.view(receipt.id).counts.already_absent == 1


def test_without_verification_a_delivered_chunk_is_done(world):
    receipt = world.submit(ids(3), verify="none")
    assert world.record(settled(world.claim_one(), Delivered())) == [receipt.id]
    assert [row.state for row in world.chunks(receipt.id)] == ["done"]


@pytest.mark.parametrize("burn", [True, False])
@pytest.mark.parametrize("doubtful", [True, False])
def test_a_retry_waits_and_burns_an_attempt_only_when_told(world, burn, doubtful):
    receipt = world.submit(ids(3))
    world.record(settled(world.claim_one(), Retry(delay_s=4, burn=burn, doubtful=doubtful)))
    (row,) = world.chunks(receipt.id)
    assert (row.state, row.burnt, row.doubtful) == ("due", int(burn), int(doubtful))
    assert row.due_ns == world.clock.ns + 4 * SECOND
    world.clock.tick(4)
    task = world.claim_one()
    assert (task.burnt, task.doubtful) == (int(burn), doubtful)
    assert world.view(receipt.id).retried == 1


def test_doubt_stays_until_something_settles_it(world):
    world.submit(ids(3))
    world.record(settled(world.claim_one(), Retry(delay_s=0, burn=True, doubtful=True)))
    world.record(settled(world.claim_one(), Retry(delay_s=0, burn=True)))
    assert world.claim_one().doubtful


@pytest.mark.parametrize("bucket", ["refused", "unknown", "still_present"])
def test_a_dead_chunk_counts_where_it_was_told_and_is_not_sent_again(world, bucket):
    receipt = world.submit(ids(5), chunk_size=3, verify="none")
    dead, other = world.claim_one(), world.claim_one()
    ready = world.record(settled(dead, Dead(bucket=bucket)), settled(other, Delivered()))
    assert ready == [receipt.id]
    world.advance(receipt.id)
    view = world.view(receipt.id)
    assert getattr(view.counts, bucket) == 3
    assert view.result is Result.PARTIAL
    world.clock.tick(100)
    assert not world.claim().tasks
    world.check_books()


def test_a_request_of_which_all_is_dead_fails(world):
    receipt = world.submit(ids(5), chunk_size=3, verify="none")
    for _ in range(2):
        for request_id in world.record(settled(world.claim_one(), Dead(bucket="refused"))):
            world.advance(request_id)
    assert world.view(receipt.id).result is Result.FAILED


def test_what_was_not_sent_is_due_at_once_and_is_no_attempt(world):
    receipt = world.submit(ids(3))
    task = world.claim_one()
    assert world.record(settled(task, Unsent())) == []
    view = world.view(receipt.id)
    assert (view.attempts, view.retried) == (0, 0)
    again = world.claim_one()
    assert (again.chunk_id, again.fence, again.burnt, again.doubtful) == (
        task.chunk_id,
        task.fence + 1,
        0,
        False,
    )


# -- fencing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "move",
    [Delivered(), Dead(bucket="refused"), Retry(delay_s=1, burn=True), Split(), Probe(), Unsent()],
)
def test_an_outcome_that_comes_after_its_lease_changes_nothing_but_the_attempt(world, move):
    receipt = world.submit(ids(4))
    late = world.claim_one()
    current = lapse(world, late)
    before = world.chunks(receipt.id), world.view(receipt.id), world.rows(readback)
    assert world.record(settled(late, move)) == []
    assert (world.chunks(receipt.id), world.view(receipt.id), world.rows(readback)) == before
    row = world.row(attempt, attempt.c.claim == late.claim)
    assert (row.stale, row.outcome) == (1, type(move).__name__.lower())
    assert world.row(attempt, attempt.c.claim == current.claim).outcome is None
    # The one who holds it now is not disturbed.
    assert world.record(settled(current, Delivered())) == [receipt.id]
    world.check_books()


def test_a_late_read_back_changes_nothing_either(world):
    receipt = world.submit(["m"], verify="full")
    for request_id in world.record(settled(world.claim_one(), Delivered())):
        world.advance(request_id)
    world.clock.tick(5)
    late = world.claim_one()
    current = lapse(world, late)
    world.record(settled(late, Seen(sight=Sight.ABSENT)))
    assert world.row(readback).state == "leased"
    world.record(settled(current, Seen(sight=Sight.PRESENT)))
    assert world.row(readback).sight == "present"
    assert world.view(receipt.id).attempts == 3


def test_recording_the_same_again_changes_nothing(world):
    """As after a commit whose confirmation got lost."""
    receipt = world.submit(ids(8), chunk_size=2)
    tasks = [world.claim_one() for _ in range(4)]
    moves: list[Move] = [Delivered(), Split(), Retry(delay_s=5, burn=True), Dead(bucket="refused")]
    batch = [settled(task, move) for task, move in zip(tasks, moves, strict=True)]
    world.record(*batch)
    before = world.chunks(receipt.id), world.view(receipt.id), world.rows(attempt)
    world.record(*batch)
    assert (world.chunks(receipt.id), world.view(receipt.id), world.rows(attempt)) == before
    world.check_books()


def test_a_batch_is_recorded_whole_or_not_at_all(world):
    receipt = world.submit(ids(4), chunk_size=2)
    tasks = [world.claim_one(), world.claim_one()]
    before = world.chunks(receipt.id), world.rows(attempt), len(world.rows(event_body))

    def breaks(place):
        if place == "record.before_commit":
            raise LedgerError("away")

    with armed(breaks), pytest.raises(LedgerError, match="away"):
        world.record(*(settled(task, Delivered()) for task in tasks))
    assert (world.chunks(receipt.id), world.rows(attempt), len(world.rows(event_body))) == before


def test_a_call_is_counted_once_even_when_its_lease_ran_out(world):
    receipt = world.submit(ids(3))
    late = world.claim_one()
    current = lapse(world, late)
    world.record(settled(late, Delivered()), settled(current, Delivered()))
    view = world.view(receipt.id)
    assert (view.attempts, view.retried) == (2, 1)


# -- halves ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 5, 7, 31])
def test_halves_carry_the_parents_ids_once_each_at_their_places(world, n):
    wanted = ids(n)
    receipt = world.submit(wanted, chunk_size=n)
    for _ in range(n - 1):
        task = world.claim_one()
        while len(task.ids) == 1:
            world.record(settled(task, Retry(delay_s=3_600, burn=False)))
            task = world.claim_one()
        world.record(settled(task, Split(hunt=False)))
        assert places_and_ids(world, receipt.id) == dict(enumerate(wanted))
        world.check_books()
    live = [row for row in world.chunks(receipt.id) if row.state != "split"]
    assert [row.n for row in live] == [1] * n
    numbers = [row.no for row in world.chunks(receipt.id)]
    assert sorted(numbers) == list(range(2 * n - 1))


def test_halves_keep_the_place_in_line_and_the_doubt(world):
    world.submit(ids(4))
    world.submit(ids(4, "x"))
    world.record(settled(world.claim_one(), Retry(delay_s=0, burn=True, doubtful=True)))
    world.record(settled(world.claim_one(), Split(hunt=False)))
    halves = [world.claim_one(), world.claim_one()]
    assert [task.ids for task in halves] == [("m0", "m1"), ("m2", "m3")]
    assert all(task.doubtful and task.burnt == 0 for task in halves)
    assert world.claim_one().ids == ("x0", "x1", "x2", "x3")


def test_splits_of_several_chunks_in_one_batch(world):
    wanted = ids(20)
    receipt = world.submit(wanted, chunk_size=5)
    world.record(*(settled(world.claim_one(), Split(hunt=False)) for _ in range(4)))
    assert places_and_ids(world, receipt.id) == dict(enumerate(wanted))
    assert sorted(row.no for row in world.chunks(receipt.id)) == list(range(12))
    world.check_books()


def test_bisecting_finds_the_few_unknown_ids_and_nothing_else(world):
    wanted = ids(40)
    gone = {"m3", "m17", "m39"}
    memos = Memos(set(wanted) - gone)
    receipt = world.submit(wanted, chunk_size=20, verify="full")
    world.run(memos)
    counts = world.view(receipt.id).counts
    assert (counts.already_absent, counts.verified_absent) == (3, 37)
    assert memos.there == set()
    absent = [row for row in world.chunks(receipt.id) if row.was_absent]
    assert {item for row in absent for item in json.loads(row.ids)} == gone


@pytest.mark.parametrize(
    ("order", "move"),
    [
        ({"ids": ["m"]}, Split()),
        ({"kind": Kind.USER, "subject": "u"}, Split()),
        ({"kind": Kind.USER, "subject": "u"}, Probe()),
        ({"ids": ["m"]}, Seen(sight=Sight.ABSENT)),
        ({"ids": ["m"]}, Page(walk=Walk())),
    ],
)
def test_a_move_that_makes_no_sense_is_refused_before_it_does_harm(world, order, move):
    receipt = world.submit(**order)
    with pytest.raises(AssertionError, match="is no move of a chunk"):
        world.record(settled(world.claim_one(), move))
    assert [row.state for row in world.chunks(receipt.id)] == ["leased"]


# -- probes ---------------------------------------------------------------------------------------


def doubt(world, n=10, **fields):
    """Bring a chunk to where an earlier call may have been applied and now nothing is found."""
    receipt = world.submit(ids(n), **fields)
    world.record(settled(world.claim_one(), Retry(delay_s=0, burn=True, doubtful=True)))
    world.record(settled(world.claim_one(), Probe()))
    return receipt


def probes(world):
    """Claim all probes that are due."""
    world.clock.tick(2)
    tasks = world.claim().tasks
    assert all(task.probe and task.call == "read" for task in tasks)
    return tasks


@pytest.mark.parametrize(("n", "expected"), [(1, 1), (2, 2), (3, 3), (10, 3)])
def test_a_doubtful_chunk_waits_for_three_reads_whose_draw_can_be_repeated(world, n, expected):
    receipt = doubt(world, n)
    assert world.row(chunk).due_ns == FOREVER_NS
    tasks = probes(world)
    items = draw(request_id=f"{receipt.id}/0", generation=1, population=n, size=3)
    assert sorted(task.ids[0] for task in tasks) == sorted(f"m{item}" for item in items)
    assert len(tasks) == expected
    world.clock.tick(1_000)
    world.sweep()
    assert {task.call for task in world.claim().tasks} == {"read"}


def test_all_probes_absent_means_deleted_or_already_gone(world):
    receipt = doubt(world)
    ready = world.record(*(settled(task, Seen(sight=Sight.ABSENT)) for task in probes(world)))
    assert ready == [receipt.id]
    world.advance(receipt.id)
    row = world.row(chunk)
    assert (row.state, row.was_absent, row.last_reason) == (
        "delivered",
        1,
        "deleted_or_already_gone",
    )
    counts = world.view(receipt.id).counts
    assert (counts.pending, counts.already_absent) == (0, 10)
    world.check_books()


def test_a_probe_that_is_present_has_the_chunk_sent_again_without_doubt(world):
    receipt = doubt(world)
    first, *rest = probes(world)
    world.record(settled(first, Seen(sight=Sight.PRESENT)))
    world.advance(receipt.id)
    assert world.row(chunk).reading == 1
    for request_id in world.record(*(settled(task, Seen(sight=Sight.ABSENT)) for task in rest)):
        world.advance(request_id)
    task = world.claim_one()
    assert (task.call, len(task.ids), task.doubtful) == ("delete", 10, False)


def test_probes_that_tell_nothing_are_tried_again_later(world):
    receipt = doubt(world)
    sights = [Sight.ABSENT, Sight.UNKNOWN, Sight.ABSENT]
    settlements = [
        settled(task, Seen(sight=sight)) for task, sight in zip(probes(world), sights, strict=True)
    ]
    for request_id in world.record(*settlements):
        world.advance(request_id)
    assert world.view(receipt.id).counts.pending == 10
    assert not world.claim().tasks
    world.clock.tick(5)
    assert world.claim_one().doubtful


def test_a_chunk_that_no_read_ever_settles_ends_unknown_and_not_never(world):
    receipt = doubt(world)

    def answer(task):
        return Probe() if task.call == "delete" else Seen(sight=Sight.UNKNOWN)

    world.run(answer, seconds=3_600, stop=lambda: world.view(receipt.id).finished_at is not None)
    view = world.view(receipt.id)
    assert (view.result, view.counts.unknown) == (Result.FAILED, 10)
    assert view.attempts < 60
    world.check_books()


def test_with_no_verification_absent_probes_end_the_chunk(world):
    receipt = doubt(world, verify="none")
    for request_id in world.record(*(settled(t, Seen(sight=Sight.ABSENT)) for t in probes(world))):
        world.advance(request_id)
    assert world.row(chunk).state == "done"
    assert world.view(receipt.id).result is Result.COMPLETE_WITH_ALREADY_ABSENT


def test_one_doubtful_chunk_does_not_keep_back_the_judgement_of_another(world):
    receipt = world.submit(ids(20), chunk_size=10)
    tasks = [world.claim_one(), world.claim_one()]
    world.record(*(settled(task, Probe()) for task in tasks))
    found = probes(world)
    own = [task for task in found if task.chunk_id == tasks[0].chunk_id]
    for request_id in world.record(*(settled(task, Seen(sight=Sight.ABSENT)) for task in own)):
        world.advance(request_id)
    counts = world.view(receipt.id).counts
    assert (counts.already_absent, counts.pending) == (10, 10)


# -- odd answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kept"),
    [(None, None), (0, 0), (40307, 40307), (-1, -1), (2**53, None), (10**400, None)],
)
def test_a_code_that_is_no_sensible_number_does_not_stop_the_record(world, code, kept):
    world.submit(["m"])
    world.record(settled(world.claim_one(), Retry(delay_s=1, burn=True), code=code))
    assert world.row(attempt).code == kept


def test_pages_of_a_list_are_carried_along(world):
    receipt = world.submit(ids(3), subject="u")
    for request_id in world.record(settled(world.claim_one(), Delivered())):
        world.advance(request_id)
    world.clock.tick(5)
    *reads, first = sorted(world.claim().tasks, key=lambda task: task.call == "list")
    assert (first.call, first.walk) == ("list", None)
    world.record(*(settled(task, Seen(sight=Sight.ABSENT)) for task in reads))
    walk = Walk(legs=("all",), page=2, present=frozenset({"é", "b"}), pages=("x",))
    world.record(settled(first, Page(walk=walk)))
    second = world.claim_one()
    assert second.walk == walk
    seen = Walk(present=frozenset({"é", "b", "m1"}))
    ready = world.record(settled(second, Seen(sight=Sight.PRESENT, walk=seen)))
    assert ready == [receipt.id]
    world.advance(receipt.id)
    counts = world.view(receipt.id).counts
    assert (counts.verified_absent, counts.pending) == (2, 1)


@pytest.mark.parametrize("kind", [Kind.USER, Kind.AGENT])
def test_a_purge_counts_one_subject(world, kind):
    receipt = world.submit(kind=kind, subject="u")
    task = world.claim_one()
    assert (task.kind, task.ids, task.subject) == (kind, (), "u")
    world.record(settled(task, Delivered()))
    assert world.view(receipt.id).counts.acknowledged == 1
