"""The read-back itself on trial: what it must see before, and must not see afterwards."""

import secrets

import pytest

from ledger import Kind
from ledger.states import Sight
from ledger.tasks import Page, Seen
from memos_api import Cloud, Dialect, SelfHosted
from memos_api.simulator.process import SimulatorProcess
from tests.support.real_client import real_client
from tests.support.virtual_drains import VirtualDrains
from tests.support.worker_fakes import make_task
from worker.judge import judge

DIALECTS: dict[str, Dialect] = {"cloud": Cloud(), "self-hosted": SelfHosted(cubes=("default",))}


@pytest.fixture(scope="module")
def simulator():
    with SimulatorProcess() as running:
        yield running


def seen(memos, user):
    """Ids that a whole walk of the user's list shows, as a worker makes it."""
    task = make_task(call="list", kind=Kind.MEMORIES, subject=user, ids=())
    while True:
        reply = memos.reply(task, 0.0)
        move = judge(task, reply, dialect=memos.dialect, max_attempts=1, chance=lambda: 0.5).move
        if isinstance(move, Seen):
            assert move.sight is not Sight.UNKNOWN
            assert move.walk is not None
            return move.walk.present
        assert isinstance(move, Page)
        task = make_task(call="list", kind=Kind.MEMORIES, subject=user, ids=(), walk=move.walk)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("purged", [False, True])
def test_a_sentinel_is_found_before_and_not_after_and_its_neighbour_all_the_while(
    world, simulator, dialect, purged
):
    sentinel, neighbour, stranger = (f"m-{secrets.token_hex(8)}" for _ in range(3))
    user, other = f"u-{secrets.token_hex(8)}", f"u-{secrets.token_hex(8)}"
    simulator.control.reset()
    simulator.control.seed_ids([sentinel, *([] if purged else [neighbour])], user_id=user)
    simulator.control.seed_ids([neighbour] if purged else [stranger], user_id=other)
    url = simulator.base_url if dialect == "cloud" else simulator.self_hosted_url
    with real_client(simulator, url, DIALECTS[dialect]) as memos:
        assert sentinel in seen(memos, user)  # it can be seen
        assert f"{sentinel}x" not in seen(memos, user)  # and not everything is
        if purged:
            receipt = world.submit(kind=Kind.USER, subject=user)
        else:
            receipt = world.submit([sentinel], subject=user)
        VirtualDrains(world, memos, workers=1, sweep_s=30.0).run(600.0, until_done=True)
        assert sentinel not in seen(memos, user)
        assert neighbour in seen(memos, other if purged else user)
    assert world.view(receipt.id).counts.verified_absent == 1
