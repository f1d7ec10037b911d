"""A home with keys and a ledger, and the commands run in it."""

import pytest
from typer.testing import CliRunner

from expunge.cli import app
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
