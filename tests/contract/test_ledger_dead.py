"""Dead letters: shown, redriven as the next generation, and given up for good."""

import json
from unittest.mock import patch

import pytest
from sqlalchemy import event

from ledger import Kind, redrive, redrive_chunks
from ledger.closing import chain_is_whole
from ledger.endings import Ending
from ledger.errors import ConflictError, LedgerError, NotFoundError, RequestError, TamperedError
from ledger.events import EventType, append
from ledger.filters import parse_filter
from ledger.finish import finish
from ledger.macs import Macs
from ledger.redrive_chunks import Pace
from ledger.schema import FOREVER_NS, chunk, event_body, request
from ledger.states import ChunkState, Lane, RequestState, Sight
from ledger.tasks import Dead, Delivered, Retry, Seen, Split
from tests.support.ledger_memos import Memos
from tests.support.ledger_world import KEYS, places_and_ids, settled

WHY = {"principal": "op", "reason": "mended-1"}
REFUSED, UNKNOWN = Dead(bucket="refused"), Dead(bucket="unknown")
DAY_S = 86_400


@pytest.fixture
def world(world):
    """Nothing is read back unless a test asks for it: what is refused is dead at once."""
    submit = world.submit
    world.submit = lambda *args, **order: submit(*args, **({"verify": "none"} | order))
    return world


def ids(n, prefix="m"):
    return [f"{prefix}{i}" for i in range(n)]


def counts(world, request_id):
    found = vars(world.view(request_id).counts)
    return {name: n for name, n in found.items() if n and name not in ("requested", "unique")}


def events(world, *kinds):
    bodies = [json.loads(bytes(row.payload)) for row in world.rows(event_body)]
    return [body for body in bodies if body["type"] in kinds]


def said(world, kind):
    """What the events of one kind say beside what all events do."""
    every = ("v", "id", "type", "at", "request")
    return [
        {name: value for name, value in body.items() if name not in every}
        for body in events(world, kind)
    ]


def ended(world, n=4, *, answer=REFUSED, chunk_size=2, **order):
    """A request of which every call was given up, and nothing could be seen of it."""
    receipt = world.submit(ids(n), chunk_size=chunk_size, **order)
    blind = Seen(sight=Sight.UNKNOWN)
    world.run(lambda task: answer if task.call == "delete" else blind)
    assert world.view(receipt.id).finished_at is not None
    return receipt.id


def dead(world, request_id):
    return [one for one in world.chunks(request_id, ChunkState.DEAD) if not one.discarded]


class KilledError(Exception):
    pass


def killed(steps):
    """A redrive dies after so many of its transactions, of two chunks each."""
    left = [steps]
    run = redrive_chunks._Step.run

    def dying(self, turns):
        if not left[0]:
            raise KilledError
        left[0] -= 1
        return run(self, turns)

    return patch.object(redrive_chunks._Step, "run", dying)


@pytest.fixture
def by_two(monkeypatch):
    monkeypatch.setattr(redrive_chunks, "CHUNKS_AT_ONCE", 2)


# -- redriving ------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [REFUSED, UNKNOWN])
@pytest.mark.parametrize("verify", ["none", "full", "sample:2"])
def test_a_redriven_request_opens_as_the_next_generation_and_ends_again(world, answer, verify):
    request_id = ended(world, answer=answer, verify=verify)
    before = world.view(request_id)
    assert (before.state, before.generation, counts(world, request_id)) == (
        "failed",
        1,
        {answer.bucket: 4},
    )
    assert world.ledger.redrive(request_id, **WHY)
    view = world.view(request_id)
    assert (view.state, view.generation) == ("open", 2)
    assert (view.result, view.certainty, view.finished_at) == (None, None, None)
    assert counts(world, request_id) == {"pending": 4}
    world.check_books()
    memos = Memos(ids(4))
    world.run(memos)
    view = world.view(request_id)
    assert (view.state, view.generation, memos.there) == ("complete", 2, set())
    assert world.row(request).releasing == 0
    world.check_books()
    finished = said(world, "request.finished")
    assert [(one["generation"], one["result"]) for one in finished] == [
        (1, "failed"),
        (2, "complete"),
    ]


def test_only_what_was_given_up_is_sent_again_with_all_that_it_had_used_up_forgotten(world):
    receipt = world.submit(ids(6), chunk_size=2, verify="none")
    world.run(lambda task: Delivered() if "m0" in task.ids else UNKNOWN)
    world.sql("UPDATE chunk SET hunt = 1, sightings = 2, reading = 1 WHERE state = 'dead'")
    done = world.chunks(receipt.id, ChunkState.DONE)
    fences = [one.fence for one in dead(world, receipt.id)]
    world.ledger.redrive(receipt.id, **WHY)
    rows = world.chunks(receipt.id, ChunkState.DUE)
    assert [(one.no, one.generation, one.due_ns) for one in rows] == [(1, 2, 0), (2, 2, 0)]
    for one in rows:
        assert (one.burnt, one.sightings, one.reading, one.was_absent) == (0, 0, 0, 0)
        assert (one.hunt, one.waits_on, one.last_reason, one.discarded) == (None, None, None, 0)
    # A late answer from before is still told by its token.
    assert [one.fence for one in rows] == fences
    assert world.chunks(receipt.id, ChunkState.DONE) == done
    assert counts(world, receipt.id) == {"acknowledged": 2, "pending": 4}
    world.clock.tick(1)
    tasks = world.claim().tasks
    assert [(task.ids, task.generation, task.burnt) for task in tasks] == [
        (("m2", "m3"), 2, 0),
        (("m4", "m5"), 2, 0),
    ]


@pytest.mark.parametrize(("answer", "doubtful"), [(REFUSED, False), (UNKNOWN, True)])
def test_what_may_have_been_applied_stays_in_doubt(world, answer, doubtful):
    request_id = ended(world, n=2, answer=answer)
    world.ledger.redrive(request_id, **WHY)
    assert world.claim_one().doubtful is doubtful


def test_what_was_still_present_is_deleted_again_and_read_back(world):
    memos = Memos(ids(2), stubborn=dict.fromkeys(ids(2), 99))
    receipt = world.submit(ids(2), chunk_size=2, verify="full")
    world.run(memos)
    assert counts(world, receipt.id) == {"still_present": 2}
    world.ledger.redrive(receipt.id, **WHY)
    assert counts(world, receipt.id) == {"pending": 2}
    memos.stubborn.clear()
    world.run(memos)
    view = world.view(receipt.id)
    assert (view.state, view.certainty, view.counts.verified_absent) == ("complete", "verified", 2)


@pytest.mark.parametrize("subject", [None, "u"])
def test_what_could_not_be_read_back_is_counted_as_unknown_and_sent_again(world, subject):
    receipt = world.submit(ids(2), chunk_size=2, verify="full", subject=subject)
    world.run(Memos(ids(2), blind=True))
    assert counts(world, receipt.id) == {"unknown": 2}
    world.ledger.redrive(receipt.id, **WHY)
    assert counts(world, receipt.id) == {"pending": 2}
    world.check_books()
    world.run(Memos())
    assert world.view(receipt.id).state == RequestState.COMPLETE


def test_a_purge_is_redriven_and_looked_at_once_more_after_its_new_end(world):
    receipt = world.submit(kind=Kind.USER, subject="u")
    world.run(lambda _task: UNKNOWN)
    first = world.row(request).second_look_at
    assert first is not None
    world.ledger.redrive(receipt.id, **WHY)
    assert world.row(request).second_look_at is None
    memos = Memos(subjects=["u"])
    world.clock.tick(100)
    world.run(memos)
    assert (world.view(receipt.id).state, memos.subjects) == ("complete", set())
    assert world.row(request).second_look_at > first


def test_halves_and_submitted_chunks_go_through_many_generations_and_the_order_stays_whole(world):
    receipt = world.submit(ids(8), chunk_size=4, verify="none")
    buckets = [UNKNOWN, REFUSED, UNKNOWN]
    for generation, answer in enumerate(buckets, start=1):
        world.run(lambda task: Split() if len(task.ids) > 2 else answer)  # noqa: B023 - run at once
        world.check_books()
        assert counts(world, receipt.id) == {answer.bucket: 8}
        assert world.view(receipt.id).generation == generation
        world.ledger.redrive(receipt.id, **WHY)
        world.check_books()
    world.run(Memos(ids(8)))
    assert world.view(receipt.id).state == RequestState.COMPLETE
    assert places_and_ids(world, receipt.id) == dict(enumerate(ids(8)))
    macs = Macs(KEYS)
    assert chain_is_whole(world.database.read, macs, receipt.id)
    assert not events(world, "order.tampered")


def test_submitted_chunks_that_are_redriven_still_make_up_the_closing_mac(world):
    request_id = ended(world, n=6, chunk_size=2)
    world.ledger.redrive(request_id, **WHY)
    world.run(Memos(ids(6)))
    assert world.view(request_id).result == "complete"
    macs = Macs(KEYS)
    assert chain_is_whole(world.database.read, macs, request_id)
    world.sql('UPDATE chunk SET ids = \'["m0","other"]\' WHERE no = 0')
    assert not chain_is_whole(world.database.read, macs, request_id)


def test_the_event_says_who_why_how_many_and_which_generation(world):
    request_id = ended(world)
    world.ledger.redrive(request_id, principal="alice", reason="fixed-2", pace=Pace.of(4))
    assert said(world, "request.redriven") == [
        {
            "principal": "alice",
            "reason": "fixed-2",
            "generation": 2,
            "chunks": 2,
            "ids": 4,
            "interval_ns": 250_000_000,
        }
    ]
    assert events(world, "request.redriven")[0]["request"] == request_id


def test_redriven_chunks_stand_in_line_behind_what_waits_already(world):
    request_id = ended(world, n=2, lane=Lane.BULK)
    other = world.submit(ids(6, "x"), chunk_size=2, lane=Lane.BULK)
    world.ledger.redrive(request_id, **WHY)
    assert world.chunks(request_id)[0].tag > max(one.tag for one in world.chunks(other.id))


# -- rate -----------------------------------------------------------------------------------------


def due_s(world, request_id, start_ns):
    rows = world.chunks(request_id, ChunkState.DUE)
    return [(one.due_ns - start_ns) / 1e9 for one in rows]


def test_a_rate_lets_so_many_chunks_a_second_come_due_over_all_requests(world, by_two):
    some = [ended(world, n=6), ended(world, n=4)]
    start = world.clock.ns
    pace = Pace.of(4)
    for request_id in some:
        world.ledger.redrive(request_id, **WHY, pace=pace)
    assert due_s(world, some[0], start) == [0, 0.25, 0.5]
    assert due_s(world, some[1], start) == [0.75, 1.0]
    assert [task.request_id for task in world.claim().tasks] == [some[0]]
    world.clock.tick(0.6)
    assert len(world.claim().tasks) == 2


def test_the_rate_is_kept_by_whoever_carries_on_a_redrive_that_was_killed(world, by_two):
    request_id = ended(world, n=10)
    start = world.clock.ns
    with killed(2), pytest.raises(KilledError):
        world.ledger.redrive(request_id, **WHY, pace=Pace.of(0.1))
    world.clock.tick(11)
    world.sweep()
    assert due_s(world, request_id, start) == [0, 10, 20, 30, 40]


@pytest.mark.parametrize("rate", [0, -1, 0.0001, 10_001, float("nan"), float("inf")])
def test_a_rate_out_of_bounds_is_refused(rate):
    with pytest.raises(RequestError, match="rate"):
        Pace.of(rate)


# -- killed in the middle -------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_redrive_that_was_killed_does_not_end_before_the_sweep_has_done_the_rest(
    world, by_two, steps
):
    request_id = ended(world, n=6, chunk_size=1)
    with killed(steps), pytest.raises(KilledError):
        world.ledger.redrive(request_id, **WHY)
    memos = Memos(ids(6))
    world.check_books()
    # What is due already goes out; it does not end, nor is it read back, with the rest undone.
    world.run(memos)
    world.advance(request_id)
    world.sweep()
    view = world.view(request_id)
    assert (view.state, view.generation, len(memos.deleted)) == ("open", 2, 2 * steps)
    world.clock.tick(11)
    world.sweep()
    world.check_books()
    world.run(memos)
    world.sweep()
    assert world.view(request_id).state == RequestState.COMPLETE
    assert (memos.there, set(memos.deleted.values())) == (set(), {1})
    assert len(said(world, "request.redriven")) == 1


def test_a_redrive_that_was_killed_when_all_was_due_ends_by_itself(world, by_two):
    request_id = ended(world, n=6, chunk_size=1)
    with killed(3), pytest.raises(KilledError):
        world.ledger.redrive(request_id, **WHY)
    world.run(Memos(ids(6)))
    row = world.row(request)
    assert (row.state, row.generation, row.releasing) == ("complete", 2, 0)


def test_redriving_again_carries_on_what_was_killed(world, by_two):
    request_id = ended(world, n=6, chunk_size=1)
    with killed(1), pytest.raises(KilledError):
        world.ledger.redrive(request_id, **WHY)
    assert not world.ledger.redrive(request_id, **WHY)
    assert counts(world, request_id) == {"pending": 6}
    assert (world.view(request_id).generation, world.row(request).releasing) == (2, 0)
    assert len(said(world, "request.redriven")) == 1


def test_a_living_redrive_is_left_alone_by_the_sweep(world, by_two):
    request_id = ended(world, n=6, chunk_size=1)
    run = redrive_chunks._Step.run
    seen = []

    def sweeping(self, turns):
        # Between its transactions, as the steward would.
        seen.append(len(world.chunks(request_id, ChunkState.DUE)))
        return run(self, turns)

    real = redrive_chunks.make_due

    def slowly(*args, **options):
        world.sweep()
        return real(*args, **options)

    with (
        patch.object(redrive, "make_due", slowly),
        patch.object(redrive_chunks._Step, "run", sweeping),
    ):
        world.ledger.redrive(request_id, **WHY)
    assert seen == [0, 2, 4, 6]


def test_whoever_was_about_to_end_the_generation_before_does_not_end_this_one(world):
    request_id = ended(world, n=2, verify="full")
    world.ledger.redrive(request_id, **WHY)
    world.record(settled(world.claim_one(), Delivered()))
    late = world.database.write(
        lambda conn: finish(conn, request_id, second_look_s=0.0, ending=Ending(whole=True))
    )
    assert late is None
    assert world.view(request_id).state == RequestState.OPEN


def test_whoever_was_about_to_end_it_before_a_redrive_that_was_killed_does_not_end_it(world):
    request_id = ended(world, n=2, verify="full")
    with killed(0), pytest.raises(KilledError):
        world.ledger.redrive(request_id, **WHY)
    late = world.database.write(
        lambda conn: finish(conn, request_id, second_look_s=0.0, ending=Ending(whole=True))
    )
    assert late is None
    assert world.view(request_id).state == RequestState.OPEN


def test_a_ledger_that_did_not_confirm_changed_nothing(world, monkeypatch):
    request_id = ended(world)
    before = world.rows(request), world.rows(chunk)

    def fail(*_args, **_kwargs):
        msg = "gone"
        raise LedgerError(msg)

    with monkeypatch.context() as context:
        context.setattr(redrive, "append", fail)
        with pytest.raises(LedgerError):
            world.ledger.redrive(request_id, **WHY)
    assert (world.rows(request), world.rows(chunk)) == before
    assert world.ledger.redrive(request_id, **WHY)


# -- held and cancelled in between ----------------------------------------------------------------


@pytest.mark.parametrize("released", [False, True])
def test_a_hold_in_the_middle_of_a_redrive_stops_it_and_a_release_lets_all_go_on(
    world, by_two, released
):
    request_id = ended(world, n=6, chunk_size=1)
    with killed(1), pytest.raises(KilledError):
        world.ledger.redrive(request_id, **WHY)
    world.ledger.hold(request_id, **WHY)
    world.clock.tick(1)
    assert not world.claim().tasks
    if released:
        world.ledger.release(request_id, principal="op")
    world.clock.tick(11)
    world.sweep()
    world.sweep()
    rows = world.chunks(request_id)
    assert {one.due_ns for one in rows} == {0 if released else FOREVER_NS}
    assert (len(rows), world.row(request).releasing) == (6, 0)
    if not released:
        world.ledger.release(request_id, principal="op")
    world.run(Memos(ids(6)))
    assert world.view(request_id).state == RequestState.COMPLETE


def test_a_hold_while_the_last_chunks_are_made_due_is_not_forgotten(world, by_two):
    request_id = ended(world, n=2, chunk_size=1)
    real = redrive_chunks._Step._end

    def hold_first(self, row, turns):
        self._conn.execute(request.update().values(held=1, hold_reason="test"))
        said = {"principal": "op", "reason": "test", "state": "open"}
        append(self._conn, EventType.REQUEST_HELD, said, request_id=row.id)
        real(self, row, turns)

    with patch.object(redrive_chunks._Step, "_end", hold_first):
        world.ledger.redrive(request_id, **WHY)
    assert {one.due_ns for one in world.chunks(request_id)} == {FOREVER_NS}


def test_a_hold_just_after_the_request_was_opened_takes_its_chunks_out_of_the_line(world):
    request_id = ended(world, n=2, chunk_size=1)
    real = redrive_chunks.make_due

    def held_first(*args, **options):
        world.ledger.hold(request_id, **WHY)
        real(*args, **options)

    with patch.object(redrive, "make_due", held_first):
        world.ledger.redrive(request_id, **WHY)
    assert {one.due_ns for one in world.chunks(request_id)} == {FOREVER_NS}


@pytest.mark.parametrize("answer", [REFUSED, UNKNOWN])
def test_cancelled_after_a_redrive_it_counts_again_as_what_was_known_of_it(world, by_two, answer):
    request_id = ended(world, n=6, chunk_size=1, answer=answer)
    with killed(1), pytest.raises(KilledError):
        world.ledger.redrive(request_id, **WHY)
    world.ledger.cancel(request_id, **WHY)
    assert counts(world, request_id) == {answer.bucket: 6}
    assert world.view(request_id).state == RequestState.FAILED
    assert len(dead(world, request_id)) == 4
    with pytest.raises(ConflictError, match="was cancelled"):
        world.ledger.redrive(request_id, **WHY)


def test_what_was_still_present_and_is_cancelled_after_a_redrive_stays_still_present(world):
    memos = Memos(ids(2), stubborn=dict.fromkeys(ids(2), 99))
    receipt = world.submit(ids(2), chunk_size=2, verify="full")
    world.run(memos)
    world.ledger.redrive(receipt.id, **WHY)
    world.ledger.cancel(receipt.id, **WHY)
    assert counts(world, receipt.id) == {"still_present": 2}
    assert world.view(receipt.id).certainty == "still_present"


# -- refused --------------------------------------------------------------------------------------


def test_only_what_has_ended_and_has_dead_letters_is_redriven(world):
    fine = world.submit(ids(1), verify="none")
    world.run(Memos(ids(1)))
    with pytest.raises(ConflictError, match="no dead letters"):
        world.ledger.redrive(fine.id, **WHY)
    receipt = world.submit(ids(4), chunk_size=2)
    world.record(settled(world.claim_one(), REFUSED))
    assert dead(world, receipt.id)
    with pytest.raises(ConflictError, match="has not ended"):
        world.ledger.redrive(receipt.id, **WHY)
    assert world.view(receipt.id).generation == 1
    with pytest.raises(NotFoundError):
        world.ledger.redrive("nobody", **WHY)
    with pytest.raises(NotFoundError):
        world.ledger.discard("nobody", **WHY)
    with pytest.raises(NotFoundError):
        world.ledger.show_dead("nobody")


def test_two_who_redrive_at_the_same_moment_are_not_told_that_the_order_was_changed(world):
    request_id = ended(world, n=6, chunk_size=2)
    others: list[bool] = []

    def meanwhile(_conn, _cursor, statement, *_more):
        if not others and "FROM chunk" in statement:
            others.append(True)
            world.ledger.redrive(request_id, **WHY)
            world.run(Memos(ids(6)))

    engine = world.database.engine
    event.listen(engine, "after_cursor_execute", meanwhile)
    try:
        with pytest.raises(ConflictError, match="no dead letters"):
            world.ledger.redrive(request_id, **WHY)
    finally:
        event.remove(engine, "after_cursor_execute", meanwhile)
    assert others
    assert not events(world, "order.tampered")
    view = world.view(request_id)
    assert (view.state, view.generation) == (RequestState.COMPLETE, 2)


def test_the_window_for_a_redrive_ends_and_begins_anew_with_each_generation(world):
    request_id = ended(world)
    world.clock.tick(13.9 * DAY_S)
    assert world.ledger.redrive(request_id, **WHY, redrive_days=14)
    world.run(lambda _task: UNKNOWN)
    world.clock.tick(13.9 * DAY_S)
    assert world.ledger.redrive(request_id, **WHY, redrive_days=14)
    world.run(lambda _task: UNKNOWN)
    world.clock.tick(14.1 * DAY_S)
    with pytest.raises(ConflictError, match=r"more than 14 days ago \(EXPUNGE_REDRIVE_DAYS\)"):
        world.ledger.redrive(request_id, **WHY, redrive_days=14)
    assert world.view(request_id).generation == 3
    assert world.ledger.redrive(request_id, **WHY, redrive_days=30)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"principal": "op", "reason": "because Ms Smith asked"}, "The reason"),
        ({"principal": "op", "reason": ""}, "The reason"),
        ({"principal": "", "reason": "x"}, "principal"),
        ({"principal": "a\nb", "reason": "x"}, "principal"),
    ],
)
def test_reasons_are_codes_and_whoever_acts_is_named(world, fields, named):
    request_id = ended(world)
    for act in (world.ledger.redrive, world.ledger.discard):
        with pytest.raises(RequestError, match=named):
            act(request_id, **fields)
    with pytest.raises(RequestError, match="principal"):
        world.ledger.show_dead(request_id, reveal_to="")
    assert world.view(request_id).generation == 1
    assert len(dead(world, request_id)) == 2


# -- tampered -------------------------------------------------------------------------------------


CHANGES = [
    'ids = \'["m0","victim"]\'',
    "ids = '[\"m0\"]', n = 1",
    "ids = 'not json'",
    "n = 1",
    "n = 1000",
    "no = 77",
    "first = 3",
    "places = '[0,1]'",
    "mac = (SELECT mac FROM chunk AS other WHERE other.no = 1)",
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_dead_letter_is_not_sent_and_the_others_are(world, change):
    request_id = ended(world, n=6, chunk_size=2)
    world.sql(f"UPDATE chunk SET {change} WHERE no = 0")  # noqa: S608 - ours
    world.ledger.redrive(request_id, **WHY)
    (left,) = dead(world, request_id)
    assert left.last_reason == "tampered_chunk"
    assert counts(world, request_id) == {"pending": 4, "refused": 2}
    memos = Memos([*ids(6), "victim"])
    world.run(memos)
    assert set(memos.deleted) == {"m2", "m3", "m4", "m5"}
    assert world.view(request_id).finished_at is not None
    faults = [(one["fault"], one.get("chunk")) for one in said(world, "order.tampered")]
    assert ("chunk", left.id) in faults


@pytest.mark.parametrize("change", CHANGES)
def test_when_every_dead_letter_was_changed_nothing_is_opened(world, change):
    request_id = ended(world, n=2)
    if "no = 1" in change:
        change = "mac = x'00'" if world.database.is_sqlite else "mac = '\\x00'"
    world.sql(f"UPDATE chunk SET {change}")  # noqa: S608 - ours
    before = world.rows(request), world.rows(chunk)
    with pytest.raises(TamperedError, match="An order was changed"):
        world.ledger.redrive(request_id, **WHY)
    assert (world.rows(request), world.rows(chunk)) == before
    assert said(world, "order.tampered") == [{"fault": "chunk"}]


@pytest.mark.parametrize("change", ["subject = 'x'", "principal = 'x'", "kind = 'user'"])
def test_a_changed_order_is_not_redriven(world, change):
    request_id = ended(world)
    world.sql(f"UPDATE request SET {change}")  # noqa: S608 - ours
    before = world.rows(request), world.rows(chunk)
    with pytest.raises(TamperedError):
        world.ledger.redrive(request_id, **WHY)
    assert (world.rows(request), world.rows(chunk)) == before
    assert len(events(world, "order.tampered")) == 1


def test_what_was_changed_and_put_back_can_be_redriven_the_next_time(world):
    request_id = ended(world, n=4)
    world.sql('UPDATE chunk SET ids = \'["m0","victim"]\' WHERE no = 0')
    world.ledger.redrive(request_id, **WHY)
    world.sql('UPDATE chunk SET ids = \'["m0","m1"]\' WHERE no = 0')
    memos = Memos(ids(4))
    world.run(memos)
    assert world.view(request_id).state == RequestState.PARTIAL
    world.ledger.redrive(request_id, **WHY)
    world.run(memos)
    view = world.view(request_id)
    assert (view.state, view.generation, memos.there) == ("complete", 3, set())


def test_a_dead_letter_buried_at_its_claim_is_counted_as_refused_when_it_is_redriven(world):
    receipt = world.submit(ids(4), chunk_size=2, verify="none")
    world.record(settled(world.claim_one(), Retry(delay_s=0, burn=True, doubtful=True)))
    world.sql('UPDATE chunk SET ids = \'["m0","victim"]\' WHERE no = 0')
    world.run(lambda task: UNKNOWN)
    world.ledger.release(receipt.id, principal="op")
    world.run(lambda task: UNKNOWN)
    assert counts(world, receipt.id) == {"refused": 2, "unknown": 2}
    world.sql('UPDATE chunk SET ids = \'["m0","m1"]\' WHERE no = 0')
    world.sql("UPDATE chunk SET discarded = 1 WHERE no = 1")
    world.ledger.redrive(receipt.id, **WHY)
    assert counts(world, receipt.id) == {"pending": 2, "unknown": 2}


def test_counts_that_were_changed_do_not_go_below_zero(world):
    request_id = ended(world, n=4, verify="none")
    world.sql("UPDATE request SET refused = 1, acknowledged = 3")
    world.ledger.redrive(request_id, **WHY)
    assert counts(world, request_id) == {"acknowledged": 3, "refused": 1}
    assert [one["fault"] for one in said(world, "order.tampered")] == ["counts", "counts"]


# -- discarding -----------------------------------------------------------------------------------


def test_what_is_discarded_stays_dead_and_counted_and_is_neither_shown_nor_redriven(world):
    request_id = ended(world)
    before = world.view(request_id)
    assert world.ledger.discard(request_id, principal="bob", reason="gone-3")
    assert world.view(request_id) == before
    rows = world.chunks(request_id)
    assert {(one.state, one.discarded) for one in rows} == {("dead", 1)}
    assert world.ledger.dead_letters() == []
    assert world.ledger.show_dead(request_id) == []
    with pytest.raises(ConflictError, match="no dead letters"):
        world.ledger.redrive(request_id, **WHY)
    assert not world.ledger.discard(request_id, **WHY)
    assert said(world, "dead.discarded") == [
        {"principal": "bob", "reason": "gone-3", "generation": 1, "chunks": 2, "ids": 4}
    ]


def test_many_are_discarded_in_short_transactions_each_with_its_event(world, monkeypatch):
    request_id = ended(world, n=5, chunk_size=1)
    monkeypatch.setattr("ledger.dead_letters.CHUNKS_AT_ONCE", 2)
    world.ledger.discard(request_id, **WHY)
    assert sorted(one["chunks"] for one in said(world, "dead.discarded")) == [1, 2, 2]


def test_discarding_in_the_middle_of_a_redrive_takes_only_what_is_still_dead(world, by_two):
    request_id = ended(world, n=6, chunk_size=1)
    with killed(1), pytest.raises(KilledError):
        world.ledger.redrive(request_id, **WHY)
    world.ledger.discard(request_id, **WHY)
    assert counts(world, request_id) == {"pending": 2, "refused": 4}
    world.run(Memos(ids(6)))
    world.sweep()
    world.run(Memos(ids(6)))
    view = world.view(request_id)
    assert (view.state, view.generation) == ("partial", 2)
    world.check_books()


# -- looking --------------------------------------------------------------------------------------


def test_dead_letters_are_listed_by_request_and_reason_the_newest_first(world):
    receipt = world.submit(ids(6), chunk_size=2, project="blog")
    slugs = {"m0": "http_503", "m2": "code_40005", "m4": "code_40005"}
    while tasks := world.claim().tasks:
        world.record(*(settled(task, UNKNOWN, reason=slugs[task.ids[0]]) for task in tasks))
        world.clock.tick(1)
    world.sweep()
    purge = world.submit(kind=Kind.USER, subject="u")
    world.run(lambda _task: REFUSED)
    fine = world.submit(ids(1, "x"), verify="none")
    world.run(Memos(ids(1, "x")))
    found = world.ledger.dead_letters()
    assert [(one.id, one.reason, one.chunks, one.ids) for one in found] == [
        (purge.id, "test", 1, 1),
        (receipt.id, "code_40005", 2, 4),
        (receipt.id, "http_503", 1, 2),
    ]
    view = world.view(receipt.id)
    shown = found[1].as_dict()
    assert shown["project"] == "blog"
    assert (shown["state"], shown["generation"]) == ("failed", 1)
    assert (shown["finished_at"], shown["due_at"]) == (view.finished_at.isoformat(), None)
    assert [one.id for one in world.ledger.dead_letters(limit=1)] == [purge.id]
    for words, wanted in (
        ("project:blog", [receipt.id, receipt.id]),
        ("dead_reason:http_503", [receipt.id, receipt.id]),
        ("kind:user", [purge.id]),
        ("project:far", []),
    ):
        found = world.ledger.dead_letters(filter=parse_filter(words))
        assert [one.id for one in found] == wanted, words
    for words, wanted in (
        ("dead:true", [purge.id, receipt.id]),
        ("dead:false", [fine.id]),
        ("-dead:true", [fine.id]),
        ("dead:true,false", [fine.id, purge.id, receipt.id]),
        ("dead_reason:http_503,other", [receipt.id]),
        ("-dead_reason:http_503", [fine.id, purge.id]),
    ):
        assert world.ledger.find_requests(filter=parse_filter(words)) == wanted, words
    world.ledger.discard(purge.id, **WHY)
    assert world.ledger.find_requests(filter=parse_filter("dead:true")) == [receipt.id]


def test_ids_are_shown_only_when_revealed_and_an_event_says_to_whom(world):
    request_id = ended(world, n=4, answer=UNKNOWN)
    shown = world.ledger.show_dead(request_id)
    assert [(one.no, one.generation, one.n, one.reason) for one in shown] == [
        (0, 1, 2, "test"),
        (1, 1, 2, "test"),
    ]
    assert [(one.burnt, one.doubtful, one.ids) for one in shown] == [(1, True, None)] * 2
    assert not events(world, "dead.revealed")
    shown = world.ledger.show_dead(request_id, limit=1, reveal_to="carol")
    assert [one.ids for one in shown] == [("m0", "m1")]
    assert "m0" not in repr(shown)
    assert said(world, "dead.revealed") == [
        {"principal": "carol", "generation": 1, "chunks": 1, "ids": 2}
    ]
    purge = world.submit(kind=Kind.USER, subject="u-7")
    world.run(lambda _task: REFUSED)
    (only,) = world.ledger.show_dead(purge.id, reveal_to="carol")
    assert (only.ids, only.n) == (("u-7",), 1)


def test_nothing_is_revealed_when_it_could_not_be_recorded(world, monkeypatch):
    request_id = ended(world)

    def fail(*_args, **_kwargs):
        msg = "gone"
        raise LedgerError(msg)

    monkeypatch.setattr("ledger.dead_letters.append", fail)
    with pytest.raises(LedgerError):
        world.ledger.show_dead(request_id, reveal_to="op")
