"""Whatever is done to the record behind its back is found, named, and placed."""

import secrets

import pytest

from ledger.audit.faults import Kind
from ledger.audit.pruning import prune_bodies
from ledger.canonical import canonical
from ledger.errors import AuditError, RolledBackError
from ledger.events import leaf_hash
from ledger.schema import checkpoint, event, event_body, leaf, subtree
from tests.support.audit_log import AuditLog

# The first leaf says that the log was opened; checkpoints at 301, 311 and 341.
GROWTH = (300, 10, 30)
SIZE = 341


@pytest.fixture
def log(world, tmp_path):
    log = AuditLog(world.database, tmp_path)
    log.grow(*GROWTH)
    assert log.verify(*log.kept).good
    return log


def forged(log, idx):
    """Rows of another event in an old one's place, as good as whoever lacks the key can make it."""
    event_id = log.event_at(idx)
    fields = log.payload(event_id) | {"project": "another"}
    payload, salt = canonical(fields), secrets.token_bytes(32)
    return {"id": event_id, "p": payload, "s": salt, "h": leaf_hash(payload, salt), "idx": idx}


def update_payload(world, log):
    world.tamper("UPDATE event_body SET payload = :p WHERE event = :id", **forged(log, 7))
    return {Kind.BODY_DIFFERS}, 7


def update_event(world, log):
    world.tamper(
        "UPDATE event_body SET payload = :p, salt = :s WHERE event = :id",
        "UPDATE event SET leaf_hash = :h WHERE id = :id",
        **forged(log, 8),
    )
    return {Kind.LEAF_DIFFERS, Kind.BODY_DIFFERS}, 8


def update_everything_but_the_roots(world, log):
    world.tamper(
        "UPDATE event_body SET payload = :p, salt = :s WHERE event = :id",
        "UPDATE event SET leaf_hash = :h WHERE id = :id",
        "UPDATE leaf SET hash = :h WHERE idx = :idx",
        **forged(log, 305),
    )
    # Nothing but the roots tells: it is between the one that still comes out and the first that
    # does not.
    return {Kind.ROOT_DIFFERS, Kind.FORKED}, 301


def update_a_type(world, log):
    world.tamper("UPDATE event SET type = 'project.broken' WHERE id = :id", id=log.event_at(9))
    return {Kind.ROW_DIFFERS}, 9


def update_a_hash_of_the_tree(world, log):
    world.tamper("UPDATE subtree SET hash = :h", h=b"x" * 32)
    return {Kind.SUBTREE_DIFFERS}, 0


def delete_an_event(world, log):
    world.tamper(
        "DELETE FROM event_body WHERE event = :id",
        "DELETE FROM event WHERE id = :id",
        id=log.event_at(12),
    )
    return {Kind.EVENT_MISSING}, 12


def delete_a_body(world, log):
    world.tamper("DELETE FROM event_body WHERE event = :id", id=log.event_at(13))
    return {Kind.BODY_MISSING}, 13


def delete_with_its_leaf(world, log):
    world.tamper(
        "DELETE FROM leaf WHERE event = :id",
        "DELETE FROM event_body WHERE event = :id",
        "DELETE FROM event WHERE id = :id",
        id=log.event_at(14),
    )
    return {Kind.LEAF_MISSING, Kind.ROOT_DIFFERS, Kind.SUBTREE_DIFFERS, Kind.FORKED}, 14


def insert_an_event(world, log):
    world.tamper(
        "INSERT INTO event (id, type, leaf_hash) VALUES ('forged', 'project.mended', :h)",
        "DELETE FROM unsealed",
        h=b"h" * 32,
    )
    return {Kind.NOT_SEALED}, None


def insert_in_the_middle(world, log):
    move = "UPDATE leaf SET idx = -idx - {} WHERE idx {} :at"
    world.tamper(
        "INSERT INTO event (id, type, leaf_hash) VALUES ('forged', 'project.mended', :h)",
        "DELETE FROM unsealed",
        move.format(2, ">="),
        move.format(1, "<").replace("idx < :at", "idx < 0"),
        "INSERT INTO leaf (idx, event, hash) VALUES (:at, 'forged', :h)",
        h=b"h" * 32,
        at=20,
    )
    kinds = {Kind.BODY_MISSING, Kind.ROOT_DIFFERS, Kind.SUBTREE_DIFFERS, Kind.FORKED}
    return kinds, 20


def replace_an_event(world, log):
    values = forged(log, 30)
    world.tamper(
        "DELETE FROM event_body WHERE event = :id",
        "INSERT INTO event_body (event, payload, salt) VALUES (:id, :p, :s)",
        **values,
    )
    return {Kind.BODY_DIFFERS}, 30


def reorder(world, log):
    world.tamper(
        "UPDATE leaf SET idx = -1 WHERE idx = 40",
        "UPDATE leaf SET idx = 40 WHERE idx = 41",
        "UPDATE leaf SET idx = 41 WHERE idx = -1",
    )
    # Both leaves are whole, so only the roots over them tell.
    return {Kind.ROOT_DIFFERS, Kind.SUBTREE_DIFFERS, Kind.FORKED}, 0


def reorder_events_of_leaves(world, log):
    first, second = log.event_at(42), log.event_at(43)
    world.tamper(
        "UPDATE leaf SET event = 'x' WHERE event = :a",
        "UPDATE leaf SET event = :a WHERE event = :b",
        "UPDATE leaf SET event = :b WHERE event = 'x'",
        a=first,
        b=second,
    )
    return {Kind.LEAF_DIFFERS, Kind.BODY_DIFFERS}, 42


def cut_the_tail(world, log):
    world.tamper(
        "DELETE FROM unsealed",
        "DELETE FROM event_body WHERE event IN (SELECT event FROM leaf WHERE idx >= 320)",
        "DELETE FROM event WHERE id IN (SELECT event FROM leaf WHERE idx >= 320)",
        "DELETE FROM leaf WHERE idx >= 320",
    )
    return {Kind.ROLLED_BACK}, 320


def cut_the_tail_with_its_checkpoint(world, log):
    world.tamper(
        "DELETE FROM checkpoint WHERE size > 320",
        "DELETE FROM event_body WHERE event IN (SELECT event FROM leaf WHERE idx >= 320)",
        "DELETE FROM event WHERE id IN (SELECT event FROM leaf WHERE idx >= 320)",
        "DELETE FROM leaf WHERE idx >= 320",
    )
    return {Kind.ROLLED_BACK}, 320


def swap_salts(world, log):
    first, second = log.event_at(50), log.event_at(51)
    salts = {row.event: bytes(row.salt) for row in world.rows(event_body)}
    for one, other in ((first, second), (second, first)):
        change = "UPDATE event_body SET salt = :s WHERE event = :id"
        world.tamper(change, s=salts[other], id=one)
    return {Kind.BODY_DIFFERS}, 50


def edit_a_checkpoints_size(world, log):
    world.tamper("UPDATE checkpoint SET size = 310 WHERE size = 311")
    return {Kind.CHECKPOINT_EDITED}, None


def edit_a_checkpoints_note(world, log):
    (row,) = world.rows(checkpoint, checkpoint.c.size == 311)
    note = row.note.replace("\n311\n", "\n310\n")
    world.tamper("UPDATE checkpoint SET note = :n WHERE size = 311", n=note)
    return {Kind.CHECKPOINT_UNTRUSTED}, None


def delete_a_checkpoint(world, log):
    world.tamper("DELETE FROM checkpoint WHERE size = 311")
    return {Kind.CHECKPOINT_MISSING}, 301


def delete_the_last_checkpoint(world, log):
    world.tamper("DELETE FROM checkpoint WHERE size = 341")
    return {Kind.CHECKPOINT_MISSING}, 311


def prune_without_saying_so(world, log):
    world.tamper(
        "INSERT INTO pruning (below, event) VALUES (60, :id)",
        "DELETE FROM event_body WHERE event IN (SELECT event FROM leaf WHERE idx < 60)",
        id=log.event_at(70),
    )
    # What is missing then is missing without a word.
    return {Kind.PRUNING_UNRECORDED, Kind.BODY_MISSING}, 0


def prune_by_an_event_that_was_made_one(world, log):
    """All bodies are gone, that of the event which would tell included."""
    world.tamper(
        "UPDATE event SET type = 'bodies.pruned' WHERE id = :id",
        "DELETE FROM event_body",
        "INSERT INTO pruning (below, event) VALUES (:below, :id)",
        id=log.event_at(0),
        below=SIZE,
    )
    return {Kind.PRUNING_UNRECORDED, Kind.BODY_MISSING}, 0


def prune_beyond_what_was_recorded(world, log):
    """By an honest event, whose index begins with the same digits."""
    act = {"principal": "op", "reason": "retention"}
    prune_bodies(log.database, below=30, **act)
    log.grow(1)
    world.tamper(
        "DELETE FROM event_body WHERE event IN (SELECT event FROM leaf WHERE idx < 300)",
        "UPDATE pruning SET below = 300",
    )
    return {Kind.PRUNING_UNRECORDED, Kind.BODY_MISSING}, 0


def put_text_for_bytes(world, log):
    """SQLite stores any type, as whoever writes the file likes; PostgreSQL takes bytes for it."""
    world.tamper(
        "UPDATE leaf SET hash = 'x' WHERE idx = 60",
        "UPDATE event_body SET payload = 'x' WHERE event = :id",
        "UPDATE subtree SET hash = 'x'",
        "UPDATE checkpoint SET root = 'x' WHERE size = 311",
        id=log.event_at(61),
    )
    kinds = {Kind.LEAF_DIFFERS, Kind.BODY_DIFFERS, Kind.SUBTREE_DIFFERS, Kind.CHECKPOINT_EDITED}
    return kinds | {Kind.ROOT_DIFFERS, Kind.FORKED}, 60


MATRIX = [
    update_payload,
    update_event,
    update_everything_but_the_roots,
    update_a_type,
    update_a_hash_of_the_tree,
    delete_an_event,
    delete_a_body,
    delete_with_its_leaf,
    insert_an_event,
    insert_in_the_middle,
    replace_an_event,
    reorder,
    reorder_events_of_leaves,
    cut_the_tail,
    cut_the_tail_with_its_checkpoint,
    swap_salts,
    edit_a_checkpoints_size,
    edit_a_checkpoints_note,
    delete_a_checkpoint,
    delete_the_last_checkpoint,
    prune_without_saying_so,
    prune_by_an_event_that_was_made_one,
    prune_beyond_what_was_recorded,
    put_text_for_bytes,
]


@pytest.mark.fault("F43", "F123")
@pytest.mark.parametrize("tamper", MATRIX, ids=lambda tamper: tamper.__name__)
def test_tampering_is_found_and_named(world, log, tamper):
    kinds, index = tamper(world, log)

    verdict = log.verify(*log.kept)

    assert {fault.kind for fault in verdict.faults} == kinds
    assert verdict.first_bad == index


CHANGES = ["UPDATE {table} SET {change}", "DELETE FROM {table}"]
OF_SQLITE = [
    "UPDATE OR REPLACE {table} SET {change}",
    "INSERT OR REPLACE INTO {table} SELECT * FROM {table} LIMIT 1",
    "REPLACE INTO {table} SELECT * FROM {table} LIMIT 1",
]
OF_POSTGRESQL = ["TRUNCATE {table} CASCADE"]
WITH_ANOTHER_ID = (
    "INSERT OR REPLACE INTO event (rowid, id, type, leaf_hash)"
    " SELECT rowid, 'another', type, leaf_hash FROM event LIMIT 1"
)


@pytest.mark.fault("F43")
def test_every_way_to_change_the_record_is_refused_by_the_database(world, log):
    """By triggers, whoever asks; on PostgreSQL the application's role lacks the right as well."""
    tables = {
        event: "type = 'x'",
        event_body: "payload = ''",
        leaf: "hash = ''",
        subtree: "hash = ''",
        checkpoint: "note = ''",
    }
    log.add(1)
    before = {table: world.rows(table) for table in tables}
    ways = CHANGES + (OF_SQLITE if world.database.is_sqlite else OF_POSTGRESQL)
    for table, change in tables.items():
        statements = [way.format(table=table.name, change=change) for way in ways]
        if world.database.is_sqlite and table is event:
            statements.append(WITH_ANOTHER_ID)
        for statement in statements:
            with pytest.raises(Exception, match="append-only"):
                _execute(world.database, statement)
    for statement in ("UPDATE unsealed SET event = 'x'", "DELETE FROM unsealed"):
        with pytest.raises(Exception, match="append-only"):
            _execute(world.database, statement)
    assert {table: world.rows(table) for table in tables} == before


def _execute(database, statement):
    with database.engine.begin() as conn:
        conn.exec_driver_sql(statement)


@pytest.mark.fault("F123")
def test_a_log_written_anew_under_another_key_is_found(world, log, tmp_path):
    world.tamper("DELETE FROM checkpoint", "DELETE FROM subtree", "DELETE FROM leaf")
    world.tamper("DELETE FROM origin", "INSERT INTO unsealed (event) SELECT id FROM event")
    forger = AuditLog(world.database, tmp_path / "forger")
    forger.seal()

    assert Kind.CHECKPOINT_UNTRUSTED in log.kinds()
    assert Kind.ORIGIN_DIFFERS in log.kinds()
    with pytest.raises(RolledBackError, match="another ledger, or an older copy"):
        log.seal()


@pytest.mark.fault("F93")
def test_a_log_that_two_sealers_forked_is_found_by_the_others_checkpoint(world, log, tmp_path):
    """Copies of the ledger, of the key and of the published files: only comparing them helps."""
    published = log.published.folder
    files = {path.name: path.read_text() for path in published.iterdir()}
    log.grow(5)
    ours = log.note()
    world.tamper(
        "DELETE FROM checkpoint WHERE size > 341",
        "DELETE FROM event_body WHERE event IN (SELECT event FROM leaf WHERE idx >= 341)",
        "DELETE FROM event WHERE id IN (SELECT event FROM leaf WHERE idx >= 341)",
        "DELETE FROM leaf WHERE idx >= 341",
    )
    for name, text in files.items():
        (published / name).write_text(text)
    log.grow(5)

    assert ours != log.note()
    assert log.kinds() == set()
    assert log.kinds(ours) == {Kind.FORKED}


def test_a_changed_published_checkpoint_is_not_signed_over(log):
    note = log.note()
    log.published.publish(note.replace("\n341\n", "\n340\n"))
    log.add(1)

    assert Kind.CHECKPOINT_UNTRUSTED in log.kinds()
    with pytest.raises(AuditError, match="cannot be trusted"):
        log.seal()


def test_nothing_is_signed_over_a_tree_that_was_changed(world, log):
    world.tamper("UPDATE leaf SET hash = :h WHERE idx = 340", h=b"x" * 32)
    log.add(1)

    with pytest.raises(AuditError, match="do not give the root that was signed"):
        log.seal()
    assert [row.size for row in world.rows(checkpoint)] == [301, 311, 341]


def test_an_event_that_was_changed_before_it_was_sealed_is_never_sealed(world, log):
    bad, good = log.add(2)
    world.tamper("UPDATE event_body SET payload = 'x' WHERE event = :id", id=bad)

    sealed = log.seal()

    assert sealed.damaged == (bad,)
    assert log.event_at(SIZE) == good
    assert log.kinds() == {Kind.NOT_SEALED}
