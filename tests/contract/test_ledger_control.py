"""Holding, releasing and cancelling: what departs, what is counted, and who is told."""

import json
import sys
from contextlib import contextmanager

import pytest
from sqlalchemy import event as engine_event

from ledger import control, release, withdraw
from ledger.errors import ConflictError, LedgerError, NotFoundError, RequestError
from ledger.events import EventType
from ledger.schema import FOREVER_NS, attempt, chunk, event_body, readback, request
from ledger.states import ChunkState, Kind, RequestState, Result, Sight
from ledger.tasks import Dead, Delivered, Probe, Retry, Seen, Unsent
from tests.support.ledger_memos import Memos
from tests.support.ledger_world import make_order, settled

WHO = {"principal": "op"}
WHY = {"principal": "op", "reason": "test"}


def ids(n):
    return [f"m{i}" for i in range(n)]


def counts(world, request_id):
    found = vars(world.view(request_id).counts)
    return {name: n for name, n in found.items() if n and name not in ("requested", "unique")}


def events(world, request_id):
    bodies = [json.loads(bytes(row.payload)) for row in world.rows(event_body)]
    return [body for body in bodies if body["request"] == request_id]


def kinds_of_events(world, request_id):
    return sorted(body["type"] for body in events(world, request_id))


@contextmanager
def rows_moved(world):
    """Collect how many chunk rows each transaction changes."""
    moved = []
    here = [0]

    def note(_conn, cursor, statement, *_rest):
        if statement.startswith("UPDATE chunk"):
            here[0] += cursor.rowcount

    def close(_conn):
        moved.append(here[0])
        here[0] = 0

    engine = world.database.engine
    engine_event.listen(engine, "after_cursor_execute", note)
    engine_event.listen(engine, "commit", close)
    try:
        yield moved
    finally:
        engine_event.remove(engine, "after_cursor_execute", note)
        engine_event.remove(engine, "commit", close)


# -- hold and release -----------------------------------------------------------------------------


def test_nothing_of_a_held_request_departs_until_it_is_released(world):
    held = world.submit(ids(6), chunk_size=2)
    other = world.submit(["x"])
    assert world.ledger.hold(held.id, **WHY)
    assert {task.request_id for task in world.claim().tasks} == {other.id}
    view = world.view(held.id)
    assert (view.held, view.hold_reason, view.state) == (True, "test", "open")
    assert {row.due_ns for row in world.chunks(held.id)} == {FOREVER_NS}
    assert world.ledger.release(held.id, **WHO)
    view = world.view(held.id)
    assert (view.held, view.hold_reason) == (False, None)
    world.clock.tick(1)
    assert [task.request_id for task in world.claim().tasks] == [held.id] * 3


def test_holding_and_releasing_twice_is_one_hold_and_one_release(world):
    receipt = world.submit(ids(3))
    assert world.ledger.hold(receipt.id, **WHY)
    assert not world.ledger.hold(receipt.id, principal="other", reason="other")
    assert world.view(receipt.id).hold_reason == "test"
    assert world.ledger.release(receipt.id, principal="op", reason="done")
    assert not world.ledger.release(receipt.id, **WHO)
    assert kinds_of_events(world, receipt.id) == [
        "request.accepted",
        "request.held",
        "request.released",
    ]
    held, released = [
        body for body in events(world, receipt.id) if body["type"] != EventType.REQUEST_ACCEPTED
    ]
    if held["type"] == EventType.REQUEST_RELEASED:
        held, released = released, held
    assert (held["principal"], held["reason"], held["state"]) == ("op", "test", "open")
    assert (released["reason"], released["held_for"]) == ("done", "test")


def test_what_comes_back_to_a_held_request_is_parked_by_the_sweep_and_not_lost(world):
    receipt = world.submit(ids(6), chunk_size=2)
    first, second, third = world.claim_one(), world.claim_one(), world.claim_one(lease_s=5)
    world.ledger.hold(receipt.id, **WHY)
    world.record(
        settled(first, Unsent()), settled(second, Retry(delay_s=3, burn=True, doubtful=True))
    )
    assert not world.claim().tasks
    world.clock.tick(6)
    world.sweep()
    assert {row.due_ns for row in world.chunks(receipt.id)} == {FOREVER_NS}
    assert not world.claim().tasks
    assert third.request_id == receipt.id
    world.ledger.release(receipt.id, **WHO)
    world.run(Memos(ids(6)))
    assert world.view(receipt.id).state == RequestState.COMPLETE
    world.check_books()


def test_read_backs_of_a_held_request_stop_and_go_on(world):
    receipt = world.submit(["m"], verify="full")
    for request_id in world.record(settled(world.claim_one(), Delivered())):
        world.advance(request_id)
    world.ledger.hold(receipt.id, **WHY)
    world.clock.tick(60)
    world.sweep()
    assert not world.claim().tasks
    world.ledger.release(receipt.id, **WHO)
    world.run(Memos())
    assert world.view(receipt.id).result == Result.COMPLETE


def test_still_present_chunks_of_a_held_request_wait_for_its_release(world):
    memos = Memos(ids(4), stubborn=dict.fromkeys(ids(4), 1))
    receipt = world.submit(ids(4), chunk_size=2, subject="u")
    world.run(memos, stop=lambda: world.view(receipt.id).state == RequestState.VERIFYING)
    world.clock.tick(5)
    looks = world.claim().tasks
    assert {task.call for task in looks} == {"list", "read"}
    world.ledger.hold(receipt.id, **WHY)
    for request_id in world.record(*(settled(task, memos(task)) for task in looks)):
        world.advance(request_id)
    world.sweep()
    assert {row.due_ns for row in world.chunks(receipt.id, ChunkState.DUE)} == {FOREVER_NS}
    world.clock.tick(600)
    assert not world.claim().tasks
    world.ledger.release(receipt.id, **WHO)
    world.run(memos)
    assert counts(world, receipt.id) == {"verified_absent": 4}


def test_a_chunk_that_waits_for_its_probes_is_not_released_with_the_others(world):
    receipt = world.submit(ids(4), chunk_size=2)
    world.record(settled(world.claim_one(), Retry(delay_s=0, burn=True, doubtful=True)))
    world.record(settled(world.claim_one(), Probe()))
    world.ledger.hold(receipt.id, **WHY)
    world.ledger.release(receipt.id, **WHO)
    ready = world.rows(chunk, chunk.c.due_ns == 0)
    assert [row.reading for row in ready] == [0]
    world.run(Memos(ids(4)))
    assert world.view(receipt.id).state == RequestState.COMPLETE


def test_a_held_scheduled_request_stays_held_after_its_time_and_opens_once_released(world):
    start = world.clock.wall_ns // 1_000
    receipt = world.submit(ids(3), not_before=_moment(start + 60_000_000))
    world.ledger.hold(receipt.id, **WHY)
    world.clock.tick(120)
    world.sweep()
    assert not world.claim().tasks
    assert world.view(receipt.id).state == RequestState.SCHEDULED
    world.ledger.release(receipt.id, **WHO)
    world.sweep()
    assert len(world.claim().tasks) == 1


def test_a_request_that_is_held_while_its_ids_come_in_stays_held(world):
    intake = world.ledger.begin(make_order(idempotency_key="k"), chunk_size=2)
    intake.add(ids(3))
    world.ledger.hold(intake.request_id, **WHY)
    intake.add(["m3", "m4"])
    intake.finish()
    world.sweep()
    assert not world.claim().tasks
    world.ledger.release(intake.request_id, **WHO)
    assert len(world.claim().tasks) == 3


def test_a_held_request_whose_calls_were_all_under_way_ends_and_is_held_no_more(world):
    receipt = world.submit(["m"], verify="none")
    task = world.claim_one()
    world.ledger.hold(receipt.id, **WHY)
    for request_id in world.record(settled(task, Delivered())):
        world.advance(request_id)
    view = world.view(receipt.id)
    assert (view.state, view.held, view.hold_reason) == ("complete", False, None)


def test_moving_chunks_takes_short_transactions_however_many_there_are(world):
    world.submit(["first"])
    receipt = world.submit(ids(1_300), chunk_size=1)
    with rows_moved(world) as moved:
        world.ledger.hold(receipt.id, **WHY)
    assert sum(moved) == 1_300
    assert max(moved) <= release.CHUNKS_AT_ONCE
    with rows_moved(world) as moved:
        world.ledger.release(receipt.id, **WHO)
    assert sum(moved) == 1_300
    assert max(moved) <= release.CHUNKS_AT_ONCE
    with rows_moved(world) as moved:
        world.ledger.cancel(receipt.id, **WHY)
    assert sum(moved) == 1_300
    assert max(moved) <= withdraw.CHUNKS_AT_ONCE
    assert counts(world, receipt.id) == {"cancelled": 1_300}


class _KilledError(Exception):
    pass


def _dies_after(monkeypatch, module, name, steps):
    real, left = getattr(module, name), [steps]

    def dying(*args, **kwargs):
        if not left[0]:
            raise _KilledError
        left[0] -= 1
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, dying)


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_the_sweep_finishes_a_hold_that_was_killed_half_way(world, monkeypatch, steps):
    receipt = world.submit(ids(1_300), chunk_size=1)
    with monkeypatch.context() as patch:
        _dies_after(patch, release, "_move_some", steps)
        with pytest.raises(_KilledError):
            world.ledger.hold(receipt.id, **WHY)
    assert not world.claim().tasks
    world.sweep()
    assert {row.due_ns for row in world.chunks(receipt.id)} == {FOREVER_NS}


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_the_sweep_finishes_a_release_that_was_killed_half_way(world, monkeypatch, steps):
    receipt = world.submit(ids(1_300), chunk_size=1)
    world.ledger.hold(receipt.id, **WHY)
    with monkeypatch.context() as patch:
        _dies_after(patch, release, "_move_some", steps)
        with pytest.raises(_KilledError):
            world.ledger.release(receipt.id, **WHO)
    world.sweep()
    assert {row.due_ns for row in world.chunks(receipt.id)} == {0}


def test_a_walk_that_slept_through_a_hold_and_a_release_does_not_say_that_all_is_done(
    world, monkeypatch
):
    receipt = world.submit(ids(1_300), chunk_size=1)
    move = release._move_some

    def release_without_a_step():
        with monkeypatch.context() as patch:
            _dies_after(patch, release, "_move_some", 0)
            with pytest.raises(_KilledError):
                world.ledger.release(receipt.id, **WHO)

    world.ledger.hold(receipt.id, **WHY)
    release_without_a_step()
    slow = world.database.write(lambda conn: move(conn, receipt.id, None, held=False))
    assert slow is not None
    world.ledger.hold(receipt.id, **WHY)
    release_without_a_step()
    # The numbers that it has walked were parked again meanwhile.
    assert world.database.write(lambda conn: move(conn, receipt.id, slow, held=False)) is None
    assert world.row(request).releasing == 1
    world.sweep()
    assert {row.due_ns for row in world.chunks(receipt.id)} == {0}


# -- cancel ---------------------------------------------------------------------------------------


def test_a_request_cancelled_before_any_call_ends_cancelled_at_once(world):
    receipt = world.submit(ids(5), chunk_size=2, subject="u")
    assert world.ledger.cancel(receipt.id, **WHY)
    view = world.view(receipt.id)
    assert (view.state, view.result, view.certainty) == ("cancelled", "cancelled", None)
    assert (view.cancelling, view.attempts, view.counts.cancelled) == (True, 0, 5)
    assert {row.state for row in world.chunks(receipt.id)} == {ChunkState.CANCELLED}
    assert not world.claim().tasks
    assert not world.sweep().due
    assert kinds_of_events(world, receipt.id) == [
        "request.accepted",
        "request.cancelled",
        "request.finished",
    ]


def test_cancelling_again_is_fine_and_recorded_once(world):
    receipt = world.submit(ids(2))
    assert world.ledger.cancel(receipt.id, **WHY)
    assert not world.ledger.cancel(receipt.id, **WHY)
    partly = world.submit(ids(4), chunk_size=2, verify="none")
    task = world.claim_one()
    assert world.ledger.cancel(partly.id, **WHY)
    for request_id in world.record(settled(task, Delivered())):
        world.advance(request_id)
    assert world.view(partly.id).state == RequestState.PARTIAL
    assert not world.ledger.cancel(partly.id, **WHY)
    assert kinds_of_events(world, partly.id).count("request.cancelled") == 1


def test_what_was_delivered_is_read_back_and_the_rest_is_cancelled(world):
    memos = Memos(ids(6))
    receipt = world.submit(ids(6), chunk_size=2, verify="full")
    world.record(settled(task := world.claim_one(), memos(task)))
    world.ledger.cancel(receipt.id, **WHY)
    view = world.view(receipt.id)
    assert (view.state, view.counts.acknowledged, view.counts.cancelled) == ("verifying", 2, 4)
    world.run(memos)
    view = world.view(receipt.id)
    assert (view.state, view.result, view.certainty) == ("partial", "partial", "verified")
    assert counts(world, receipt.id) == {"verified_absent": 2, "cancelled": 4}
    assert memos.deleted.total() == 2


@pytest.mark.parametrize(
    ("move", "bucket"),
    [
        (Unsent(), "cancelled"),
        (Retry(delay_s=0, burn=False), "cancelled"),
        (Retry(delay_s=9, burn=True, doubtful=True), "unknown"),
        (Dead(bucket="refused"), "refused"),
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_each_chunk_is_counted_for_what_is_known_of_it(world, move, bucket, when):
    receipt = world.submit(ids(6), chunk_size=3, verify="none")
    task = world.claim_one()
    if when == "after":
        world.ledger.cancel(receipt.id, **WHY)
        assert world.view(receipt.id).counts.pending == 3
    for request_id in world.record(settled(task, move)):
        world.advance(request_id)
    if when == "before":
        world.ledger.cancel(receipt.id, **WHY)
    expected = {"cancelled": 6} if bucket == "cancelled" else {"cancelled": 3, bucket: 3}
    assert counts(world, receipt.id) == expected
    assert world.view(receipt.id).finished_at is not None
    assert not world.claim().tasks


def test_a_call_whose_lease_lapses_after_the_cancel_leaves_its_ids_unknown(world):
    receipt = world.submit(ids(4), chunk_size=2)
    world.claim_one(lease_s=5)
    world.ledger.cancel(receipt.id, **WHY)
    world.clock.tick(6)
    world.sweep(max_attempts=9)
    assert counts(world, receipt.id) == {"cancelled": 2, "unknown": 2}
    assert world.view(receipt.id).finished_at is not None


def test_what_was_seen_still_present_stays_so_and_is_not_sent_again(world):
    memos = Memos(ids(2), stubborn=dict.fromkeys(ids(2), 9))
    receipt = world.submit(ids(2), chunk_size=2, verify="full")
    world.run(memos, stop=lambda: world.rows(chunk, chunk.c.sightings > 0))
    world.ledger.cancel(receipt.id, **WHY)
    assert counts(world, receipt.id) == {"still_present": 2}
    assert world.view(receipt.id).certainty == "still_present"


@pytest.mark.parametrize("order", [{"subject": "u"}, {"verify": "full"}, {"verify": "sample:2"}])
def test_a_request_cancelled_while_read_back_ends_still_present_instead_of_going_round(
    world, order
):
    memos = Memos(ids(4), stubborn=dict.fromkeys(ids(4), 9))
    receipt = world.submit(ids(4), chunk_size=2, **order)
    world.run(memos, stop=lambda: world.view(receipt.id).state == RequestState.VERIFYING)
    world.ledger.cancel(receipt.id, **WHY)
    deleted = memos.deleted.total()
    world.run(memos)
    view = world.view(receipt.id)
    assert (view.state, view.counts.still_present) == ("failed", 4)
    assert (memos.deleted.total(), view.retried) == (deleted, 0)


def test_after_an_answer_it_is_no_longer_in_doubt_what_was_seen(world):
    receipt = world.submit(["m"], verify="full")
    world.record(settled(world.claim_one(), Retry(delay_s=0, burn=True, doubtful=True)))
    memos = Memos(["m"], stubborn={"m": 9})
    world.run(memos, stop=lambda: world.rows(chunk, chunk.c.sightings > 0))
    world.ledger.cancel(receipt.id, **WHY)
    assert counts(world, receipt.id) == {"still_present": 1}


def test_probes_of_a_cancelled_chunk_are_dropped_and_those_under_way_are_recorded(world):
    receipt = world.submit(ids(8), chunk_size=8)
    world.record(settled(world.claim_one(), Retry(delay_s=0, burn=True, doubtful=True)))
    world.record(settled(world.claim_one(), Probe()))
    probe = world.claim_one()
    assert probe.probe
    world.ledger.cancel(receipt.id, **WHY)
    assert counts(world, receipt.id) == {"unknown": 8}
    assert [row.state for row in world.rows(readback)] == ["leased"]
    assert not world.claim().tasks
    # Its end waits for the call under way, so that every call has its record.
    assert world.view(receipt.id).finished_at is None
    for request_id in world.record(settled(probe, Seen(sight=Sight.ABSENT))):
        world.advance(request_id)
    assert counts(world, receipt.id) == {"unknown": 8}
    view = world.view(receipt.id)
    assert (view.state, view.attempts) == ("failed", 3)
    assert not world.rows(attempt, attempt.c.outcome.is_(None))


def test_a_probe_whose_lease_lapses_does_not_keep_a_cancelled_request_open(world):
    receipt = world.submit(ids(8), chunk_size=8)
    world.record(settled(world.claim_one(), Retry(delay_s=0, burn=True, doubtful=True)))
    world.record(settled(world.claim_one(), Probe()))
    world.claim_one(lease_s=5)
    world.ledger.cancel(receipt.id, **WHY)
    world.clock.tick(6)
    world.sweep(max_attempts=9)
    assert world.view(receipt.id).finished_at is not None
    assert not world.rows(readback)


def test_a_cancelled_purge_that_never_left_has_no_second_look(world):
    receipt = world.submit(kind=Kind.USER, subject="u")
    world.ledger.cancel(receipt.id, **WHY)
    assert world.row(request).second_look_at is None
    other = world.submit(kind=Kind.USER, subject="u")
    task = world.claim_one()
    world.ledger.cancel(other.id, **WHY)
    memos = Memos(subjects=["u"])
    for request_id in world.record(settled(task, memos(task))):
        world.advance(request_id)
    world.run(memos)
    assert world.view(other.id).result == Result.COMPLETE
    assert world.row(request, request.c.id == other.id).second_look_at is not None


def test_a_cancelled_receiving_request_ends_and_its_sender_is_told(world):
    intake = world.ledger.begin(make_order(idempotency_key="k"), chunk_size=2)
    intake.add(ids(3))
    world.ledger.cancel(intake.request_id, **WHY)
    assert world.view(intake.request_id).state == RequestState.CANCELLED
    with pytest.raises(ConflictError, match="cancelled while its ids came in"):
        intake.finish()
    again = world.submit(ids(3), idempotency_key="k")
    assert not again.duplicate
    assert len(world.claim().tasks) == 1


@pytest.mark.parametrize("state", ["scheduled", "held"])
def test_a_scheduled_or_held_request_is_cancelled_at_once(world, state):
    start = world.clock.wall_ns // 1_000
    later = _moment(start + 60_000_000) if state == "scheduled" else None
    receipt = world.submit(ids(3), not_before=later)
    if state == "held":
        world.ledger.hold(receipt.id, **WHY)
    assert world.ledger.cancel(receipt.id, **WHY)
    view = world.view(receipt.id)
    assert (view.state, view.held, view.counts.cancelled) == ("cancelled", False, 3)
    world.clock.tick(120)
    world.sweep()
    assert not world.claim().tasks


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_the_sweep_finishes_a_cancel_that_was_killed_half_way(world, monkeypatch, steps):
    receipt = world.submit(ids(1_300), chunk_size=1)
    with monkeypatch.context() as patch:
        _dies_after(patch, sys.modules["ledger.advance"], "withdraw", steps)
        with pytest.raises(_KilledError):
            world.ledger.cancel(receipt.id, **WHY)
    assert not world.claim().tasks
    assert world.view(receipt.id).finished_at is None
    swept = world.sweep()
    assert [one.request_id for one in swept.ended] == [receipt.id]
    assert counts(world, receipt.id) == {"cancelled": 1_300}


def test_a_scheduled_request_whose_cancel_was_killed_is_not_opened_but_ended(world, monkeypatch):
    start = world.clock.wall_ns // 1_000
    receipt = world.submit(ids(3), not_before=_moment(start + 60_000_000))
    with monkeypatch.context() as patch:
        _dies_after(patch, control, "advance", 0)
        with pytest.raises(_KilledError):
            world.ledger.cancel(receipt.id, **WHY)
    world.clock.tick(120)
    world.sweep()
    assert world.view(receipt.id).state == RequestState.CANCELLED


# -- what is refused ------------------------------------------------------------------------------


def test_a_final_request_cannot_be_held_released_or_cancelled(world):
    receipt = world.submit(["m"], verify="none")
    world.run(Memos(["m"]))
    for act in (
        lambda: world.ledger.hold(receipt.id, **WHY),
        lambda: world.ledger.release(receipt.id, **WHO),
        lambda: world.ledger.cancel(receipt.id, **WHY),
    ):
        with pytest.raises(ConflictError, match=r"has ended \(complete\)") as caught:
            act()
        assert caught.value.exit_code == 6
    assert world.view(receipt.id).state == RequestState.COMPLETE


def test_a_request_that_is_being_cancelled_cannot_be_held_or_released(world):
    receipt = world.submit(ids(4), chunk_size=2)
    world.claim_one()
    world.ledger.cancel(receipt.id, **WHY)
    with pytest.raises(ConflictError, match="being cancelled"):
        world.ledger.hold(receipt.id, **WHY)
    with pytest.raises(ConflictError, match="being cancelled"):
        world.ledger.release(receipt.id, **WHO)


@pytest.mark.parametrize("odd", ["", "nobody", "\x00", "\ud800"])
def test_what_is_no_request_cannot_be_touched(world, odd):
    with pytest.raises(NotFoundError):
        world.ledger.hold(odd, **WHY)
    with pytest.raises(NotFoundError):
        world.ledger.release(odd, **WHO)
    with pytest.raises(NotFoundError):
        world.ledger.cancel(odd, **WHY)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"principal": "op", "reason": "because Ms Smith asked"}, "The reason"),
        ({"principal": "op", "reason": ""}, "The reason"),
        ({"principal": "", "reason": "x"}, "principal"),
        ({"principal": "x" * 65, "reason": "x"}, "principal"),
        ({"principal": "a\nb", "reason": "x"}, "principal"),
    ],
)
def test_reasons_are_codes_and_whoever_acts_is_named(world, fields, named):
    receipt = world.submit(["m"])
    for act in (world.ledger.hold, world.ledger.release, world.ledger.cancel):
        with pytest.raises(RequestError, match=named):
            act(receipt.id, **fields)
    view = world.view(receipt.id)
    assert (view.held, view.cancelling) == (False, False)


def test_a_ledger_that_did_not_confirm_is_told_and_the_act_can_be_repeated(world, monkeypatch):
    receipt = world.submit(["m"])

    def fail(*_args, **_kwargs):
        msg = "gone"
        raise LedgerError(msg)

    with monkeypatch.context() as patch:
        patch.setattr(control, "append", fail)
        with pytest.raises(LedgerError):
            world.ledger.hold(receipt.id, **WHY)
        with pytest.raises(LedgerError):
            world.ledger.cancel(receipt.id, **WHY)
    view = world.view(receipt.id)
    assert (view.held, view.cancelling) == (False, False)
    assert world.ledger.cancel(receipt.id, **WHY)


def _moment(us):
    from ledger.clock import from_wall  # noqa: PLC0415

    return from_wall(us)
