"""The sealer: every event gets one place, every checkpoint goes on from the one before it."""

import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from expunge.doctor.audit_checks import check_log
from ledger import upgrade
from ledger.audit.merkle import verify_consistency, verify_inclusion
from ledger.audit.notes import open_checkpoint
from ledger.audit.opening import open_new_origin
from ledger.audit.pruning import prune_bodies
from ledger.audit.published import Published
from ledger.audit.rotating import begin_rotation
from ledger.audit.signing import SigningKeys
from ledger.audit.stored import StoredTree
from ledger.crash_points import armed
from ledger.engine import Database
from ledger.errors import AuditError, KeysError, LedgerError, RequestError, StaleLeaseError
from ledger.events import EventType, event_rows, insert_event
from ledger.schema import checkpoint, event, event_body, leaf, lease, unsealed
from tests.support.audit_log import AuditLog


@pytest.fixture
def log(world, tmp_path):
    return AuditLog(world.database, tmp_path)


def test_the_doctor_tells_of_a_sealed_record_whose_checkpoint_is_not_here(world, log, tmp_path):
    def told(folder):
        found = check_log(world.database, Published(folder), [])
        return [one.says for one in found if one.check == "log"]

    assert told(tmp_path / "nowhere") == []  # nothing was sealed yet
    log.add(1)
    log.seal()
    assert told(log.published.folder) == []
    (says,) = told(tmp_path / "nowhere")
    assert "no checkpoint of it is in" in says


class KilledError(BaseException):
    """Ends a sealer where a kill would."""


def killed_at(place):
    def hook(reached):
        if reached == place:
            raise KilledError

    return armed(hook)


def test_what_is_sealed_is_signed_published_and_verified(world, log):
    ids = log.add(700)
    sealed = log.seal()

    assert (sealed.events, sealed.size, sealed.damaged) == (701, 701, ())
    assert {row.event for row in world.rows(leaf)} > set(ids)
    assert [row.idx for row in world.rows(leaf)] == list(range(701))
    assert world.rows(unsealed) == []
    (row,) = world.rows(checkpoint)
    assert row.note == log.note()
    verdict = log.verify()
    assert (verdict.good, verdict.leaves, verdict.signed, verdict.checkpoints) == (
        True,
        701,
        701,
        1,
    )
    assert log.foreign_faults(log.export()) == []


def test_nothing_new_is_no_new_checkpoint(world, log):
    log.grow(3)
    log.seal()
    assert len(world.rows(checkpoint)) == 1


def test_any_leaf_is_proved_and_any_growth_is_shown_from_what_is_stored(world, log):
    sizes = [1 + 255, 256 + 1, 257 + 700, 957 + 3]
    log.grow(255, 1, 700, 3)
    leaves = [bytes(row.hash) for row in world.rows(leaf)]

    def look(conn):
        tree = StoredTree(conn)
        for size in sizes:
            root = tree.root(0, size)
            assert tree.frontier(size).root() == root
            for index in (0, 1, 254, 255, size // 2, size - 1):
                proof = tree.inclusion(index, size)
                assert verify_inclusion(leaves[index], index, size, proof, root)
            for old in (1, 255, 256, size):
                if old <= size:
                    path = tree.consistency(old, size)
                    assert verify_consistency(old, size, tree.root(0, old), root, path)

    world.database.read(look)


@pytest.mark.fault("F47")
def test_an_event_that_commits_late_is_sealed_like_the_rest(world, log):
    """It was recorded first and its transaction ends last.

    Whoever takes all after the last one that was seen would never find it.
    """
    log.grow(1)
    if world.database.is_sqlite:
        return  # one writer: nothing commits late
    head, body = event_rows(EventType.PROJECT_MENDED, {"project": "late"})
    with world.database.engine.connect() as late:
        transaction = late.begin()
        insert_event(late, head, body)
        log.grow(3)
        assert world.rows(leaf, leaf.c.event == head["id"]) == []
        transaction.commit()
    log.seal()

    assert len(world.rows(event)) == len(world.rows(leaf)) == 1 + 1 + 3 + 1
    assert world.row(leaf, leaf.c.event == head["id"]).idx == 5
    assert log.verify(*log.kept).good


@pytest.mark.fault("F47")
def test_threads_that_record_while_it_is_sealed_lose_nothing(ledger_url, tmp_path):
    upgrade(ledger_url)
    database = Database(ledger_url)
    log = AuditLog(database, tmp_path)
    recorded: list[str] = []

    def record():
        own = Database(ledger_url)
        mine = AuditLog(own, tmp_path)
        for _ in range(10):
            recorded.extend(mine.add(7))
        own.close()

    threads = [threading.Thread(target=record) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        log.seal()
    for thread in threads:
        thread.join()
    log.seal()

    def sealed(conn):
        return conn.execute(leaf.select().order_by(leaf.c.idx)).all()

    rows = database.read(sealed)
    assert len(recorded) == 210
    assert {row.event for row in rows} > set(recorded)
    assert [row.idx for row in rows] == list(range(211))
    assert log.verify().good
    database.close()


@pytest.mark.fault("F93")
def test_two_sealers_of_one_ledger_take_turns(world, log, tmp_path):
    other = AuditLog(world.database, log.folder, owner="sealer-2")
    log.add(5)
    first = log.sealer()
    assert first.round().events == 6
    with first._published.locked():
        assert other.sealer().round() is None
    # Another directory: the ledger's lease is what keeps it out.
    elsewhere = other.sealer()
    elsewhere._published = type(log.published)(tmp_path / "elsewhere")
    assert elsewhere.round() is None
    first.close()
    log.add(1)
    assert other.seal().size == 7
    assert log.verify().good


@pytest.mark.fault("F93")
def test_a_sealer_whose_lease_was_taken_over_seals_nothing_more(world, log):
    log.grow(1)
    log.add(3)
    sealer = log.sealer()
    size = len(world.rows(leaf))
    real_write = world.database.write_bulk

    def write_bulk(work, **rest):
        world.sql("UPDATE lease SET owner = 'other', until_ns = :far", far=2**62)
        return real_write(work, **rest)

    world.database.write_bulk = write_bulk
    try:
        with pytest.raises(StaleLeaseError):
            sealer.round()
    finally:
        del world.database.write_bulk
    assert len(world.rows(leaf)) == size
    assert world.row(lease).owner == "other"


@pytest.mark.fault("F124")
@pytest.mark.parametrize("place", ["after_leaves", "before_publish", "after_publish"])
def test_a_sealer_that_is_killed_is_carried_on(world, log, place):
    log.grow(5)
    log.add(4)
    with killed_at(f"seal.{place}"), pytest.raises(KilledError):
        log.seal()
    published = log.note()
    log.add(2)
    log.seal()

    assert log.verify(*log.kept, published).good
    roots = {row.size: bytes(row.root) for row in world.rows(checkpoint)}
    for note in (*log.kept, published):
        signed = open_checkpoint(note, log.published.keys())
        assert roots[signed.size] == signed.root
    assert log.foreign_faults(log.export(), *log.kept, published) == []


@pytest.mark.fault("F124")
def test_without_its_key_nothing_is_sealed(world, log):
    log.grow(1)
    log.add(1)
    (log.keys_dir / "signing.key").unlink()
    with pytest.raises(KeysError, match=r"signing\.key cannot be read"):
        log.seal()
    assert len(world.rows(unsealed)) == 1


@pytest.mark.fault("F124")
@pytest.mark.parametrize("place", [None, "after_leaves", "after_publish", "before_new_key"])
def test_a_rotated_key_is_vouched_for_by_the_old_one(log, place):
    log.grow(3)
    (old,) = log.published.keys()
    new = begin_rotation(
        log.database, keys_dir=log.keys_dir, published=log.published, principal="op", reason="x"
    )
    with pytest.raises(KeysError, match="under way"):
        begin_rotation(
            log.database, keys_dir=log.keys_dir, published=log.published, principal="op", reason="x"
        )
    if place is not None:
        with killed_at(f"seal.{place}"), pytest.raises(KilledError):
            log.seal()
    log.seal()
    both = log.note()
    log.grow(1)

    assert open_checkpoint(both, [old]) == open_checkpoint(both, [new])
    with pytest.raises(ValueError, match="None of the trusted"):
        open_checkpoint(log.note(), [old])
    assert SigningKeys.load(log.keys_dir).public(new.name) == new
    assert not (log.keys_dir / "signing.key.next").exists()
    assert log.verify(*log.kept).good
    assert log.foreign_faults(log.export(), *log.kept) == []


def test_a_rotation_that_was_never_recorded_is_begun_anew(log):
    log.grow(1)
    (log.keys_dir / "signing.key.next").write_text("ab" * 32 + " no-such-event\n")
    log.grow(1)
    (only,) = log.published.keys()
    assert open_checkpoint(log.note(), [only]).size == 3
    begin_rotation(
        log.database, keys_dir=log.keys_dir, published=log.published, principal="op", reason="x"
    )
    log.seal()
    assert len(log.published.keys()) == 2
    assert log.verify().good


def test_a_lost_published_checkpoint_is_asked_for(log):
    log.grow(2)
    note = log.note()
    shutil.rmtree(log.published.folder)
    log.add(1)
    with pytest.raises(AuditError, match="expunge seal --adopt"):
        log.seal()
    log.seal(adopt=True)
    assert log.verify(note).good


@pytest.mark.fault("F126")
def test_bodies_go_only_as_recorded_and_the_tree_still_verifies(world, log):
    log.grow(20, 10)
    bodies = {row.event: bytes(row.payload) for row in world.rows(event_body)}
    gone = {log.event_at(n) for n in range(15)}

    assert prune_bodies(log.database, below=15, principal="op", reason="retention") == 15
    log.seal()

    assert {row.event for row in world.rows(event_body)}.isdisjoint(gone)
    verdict = log.verify(*log.kept)
    assert (verdict.good, verdict.pruned) == (True, 15)
    assert log.foreign_faults(log.export(), *log.kept) == []
    with pytest.raises(LedgerError):
        world.sql("DELETE FROM event_body WHERE event = :id", id=log.event_at(15))
    assert prune_bodies(log.database, below=10, principal="op", reason="retention") == 0
    with pytest.raises(RequestError, match="Only signed events"):
        prune_bodies(log.database, below=99, principal="op", reason="retention")
    if world.database.is_sqlite:
        _assert_not_in_files(world, [bodies[event_id] for event_id in gone])


def _assert_not_in_files(world, payloads):
    path = world.database.engine.url.database
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw = b"".join(Path(f"{path}{end}").read_bytes() for end in ("", "-wal"))
    assert all(payload not in raw for payload in payloads)


def test_a_new_origin_says_which_log_it_goes_on_from(world, log):
    log.grow(4)
    old = open_checkpoint(log.note(), log.published.keys())
    name = open_new_origin(
        log.database, keys_dir=log.keys_dir, published=log.published, principal="op", reason="x"
    )
    log.seal()

    opened = log.payload(log.event_at(5))
    assert (opened["origin"], opened["size"]) == (name, 5)
    assert (opened["previous_origin"], opened["previous_size"], opened["previous_root"]) == (
        old.origin,
        old.size,
        old.root.hex(),
    )
    assert open_checkpoint(log.note(), log.published.keys()).origin == name
    assert (log.published.folder / "checkpoint.1").read_text() == log.kept[0]
    assert log.verify(*log.kept).good
    assert log.foreign_faults(log.export(), *log.kept) == []
