"""Ids of a named user: the user's list is believed as long as reads by id do not belie it."""

import json

import pytest

from ledger.schema import chunk, event_body, readback, request
from ledger.states import Certainty, ChunkState, Kind, Result, Sight
from ledger.tasks import Dead, Delivered, Retry, Seen
from ledger.walks import Walk
from tests.support.ledger_memos import Memos
from tests.support.ledger_world import places_and_ids, settled

CUBES = frozenset({"shop"})
EMPTY = Seen(sight=Sight.ABSENT, walk=Walk())


def ids(n):
    return [f"m{i}" for i in range(n)]


def carry_out(world, answer, wanted, **order):
    world.ledger.register(projects={}, rates={"acme": 5_000.0}, decides=True)
    receipt = world.submit(wanted, **order)
    world.run(answer)
    world.sweep()
    world.check_books()
    view = world.view(receipt.id)
    assert view.finished_at is not None
    assert world.rows(readback) == []
    return view


def why(world):
    bodies = [json.loads(bytes(row.payload)) for row in world.rows(event_body)]
    return [body["why"] for body in bodies if body["type"] == "request.reopened"]


def reads(world):
    return [task for task in world.tasks if task.call == "read"]


def lists(world):
    return [task for task in world.tasks if task.call == "list" and not task.control]


def stranger(memos):
    """The user who was named is another one: the list shows none of the ids."""
    return lambda task: EMPTY if task.call == "list" and not task.control else memos(task)


# -- belied lists ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 40])
def test_the_list_of_a_wrong_user_is_belied_and_all_is_read_by_id(world, n):
    memos = Memos(ids(n), stubborn=dict.fromkeys(ids(n), 1))
    view = carry_out(world, stranger(memos), ids(n), subject="wrong")
    assert (view.result, view.certainty) == (Result.COMPLETE, Certainty.VERIFIED)
    assert (view.counts.verified_absent, memos.there) == (n, set())
    assert why(world) == ["list", "still_present"]
    # Three beside the list; then each id once, and once more after the second deletion.
    assert memos.reads == min(n, 3) + 2 * n
    assert len(lists(world)) == 1
    assert world.row(request).by_id == 1
    assert places_and_ids(world, view.id) == dict(enumerate(ids(n)))


def test_one_of_the_three_is_enough(world):
    memos = Memos(ids(40))
    lost: list[str] = []

    def answer(task):
        if task.call == "read" and not lost:
            lost.extend(task.ids)
            memos.there.add(task.ids[0])
        return stranger(memos)(task)

    view = carry_out(world, answer, ids(40), subject="wrong")
    assert (view.result, view.certainty) == (Result.COMPLETE, Certainty.VERIFIED)
    assert memos.reads == 3 + 40 + 1
    assert memos.deleted[lost[0]] == 2
    assert memos.there == set()


def test_what_the_list_shows_as_well_belies_nothing(world):
    memos = Memos(ids(3), stubborn=dict.fromkeys(ids(3), 1))
    view = carry_out(world, memos, ids(3), subject="u")
    assert view.result is Result.COMPLETE
    assert why(world) == ["still_present"]
    assert (len(lists(world)), memos.reads, world.row(request).by_id) == (2, 6, 0)


def test_reads_that_cannot_be_made_belie_nothing(world):
    memos = Memos(ids(5))

    def answer(task):
        return Seen(sight=Sight.UNKNOWN) if task.call == "read" else memos(task)

    view = carry_out(world, answer, ids(5), subject="u")
    assert (view.result, view.certainty) == (Result.COMPLETE, Certainty.VERIFIED)


def test_of_a_list_that_is_not_known_whole_the_ids_are_read_one_by_one(world):
    memos = Memos(ids(5))
    blind = Seen(sight=Sight.UNKNOWN, walk=Walk(unchecked=("skill",)))

    def answer(task):
        return blind if task.call == "list" and not task.control else memos(task)

    view = carry_out(world, answer, ids(5), subject="u")
    assert (view.result, view.counts.verified_absent) == (Result.COMPLETE, 5)
    assert memos.reads == 3 + 5


def test_a_list_that_is_not_known_whole_proves_nothing(world):
    memos = Memos(ids(5))
    blind = Seen(sight=Sight.UNKNOWN, walk=Walk(unchecked=("skill",)))

    def answer(task):
        return blind if task.call == "list" else memos(task)

    view = carry_out(world, answer, ids(5), subject="u")
    assert (view.result, view.counts.unknown) == (Result.FAILED, 5)
    dead = world.chunks(view.id, ChunkState.DEAD)
    assert {one.last_reason for one in dead} == {"unverifiable"}


def test_the_three_are_read_beside_the_list_and_not_after_it(world):
    receipt = world.submit(ids(10), subject="u")
    for request_id in world.record(settled(world.claim_one(), Delivered())):
        world.advance(request_id)
    planned = world.rows(readback)
    assert sorted(row.kind for row in planned) == ["id", "id", "id", "list"]
    assert len({row.due_ns for row in planned}) == 1
    assert len({row.item for row in planned if row.kind == "id"}) == 3
    world.clock.tick(3)
    listing, *others = world.claim().tasks
    assert (listing.call, [task.call for task in others]) == ("list", ["read"] * 3)
    assert world.view(receipt.id).finished_at is None


def test_nothing_is_judged_before_all_of_them_are_in(world):
    receipt = world.submit(ids(10), subject="u")
    for request_id in world.record(settled(world.claim_one(), Delivered())):
        world.advance(request_id)
    world.clock.tick(3)
    tasks = world.claim().tasks
    for task in tasks:
        assert world.view(receipt.id).counts.acknowledged == 10
        seen = EMPTY if task.call == "list" else Seen(sight=Sight.ABSENT)
        ready = world.record(settled(task, seen))
        for request_id in ready:
            world.advance(request_id)
    assert world.view(receipt.id).counts.verified_absent == 10


def test_purges_have_no_id_to_read_beside_their_list(world):
    memos = Memos(subjects={"u"})
    carry_out(world, memos, (), kind=Kind.USER, subject="u")
    assert (memos.lists, memos.reads) == (1, 0)


# -- the control ----------------------------------------------------------------------------------


@pytest.mark.parametrize("verify", ["full", "sample:4"])
def test_while_the_store_does_not_answer_reads_by_id_prove_nothing(world, verify):
    """A store that is away says "not found" of every id."""
    memos = Memos()

    def answer(task):
        if task.call == "delete":
            return Delivered()
        return Seen(sight=Sight.UNKNOWN if task.control else Sight.ABSENT)

    view = carry_out(world, answer, ids(12), verify=verify)
    assert (memos.reads, reads(world)) == (0, [])
    assert view.certainty is Certainty.UNVERIFIABLE
    assert view.counts.verified_absent == 0
    assert view.counts.unknown == (12 if verify == "full" else 4)


def test_the_control_is_read_anew_for_each_round_of_reads(world):
    memos = Memos(ids(450))
    fails_at = 2

    def answer(task):
        move = memos(task)
        if task.control and memos.controls == fails_at:
            return Seen(sight=Sight.UNKNOWN)
        return move

    view = carry_out(world, answer, ids(450), verify="full")
    assert memos.controls == 3
    assert (view.counts.verified_absent, view.counts.unknown) == (250, 200)
    assert len(reads(world)) == 250


def test_the_control_comes_before_the_reads_and_names_nothing(world):
    memos = Memos(ids(5))
    carry_out(world, memos, ids(5), verify="full")
    looks = [task for task in world.tasks if task.call != "delete"]
    assert [task.control for task in looks] == [True] + [False] * 5
    assert (looks[0].call, looks[0].ids) == ("list", ())


def test_a_control_is_tried_again_before_it_counts(world):
    memos = Memos(ids(5))
    tries = iter([Retry(delay_s=1.0, burn=True)])

    def answer(task):
        return next(tries, None) or memos(task) if task.control else memos(task)

    view = carry_out(world, answer, ids(5), verify="full")
    assert view.certainty is Certainty.VERIFIED


def test_a_belied_list_is_followed_by_reads_under_a_control(world):
    memos = Memos(ids(5), stubborn=dict.fromkeys(ids(5), 1))

    def answer(task):
        return Seen(sight=Sight.UNKNOWN) if task.control else stranger(memos)(task)

    view = carry_out(world, answer, ids(5), subject="wrong")
    assert (view.counts.unknown, view.certainty) == (5, Certainty.UNVERIFIABLE)
    assert len(reads(world)) == 3


# -- by cube --------------------------------------------------------------------------------------


@pytest.fixture
def by_cube(world):
    world.policy = type(world.policy)(
        settle_s=2.0, most_sightings=2, second_look_s=60.0, by_cube=CUBES
    )
    return world


@pytest.mark.parametrize("verify", ["full", "sample:3"])
@pytest.mark.parametrize("subject", [None, "u"])
def test_by_cube_only_the_list_is_read(by_cube, verify, subject):
    world, wanted = by_cube, ids(25)
    memos = Memos(wanted, stubborn={"m3": 1})
    view = carry_out(world, memos, wanted, verify=verify, subject=subject)
    assert (view.result, view.certainty) == (Result.COMPLETE, Certainty.VERIFIED)
    assert view.counts.verified_absent == 25
    assert (memos.reads, memos.controls, memos.lists) == (0, 0, 2)
    assert {one for one, n in memos.deleted.items() if n == 2} == {"m3"}
    assert view.verify == "full"
    assert world.row(request).verify == verify


def test_by_cube_nothing_is_read_when_nobody_asked_for_it(by_cube):
    memos = Memos(ids(5))
    view = carry_out(by_cube, memos, ids(5), verify="none")
    assert (view.certainty, memos.lists, memos.reads) == (Certainty.ACKNOWLEDGED, 0, 0)


def test_by_cube_a_list_that_cannot_be_read_proves_nothing(by_cube):
    view = carry_out(by_cube, Memos(ids(5), blind=True), ids(5))
    assert (view.counts.unknown, view.certainty) == (5, Certainty.UNVERIFIABLE)
    assert reads(by_cube) == []


@pytest.mark.parametrize("left", [0, 2, 5])
def test_by_cube_what_failed_by_its_answer_is_judged_by_the_list(by_cube, left):
    """Failure is said also when everything was deleted."""
    world, memos = by_cube, Memos(ids(5)[:left])

    def answer(task):
        if task.call == "delete" and task.sightings == 0 and memos.lists == 0:
            return Dead(bucket="unknown")
        return memos(task)

    view = carry_out(world, answer, ids(5))
    assert (view.result, view.counts.verified_absent) == (Result.COMPLETE, 5)
    assert memos.there == set()
    assert sum(memos.deleted.values()) == left


def test_by_cube_other_projects_are_read_back_as_ever(by_cube):
    memos = Memos(ids(5))
    carry_out(by_cube, memos, ids(5), project="blog", verify="full")
    assert (memos.lists, memos.controls, memos.reads) == (0, 1, 5)


def test_by_cube_purges_end_by_the_same_list(by_cube):
    memos = Memos(subjects={"u"}, stubborn={"u": 1})
    view = carry_out(by_cube, memos, (), kind=Kind.USER, subject="u")
    assert (view.certainty, memos.lists, memos.reads) == (Certainty.VERIFIED, 2, 0)
    assert len(by_cube.rows(chunk)) == 1
