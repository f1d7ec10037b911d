"""Probes take slots like every other call, and leave a record of themselves."""

import json
import random
import threading
import time
from itertools import pairwise

import pytest
from sqlalchemy import select

from ledger import Ledger, upgrade
from ledger.probes import Probe, ProbeRefused
from ledger.schema import account, event, event_body, project
from ledger.slots import AHEAD_NS, interval_ns
from ledger.tasks import Retry
from tests.support.ledger_world import KEYS, RATE, settled

SECOND = 1_000_000_000


def probe(world, name="shop", *, lead_s=0.0):
    return world.ledger.book_probe(name, principal="ops", lead_s=lead_s)


def refusal(world, name="shop"):
    found = probe(world, name)
    assert isinstance(found, ProbeRefused)
    return found


def bodies(world, kind):
    rows = world.database.read(
        lambda conn: (
            conn.execute(
                select(event_body.c.payload)
                .join(event, event.c.id == event_body.c.event)
                .where(event.c.type == kind)
            )
            .scalars()
            .all()
        )
    )
    return [json.loads(row) for row in rows]


@pytest.mark.parametrize("rate", [0.5, 20.0, 1_000.0])
def test_slots_of_probes_and_claims_together_keep_the_interval(world, rate):
    world.ledger.register(projects={}, rates={"acme": rate}, decides=True)
    world.submit([f"m{i}" for i in range(400)], chunk_size=1)
    chance = random.Random(rate)
    slots, probes = [], 0
    for _ in range(60):
        if chance.random() < 0.5:
            booked = probe(world, lead_s=chance.choice([0.0, 0.1]))
            if isinstance(booked, Probe):
                assert world.clock.ns <= booked.slot_ns <= world.clock.ns + AHEAD_NS
                slots.append(booked.slot_ns)
                probes += 1
            else:
                assert booked.reason == "no_slot"
        else:
            slots += [task.slot_ns for task in world.claim(chance.randint(1, 9)).tasks]
        world.clock.tick(chance.choice([0.0, 0.02, 0.3, 2.5]))
    assert probes > 5
    assert len(slots) > 2 * probes or rate < 1
    assert slots == sorted(slots)
    assert all(late - early >= interval_ns(rate) for early, late in pairwise(slots))


def test_probes_and_claims_of_many_threads_never_share_a_slot(ledger_url):
    upgrade(ledger_url)
    taken, lock = [], threading.Lock()
    with Ledger.open(ledger_url, keys=KEYS) as ledger:
        ledger.register(projects={"shop": "acme"}, rates={"acme": 200.0}, decides=True)

        def probe_on(until):
            while time.monotonic() < until:
                booked = ledger.book_probe("shop", principal="ops", lead_s=0.01)
                if isinstance(booked, Probe):
                    with lock:
                        taken.append(booked.slot_ns)

        until = time.monotonic() + 1.0
        threads = [threading.Thread(target=probe_on, args=(until,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    taken.sort()
    assert len(taken) > 20
    assert all(late - early >= interval_ns(200.0) for early, late in pairwise(taken))


def test_a_probe_has_a_record_before_it_leaves_and_one_of_its_outcome(world):
    booked = probe(world)
    (intent,) = bodies(world, "calls.intent")
    assert intent["probe"] is True
    assert (intent["claim"], intent["account"], intent["project"]) == (booked.id, "acme", "shop")
    assert (intent["calls"], intent["slot"]) == (1, str(booked.slot_ns))
    assert bodies(world, "calls.outcome") == []
    world.ledger.record_probe(booked, outcome="acknowledged", reason="code_0", code=2**60)
    (outcome,) = bodies(world, "calls.outcome")
    assert (outcome["claim"], outcome["outcomes"]) == (booked.id, {"acknowledged": 1})
    assert outcome["code"] is None


def test_a_probe_that_is_refused_takes_no_slot_and_leaves_no_record(world):
    world.sql("UPDATE project SET paused = 1, pause_reason = 'http_401' WHERE name = 'shop'")
    before = world.row(account, account.c.name == "acme").next_slot_ns
    assert refusal(world) == ProbeRefused(reason="project_paused", why="http_401")
    assert refusal(world, "nobody").reason == "unknown_project"
    assert world.row(account, account.c.name == "acme").next_slot_ns == before
    assert bodies(world, "calls.intent") == []
    assert isinstance(probe(world, "blog"), Probe)


def test_no_probe_goes_to_an_account_or_project_that_rests(world):
    world.submit(["m"])
    task = world.claim_one()
    world.record(settled(task, Retry(delay_s=0, burn=False), pause_account_s=7.0))
    world.sql(
        "UPDATE project SET open_until_ns = :t WHERE name = 'shop'", t=world.clock.ns + 20 * SECOND
    )
    assert refusal(world).wait_s == pytest.approx(20.0)
    assert refusal(world, "blog").reason == "account_rests"
    assert refusal(world, "blog").wait_s == pytest.approx(7.0)
    world.clock.tick(7.0)
    assert isinstance(probe(world, "blog"), Probe)
    assert refusal(world).reason == "project_rests"
    world.clock.tick(13.0)
    assert isinstance(probe(world), Probe)


def test_a_probe_after_calls_with_leeway_keeps_the_wider_interval(world):
    world.submit([f"m{i}" for i in range(40)], chunk_size=1)
    (late,) = world.claim(1, leeway={"acme"}).tasks
    booked = probe(world)
    assert isinstance(booked, Probe)
    found = world.row(account, account.c.name == "acme")
    wider = interval_ns(RATE) * 0.995 / 0.9
    assert booked.slot_ns - late.slot_ns >= wider - 1
    assert found.next_slot_ns - booked.slot_ns >= wider - 1


def test_a_slot_too_far_away_is_not_taken_and_its_wait_is_told(world):
    world.ledger.register(projects={}, rates={"acme": 0.1}, decides=True)
    assert isinstance(probe(world), Probe)
    found = refusal(world)
    assert found.reason == "no_slot"
    assert found.wait_s == pytest.approx((interval_ns(0.1) - AHEAD_NS) / SECOND)
    world.clock.tick(found.wait_s)
    assert isinstance(probe(world), Probe)


def test_a_probe_tells_its_slot_in_the_time_of_this_process(world):
    before = time.monotonic_ns()
    booked = probe(world, lead_s=0.5)
    after = time.monotonic_ns()
    assert before + SECOND // 2 <= booked.not_before_ns <= after + SECOND // 2
    assert booked.late_by_ns(before) == 0
    assert booked.late_by_ns(booked.not_before_ns + 7) >= 7


def test_a_probe_is_of_no_lane(world):
    booked = world.row(account, account.c.name == "acme").booked
    probe(world)
    assert world.row(account, account.c.name == "acme").booked == booked
    assert world.row(project, project.c.name == "shop").failures == 0
