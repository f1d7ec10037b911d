"""Many small requests at once: the rows of each as if it had come alone, and one answer each."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.engine import Database
from ledger.errors import ConflictError, LedgerError, RequestError, UnknownProjectError
from ledger.events import leaf_hash
from ledger.many import REQUESTS_PER_TRANSACTION
from ledger.model import Receipt
from ledger.schema import chunk, event, event_body, project, request
from ledger.states import ChunkState, Kind, Lane, RequestState
from ledger.tasks import Delivered
from tests.support.ledger_world import make_order

LATER = datetime(2030, 1, 1, tzinfo=UTC)
# Made anew for each request, or made of what is.
RANDOM = {
    *("id", "request_id", "salt", "header_mac", "closing_mac", "mac", "tag"),
    *("created_at", "touched_at", "submitted_at", "due_at"),
}


def take(world, *orders, chunk_size=10):
    return world.ledger.take_many(orders, chunk_size=chunk_size)


def a_purge(user="u", **fields):
    return make_order(Kind.USER, subject=user, **fields), ()


def a_batch(*ids, **fields):
    return make_order(Kind.MEMORIES, **fields), ids


def plain(row):
    return {name: value for name, value in row._mapping.items() if name not in RANDOM}


ORDERS = [
    a_purge("u-1", reason="gdpr-17", principal="crm"),
    a_batch("a", "b", "a"),
    a_batch(*(f"m{n}" for n in range(25)), subject="u-2", lane=Lane.ERASURE, verify="sample:3"),
    a_purge("u-3", not_before=LATER),
    (make_order(Kind.AGENT, subject="agent", project="far"), ()),
    a_purge("u-4", submitted_at=LATER, due_at=LATER, traceparent=f"00-{'a' * 32}-{'b' * 16}-01"),
]


def test_each_request_has_the_rows_that_it_has_when_it_comes_alone(world):
    together = take(world, *ORDERS)
    for (order, ids), receipt in zip(ORDERS, together, strict=True):
        intake = world.ledger.begin(order, chunk_size=10)
        if ids:
            intake.add(ids)
        alone = intake.finish()
        assert (receipt.state, receipt.requested, receipt.unique, receipt.duplicate) == (
            *(alone.state, alone.requested, alone.unique),
            False,
        )
        for table, column in ((request, request.c.id), (chunk, chunk.c.request_id)):
            rows = [
                [plain(row) for row in world.rows(table, column == each.id)]
                for each in (receipt, alone)
            ]
            assert rows[0] == rows[1]
            assert rows[0]
        payloads = [
            json.loads(bytes(world.row(event_body, event_body.c.event == row.id).payload))
            for each in (receipt, alone)
            for row in world.rows(event, event.c.request == each.id)
        ]
        assert len(payloads) == 2
        for payload in payloads:
            for name in ("id", "at", "request", "order_digest"):
                assert payload.pop(name)
        assert payloads[0] == payloads[1]
    world.check_books()


def test_their_events_hash_to_their_leaves(world):
    take(world, *ORDERS)
    for row in world.rows(event):
        body = world.row(event_body, event_body.c.event == row.id)
        assert bytes(row.leaf_hash) == leaf_hash(bytes(body.payload), bytes(body.salt))


def test_they_are_carried_out_with_exactly_the_ids_that_were_ordered(world):
    receipts = take(world, a_batch("a", "b", verify="none"), a_purge("u", verify="none"))
    carried = []

    def answer(task):
        carried.append((task.request_id, tuple(task.ids), task.subject))
        return Delivered()

    world.run(answer)
    assert sorted(carried) == sorted(
        [(receipts[0].id, ("a", "b"), None), (receipts[1].id, (), "u")]
    )
    assert {world.view(each.id).state for each in receipts} == {RequestState.COMPLETE}


def test_a_row_that_was_changed_afterwards_is_not_carried_out(world):
    (receipt,) = take(world, a_batch("a"))
    world.sql("UPDATE chunk SET ids = '[\"b\"]'")
    world.clock.tick(1.5)
    assert not world.claim().tasks
    assert world.chunks(receipt.id, ChunkState.DEAD)


def test_a_bad_one_is_answered_by_its_error_and_spoils_no_other(world):
    answers = take(
        world,
        a_purge("good-1"),
        a_purge(""),
        a_batch(),
        a_batch("ok", ""),
        a_batch("a", project="unknown"),
        (make_order(Kind.USER, subject="u"), ("a",)),
        (make_order(), "abc"),
        a_purge("u", reason="Mrs Smith"),
        a_purge("u", idempotency_key="k" * 201),
        a_purge("u", traceparent="nonsense"),
        a_batch("good-2"),
    )
    kinds = [Receipt, *[RequestError] * 9, Receipt]
    kinds[4] = UnknownProjectError
    assert [type(each) for each in answers] == kinds
    assert "Memory id number 2" in str(answers[3])
    assert "Smith" not in str(answers[7])
    assert len(world.rows(request)) == len(world.rows(event)) == 2


def test_nothing_at_all_is_nothing(world):
    assert take(world) == []


@pytest.mark.parametrize("size", [0, 1_001])
def test_a_chunk_size_out_of_bounds_names_its_setting(world, size):
    with pytest.raises(RequestError, match="EXPUNGE_CHUNK_SIZE"):
        take(world, a_purge(), chunk_size=size)


# -- one key, one request -------------------------------------------------------------------------


def test_handing_the_same_in_again_gives_the_first_receipts_and_writes_nothing(world):
    orders = [
        a_purge("u", idempotency_key="k1"),
        a_batch("a", "b", "a", idempotency_key="k2"),
        a_batch("c", idempotency_key="k3", project="far"),
    ]
    first = take(world, *orders, chunk_size=1)
    before = [world.rows(table) for table in (request, chunk, event)]
    second = take(world, *orders, chunk_size=7)
    assert [each.id for each in second] == [each.id for each in first]
    assert [(each.duplicate, each.requested, each.unique) for each in second] == [
        (True, each.requested, each.unique) for each in first
    ]
    assert [world.rows(table) for table in (request, chunk, event)] == before


@pytest.mark.parametrize(
    "other",
    [
        a_batch("a", idempotency_key="k"),
        a_batch("a", "b", "c", idempotency_key="k"),
        a_batch("b", "a", idempotency_key="k"),
        a_batch("a", "b", idempotency_key="k", reason="other"),
        a_purge("a", idempotency_key="k"),
    ],
)
def test_something_else_under_a_used_key_is_a_conflict_that_names_the_request(world, other):
    (first,) = take(world, a_batch("a", "b", idempotency_key="k"))
    answers = take(world, other, a_purge("u"))
    assert isinstance(answers[0], ConflictError)
    assert first.id in str(answers[0])
    assert not answers[1].duplicate
    assert len(world.rows(request)) == 2


def test_the_same_key_twice_in_one_batch_is_one_request(world):
    answers = take(
        world,
        a_purge("u", idempotency_key="k"),
        a_purge("u", idempotency_key="k"),
        a_purge("v", idempotency_key="k"),
        a_purge("v", idempotency_key="k", project="far"),
    )
    assert [getattr(each, "duplicate", None) for each in answers] == [False, True, None, False]
    assert answers[0].id == answers[1].id
    assert isinstance(answers[2], ConflictError)
    assert len(world.rows(request)) == 2


def test_a_key_whose_first_use_was_refused_is_free(world):
    answers = take(
        world, a_batch("a", "", idempotency_key="k"), a_batch("a", "b", idempotency_key="k")
    )
    assert isinstance(answers[0], RequestError)
    assert not answers[1].duplicate


@pytest.mark.parametrize("alone_first", [True, False])
def test_one_key_is_one_request_whichever_way_it_comes_in(world, alone_first):
    def alone():
        return world.submit(["a", "b", "c"], idempotency_key="k", chunk_size=2)

    def together():
        return take(world, a_batch("a", "b", "c", idempotency_key="k"), chunk_size=3)[0]

    first, second = (alone(), together()) if alone_first else (together(), alone())
    assert (first.duplicate, second.duplicate, second.id) == (False, True, first.id)


def test_a_stream_that_was_broken_off_under_the_key_is_ended(world):
    begun = world.ledger.begin(make_order(idempotency_key="k"), chunk_size=1)
    begun.add(f"m{n}" for n in range(210))
    ids = [f"m{n}" for n in range(215)]
    (receipt,) = take(world, a_batch(*ids, idempotency_key="k"))
    assert (receipt.id, receipt.unique) == (begun.request_id, 215)
    assert receipt.state is RequestState.OPEN
    world.check_books()


def opened(lane, verify):
    """What the settings say; the order leaves it open."""
    return {"default_lane": lane, "default_verify": verify, "idempotency_key": "k"}


def test_what_the_settings_say_is_in_force_and_no_part_of_what_is_asked(world):
    ids = [f"m{n}" for n in range(3)]
    first = a_batch(*ids, **opened(Lane.ERASURE, "none"))
    later = a_batch(*ids, **opened(Lane.BULK, "full"))
    (receipt,) = take(world, first)
    (again,) = take(world, later)
    assert (again.id, again.duplicate) == (receipt.id, True)
    assert world.submit(ids, **opened(None, None)).id == receipt.id
    (row,) = world.rows(request)
    assert (row.lane, row.verify, row.verify_now) == ("erasure", "none", "none")
    world.clock.tick(1.5)
    assert len(world.claim().tasks) == 1


@pytest.mark.parametrize("ended_alone", [True, False])
def test_a_stream_that_goes_on_under_other_settings_goes_by_the_first_ones(world, ended_alone):
    ids = [f"m{n}" for n in range(450)]
    broken = world.ledger.begin(
        make_order(principal="one", **opened(Lane.ERASURE, "none")), chunk_size=1
    )
    broken.add(ids[:300])
    later = opened(Lane.BULK, "full") | {"principal": "two"}
    if ended_alone:
        receipt = world.submit(ids, chunk_size=1, **later)
    else:
        (receipt,) = take(world, a_batch(*ids, **later), chunk_size=1)
    assert receipt.id == broken.request_id
    assert {row.lane for row in world.rows(chunk)} == {"erasure"}
    payload = json.loads(bytes(world.row(event_body).payload))
    assert [payload[name] for name in ("lane", "verify", "principal")] == ["erasure", "none", "one"]
    world.run(lambda _task: Delivered())
    assert world.view(receipt.id).state is RequestState.COMPLETE
    world.check_books()


def test_a_key_is_known_after_the_request_has_ended(world):
    (first,) = take(world, a_purge("u", idempotency_key="k", verify="none"))
    world.run(lambda _task: Delivered())
    (again,) = take(world, a_purge("u", idempotency_key="k", verify="none"))
    assert (again.id, again.state) == (first.id, RequestState.COMPLETE)


def test_another_process_that_commits_the_same_key_at_that_moment_is_found(world, monkeypatch):
    """What is known was asked before; the other one commits before our transaction begins."""
    other: list[Receipt] = []
    write = Database.write_bulk

    def late(self, work):
        if not other:
            other.append(world.submit(kind=Kind.USER, subject="u", idempotency_key="k"))
        return write(self, work)

    monkeypatch.setattr(Database, "write_bulk", late)
    answers = take(world, a_purge("v"), a_purge("u", idempotency_key="k"), a_batch("a"))
    assert [each.duplicate for each in answers] == [False, True, False]
    assert answers[1].id == other[0].id
    assert len(world.rows(request)) == 3
    world.check_books()


# -- a ledger that does not confirm ---------------------------------------------------------------


def test_of_a_transaction_that_fails_nothing_is_in(world, monkeypatch):
    write = Database.write_bulk

    def broken(self, work):
        def fails(conn):
            work(conn)
            message = "The ledger did not confirm."
            raise LedgerError(message)

        return write(self, fails)

    monkeypatch.setattr(Database, "write_bulk", broken)
    with pytest.raises(LedgerError):
        take(world, a_purge("u", idempotency_key="k"), a_batch("a"))
    assert [world.rows(table) for table in (request, chunk, event)] == [[], [], []]
    assert {row.erasure_tail for row in world.rows(project)} == {0}


def test_a_commit_whose_answer_was_lost_is_found_and_is_no_repeat(world, monkeypatch):
    write = Database.write_bulk

    def deaf(self, work):
        write(self, work)
        message = "The ledger did not confirm."
        raise LedgerError(message)

    monkeypatch.setattr(Database, "write_bulk", deaf)
    (receipt,) = take(world, a_purge("u", idempotency_key="k"))
    assert not receipt.duplicate
    assert len(world.rows(request)) == len(world.rows(event)) == 1


def test_a_repeat_after_an_outage_takes_what_is_missing_and_nothing_twice(world, monkeypatch):
    orders = [
        a_purge(f"u-{n}", idempotency_key=f"k{n}") for n in range(REQUESTS_PER_TRANSACTION + 20)
    ]
    write = Database.write_bulk
    calls = []

    def away(self, work):
        calls.append(work)
        if len(calls) == 2:
            message = "The ledger did not confirm."
            raise LedgerError(message)
        return write(self, work)

    monkeypatch.setattr(Database, "write_bulk", away)
    with pytest.raises(LedgerError):
        take(world, *orders)
    assert len(world.rows(request)) == REQUESTS_PER_TRANSACTION
    answers = take(world, *orders)
    assert sum(each.duplicate for each in answers) == REQUESTS_PER_TRANSACTION
    assert len(world.rows(request)) == len({each.id for each in answers}) == len(orders)


# -- size -----------------------------------------------------------------------------------------


def test_many_are_divided_into_transactions_of_bounded_size(world, monkeypatch):
    sizes = []
    write = Database.write_bulk

    def watched(self, work):
        before = len(world.rows(chunk))
        write(self, work)
        sizes.append(len(world.rows(chunk)) - before)

    monkeypatch.setattr(Database, "write_bulk", watched)
    orders = [a_batch(*(f"m{n}-{i}" for i in range(3))) for n in range(300)]
    answers = take(world, *orders, chunk_size=1)
    assert len(answers) == len(world.rows(request)) == 300
    assert sum(sizes) == 900
    assert max(sizes) <= 200
    world.check_books()


def test_one_that_is_longer_than_a_transaction_comes_in_as_a_stream(world):
    ids = [f"m{n}" for n in range(450)]
    answers = take(
        world,
        a_purge("u"),
        a_batch(*ids, idempotency_key="k"),
        a_batch(*ids[:-1], idempotency_key="k"),
        a_batch("x"),
        chunk_size=1,
    )
    assert [getattr(each, "unique", None) for each in answers] == [1, 450, None, 1]
    assert isinstance(answers[2], ConflictError)
    world.check_books()


def test_they_stand_in_line_behind_those_that_were_there_before(world):
    world.submit(["a", "b"], chunk_size=1)
    take(world, a_batch("c"), a_batch("d", "e"), chunk_size=1)
    tags = {json.loads(row.ids)[0]: row.tag for row in world.rows(chunk)}
    assert sorted(tags, key=tags.__getitem__) == ["a", "b", "c", "d", "e"]
    assert len(set(tags.values())) == 5


@pytest.fixture
def bulk(tmp_path, monkeypatch):
    """Gives a function that holds SQLite's writer for 12 ms, and the rests before each time."""
    path = tmp_path / "bulk.db"
    path.touch()
    database = Database(f"sqlite:///{path}")
    now, slept, taken = [database.turned], [], [0.0]
    write = database.write

    def write_when_free(work, **given):
        now[0] += taken[0]
        return write(work, **given)

    monkeypatch.setattr(database, "write", write_when_free)

    class Time:
        @staticmethod
        def monotonic():
            return now[0]

        @staticmethod
        def sleep(seconds):
            slept.append(round(seconds, 6))
            now[0] += seconds

    monkeypatch.setattr("ledger.engine.time", Time)
    database.write_bulk(lambda _conn: None)

    def work(_conn):
        now[0] += 0.012

    def hold(*, after, taken_s=0.0, **rest):
        now[0] += after
        taken[0] = taken_s
        database.write_bulk(work, **rest)

    yield hold, slept
    database.close()


def written_by_somebody_else(tmp_path):
    with closing(sqlite3.connect(tmp_path / "bulk.db")) as other:
        other.execute("CREATE TABLE IF NOT EXISTS somebody (n INTEGER)")
        other.execute("INSERT INTO somebody VALUES (1)")
        other.commit()


def test_the_writer_of_sqlite_rests_longer_the_longer_it_was_held(bulk, tmp_path):
    hold, slept = bulk
    for after in (0, 0.005, 0.5):
        written_by_somebody_else(tmp_path)
        hold(after=after)
    assert slept == [0.007]


def test_a_long_stream_leaves_the_writer_to_others_for_most_of_the_time(bulk, tmp_path):
    hold, slept = bulk
    for after in (0, 0.008, 0.5):
        written_by_somebody_else(tmp_path)
        hold(after=after, rest=9.0)
    assert slept == [0.1]


def test_a_long_stream_rests_up_to_four_times_as_long_where_it_finds_the_writer_taken(
    bulk, tmp_path
):
    hold, slept = bulk
    for taken_s in (0.0, *[0.02] * 12, *[0.0] * 12):
        written_by_somebody_else(tmp_path)
        hold(after=0, rest=9.0, taken_s=taken_s)
    assert slept[0] == 0.108
    assert sorted(slept[:12]) == slept[:12]
    assert 0.42 < slept[12] <= 4 * 0.108
    assert 0.108 < slept[-1] < 0.13


def test_small_requests_do_not_wait_as_long_as_a_stream_would(bulk, tmp_path):
    hold, slept = bulk
    written_by_somebody_else(tmp_path)
    hold(after=0, rest=9.0)
    hold(after=0)
    assert slept == [0.012]


def test_where_nobody_else_writes_the_writer_hardly_rests(bulk, tmp_path):
    hold, slept = bulk
    hold(after=0, rest=9.0)
    hold(after=0.2, rest=9.0)
    hold(after=0.001, rest=9.0)
    written_by_somebody_else(tmp_path)
    hold(after=0, rest=9.0)
    hold(after=0, rest=9.0)
    hold(after=0, rest=9.0)
    hold(after=0, rest=9.0)
    # A quarter of a second after others were last seen, it is alone again.
    assert slept == [0.005, 0.006, 0.108, 0.108, 0.006]


IDS = st.lists(st.sampled_from(["a", "b", "é", " c", "\U0001f9e8", "'"]), max_size=5)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(st.tuples(IDS, st.none() | st.sampled_from("kl")), max_size=6),
    chunk_size=st.integers(1, 3),
)
def test_whatever_comes_together_is_answered_as_if_it_came_one_after_the_other(
    world, batches, chunk_size
):
    expected = []
    known: dict[str, list[str]] = {}
    for ids, key in batches:
        if not ids:
            expected.append("error")
        elif key in known:
            expected.append("duplicate" if known[key] == ids else "conflict")
        else:
            expected.append("new")
            if key is not None:
                known[key] = ids
    world.tamper("DELETE FROM event_body", "DELETE FROM event", "DELETE FROM unsealed")
    world.sql("DELETE FROM chunk")
    world.sql("DELETE FROM request")
    answers = take(
        world,
        *(a_batch(*ids, idempotency_key=key) for ids, key in batches),
        chunk_size=chunk_size,
    )

    def word(answer):
        if isinstance(answer, Receipt):
            return "duplicate" if answer.duplicate else "new"
        return "conflict" if isinstance(answer, ConflictError) else "error"

    # A folded repeat is no other order: the same unique ids in the same order are the same.
    for place, (wanted, answer) in enumerate(zip(expected, answers, strict=True)):
        if wanted == "conflict" and word(answer) == "duplicate":
            ids, key = batches[place]
            assert list(dict.fromkeys(ids)) == list(dict.fromkeys(known[key]))
        else:
            assert word(answer) == wanted
    assert len(world.rows(request)) == expected.count("new")
    world.check_books()
