"""With two workers, whatever is killed: everything ends, nothing is lost, no limit is passed."""

import pytest

from tests.support.stack import Stack

USERS, EACH = 40, 60
PURGED = 12
CHUNK = 7


@pytest.fixture
def stack(tmp_path, ledger_url):
    with Stack(tmp_path, ledger_url, rate=80, latency_ms=30) as running:
        yield running


def order_everything(stack):
    """Seed, and order 300 chunks and twelve purges; the users in between are bystanders."""
    seeded = stack.seed(users=USERS, memories=EACH, seed=5)
    ordered = [one for user in seeded.users[:30] for one in seeded.by_user[user]]
    for first in range(0, len(ordered), 600):
        stack.submit(ordered[first : first + 600], chunk_size=CHUNK)
    purged = seeded.users[30 - PURGED // 2 : 30 + PURGED // 2]
    for user in purged:
        stack.purge(user)
    return seeded, ordered, purged


@pytest.mark.fault("F13", "F15", "F16")
@pytest.mark.slow
def test_work_survives_a_killed_worker_a_flush_a_restart_and_the_loss_of_redis(stack, fault_report):
    first, second = stack.start_worker(), stack.start_worker()
    seeded, ordered, purged = order_everything(stack)

    stack.wait_for_calls(60)
    first.kill_group()
    stack.wait_for_calls(120)
    with stack.valkey.client() as client:
        client.flushall()
    stack.wait_for_calls(180)
    stack.valkey.kill()
    stack.wait_for_calls(190)
    stack.valkey.start()
    stack.wait_for_calls(260)
    stack.valkey.kill()  # for good: the stewards finish the work
    assert sum(view.counts.pending for view in stack.views()) > 0

    verdict = stack.verdict(seconds=30)
    fault_report(verdict)
    verdict.assert_clean()
    stack.assert_truth(seeded, ordered=ordered, purged=purged)
    second.terminate()
    assert second.wait(4) == 0
