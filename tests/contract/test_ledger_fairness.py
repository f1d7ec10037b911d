"""Who waits for whom: a flood of one project, and urgent purges behind a backlog of bulk work.

The clock is the test's, so waits are exact: from handing in to the slot of the call.
"""

import math
from collections import defaultdict

import pytest

from ledger.slots import AHEAD_NS, SHARE_S, interval_ns
from ledger.states import Kind, Lane
from ledger.tasks import Delivered
from tests.support.ledger_world import RATE, settled

SECOND = 1_000_000_000
OTHERS = ["north", "east", "south", "west"]
LOOK_S = 0.05
# Work of one project is in the way at most as far as it is booked ahead.
BOOKED_S = AHEAD_NS / SECOND + SHARE_S


def percentile(values, share):
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1]


class Day:
    """Hands work in at its times, carries everything out, and notes how long each call waited."""

    def __init__(self, world):
        self.world = world
        self.submitted = {}
        self.waits = defaultdict(list)
        self.lanes = []

    def submit(self, project, chunks, **order):
        ids = [f"{project}-{len(self.submitted)}-{n}" for n in range(chunks)]
        if order.get("kind", Kind.MEMORIES) is not Kind.MEMORIES:
            ids = []
        receipt = self.world.submit(ids, project=project, chunk_size=1, verify="none", **order)
        self.submitted[receipt.id] = self.world.clock.ns

    def go_on(self, seconds):
        end = self.world.clock.ns + round(seconds * SECOND)
        while self.world.clock.ns < end:
            tasks = self.world.claim().tasks
            for task in tasks:
                wait_s = (task.slot_ns - self.submitted[task.request_id]) / SECOND
                self.waits[task.project].append(wait_s)
                self.lanes.append((task.slot_ns, task.kind))
            self.world.record(*(settled(task, Delivered()) for task in tasks))
            self.world.clock.tick(LOOK_S)


def a_day_of_the_others(world, *, flood, lane):
    """Four projects hand in 30 chunks each every five seconds; the fifth 95 % of all work."""
    world.ledger.register(projects=dict.fromkeys(["big", *OTHERS], "acme"), rates={})
    day, rounds = Day(world), 2
    if flood:
        day.submit("big", 19 * rounds * 30 * len(OTHERS), lane=lane)
        day.go_on(1)
    for _ in range(rounds):
        for project in OTHERS:
            day.submit(project, 30, lane=lane)
        day.go_on(5)
    waits = [wait for project in OTHERS for wait in day.waits[project]]
    assert len(waits) == rounds * 30 * len(OTHERS)
    return waits, len(day.waits["big"])


@pytest.mark.fault("F88")
@pytest.mark.parametrize("lane", [Lane.BULK, Lane.ERASURE])
def test_a_project_with_95_percent_of_the_work_at_most_doubles_the_others_wait(worlds, lane):
    with worlds.open() as world:
        alone, _ = a_day_of_the_others(world, flood=False, lane=lane)
    with worlds.open() as world:
        beside, served = a_day_of_the_others(world, flood=True, lane=lane)
    figures = {
        name: [round(percentile(waits, share), 3) for share in (0.5, 0.99)]
        for name, waits in (("alone", alone), ("beside", beside))
    }
    print(f"wait of the others in {lane.value}, p50 and p99 in s: {figures}")  # noqa: T201 - with -s
    assert percentile(beside, 0.99) <= 2 * percentile(alone, 0.99)
    # The flood has its share all the same, and what the others leave: nothing stands idle.
    assert served + len(beside) >= 0.98 * 10 * RATE * 0.995


@pytest.mark.fault("F88")
def test_one_project_beside_a_flood_has_every_second_slot(world):
    day = Day(world)
    day.submit("shop", 2_000)
    day.go_on(1)
    day.submit("blog", 100)
    day.go_on(4)
    assert len(day.waits["blog"]) == 100
    # Alone it would take a second; with half of the slots two, behind what was booked before.
    assert max(day.waits["blog"]) <= 2 * 100 / (0.995 * RATE) + BOOKED_S + LOOK_S


@pytest.mark.fault("F87")
def test_an_urgent_purge_overtakes_the_whole_backlog_of_bulk_work(world):
    day = Day(world)
    day.submit("shop", 1_500)
    day.go_on(1)
    for number in range(100):
        day.submit("blog", 1, kind=Kind.USER, subject=f"u{number}")
        day.go_on(LOOK_S)
    day.go_on(1)
    waits = day.waits["blog"]
    assert len(waits) == 100
    p50, p99 = percentile(waits, 0.5), percentile(waits, 0.99)
    print(f"wait of an urgent purge, p50 and p99 in s: {p50:.3f} {p99:.3f}")  # noqa: T201 - with -s
    assert p99 <= 1.0 + interval_ns(RATE) / SECOND
    assert max(waits) <= BOOKED_S + LOOK_S + interval_ns(RATE) / SECOND


@pytest.mark.fault("F87")
def test_every_tenth_slot_is_the_bulk_lanes_while_purges_wait(world):
    day = Day(world)
    day.submit("shop", 300)
    for number in range(100):
        day.submit("blog", 1, kind=Kind.USER, subject=f"u{number}")
    day.go_on(1.5)
    first = [kind for _, kind in sorted(day.lanes)][:110]
    bulk = [place for place, kind in enumerate(first) if kind is Kind.MEMORIES]
    assert bulk == list(range(9, 110, 10))
