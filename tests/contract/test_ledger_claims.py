"""Claims: spaced slots, fair lines, each chunk to one worker, and a record before each call."""

import hashlib
import json
import random
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from sqlalchemy import event, select
from sqlalchemy.dialects import postgresql

from ledger.canonical import canonical
from ledger.in_line import ACCOUNTS_IN_TURN
from ledger.schema import account, attempt, chunk, event_body, request
from ledger.slots import interval_ns
from ledger.states import ChunkState, Kind, Lane, Sight
from ledger.tasks import Delivered, Retry, Seen, Task, Unsent
from tests.support.ledger_memos import Memos
from tests.support.ledger_world import RATE, settled

SECOND = 1_000_000_000


def fill(world, n=40, **fields):
    return world.submit([f"m{i}" for i in range(n)], chunk_size=1, **fields)


def see_that_the_store_answers(world):
    """Let the one list go that is read before reads by id, so that those are due."""
    world.clock.tick(5)
    for request_id in world.record(settled(world.claim_one(), Seen(sight=Sight.ABSENT))):
        world.advance(request_id)
    world.clock.tick(5)


def claim_steadily(world, count, *, answer=None, lead_s=0.0):
    """Claim every 100 ms until `count` calls were given out."""
    tasks: list[Task] = []
    while len(tasks) < count:
        claimed = world.claim(lead_s=lead_s).tasks
        tasks += claimed
        if answer:
            world.record(*(settled(task, answer(task)) for task in claimed))
        world.clock.tick(0.1)
    return tasks[:count]


# -- slots ----------------------------------------------------------------------------------------


def test_who_takes_longer_to_claim_may_come_as_much_earlier(world):
    world.ledger.register(projects={}, rates={"acme": 100.0}, decides=True)
    fill(world, 400)
    first = world.claim(lead_s=0.0).tasks
    world.clock.tick((first[-1].slot_ns - world.clock.ns) / SECOND - 0.3)
    soon = world.claim(lead_s=0.01)
    assert soon.tasks == ()
    assert soon.wake_ns == pytest.approx(0.16 * SECOND, abs=0.01 * SECOND)
    (later, *_) = world.claim(lead_s=0.35).tasks
    assert later.slot_ns - world.clock.ns == pytest.approx(0.35 * SECOND, abs=0.001 * SECOND)


@pytest.mark.parametrize("rate", [0.5, 3.0, 100.0, 5_000.0])
def test_slots_of_several_workers_keep_the_interval_whatever_they_do(world, rate):
    world.ledger.register(projects={}, rates={"acme": rate}, decides=True)
    fill(world, 400)
    chance = random.Random(rate)
    slots, claimed = [], 0
    for _ in range(40):
        before = world.clock.ns
        lead_s = chance.choice([0.0, 0.01, 0.1])
        claim = world.claim(chance.randint(1, 60), worker=f"w{chance.randint(1, 4)}", lead_s=lead_s)
        for task in claim.tasks:
            assert before + lead_s * SECOND <= task.slot_ns <= before + SECOND
        assert len(claim.tasks) <= max(1, 0.2 * rate)
        slots += [task.slot_ns for task in claim.tasks]
        claimed += len(claim.tasks)
        world.clock.tick(chance.choice([0.0, 0.001, 0.05, 0.3, 2.5]))
    assert claimed
    assert slots == sorted(slots)
    gaps = [late - early for early, late in pairwise(slots)]
    assert all(gap >= interval_ns(rate) for gap in gaps)


def test_whoever_claims_after_a_call_with_leeway_keeps_the_wider_interval_for_a_limit(world):
    world.ledger.register(projects={}, rates={"acme": 100.0}, decides=True)
    fill(world, 400)
    first = world.claim(leeway={"acme"})
    assert first.leeway == {"acme"}
    slots = [task.slot_ns for task in first.tasks]
    while slots[-1] < first.tasks[-1].slot_ns + 1.3 * SECOND:
        claim = world.claim(worker="another", lead_s=0.01)
        assert claim.leeway == frozenset()
        slots += [task.slot_ns for task in claim.tasks]
        world.clock.tick(0.1)
    wide = first.tasks[-1].slot_ns + SECOND / 0.9
    gaps = [(early, late - early) for early, late in pairwise(slots)]
    assert all(gap >= SECOND / 90 for early, gap in gaps if early < wide)
    assert interval_ns(100) in {gap for early, gap in gaps if early >= wide}
    assert world.row(account, account.c.name == "beta").leeway_until_ns == 0


def test_who_leads_by_little_gets_its_slots_beside_one_who_leads_by_much_when_they_have_leeway(
    world,
):
    world.ledger.register(projects={}, rates={"acme": 100.0}, decides=True)
    fill(world, 400)

    def shares(leeway):
        found: Counter[str] = Counter()
        for _ in range(20):
            for worker, lead_s in (("much", 0.4), ("little", 0.05)):
                claim = world.claim(4, worker=worker, lead_s=lead_s, leeway=leeway)
                found[worker] += len(claim.tasks)
                world.clock.tick(0.03)
        return found

    assert shares(()) == {"much": 80, "little": 0}
    world.clock.tick(5)
    assert min(shares({"acme"}).values()) >= 50


def test_an_idle_account_saves_nothing_up(world):
    world.clock.tick(3_600)
    fill(world)
    first = world.claim().tasks
    assert len(first) == 19
    assert first[0].slot_ns == world.clock.ns


def test_a_claim_tells_when_the_next_one_makes_sense(world):
    assert world.claim().wake_ns is None
    fill(world, 200)
    while (claim := world.claim()).tasks:
        assert claim.wake_ns is not None
    # All slots of the next second are given out.
    assert 0 < claim.wake_ns <= 0.2 * SECOND
    world.clock.tick(claim.wake_ns / SECOND + 0.001)
    assert world.claim().tasks


@pytest.mark.parametrize("lead_s", [0.01, 0.35])
def test_a_claim_that_leaves_work_tells_when_the_next_slots_are_near_enough(world, lead_s):
    fill(world, 200)
    claim = world.claim(lead_s=lead_s)
    *_, before, last = (task.slot_ns for task in claim.tasks)
    next_free_s = (2 * last - before - world.clock.ns) / SECOND
    assert claim.wake_ns == pytest.approx((next_free_s - max(0.15, lead_s)) * SECOND, abs=100)
    world.clock.tick(claim.wake_ns / SECOND - 0.001)
    assert world.claim(lead_s=lead_s).tasks == ()
    world.clock.tick(0.002)
    assert world.claim(lead_s=lead_s).tasks


def test_a_retry_is_due_at_its_time_and_the_claim_before_says_when(world):
    fill(world, 1)
    world.record(settled(world.claim_one(), Retry(delay_s=5.0, burn=True)))
    early = world.claim()
    assert (early.tasks, early.wake_ns) == ((), 5 * SECOND)
    world.clock.tick(4.999)
    assert world.claim().tasks == ()
    world.clock.tick(0.001)
    assert len(world.claim().tasks) == 1


def test_a_lower_limit_holds_from_the_next_claim_on(world):
    fill(world, 100)
    world.claim()
    world.ledger.register(projects={}, rates={"acme": 1.0}, decides=True)
    slots = [task.slot_ns for task in claim_steadily(world, 5)]
    gaps = [late - early for early, late in pairwise(slots)]
    assert all(gap >= interval_ns(1.0) for gap in gaps)


def test_one_who_only_hands_in_does_not_change_the_limit(world):
    world.ledger.register(projects={"shop": "beta"}, rates={"acme": 1.0})
    assert world.row(account, account.c.name == "acme").interval_ns == interval_ns(RATE)
    fill(world, 1)
    assert world.row(request).account == "acme"


# -- pauses and accounts --------------------------------------------------------------------------


def test_an_account_that_rests_gets_nothing_and_the_others_go_on(world):
    fill(world)
    fill(world, project="blog")
    fill(world, project="far")
    acme = next(task for task in world.claim(40).tasks if task.account == "acme")
    world.record(settled(acme, Retry(delay_s=0, burn=False), pause_account_s=7.0))
    world.clock.tick(1.0)
    assert {task.account for task in world.claim().tasks} == {"beta"}
    world.clock.tick(5.99)
    assert {task.account for task in world.claim().tasks} == {"beta"}
    world.clock.tick(0.02)
    tasks = [task for task in world.claim().tasks if task.account == "acme"]
    assert tasks
    assert tasks[0].slot_ns >= world.clock.ns - 0.02 * SECOND


def test_an_account_with_little_room_left_does_not_take_it_all_from_the_others(world):
    """A worker with one free place serves the accounts in turn."""
    fill(world)
    fill(world, project="far")
    seen: Counter[str] = Counter()
    for _ in range(20):
        world.clock.tick(1)
        seen += Counter(task.account for task in world.claim(1).tasks)
    assert seen == {"acme": 10, "beta": 10}


def test_held_requests_and_stopped_projects_wait(world):
    held, paused = fill(world, 2), fill(world, 2, project="blog")
    free = fill(world, 2)
    world.sql("UPDATE request SET held = 1 WHERE id = :id", id=held.id)
    world.sql("UPDATE project SET paused = 1, pause_reason = 'x' WHERE name = 'blog'")
    assert {task.request_id for task in world.claim().tasks} == {free.id}
    world.sql("UPDATE request SET held = 0")
    world.sql("UPDATE project SET paused = 0, pause_reason = NULL, open_until_ns = :t", t=2**60)
    world.clock.tick(2)
    assert not world.claim().tasks
    world.sql("UPDATE project SET open_until_ns = :t", t=world.clock.ns)
    assert {task.request_id for task in world.claim().tasks} == {held.id, paused.id}


# -- lines ----------------------------------------------------------------------------------------


def test_erasures_come_first_and_every_tenth_slot_is_bulk(world):
    fill(world, 100, lane=Lane.BULK)
    fill(world, 100, lane=Lane.ERASURE)
    lanes = {row.id: row.lane for row in world.rows(request)}
    tasks = claim_steadily(world, 100)
    bulk = [place for place, task in enumerate(tasks) if lanes[task.request_id] == "bulk"]
    assert bulk == list(range(9, 100, 10))


def test_bulk_gets_its_tenth_also_while_erasures_are_read_back(world):
    done = fill(world, 30, lane=Lane.ERASURE, verify="full")
    claim_steadily(world, 30, answer=lambda _: Delivered())
    world.advance(done.id)
    see_that_the_store_answers(world)
    fill(world, 200, lane=Lane.ERASURE)
    bulk = fill(world, 50, lane=Lane.BULK)
    world.sql("UPDATE account SET read_credit = 0")
    tasks = claim_steadily(world, 100)
    assert sum(task.request_id == bulk.id for task in tasks) == 10
    assert sum(task.call == "read" for task in tasks) in (19, 20)


def test_read_backs_take_a_fifth_while_deletions_wait_and_all_slots_afterwards(world):
    done = fill(world, 60, verify="full")
    claim_steadily(world, 60, answer=lambda _: Delivered())
    world.advance(done.id)
    see_that_the_store_answers(world)
    world.sql("UPDATE account SET read_credit = 0")
    fill(world, 40)
    calls = [task.call for task in claim_steadily(world, 50)]
    assert calls.count("read") == 10
    assert all(calls[:place].count("read") <= place / 5 for place in range(50))
    assert {task.call for task in claim_steadily(world, 40)} == {"read"}


def test_read_backs_alone_use_the_whole_rate(world):
    done = fill(world, 38, verify="full")
    claim_steadily(world, 38, answer=lambda _: Delivered())
    world.advance(done.id)
    see_that_the_store_answers(world)
    assert [task.call for task in world.claim().tasks] == ["read"] * 19


def test_what_is_due_soon_goes_before_what_came_first(world):
    now = datetime.fromtimestamp(world.clock.wall_ns / 1e9, tz=UTC)
    first = fill(world, 3, lane=Lane.ERASURE)
    far = fill(world, 3, lane=Lane.ERASURE, due_at=now + timedelta(days=30))
    soon = fill(world, 3, lane=Lane.ERASURE, due_at=now + timedelta(days=2))
    late = fill(world, 3, lane=Lane.ERASURE, due_at=now - timedelta(days=2))
    order = [task.request_id for task in claim_steadily(world, 12)]
    assert order == [one.id for one in (late, soon, first, far) for _ in range(3)]


def test_a_project_that_comes_later_need_not_wait_for_a_long_line(world):
    fill(world, 100)
    claim_steadily(world, 20)
    fill(world, 30, project="blog")
    projects = Counter(task.project for task in claim_steadily(world, 40))
    assert abs(projects["shop"] - projects["blog"]) <= 2


def test_requests_of_one_project_go_in_their_order(world):
    first, second = fill(world, 5), fill(world, 5)
    order = [task.request_id for task in claim_steadily(world, 10)]
    assert order == [first.id] * 5 + [second.id] * 5


# -- each chunk to one worker ---------------------------------------------------------------------


def test_claims_at_the_same_moment_never_give_out_a_chunk_twice(world):
    fill(world, 150)
    fill(world, 100, project="far")
    start, tasks, errors = threading.Barrier(5), [], []

    def work(name):
        start.wait(10)
        try:
            for _ in range(8):
                tasks.extend(
                    world.ledger.claim(worker=name, capacity=7, lead_s=0, lease_s=60).tasks
                )
        except Exception as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    start.wait(10)
    while any(thread.is_alive() for thread in threads):
        world.clock.tick(0.05)
        threads[0].join(0.005)
    assert errors == []
    assert len(tasks) > 50
    assert len({task.chunk_id for task in tasks}) == len(tasks)
    for name in ("acme", "beta"):
        slots = sorted(task.slot_ns for task in tasks if task.account == name)
        gaps = [late - early for early, late in pairwise(slots)]
        assert all(gap >= interval_ns(RATE) for gap in gaps)
    assert len(world.rows(chunk, chunk.c.state == ChunkState.LEASED)) == len(tasks)


def test_a_claimed_chunk_is_nobody_elses_until_its_lease_ends(world):
    fill(world, 1)
    task = world.claim_one(lease_s=10)
    world.clock.tick(9.9)
    world.sweep()
    assert not world.claim().tasks
    row = world.row(chunk)
    assert (row.state, row.fence, row.fence) == ("leased", 1, task.fence)


# -- the record before the call -------------------------------------------------------------------


def digest_of(rows):
    """Recompute an intent's digest from the attempt rows alone, as an auditor would."""
    digest = hashlib.sha256()
    for row in rows:
        line = [row.place, row.call, row.request_id, row.generation, row.chunk_id]
        line += [row.readback_id, row.fence, str(row.slot_ns)]
        digest.update(canonical(line) + b"\n")
    return digest.hexdigest()


def test_every_call_has_its_attempt_and_its_intent_with_the_digest(world):
    fill(world, 30, verify="full")
    fill(world, 10, project="far", verify="sample:3")
    world.submit(kind=Kind.USER, subject="u")
    world.run(Memos(f"m{n}" for n in range(30)))
    rows = world.rows(attempt)
    assert {(row.claim, row.place) for row in rows} == {(t.claim, t.place) for t in world.tasks}
    by_task = {(task.claim, task.place): task for task in world.tasks}
    for row in rows:
        task = by_task[row.claim, row.place]
        assert (row.call, row.fence, row.slot_ns) == (task.call, task.fence, task.slot_ns)
        assert (row.request_id, row.worker) == (task.request_id, "w1")
        assert row.chunk_id == (task.chunk_id if task.call == "delete" else None)
        assert row.readback_id == task.readback_id
    accounts = {row.id: row.account for row in world.rows(request)}
    intents = [
        json.loads(row.payload)
        for row in world.rows(event_body)
        if b'"calls.intent"' in bytes(row.payload)
    ]
    assert sum(intent["calls"] for intent in intents) == len(rows)
    for intent in intents:
        own = [
            row
            for row in rows
            if row.claim == intent["claim"] and accounts[row.request_id] == intent["account"]
        ]
        assert len(own) == intent["calls"]
        assert digest_of(own) == intent["digest"]


def test_a_claim_that_the_ledger_did_not_confirm_left_nothing(world, monkeypatch):
    fill(world, 5)
    with monkeypatch.context() as patch:
        patch.setattr("ledger.claims.append", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            world.claim()
    assert world.rows(attempt) == []
    assert world.row(account, account.c.name == "acme").booked == 0
    assert {row.state for row in world.rows(chunk)} == {"due"}


def test_a_task_says_nothing_of_ids_when_it_is_logged(world):
    world.submit(["canary"], subject="canary")
    task = world.claim_one()
    assert "canary" not in repr(task) + str(task) + repr(settled(task, Unsent()))


def test_a_claim_of_an_empty_ledger_is_empty(world):
    claim = world.claim()
    assert (claim.tasks, claim.wake_ns, claim.now_ns) == ((), None, world.clock.ns)
    assert world.database.read(lambda conn: conn.execute(select(attempt)).all()) == []


# -- what it costs --------------------------------------------------------------------------------


def statements_of(world, work):
    """Count how often the database is asked, and written to, meanwhile."""
    found = []

    def note(_conn, _cursor, statement, *_):
        found.append(statement)

    event.listen(world.database.engine, "before_cursor_execute", note)
    try:
        work()
    finally:
        event.remove(world.database.engine, "before_cursor_execute", note)
    return len(found)


def test_neither_a_claim_nor_a_record_asks_more_often_for_more_calls(world):
    # Each question is a way to the server and back, under the account's lock.
    requests = [fill(world, 20) for _ in range(3)]
    claims, tasks = [], []
    for _ in range(2):
        claims.append(statements_of(world, lambda: tasks.extend(world.claim().tasks)))
        world.clock.tick(1)
    assert len(tasks) > 5
    records = [
        statements_of(
            world, lambda some=some: world.record(*(settled(one, Delivered()) for one in some))
        )
        for some in (tasks[:1], tasks[1:])
    ]
    assert {task.request_id for task in tasks} <= {one.id for one in requests}
    assert max(claims) <= 12
    assert max(records) <= 9


def test_accounts_are_locked_in_the_order_of_names_that_python_has():
    # A database sorts by its own locale, and whoever records locks in Python's order.
    asked = str(ACCOUNTS_IN_TURN.compile(dialect=postgresql.dialect()))
    assert asked.endswith('ORDER BY account.name COLLATE "C" FOR NO KEY UPDATE')
