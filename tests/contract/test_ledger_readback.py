"""Reading back: what is called gone was seen to be gone, and every request comes to an end."""

import json

import pytest

from ledger import ReadbackPolicy
from ledger.policy import draw
from ledger.schema import event_body, readback, request
from ledger.states import Certainty, ChunkState, Kind, RequestState, Result, Sight
from ledger.tasks import Dead, Delivered, Seen, Split, Task
from tests.support.ledger_memos import Memos
from tests.support.ledger_world import places_and_ids, settled

SECOND = 1_000_000_000


def ids(n, mark="m"):
    return [f"{mark}{i}" for i in range(n)]


def hurry(world):
    """Fewer, larger claims."""
    world.ledger.register(projects={}, rates={"acme": 5_000.0}, decides=True)


def carry_out(world, memos, *args, **order):
    """Submit, let everything run, check the books; gives the final view."""
    hurry(world)
    receipt = world.submit(*args, **order)
    world.run(memos)
    world.sweep()
    world.check_books()
    view = world.view(receipt.id)
    assert view.finished_at is not None
    return view


def types(world):
    rows = [json.loads(row.payload) for row in world.rows(event_body)]
    return [row["type"] for row in sorted(rows, key=lambda row: row["at"])]


# -- purges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Kind.USER, Kind.AGENT])
def test_a_purge_is_complete_when_every_list_is_empty(world, kind):
    memos = Memos(subjects={"u", "v"})
    view = carry_out(world, memos, kind=kind, subject="u")
    assert (view.result, view.certainty) == (Result.COMPLETE, Certainty.VERIFIED)
    assert (view.counts.verified_absent, view.attempts, view.retried) == (1, 2, 0)
    assert memos.subjects == {"v"}
    row = world.row(request)
    assert row.second_look_at == row.finished_at + 60 * 1_000_000
    assert world.rows(readback) == []


@pytest.mark.parametrize("lies", [1, 2])
def test_a_purge_that_left_something_is_repeated_and_looked_at_anew(world, lies):
    """What the first list showed must not be held against the second deletion."""
    memos = Memos(subjects={"u"}, stubborn={"u": lies})
    view = carry_out(world, memos, kind=Kind.USER, subject="u")
    assert (view.result, view.certainty) == (Result.COMPLETE, Certainty.VERIFIED)
    assert memos.deleted["u"] == memos.lists == lies + 1
    assert view.retried == lies
    assert types(world).count("request.reopened") == lies


def test_a_purge_that_never_empties_is_given_up_as_still_present(world):
    memos = Memos(subjects={"u"}, stubborn={"u": 99})
    view = carry_out(world, memos, kind=Kind.USER, subject="u")
    assert (view.result, view.certainty) == (Result.FAILED, Certainty.STILL_PRESENT)
    assert view.counts.still_present == 1
    assert memos.deleted["u"] == world.policy.most_sightings + 1
    (row,) = world.chunks(view.id)
    assert (row.state, row.last_reason) == ("dead", "still_present")


def test_the_pause_before_deleting_again_grows_fivefold(world):
    receipt = world.submit(kind=Kind.USER, subject="u")
    pauses = []
    for _ in range(2):
        for request_id in world.record(settled(world.claim_one(), Delivered())):
            world.advance(request_id)
        world.clock.tick(3)
        for request_id in world.record(settled(world.claim_one(), Seen(sight=Sight.PRESENT))):
            world.advance(request_id)
        (row,) = world.chunks(receipt.id)
        pauses.append((row.due_ns - world.clock.ns) / SECOND)
        world.clock.tick(pauses[-1])
    assert pauses == [2.0, 10.0]


def test_a_purge_whose_list_cannot_be_read_is_not_called_complete(world):
    view = carry_out(world, Memos(subjects={"u"}, blind=True), kind=Kind.USER, subject="u")
    assert (view.result, view.certainty) == (Result.FAILED, Certainty.UNVERIFIABLE)
    assert view.counts.unknown == 1


def test_nothing_is_read_back_before_the_settle_time(world):
    world.submit(kind=Kind.USER, subject="u")
    for request_id in world.record(settled(world.claim_one(), Delivered())):
        world.advance(request_id)
    world.clock.tick(1.999)
    early = world.claim()
    assert (early.tasks, early.wake_ns) == ((), 1_000_000)
    world.clock.tick(0.001)
    assert [task.call for task in world.claim().tasks] == ["list"]


# -- ids of a named user, by the user's list ------------------------------------------------------


def test_a_named_users_ids_are_checked_against_one_list(world):
    memos = Memos([*ids(25), "other"])
    view = carry_out(world, memos, ids(25), subject="u")
    assert (view.result, view.certainty) == (Result.COMPLETE, Certainty.VERIFIED)
    assert view.counts.verified_absent == 25
    # Three are read by id as well: it might be the list of another user.
    assert (memos.lists, memos.reads, memos.there) == (1, 3, {"other"})


def test_only_what_the_list_still_shows_is_deleted_again(world):
    wanted = ids(25)
    memos = Memos([*wanted, "other"], stubborn={"m3": 1, "m24": 1, "m4": 1})
    view = carry_out(world, memos, wanted, subject="u")
    assert (view.result, view.certainty) == (Result.COMPLETE, Certainty.VERIFIED)
    again = {item for item, n in memos.deleted.items() if n == 2}
    assert again == {"m3", "m4", "m24"}
    assert memos.lists == 2
    assert places_and_ids(world, view.id) == dict(enumerate(wanted))


@pytest.mark.parametrize("n", [199, 200, 201, 450])
def test_many_chunks_are_judged_by_the_list_that_was_read_after_their_deletion(world, n):
    """More chunks than one step judges; the first ones are due again before the last are judged."""
    wanted = ids(n)
    memos = Memos(wanted, stubborn={"m0": 1, f"m{n - 1}": 1})
    view = carry_out(world, memos, wanted, subject="u", chunk_size=1)
    assert (view.result, view.counts.verified_absent) == (Result.COMPLETE, n)
    assert sum(memos.deleted.values()) == n + 2
    assert memos.lists == 2


def test_a_worker_that_dies_while_a_list_is_judged_spoils_nothing(world, monkeypatch):
    hurry(world)
    wanted = ids(450)
    memos = Memos(wanted, stubborn={"m0": 1})
    receipt = world.submit(wanted, subject="u", chunk_size=1)
    world.run(memos, stop=lambda: world.view(receipt.id).state is RequestState.VERIFYING)
    world.clock.tick(3)
    tasks = world.claim().tasks
    assert [task.call for task in tasks] == ["list", "read", "read", "read"]
    world.record(*(settled(task, memos(task)) for task in tasks))
    steps = iter([None])
    with monkeypatch.context() as patch:
        real = world.database.write
        patch.setattr(world.database, "write", lambda work: (next(steps), real(work))[1])
        with pytest.raises(StopIteration):
            world.advance(receipt.id)
    assert len(world.chunks(receipt.id, ChunkState.DELIVERED)) == 250
    # What is due again waits until the others are judged.
    world.clock.tick(100)
    assert not world.claim().tasks
    world.sweep()
    world.run(memos)
    view = world.view(receipt.id)
    assert (view.result, view.counts.verified_absent) == (Result.COMPLETE, 450)
    assert memos.deleted["m0"] == 2
    world.check_books()


def test_leftovers_that_never_go_leave_the_rest_verified(world):
    memos = Memos(ids(10), stubborn={"m2": 99, "m7": 99})
    view = carry_out(world, memos, ids(10), subject="u")
    assert (view.result, view.certainty) == (Result.PARTIAL, Certainty.STILL_PRESENT)
    assert (view.counts.verified_absent, view.counts.still_present) == (8, 2)
    dead = world.chunks(view.id, ChunkState.DEAD)
    assert sorted(item for row in dead for item in json.loads(row.ids)) == ["m2", "m7"]
    assert memos.deleted["m2"] == world.policy.most_sightings + 1


def test_already_absent_ids_stay_labelled_so(world):
    memos = Memos(ids(8))
    view = carry_out(world, memos, [*ids(8), "gone1", "gone2"], subject="u")
    assert view.result is Result.COMPLETE_WITH_ALREADY_ABSENT
    assert (view.counts.verified_absent, view.counts.already_absent) == (8, 2)


# -- by id ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 25, 230])
def test_full_reads_every_id(world, n):
    memos = Memos(ids(n))
    view = carry_out(world, memos, ids(n), verify="full")
    assert (view.result, view.certainty) == (Result.COMPLETE, Certainty.VERIFIED)
    assert (memos.reads, view.counts.verified_absent) == (n, n)
    assert memos.controls == -(-n // 200)


def test_full_by_id_finds_and_repeats_what_is_left(world):
    wanted = ids(230)
    memos = Memos(wanted, stubborn={"m0": 2, "m113": 1, "m229": 99})
    view = carry_out(world, memos, wanted, verify="full")
    assert (view.result, view.certainty) == (Result.PARTIAL, Certainty.STILL_PRESENT)
    assert (view.counts.verified_absent, view.counts.still_present) == (229, 1)
    assert memos.there == {"m229"}
    assert places_and_ids(world, view.id) == dict(enumerate(wanted))


def test_reads_that_fail_make_their_ids_unknown_and_never_complete(world):
    view = carry_out(world, Memos(ids(5), blind=True), ids(5), verify="full")
    assert (view.result, view.certainty) == (Result.FAILED, Certainty.UNVERIFIABLE)
    assert view.counts.unknown == 5


def test_one_read_that_fails_makes_the_request_partial(world):
    memos = Memos(ids(5))

    def answer(task):
        lost = task.call == "read" and task.ids == ("m3",)
        return Seen(sight=Sight.UNKNOWN) if lost else memos(task)

    view = carry_out(world, answer, ids(5), verify="full")
    assert (view.result, view.certainty) == (Result.PARTIAL, Certainty.UNVERIFIABLE)
    assert (view.counts.verified_absent, view.counts.unknown) == (4, 1)


# -- samples --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "size"), [(100, 7), (100, 100), (5, 50), (64, 1)])
def test_a_sample_that_is_all_absent_is_called_sampled(world, n, size):
    memos = Memos(ids(n))
    view = carry_out(world, memos, ids(n), verify=f"sample:{size}")
    assert (view.result, view.certainty) == (Result.COMPLETE, Certainty.SAMPLED)
    assert memos.reads == min(n, size)
    assert view.counts.verified_absent == min(n, size)
    assert view.counts.acknowledged == n - min(n, size)


def test_the_sample_is_the_documented_draw(world):
    wanted = ids(100)
    view = carry_out(world, Memos(wanted), wanted, verify="sample:9", chunk_size=7)
    drawn = draw(request_id=view.id, generation=1, population=100, size=9)
    read = [task.ids[0] for task in world.tasks if task.call == "read"]
    assert sorted(read) == sorted(wanted[place] for place in drawn)


def test_halves_are_in_the_sample_at_their_places(world):
    wanted = ids(60)
    receipt = world.submit(wanted, verify="sample:9", chunk_size=20)
    for _ in range(3):
        world.record(settled(world.claim_one(), Split()))
    world.run(Memos(wanted))
    drawn = draw(request_id=receipt.id, generation=1, population=60, size=9)
    read = [task.ids[0] for task in world.tasks if task.call == "read"]
    assert sorted(read) == sorted(wanted[place] for place in drawn)


@pytest.mark.parametrize("subject", [None, "u"])
def test_one_present_id_in_the_sample_has_everything_checked(world, subject):
    wanted = ids(60)
    memos = Memos(wanted, stubborn=dict.fromkeys(wanted, 1))
    view = carry_out(world, memos, wanted, verify="sample:5", subject=subject)
    assert (view.verify, view.result, view.certainty) == (
        "full",
        Result.COMPLETE,
        Certainty.VERIFIED,
    )
    assert view.counts.verified_absent == 60
    assert memos.there == set()
    assert world.row(request).verify == "sample:5"


def test_a_sample_is_drawn_among_what_was_delivered(world):
    """What was refused is looked at apart, and never called sampled."""
    wanted = ids(400)
    memos = Memos(wanted)

    def answer(task):
        refused = task.call == "delete" and "m399" not in task.ids
        return Dead(bucket="refused") if refused else memos(task)

    view = carry_out(world, answer, wanted, verify="sample:5", chunk_size=20)
    assert memos.reads == 5 + 40  # two chunks of those refused
    assert (view.counts.refused, view.counts.verified_absent, view.counts.acknowledged) == (
        380,
        5,
        15,
    )
    assert view.certainty is Certainty.UNVERIFIABLE


def test_a_sample_that_cannot_be_read_is_unverifiable(world):
    view = carry_out(world, Memos(ids(60), blind=True), ids(60), verify="sample:5")
    assert (view.result, view.certainty) == (Result.PARTIAL, Certainty.UNVERIFIABLE)
    assert (view.counts.unknown, view.counts.acknowledged) == (5, 55)


# -- none, and mixtures ---------------------------------------------------------------------------


def test_without_verification_the_answer_is_all_that_is_claimed(world):
    memos = Memos(ids(25))
    view = carry_out(world, memos, ids(25), verify="none")
    assert (view.result, view.certainty) == (Result.COMPLETE, Certainty.ACKNOWLEDGED)
    assert (view.counts.acknowledged, memos.reads, memos.lists) == (25, 0, 0)


def test_all_already_absent_without_verification_ends_as_such(world):
    view = carry_out(world, Memos(), ids(5), verify="none")
    assert view.result is Result.COMPLETE_WITH_ALREADY_ABSENT
    assert view.counts.already_absent == 5


@pytest.mark.parametrize("verify", ["full", "sample:2"])
@pytest.mark.parametrize(
    ("gone", "result", "verified"),
    [(5, Result.COMPLETE, 5), (2, Result.PARTIAL, 2), (0, Result.FAILED, 0)],
)
def test_what_was_refused_and_is_gone_all_the_same_is_done(world, verify, gone, result, verified):
    memos = Memos(ids(5)[gone:])

    def answer(task):
        return Dead(bucket="refused") if task.call == "delete" else memos(task)

    view = carry_out(world, answer, ids(5), verify=verify)
    assert (view.result, view.counts.verified_absent) == (result, verified)
    assert view.counts.refused == 5 - verified
    assert (view.certainty is Certainty.UNVERIFIABLE) == bool(view.counts.refused)
    dead = world.chunks(view.id, ChunkState.DEAD)
    assert [row.last_reason for row in dead] == ["test"] * bool(view.counts.refused)


def test_what_was_never_answered_and_is_still_there_is_deleted_again(world):
    memos = Memos(ids(5))
    lost: list[Task] = []

    def answer(task):
        if task.call == "delete" and not lost:
            lost.append(task)
            return Dead(bucket="unknown")
        return memos(task)

    view = carry_out(world, answer, ids(5), verify="full")
    assert (view.result, view.certainty) == (Result.COMPLETE, Certainty.VERIFIED)
    assert memos.there == set()


def test_what_was_refused_is_not_read_back_when_nobody_asked_for_it(world):
    view = carry_out(world, lambda _: Dead(bucket="refused"), ids(5), verify="none")
    assert (view.result, view.attempts) == (Result.FAILED, 1)


def test_advancing_again_and_too_early_changes_nothing(world):
    receipt = world.submit(ids(5), verify="full")
    task = world.claim_one()
    for _ in range(2):
        world.advance(receipt.id)
    world.record(settled(task, Delivered()))
    for _ in range(3):
        world.advance(receipt.id)
    assert len(world.rows(readback)) == 1
    world.run(Memos())
    before = world.row(request)
    for _ in range(2):
        world.advance(receipt.id)
    world.advance("nobody")
    assert world.row(request) == before
    assert types(world).count("request.finished") == 1


def test_the_final_event_has_the_counts_of_the_request(world):
    view = carry_out(world, Memos(ids(4)), [*ids(4), "gone"], subject="u")
    (final,) = [
        body
        for body in (json.loads(row.payload) for row in world.rows(event_body))
        if body["type"] == "request.finished"
    ]
    assert final["counts"] | {"requested": 5, "unique": 5} == vars(view.counts)
    assert (final["result"], final["certainty"]) == (view.result, view.certainty)


@pytest.mark.fault("F54")
@pytest.mark.parametrize("late_s", [5, 60])
def test_what_goes_a_minute_late_is_waited_for_by_the_default_policy(world, late_s):
    world.policy = ReadbackPolicy()
    done = world.submit(["a", "b", "c"], verify="full")
    began = world.clock.ns

    def answer(task):
        if task.call == "delete":
            return Delivered()
        if task.control:
            return Seen(sight=Sight.ABSENT)
        late = world.clock.ns - began < late_s * 1_000_000_000
        return Seen(sight=Sight.PRESENT if late and task.ids[0] == "b" else Sight.ABSENT)

    world.run(answer)
    view = world.view(done.id)
    assert (view.counts.verified_absent, view.result) == (3, "complete")
