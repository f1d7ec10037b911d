"""One key, one request: senders that start over, differ, or come at the same moment."""

import threading

import pytest

from ledger.engine import Database
from ledger.errors import ConflictError, LedgerError, RequestError
from ledger.intake import CHUNKS_PER_TRANSACTION, Intake
from ledger.schema import chunk, event, request
from ledger.states import ChunkState, Kind, Lane, RequestState
from tests.support.ledger_world import make_order, places_and_ids

IDS = [f"m{n}" for n in range(25)]
# Enough chunks of one id that some are committed while the rest still comes in.
MANY = [f"m{n}" for n in range(CHUNKS_PER_TRANSACTION + 50)]


def stream(world, ids, *, chunk_size=1, **fields):
    """Begin and add, without an end, as a sender does that is killed then."""
    intake = world.ledger.begin(
        make_order(**({"idempotency_key": "k"} | fields)), chunk_size=chunk_size
    )
    intake.add(ids)
    return intake


@pytest.mark.parametrize("ids", [IDS, IDS * 2, MANY])
@pytest.mark.parametrize("chunk_size", [10, 3, 100])
def test_the_same_key_and_ids_give_the_same_request_whatever_the_chunk_size_is_now(
    world, ids, chunk_size
):
    first = world.submit(ids, idempotency_key="k", chunk_size=10)
    before = len(world.rows(chunk)), len(world.rows(event))
    second = world.submit(ids, idempotency_key="k", chunk_size=chunk_size)
    assert (second.id, second.duplicate, first.duplicate) == (first.id, True, False)
    assert (second.requested, second.unique) == (first.requested, first.unique)
    assert (len(world.rows(chunk)), len(world.rows(event))) == before
    assert len(world.rows(request)) == 1


@pytest.mark.parametrize(
    "ids",
    [
        IDS[:-1],
        IDS[:10],
        IDS[:-5],
        [*IDS, "x"],
        [*IDS, *(f"y{n}" for n in range(10))],
        IDS[::-1],
        [IDS[1], IDS[0], *IDS[2:]],
        ["x", *IDS[1:]],
        [*IDS[:-1], "x"],
    ],
)
def test_other_ids_under_a_used_key_are_a_conflict_and_change_nothing(world, ids):
    first = world.submit(IDS, idempotency_key="k", chunk_size=5)
    before = world.rows(request), world.rows(chunk), world.rows(event)
    with pytest.raises(ConflictError, match=f"request {first.id} stands under it"):
        world.submit(ids, idempotency_key="k", chunk_size=5)
    assert (world.rows(request), world.rows(chunk), world.rows(event)) == before


@pytest.mark.parametrize(
    "fields",
    [
        {"subject": "u"},
        {"kind": Kind.USER, "subject": "u"},
        {"lane": Lane.ERASURE},
        {"verify": "none"},
        {"reason": "other"},
    ],
)
def test_another_order_under_a_used_key_is_a_conflict_before_any_id(world, fields):
    world.submit(IDS, idempotency_key="k")
    with pytest.raises(ConflictError):
        world.ledger.begin(make_order(idempotency_key="k", **fields), chunk_size=10)
    assert len(world.rows(request)) == 1


def test_a_purge_under_a_used_key_is_the_same_for_the_same_user_only(world):
    first = world.submit(kind=Kind.USER, subject="u", idempotency_key="k")
    assert world.submit(kind=Kind.USER, subject="u", idempotency_key="k").id == first.id
    with pytest.raises(ConflictError):
        world.submit(kind=Kind.USER, subject="v", idempotency_key="k")
    with pytest.raises(ConflictError):
        world.submit(kind=Kind.AGENT, subject="u", idempotency_key="k")


def test_a_key_belongs_to_its_project(world):
    one = world.submit(IDS, idempotency_key="k")
    other = world.submit(IDS[:3], idempotency_key="k", project="blog")
    assert one.id != other.id
    assert not other.duplicate


def test_without_a_key_the_same_ids_are_another_request(world):
    assert world.submit(IDS).id != world.submit(IDS).id


def test_a_key_is_known_after_the_request_has_ended(world):
    first = world.submit(["a"], idempotency_key="k", verify="none")
    world.sql("UPDATE chunk SET state = 'done'")
    world.sql("UPDATE request SET pending = 0, acknowledged = 1")
    world.advance(first.id)
    again = world.submit(["a"], idempotency_key="k", verify="none")
    assert (again.id, again.state) == (first.id, RequestState.COMPLETE)
    with pytest.raises(ConflictError):
        world.submit(["b"], idempotency_key="k", verify="none")


def test_the_key_itself_is_nowhere_in_the_database(world):
    world.submit(IDS, idempotency_key="canary-key")
    assert "canary-key" not in repr([world.rows(request), world.rows(event), world.rows(chunk)])


# -- a batch at a time ----------------------------------------------------------------------------


def test_postgresql_records_a_batch_while_the_next_one_comes_in(world, monkeypatch):
    """And SQLite does not: its writer would be held while two threads take turns."""
    came, real = threading.Event(), Intake._record
    at_the_first: list[bool] = []
    beside = not world.ledger._database.is_sqlite

    def ids():
        yield from MANY
        came.set()
        yield from (f"x{n}" for n in range(CHUNKS_PER_TRANSACTION))

    def record(self, batch):
        if not at_the_first:
            at_the_first.append(came.wait(60 if beside else 0))
        real(self, batch)

    monkeypatch.setattr(Intake, "_record", record)
    intake = world.ledger.begin(make_order(), chunk_size=1)
    intake.add(ids())
    receipt = intake.finish()
    assert at_the_first == [beside]
    assert receipt.unique == len(MANY) + CHUNKS_PER_TRANSACTION
    assert list(places_and_ids(world, receipt.id).values())[: len(MANY)] == MANY
    world.check_books()


def test_a_batch_that_the_ledger_did_not_confirm_is_recorded_before_those_that_came_later(
    world, monkeypatch
):
    ids = [f"m{n}" for n in range(5 * CHUNKS_PER_TRANSACTION)]
    real, refusals = Database.write_bulk, iter([LedgerError("not now")])

    def write_bulk(self, work, **given):
        if (error := next(refusals, None)) is not None:
            raise error
        return real(self, work, **given)

    monkeypatch.setattr(Database, "write_bulk", write_bulk)
    intake = world.ledger.begin(make_order(), chunk_size=1)
    with pytest.raises(LedgerError, match="not now"):
        intake.add(ids)
    receipt = intake.finish()
    assert receipt.unique >= CHUNKS_PER_TRANSACTION
    assert places_and_ids(world, receipt.id) == dict(enumerate(ids[: receipt.unique]))
    world.check_books()


def test_nothing_is_being_recorded_any_more_once_a_sender_has_given_up(world, monkeypatch):
    class GoneError(Exception):
        pass

    under_way, real = threading.Event(), Intake._record

    def ids():
        yield from MANY
        raise GoneError

    def record(self, batch):
        under_way.set()
        real(self, batch)
        under_way.clear()

    monkeypatch.setattr(Intake, "_record", record)
    intake = world.ledger.begin(make_order(), chunk_size=1)
    with pytest.raises(GoneError):
        intake.add(ids())
    assert not under_way.is_set()
    intake.abandon()
    assert world.view(intake.request_id).state is RequestState.CANCELLED


def test_the_end_of_a_repeated_stream_can_be_tried_again(world, monkeypatch):
    first = world.submit(MANY, idempotency_key="k", chunk_size=1)
    again = stream(world, MANY)
    real, refusals = Database.read, iter([LedgerError("not now")])

    def read(self, work):
        if (error := next(refusals, None)) is not None:
            raise error
        return real(self, work)

    monkeypatch.setattr(Database, "read", read)
    with pytest.raises(LedgerError, match="not now"):
        again.finish()
    receipt = again.finish()
    assert (receipt.id, receipt.duplicate) == (first.id, True)


# -- a sender that was killed and starts over -----------------------------------------------------


@pytest.mark.parametrize("chunk_size", [1, 7])
def test_a_half_received_stream_goes_on_where_it_ended_and_repeats_nothing(world, chunk_size):
    dead = stream(world, MANY)
    before = world.chunks(dead.request_id)
    assert len(before) == CHUNKS_PER_TRANSACTION
    receipt = world.submit(MANY, idempotency_key="k", chunk_size=chunk_size)
    assert receipt.id == dead.request_id
    assert not receipt.duplicate
    rows = world.chunks(receipt.id)
    assert [row.id for row in rows[: len(before)]] == [row.id for row in before]
    assert places_and_ids(world, receipt.id) == dict(enumerate(MANY))
    assert {row.due_ns for row in rows} == {0}
    assert receipt.unique == world.view(receipt.id).counts.pending == len(MANY)
    world.check_books()


@pytest.mark.parametrize("ids", [MANY[:100], MANY[: CHUNKS_PER_TRANSACTION - 1], MANY[:1]])
def test_fewer_ids_than_were_received_before_are_a_conflict_and_send_nothing(world, ids):
    """Else the chunks beyond the end would be sent although nobody finished ordering them."""
    dead = stream(world, MANY)
    with pytest.raises(ConflictError):
        world.submit(ids, idempotency_key="k", chunk_size=1)
    assert world.view(dead.request_id).state is RequestState.RECEIVING
    world.clock.tick(10)
    world.sweep()
    assert not world.claim().tasks
    assert world.submit(MANY, idempotency_key="k").id == dead.request_id


def test_other_ids_than_were_received_before_are_a_conflict_from_the_first_batch_on(world):
    stream(world, MANY)
    intake = world.ledger.begin(make_order(idempotency_key="k"), chunk_size=1)
    with pytest.raises(ConflictError):
        intake.add(["x", *MANY[1:]])
    assert len(world.rows(chunk)) == CHUNKS_PER_TRANSACTION


def test_a_repetition_with_a_bad_id_leaves_the_first_senders_stream_alone(world):
    dead = stream(world, MANY)
    again = world.ledger.begin(make_order(idempotency_key="k"), chunk_size=1)
    with pytest.raises(RequestError):
        again.add(["m0", ""])
    again.abandon()
    assert world.view(dead.request_id).state is RequestState.RECEIVING


def test_exactly_what_was_received_can_be_the_end(world):
    dead = stream(world, MANY[:CHUNKS_PER_TRANSACTION])
    receipt = world.submit(MANY[:CHUNKS_PER_TRANSACTION], idempotency_key="k", chunk_size=1)
    assert (receipt.id, receipt.unique) == (dead.request_id, CHUNKS_PER_TRANSACTION)
    world.check_books()


# -- two senders at once --------------------------------------------------------------------------


def test_a_sender_that_is_overtaken_by_one_with_the_same_key_gets_the_same_request(world):
    slow = stream(world, MANY[:100])
    fast = world.submit(MANY, idempotency_key="k", chunk_size=1)
    slow.add(MANY[100:])
    receipt = slow.finish()
    assert (receipt.id, receipt.unique, receipt.duplicate) == (fast.id, len(MANY), True)
    assert len(world.rows(chunk)) == len(MANY)


def test_two_streams_with_one_key_may_take_turns(world):
    one = stream(world, MANY[:150])
    other = stream(world, MANY[: CHUNKS_PER_TRANSACTION + 10])
    one.add(MANY[150:])
    other.add(MANY[CHUNKS_PER_TRANSACTION + 10 :])
    receipts = one.finish(), other.finish()
    assert receipts[0].id == receipts[1].id
    assert [receipt.duplicate for receipt in receipts] == [False, True]
    assert places_and_ids(world, receipts[0].id) == dict(enumerate(MANY))
    world.check_books()


def test_a_stream_that_was_overtaken_with_other_ids_is_a_conflict(world):
    slow = stream(world, MANY[:100])
    world.submit(MANY[:50], idempotency_key="k", chunk_size=1)
    slow.add(MANY[100:])
    with pytest.raises(ConflictError):
        slow.finish()
    assert len(world.rows(chunk)) == 50


@pytest.mark.parametrize("count", [20, len(MANY)])
def test_senders_with_one_key_at_the_same_moment_make_one_request(world, count):
    start, receipts, errors = threading.Barrier(4), [], []

    def send():
        start.wait(10)
        try:
            receipts.append(world.submit(MANY[:count], idempotency_key="k", chunk_size=1))
        except Exception as error:  # noqa: BLE001 - all of them are shown below
            errors.append(error)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert len({receipt.id for receipt in receipts}) == len(world.rows(request)) == 1
    assert sum(not receipt.duplicate for receipt in receipts) == 1
    assert places_and_ids(world, receipts[0].id) == dict(enumerate(MANY[:count]))
    assert [row.state for row in world.chunks(receipts[0].id)] == [ChunkState.DUE] * count
    world.check_books()


# -- a sender that never comes back ---------------------------------------------------------------


def test_a_stream_without_progress_for_a_day_is_cancelled_and_its_key_is_free(world):
    dead = stream(world, MANY)
    world.clock.tick(23 * 3_600)
    world.sweep()
    assert world.view(dead.request_id).state is RequestState.RECEIVING
    world.clock.tick(2 * 3_600)
    world.sweep()
    assert world.view(dead.request_id).state is RequestState.CANCELLED
    with pytest.raises(
        ConflictError, match=r"was cancelled while its ids came in.*hand it in again"
    ):
        dead.finish()
    again = world.submit(MANY, idempotency_key="k", chunk_size=1)
    assert again.id != dead.request_id
    assert {task.request_id for task in world.claim().tasks} == {again.id}


def test_a_stream_that_goes_on_each_day_is_not_cancelled(world):
    slow = stream(world, MANY)
    for turn in range(3):
        world.clock.tick(20 * 3_600)
        slow.add(f"x{turn}-{n}" for n in range(CHUNKS_PER_TRANSACTION))
        world.sweep()
    assert slow.finish().unique == len(MANY) + 3 * CHUNKS_PER_TRANSACTION


def test_a_sender_that_dies_between_commit_and_release_loses_nothing(world, monkeypatch):
    """The sweep lets its chunks go."""
    with monkeypatch.context() as patch:
        patch.setattr("ledger.intake.release_chunks", lambda *_: None)
        receipt = world.submit(MANY, chunk_size=1, idempotency_key="k")
    assert not world.claim().tasks
    assert world.sweep().due
    assert world.row(request, request.c.id == receipt.id).releasing == 0
    assert world.claim().tasks
