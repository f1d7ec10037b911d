"""After a restore of the memory store: what was deleted since is ordered again."""

import json
import random
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from ledger.chains import restore_key
from ledger.clock import from_wall, to_wall, wall_us
from ledger.intake import Intake
from ledger.lookups import find_subjects
from ledger.macs import Macs
from ledger.reapplying import reapply, recognise
from ledger.schema import event_body, request
from ledger.states import Kind
from tests.support.ledger_memos import Memos
from tests.support.ledger_world import KEYS

IDS = [f"m{n}" for n in range(230)]
DAY = 86_400


def again(world, since, reason="restored", **options):
    return list(
        reapply(world.database, Macs(KEYS), since=since, principal="op", reason=reason, **options)
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
    known = [replace(one, why="ordered") for one in made]
    assert again(world, backup) == again(world, backup, dry_run=True) == known
    restored = Memos([*IDS, "still open"], subjects={"bob"})
    world.run(restored)
    assert (restored.there, restored.subjects) == (set(), set())
    for one in made:
        view = world.view(one.again)
        assert (view.follows, view.result, view.reason) == (one.id, "complete", "restored")
    assert world.view(open_.id).result == "complete"


def purged(world, name="bob", **order):
    receipt = world.submit(kind=Kind.USER, subject=name, **order)
    world.run(Memos([], subjects={name}))
    return receipt.id


def carry_out(world):
    world.run(Memos(IDS, subjects={"bob"}))


def orders(world):
    return [row.id for row in world.rows(request)]


def fresh(found):
    return [one.again for one in found if one.why is None]


def test_running_it_again_orders_nothing_twice_also_when_what_it_ordered_has_ended(world):
    backup = now()
    purge, batch = purged(world), done(world, IDS)
    made = fresh(again(world, backup))
    assert len(made) == 2
    for _ in range(3):
        carry_out(world)
        assert world.view(made[0]).result.startswith("complete")
        found = again(world, backup, reason="other")
        assert {(one.again, one.why) for one in found} == {(one, "ordered") for one in made}
        world.clock.tick(20 * DAY)
        world.ledger.scrub(redrive_days=14, row_days=14)
    assert len(orders(world)) == 4
    assert [one.id for one in again(world, backup)] == [purge, batch]


def test_a_run_that_broke_off_goes_on_where_it_was_and_with_its_own_reason(world, monkeypatch):
    backup = now()
    done(world, IDS, chunk_size=2)
    purged(world)
    done(world, ["m"])
    before = set(orders(world))

    def killed(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Intake, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            again(world, backup)
    (begun,) = set(orders(world)) - before
    found = reapply(world.database, Macs(KEYS), since=backup, principal="op", reason="other")
    first, second = next(found), next(found)
    assert first.again == begun
    assert [world.view(one.again).reason for one in (first, second)] == ["restored", "other"]
    carry_out(world)
    assert [one.why for one in again(world, backup)] == ["ordered", "ordered", None]
    assert len(orders(world)) == 6


def test_another_restore_orders_one_of_a_chain_the_one_that_ended_last(world):
    backup = now()
    purged(world)
    (first,) = fresh(again(world, backup))
    carry_out(world)
    earlier = backup - timedelta(hours=1)
    found = again(world, earlier)
    assert [(one.id, one.why) for one in found] == [(first, None)]
    (second,) = fresh(found)
    assert world.view(second).follows == first
    world.clock.tick(60)
    later = now()
    carry_out(world)
    for since in (backup, earlier):
        assert [one.why for one in again(world, since)] == ["ordered"]
    assert [one.id for one in again(world, later)] == [second]
    assert len(orders(world)) == 4


def test_the_same_backup_restored_once_more_is_said_by_its_number(world):
    backup = now()
    purged(world)
    (first,) = fresh(again(world, backup))
    carry_out(world)
    (second,) = fresh(again(world, backup, times=2))
    carry_out(world)
    assert world.view(second).follows == first
    for times in (1, 2):
        assert [one.why for one in again(world, backup, times=times)] == ["ordered"]
    assert len(orders(world)) == 3


def test_what_was_handed_in_after_the_first_run_was_not_undone(world):
    backup = now()
    first = purged(world)
    assert len(fresh(again(world, backup))) == 1
    world.clock.tick(3_600)
    younger = purged(world, "carol")
    assert [one.id for one in again(world, backup)] == [first]
    assert younger in [one.id for one in again(world, backup, times=2)]


def test_what_an_earlier_release_ordered_again_for_this_restore_is_known(world):
    """It made the key of what a request followed, which need not be the chain's first."""
    earlier = now()
    purged(world)
    (first,) = fresh(again(world, earlier))
    world.clock.tick(60)
    backup = now()
    carry_out(world)
    second = purged(world, idempotency_key=restore_key(first, str(to_wall(backup))))
    follow(world, second, first)
    found = again(world, backup)
    assert [(one.again, one.why) for one in found] == [(second, "ordered")]
    assert len(fresh(again(world, backup, times=2))) == 1


def test_what_a_second_look_brought_about_is_a_chain_of_its_own(world):
    backup = now()
    purge = purged(world)
    child = done(world, ["came back"], subject="bob")
    follow(world, child, purge)
    assert {one.id for one in again(world, backup)} == {purge, child}


def follow(world, request_id, before):
    statement = update(request).where(request.c.id == request_id).values(follows=before)
    world.database.write(lambda conn: conn.execute(statement))


@pytest.mark.parametrize("seed", range(4))
def test_however_runs_break_off_and_orders_end_each_is_ordered_once_for_a_restore(world, seed):
    rng = random.Random(seed)
    restores, originals, names = [(now(), 1)], [], set()
    world.clock.tick(60)
    for number in range(16):
        world.clock.tick(rng.randrange(1, 900))
        step = rng.choice(["hand in", "hand in", "run", "run", "break off", "end", "restore"])
        if step == "hand in":
            names.add(f"user{number}")
            originals.append(purged(world, f"user{number}"))
        elif step == "end":
            world.run(Memos([], subjects=set(names)))
        elif step == "restore":
            restores.append(rng.choice([(now(), 1), (restores[0][0], len(restores) + 1)]))
        else:
            since, times = rng.choice(restores)
            found = reapply(
                world.database,
                Macs(KEYS),
                since=since,
                principal="op",
                reason=rng.choice(["one", "two"]),
                times=times,
            )
            for _ in range(1 if step == "break off" else 100):
                next(found, None)
    for since, times in restores:
        again(world, since, times=times)
        world.run(Memos([], subjects=set(names)))
        before = orders(world)
        assert fresh(again(world, since, times=times)) == []
        assert orders(world) == before
    rows = {row.id: row for row in world.rows(request)}
    chains: dict[str, list[str]] = {}
    for row in rows.values():
        root = row
        while root.follows is not None:
            root = rows[root.follows]
        chains.setdefault(root.id, []).append(row.id)
    assert set(chains) == set(originals)
    assert max(map(len, chains.values())) <= 1 + len(restores)
    assert any(len(chain) > 1 for chain in chains.values())


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

    def known(ids, since=backup, **options):
        return [
            one.id
            for one in recognise(world.database, macs, ids, since=since, principal="op", **options)
        ]

    assert known([*IDS, IDS[0]]) == known(IDS, projects=["shop"]) == [batch]
    assert known(IDS, projects=["far"]) == []
    bodies = [json.loads(bytes(row.payload)) for row in world.rows(event_body)]
    looks = [one for one in bodies if one["type"] == "batches.looked_up"]
    assert {(one["principal"], one["asked"]) for one in looks} == {("op", len(IDS))}
    assert sorted(one["known"] for one in looks) == [0, 1, 1]
    assert known(IDS[:-1]) == known(IDS[::-1]) == known(IDS, since=now()) == []
    looked = find_subjects(world.database, macs, ["alice", "bob"], principal="op", since=backup)
    assert [(one.line, str(one.answer), one.request) for one in looked.known] == [
        (1, "not_known", None),
        (2, "erased", purge),
    ]
