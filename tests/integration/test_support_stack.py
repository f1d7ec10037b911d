"""The stack of the fault tests: its proxies, its crash points, and the oracle on a real run."""

from tests.support.fault_proxy import Mode
from tests.support.stack import Stack


def test_a_worker_goes_through_every_proxy_and_the_oracle_finds_nothing(tmp_path, postgres_url):
    proxied = ("memos", "redis", "ledger")
    with Stack(tmp_path, postgres_url, rate=100, latency_ms=5, proxied=proxied) as stack:
        dropped = stack.proxies["memos"].arm(Mode.SWALLOW, direction="up", pattern=b"delete/memory")
        dropped.count = 1
        seeded = stack.seed(users=2, memories=30)
        stack.submit(seeded.by_user[seeded.users[0]], chunk_size=10, verify="none")
        stack.start_worker()

        verdict = stack.verdict()

        assert all(proxy.accepted for proxy in stack.proxies.values())
        assert dropped.struck == 1
        assert stack.scalar("SELECT count(*) FROM attempt WHERE outcome = 'unknown'") == 1
    verdict.assert_clean()
    assert verdict.calls >= 4


def test_a_process_that_crashes_on_purpose_leaves_its_mark_and_counts_as_a_kill(tmp_path):
    settings = {"EXPUNGE_CRASH_POINTS": "record.after_commit@1=kill"}
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with Stack(tmp_path, url, rate=100, latency_ms=5, settings=settings) as stack:
        worker = stack.start_worker()
        seeded = stack.seed(users=1, memories=20)
        stack.submit(seeded.memory_ids, chunk_size=10, verify="none")

        victim = stack.wait_for_crash("record.after_commit@1")
        verdict = stack.verdict()

        assert victim not in worker.members()
        assert stack.counted_kills == 1
    verdict.assert_clean()
