"""After a restore of the memory store: what was deleted since is ordered again."""

from datetime import timedelta

from ledger.clock import from_wall, wall_us
from ledger.lookups import find_subjects
from ledger.macs import Macs
from ledger.reapplying import reapply, recognise
from ledger.states import Kind
from tests.support.ledger_memos import Memos
from tests.support.ledger_world import KEYS

IDS = [f"m{n}" for n in range(230)]
DAY = 86_400


def again(world, since, **options):
    return list(
        reapply(
            world.database, Macs(KEYS), since=since, principal="op", reason="restored", **options
        )
    )


def now():
    return from_wall(wall_us())


def done(world, ids, **order):
    receipt = world.submit(ids, **order)
    world.run(Memos(ids))
    return receipt.id


def test_what_ended_since_is_ordered_again_once_and_linked(world):
    done(world, ["old"])
    world.clock.tick(60)
    backup = now()
    batch = done(world, IDS, chunk_size=2, subject="alice")
    purge = world.submit(kind=Kind.USER, subject="bob", include_later=True).id
    world.run(Memos([], subjects={"bob"}))
    cancelled = world.submit(["never sent"])
    world.ledger.cancel(cancelled.id, principal="op", reason="x")
    open_ = world.submit(["still open"])
    assert [(one.id, one.again) for one in again(world, backup, dry_run=True)] == [
        (batch, None),
        (purge, None),
    ]
    made = again(world, backup)
    assert [(one.id, one.why) for one in made] == [(batch, None), (purge, None)]
    assert again(world, backup) == made
    restored = Memos([*IDS, "still open"], subjects={"bob"})
    world.run(restored)
    assert (restored.there, restored.subjects) == (set(), set())
    for one in made:
        view = world.view(one.again)
        assert (view.follows, view.result, view.reason) == (one.id, "complete", "restored")
    assert world.view(open_.id).result == "complete"


def test_another_restore_is_another_order(world):
    backup = now()
    done(world, ["m"])
    first = again(world, backup)
    second = again(world, backup - timedelta(hours=1))
    assert first[0].again != second[0].again


def test_what_was_changed_is_left_out(world):
    backup = now()
    request_id = done(world, ["m"])
    world.sql("UPDATE chunk SET ids = '[\"other\"]'")
    assert [(one.id, one.again, one.why) for one in again(world, backup)] == [
        (request_id, None, "tampered")
    ]


def test_of_what_was_scrubbed_the_producers_list_is_recognised(world):
    backup = now()
    batch = done(world, IDS, chunk_size=7)
    purge = world.submit(kind=Kind.USER, subject="bob").id
    world.run(Memos([], subjects={"bob"}))
    world.clock.tick(15 * DAY)
    world.ledger.scrub(redrive_days=14, row_days=14)
    assert [(one.id, one.why) for one in again(world, backup)] == [
        (batch, "scrubbed"),
        (purge, "scrubbed"),
    ]
    macs = Macs(KEYS)

    def known(ids, since=backup):
        return [one.id for one in recognise(world.database, macs, ids, since=since)]

    assert known([*IDS, IDS[0]]) == [batch]
    assert known(IDS[:-1]) == known(IDS[::-1]) == known(IDS, since=now()) == []
    looked = find_subjects(world.database, macs, ["alice", "bob"], principal="op", since=backup)
    assert [(one.line, str(one.answer), one.request) for one in looked.known] == [
        (1, "not_known", None),
        (2, "erased", purge),
    ]
