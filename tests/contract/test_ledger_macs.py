"""Rows that are not what was ordered: no call is made for them, and it is on record."""

import itertools
import json

import pytest

from ledger.closing import chain_is_whole
from ledger.errors import ConflictError, TamperedError
from ledger.macs import ChunkFields, HeaderFields, Macs
from ledger.schema import event_body, readback
from ledger.states import Certainty, ChunkState, Kind, Result, Sight
from ledger.tasks import Delivered, Probe, Seen, Split
from tests.support.ledger_memos import Memos
from tests.support.ledger_world import KEYS, settled

IDS = [f"m{n}" for n in range(6)]
HEADER_CHANGES = [
    "project = 'blog'",
    "account = 'beta'",
    "kind = 'user'",
    "lane = 'erasure'",
    "verify = 'none'",
    "subject = 'somebody else'",
    "reason = 'other'",
    "principal = 'other'",
    "idempotency_ref = 'other'",
    "chunk_size = 1",
    "created_at = created_at + 1",
    "submitted_at = submitted_at + 1",
    "due_at = 1",
    "not_before = 1",
    "salt = header_mac",
    "include_later = 1",
    "header_mac = salt",
]
CHUNK_CHANGES = [
    "project = 'blog'",
    "generation = 2",
    "no = 77",
    "parent = 0",
    "first = 1",
    "places = '[0,1,2]'",
    'ids = \'["m0","m1","victim"]\'',
    'ids = \'["m0","m1","m2","victim"]\'',
    'ids = \'["m0","m2","m1"]\'',
    'ids = \'["m0", "m1", "m2"]\'',
    "ids = '[]'",
    "ids = 'not json'",
    "ids = ''",
    "n = 2",
    "n = 1000",
    "mac = (SELECT mac FROM chunk AS other WHERE other.no = 1)",
    "mac = (SELECT header_mac FROM request)",
]


def tampered(world):
    return [
        json.loads(row.payload)
        for row in world.rows(event_body)
        if b'"type":"order.tampered"' in bytes(row.payload)
    ]


@pytest.mark.fault("F117")
@pytest.mark.parametrize("change", HEADER_CHANGES)
def test_no_call_is_made_for_a_request_whose_header_was_changed(world, change):
    receipt = world.submit(IDS, chunk_size=3)
    assert world.sql(f"UPDATE request SET {change}") == 1  # noqa: S608 - ours
    world.clock.tick(5)
    assert world.claim().tasks == ()
    assert [(found["fault"], found["request"]) for found in tampered(world)] == [
        ("header", receipt.id)
    ] * 2
    world.check_books()


@pytest.mark.fault("F117")
@pytest.mark.parametrize("change", CHUNK_CHANGES)
def test_nothing_is_sent_of_a_request_of_which_a_chunk_was_changed_until_a_person_looked(
    world, change
):
    receipt = world.submit(IDS, chunk_size=3, verify="none")
    assert world.sql(f"UPDATE chunk SET {change} WHERE no = 0") == 1  # noqa: S608 - ours
    world.clock.tick(5)
    claim = world.claim()
    assert (claim.tasks, claim.tampered) == ((), (receipt.id,))
    view = world.view(receipt.id)
    assert (view.tampered, view.held, view.hold_reason) == (True, True, "tampered")
    assert len(tampered(world)) == 1
    world.sweep()
    world.clock.tick(100)
    assert world.claim().tasks == ()
    # Released, the rest of it goes on, and it ends; but never as complete.
    world.ledger.release(receipt.id, principal="op")
    world.clock.tick(5)
    tasks = world.claim().tasks
    assert [task.ids for task in tasks] == [("m3", "m4", "m5")]
    for request_id in world.record(*(settled(task, Delivered()) for task in tasks)):
        world.advance(request_id)
    world.sweep()
    view = world.view(receipt.id)
    assert view.result in (Result.PARTIAL, Result.FAILED)
    assert view.tampered
    counts = view.counts
    assert counts.acknowledged + counts.refused + counts.unknown == 6
    assert counts.acknowledged == 3


@pytest.mark.parametrize("kind", [Kind.MEMORIES, Kind.USER])
def test_a_changed_request_of_which_nothing_else_is_left_to_send_ends_as_failed(world, kind):
    order = {"ids": IDS} if kind is Kind.MEMORIES else {"kind": kind, "subject": "u"}
    receipt = world.submit(**order)
    assert world.sql("UPDATE chunk SET mac = (SELECT header_mac FROM request)") == 1
    world.clock.tick(5)
    assert world.claim().tasks == ()
    world.sweep()
    view = world.view(receipt.id)
    assert (view.result, view.held, view.tampered) == (Result.FAILED, False, True)
    with pytest.raises(ConflictError, match="has ended"):
        world.ledger.release(receipt.id, principal="op")
    with pytest.raises(ConflictError, match="has ended"):
        world.ledger.cancel(receipt.id, principal="op", reason="x")
    with pytest.raises(TamperedError):
        world.ledger.redrive(receipt.id, principal="op", reason="x")


@pytest.mark.parametrize(
    "change", ["request_id = (SELECT max(id) FROM request WHERE kind = 'user')"]
)
def test_a_chunk_hung_onto_another_request_is_not_sent(world, change):
    """A batch's chunk under a purge's header would be a call for everything of the user."""
    world.submit(kind=Kind.USER, subject="u")
    world.submit(IDS, chunk_size=3)
    assert world.sql(f"UPDATE chunk SET {change}, no = 9 WHERE ids <> '[]' AND no = 0") == 1  # noqa: S608
    world.clock.tick(5)
    # The purge stops with it, and the batch goes on.
    assert [task.ids for task in world.claim().tasks] == [("m3", "m4", "m5")]
    assert len(tampered(world)) == 1


def test_a_batch_turned_into_a_purge_makes_no_call(world):
    world.submit(IDS, subject="u")
    world.sql("UPDATE request SET kind = 'user'")
    world.sql("UPDATE chunk SET ids = '[]', n = 1")
    world.clock.tick(5)
    assert world.claim().tasks == ()


def test_a_chunk_written_by_somebody_without_the_key_is_not_sent(world):
    world.submit(IDS)
    columns = "generation, account, project, lane, urgency, tag, state, n, first, mac, request_id"
    world.sql(
        f"INSERT INTO chunk ({columns}, no, ids) SELECT {columns}, 1, ids FROM chunk"  # noqa: S608
    )
    world.clock.tick(5)
    assert world.claim().tasks == ()
    assert [found["fault"] for found in tampered(world)] == ["chunk"]


def test_a_changed_half_is_not_sent_either(world):
    world.submit(IDS)
    world.record(settled(world.claim_one(), Split(hunt=False)))
    world.sql('UPDATE chunk SET ids = \'["m0","m1","x"]\' WHERE state = \'due\' AND first = 0')
    world.clock.tick(5)
    assert world.claim().tasks == ()
    world.ledger.release(world.tasks[0].request_id, principal="op")
    world.clock.tick(5)
    assert [task.ids for task in world.claim().tasks] == [("m3", "m4", "m5")]


@pytest.mark.parametrize("change", ["item = 7", "item = -1", "item = 6"])
def test_a_read_back_of_an_id_that_the_chunk_does_not_have_is_not_made(world, change):
    receipt = world.submit(IDS, verify="full")
    for move in (Delivered(), Seen(sight=Sight.ABSENT)):  # the second is the control's
        for request_id in world.record(settled(world.claim_one(), move)):
            world.advance(request_id)
        world.clock.tick(5)
    world.sql(f"UPDATE readback SET {change} WHERE item = 0")  # noqa: S608 - ours
    world.clock.tick(5)
    assert world.claim().tasks == ()
    world.ledger.release(receipt.id, principal="op")
    world.clock.tick(5)
    tasks = world.claim().tasks
    assert len(tasks) == 5
    for request_id in world.record(*(settled(task, Seen(sight=Sight.ABSENT)) for task in tasks)):
        world.advance(request_id)
    view = world.view(receipt.id)
    assert view.certainty is Certainty.UNVERIFIABLE
    assert view.result is not Result.COMPLETE


def test_a_list_of_another_user_is_not_read(world):
    receipt = world.submit(kind=Kind.USER, subject="u")
    for request_id in world.record(settled(world.claim_one(), Delivered())):
        world.advance(request_id)
    world.sql("UPDATE request SET subject = 'v'")
    world.clock.tick(5)
    assert world.claim().tasks == ()
    assert world.row(readback).sight == "unknown"
    world.sweep()
    assert world.view(receipt.id).certainty is Certainty.UNVERIFIABLE


# -- the closing MAC ------------------------------------------------------------------------------

AFTERWARDS = [
    "DELETE FROM chunk WHERE no = 0",
    "DELETE FROM chunk WHERE no = 1",
    "UPDATE chunk SET no = no + 10",
    "UPDATE chunk SET ids = '[]' WHERE no = 1",
    "UPDATE chunk SET ids = (SELECT ids FROM chunk AS other WHERE other.no = 0) WHERE no = 1",
    "UPDATE request SET chunks = 3",
    "UPDATE request SET kind = 'user'",
    "UPDATE request SET closing_mac = header_mac",
]


@pytest.mark.parametrize("change", AFTERWARDS)
def test_a_request_whose_chunks_are_not_those_handed_in_ends_failed(world, change):
    receipt = world.submit(IDS, chunk_size=3, verify="none")
    world.clock.tick(5)
    ready = world.record(*(settled(task, Delivered()) for task in world.claim().tasks))
    world.sql(change)
    for request_id in ready:
        world.advance(request_id)
    view = world.view(receipt.id)
    assert (view.result, view.certainty) == (Result.FAILED, Certainty.UNVERIFIABLE)
    assert [found["fault"] for found in tampered(world)] == ["closing"]


@pytest.mark.parametrize("chunks", [1, 199, 200, 201, 400, 401])
def test_a_large_request_is_gone_through_in_pieces_and_every_chunk_of_it(world, chunks):
    """None of them is a transaction that lasts, and none of their edges hides a chunk."""
    receipt = world.submit([f"m{n}" for n in range(chunks)], chunk_size=1, verify="none")
    macs = Macs(KEYS)
    pieces: list[int] = []
    seen: list[int] = []

    def read(work):
        pieces.append(len(seen))
        return world.database.read(work)

    def whole():
        return chain_is_whole(read, macs, receipt.id, each=lambda row: seen.append(row.no))

    assert whole()
    assert seen == list(range(chunks))
    # Between two transactions no more than 200 chunks were taken in.
    assert all(late - early <= 200 for early, late in itertools.pairwise([*pieces, chunks]))
    for no in {0, chunks // 2, chunks - 1}:
        for item, holds in (("other", False), (f"m{no}", True)):
            world.sql("UPDATE chunk SET ids = :ids WHERE no = :no", ids=f'["{item}"]', no=no)
            assert whole() is holds
    world.sql("DELETE FROM chunk WHERE no = :no", no=chunks - 1)
    assert not whole()


def test_a_request_whose_waiting_chunk_was_deleted_ends_failed_and_does_not_wait_for_ever(world):
    receipt = world.submit(IDS, chunk_size=3, verify="none")
    world.sql("DELETE FROM chunk WHERE no = 1")
    world.clock.tick(5)
    world.record(*(settled(task, Delivered()) for task in world.claim().tasks))
    world.sweep()
    view = world.view(receipt.id)
    assert view.result is Result.FAILED
    assert (view.counts.acknowledged, view.counts.unknown) == (3, 3)
    assert {found["fault"] for found in tampered(world)} == {"missing", "closing"}


def test_parts_do_not_disturb_the_closing_mac(world):
    memos = Memos(IDS[:3])
    receipt = world.submit(IDS, chunk_size=6, verify="none")
    world.run(memos)
    world.sweep()
    view = world.view(receipt.id)
    assert view.result is Result.COMPLETE_WITH_ALREADY_ABSENT
    assert len(world.chunks(receipt.id, ChunkState.SPLIT)) >= 1


def test_a_list_row_that_was_deleted_proves_nothing(world):
    """The list is read again, or a request would be `verified` by nobody's look."""
    memos = Memos(IDS, stubborn={"m0": 99})
    receipt = world.submit(IDS, subject="u")
    for request_id in world.record(settled(world.claim_one(), memos(world.tasks[-1]))):
        world.advance(request_id)
    world.sql("DELETE FROM readback")
    world.sweep()
    world.run(memos)
    view = world.view(receipt.id)
    assert view.certainty is Certainty.STILL_PRESENT
    assert view.counts.still_present == 1


def test_probes_of_a_changed_chunk_are_not_made(world):
    world.submit(IDS)
    world.record(settled(world.claim_one(), Probe()))
    world.sql('UPDATE chunk SET ids = \'["a","b","c","d","e","f"]\'')
    world.clock.tick(5)
    assert world.claim().tasks == ()
    assert len(tampered(world)) == 3


def test_a_reservation_that_was_changed_is_a_conflict(world):
    world.submit(IDS, idempotency_key="k")
    world.sql("UPDATE request SET fingerprint = 'x'")
    with pytest.raises(ConflictError):
        world.submit(IDS, idempotency_key="k")


def test_each_column_under_a_mac_is_tried_above():
    tried = {change.split(" =")[0] for change in HEADER_CHANGES}
    assert set(HeaderFields.__dataclass_fields__) - {"id"} <= tried
    tried = {change.split(" =")[0] for change in CHUNK_CHANGES} | {"request_id", "kind"}
    assert set(ChunkFields.__dataclass_fields__) <= tried


# -- counts ---------------------------------------------------------------------------------------

MISCOUNTS = [
    "UPDATE request SET pending = 1, unknown = 5 WHERE id = :id",
    "UPDATE request SET pending = 0, refused = 6 WHERE id = :id",
]


@pytest.mark.fault("F117")
@pytest.mark.parametrize("change", MISCOUNTS)
def test_counts_that_were_changed_stop_that_request_and_hold_up_no_other(world, change):
    changed, other = (world.submit(IDS, chunk_size=3, verify="none") for _ in range(2))
    tasks = world.claim(lead_s=0.0).tasks
    world.clock.tick(1)
    tasks += world.claim(lead_s=0.0).tasks
    assert len(tasks) == 4
    world.sql(change, id=changed.id)
    for request_id in world.record(*(settled(task, Delivered()) for task in tasks)):
        world.advance(request_id)
    assert world.view(other.id).result is Result.COMPLETE
    view = world.view(changed.id)
    assert view.tampered
    assert view.result is not Result.COMPLETE
    assert {(found["fault"], found["request"]) for found in tampered(world)} == {
        ("counts", changed.id)
    }
