"""A home with keys and a ledger, and the commands run in it."""

import pytest
from typer.testing import CliRunner

from expunge.cli import app
from ledger import Keys, Ledger, ReadbackPolicy
from ledger.states import Sight
from ledger.tasks import Delivered, Seen, Settlement
from tests.support.homes import CLOSED_REDIS, make_home


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPUNGE_REDIS_URL", CLOSED_REDIS)
    return make_home(tmp_path)


@pytest.fixture
def expunge(settings):
    runner = CliRunner()

    def run(*args, stdin=None):
        return runner.invoke(app, [str(each) for each in args], input=stdin)

    return run


@pytest.fixture
def ledger(settings):
    with Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir)) as opened:
        opened.register(projects={"default": "default"}, rates={"default": 10_000.0}, decides=True)
        yield opened


@pytest.fixture
def carry_out(ledger):
    def run():
        policy = ReadbackPolicy(settle_s=0)
        while tasks := ledger.claim(worker="w", capacity=10, lead_s=0, lease_s=60).tasks:
            done = [
                Settlement(
                    task=task,
                    move=Delivered() if task.call == "delete" else Seen(sight=Sight.ABSENT),
                    outcome="acknowledged",
                    reason="test",
                )
                for task in tasks
            ]
            for request_id in ledger.record(done):
                ledger.advance(request_id, policy=policy)

    return run


@pytest.fixture
def erased(expunge, carry_out):
    """Have a user purged; gives the request's id."""
    made = expunge("submit", "--user-id", "-", "-o", "id", stdin="alice\n")
    carry_out()
    return made.stdout.strip()
