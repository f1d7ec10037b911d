"""Redriving, discarding, holding and cancelling the same requests at the same moment."""

import random
import threading
from contextlib import suppress

import pytest

from ledger import redrive_chunks
from ledger.errors import ConflictError
from ledger.redrive_chunks import Pace
from ledger.schema import request
from ledger.tasks import Dead, Delivered, Retry
from tests.support.ledger_memos import Memos
from tests.support.ledger_world import places_and_ids, settled

WHY = {"principal": "op", "reason": "test"}
WITHIN_S = 60.0
IDS = [f"m{n}" for n in range(24)]


def act(world, request_ids, chance):
    """Do one thing to one of the requests, as some person, worker or steward would."""
    request_id = chance.choice(request_ids)
    ledger = world.ledger
    acts = [
        lambda: ledger.redrive(request_id, **WHY, pace=Pace.of(chance.choice([None, 100.0]))),
        lambda: ledger.redrive(request_id, **WHY),
        lambda: chance.random() < 0.2 and ledger.discard(request_id, **WHY),
        lambda: ledger.hold(request_id, **WHY),
        lambda: ledger.release(request_id, principal="op"),
        lambda: chance.random() < 0.05 and ledger.cancel(request_id, **WHY),
        lambda: work(world, chance),
        lambda: work(world, chance),
        lambda: world.sweep(max_attempts=9),
    ]
    with suppress(ConflictError):
        chance.choice(acts)()


def work(world, chance):
    tasks = world.ledger.claim(worker="w", capacity=20, lead_s=0, lease_s=600).tasks
    moves = [Dead(bucket="unknown"), Dead(bucket="refused"), Delivered()]
    moves.append(Retry(delay_s=0.0, burn=True, doubtful=True))
    deletes = [task for task in tasks if task.call == "delete"]
    for request_id in world.record(*(settled(task, chance.choice(moves)) for task in deletes)):
        world.advance(request_id)
    world.clock.tick(1)


@pytest.mark.parametrize("seed", [1, 2])
def test_whoever_acts_at_the_same_moment_no_id_is_lost_and_the_books_are_right(
    world, monkeypatch, seed
):
    monkeypatch.setattr(redrive_chunks, "CHUNKS_AT_ONCE", 3)
    ids = [world.submit(IDS, chunk_size=2, verify="none").id for _ in range(2)]
    world.run(lambda _task: Dead(bucket="unknown"))
    errors: list[BaseException] = []

    def one(number):
        chance = random.Random(f"{seed}-{number}")
        try:
            for _ in range(25):
                act(world, ids, chance)
        except BaseException as error:  # noqa: BLE001 - told by the test
            errors.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WITHIN_S)
    assert not any(thread.is_alive() for thread in threads)
    assert errors == []
    assert any(row.generation > 1 for row in world.rows(request))
    world.check_books()
    for request_id in ids:
        assert places_and_ids(world, request_id) == dict(enumerate(IDS))
        if world.view(request_id).held:
            world.ledger.release(request_id, principal="op")
    world.clock.tick(601)
    for _ in range(3):
        world.sweep(max_attempts=99)
        world.run(Memos(IDS))
    world.check_books()
    assert all(row.finished_at is not None for row in world.rows(request))
    assert all(row.releasing == 0 for row in world.rows(request))
