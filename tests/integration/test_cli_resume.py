"""`expunge resume`, and the warning about what stands still."""

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from expunge.cli.app import app
from ledger import Keys, Ledger, upgrade
from ledger.engine import Database
from ledger.schema import project


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPUNGE_HOME", str(tmp_path))
    url = f"sqlite:///{tmp_path}/expunge.db"
    upgrade(url)
    with Ledger.open(url, keys=Keys.create(tmp_path / "keys")) as ledger:
        ledger.register(projects={"default": "default"}, rates={"default": 10.0})
    database = Database(url)
    database.write(
        lambda conn: conn.execute(
            update(project).values(paused=1, pause_reason="code_40132", paused_at=1)
        )
    )
    yield url
    database.close()


def test_a_stopped_project_is_named_with_its_reason_and_what_to_do(home):
    shown = CliRunner().invoke(app, ["list"])
    assert shown.exit_code == 0
    assert "code_40132" in shown.stderr
    assert "expunge resume default" in shown.stderr


def test_a_resumed_project_goes_on_and_the_act_is_on_record(home, tmp_path):
    assert CliRunner().invoke(app, ["resume", "default"]).exit_code == 0
    with Ledger.open(home, keys=Keys.load(tmp_path / "keys")) as ledger:
        assert ledger.pauses() == []
    database = Database(home)
    types = database.read(
        lambda conn: conn.exec_driver_sql("SELECT type FROM event").scalars().all()
    )
    database.close()
    assert types == ["project.resumed"]
    again = CliRunner().invoke(app, ["resume", "default"])
    assert again.exit_code == 0
    assert "was not stopped" in again.stderr


def test_resuming_an_unknown_project_is_bad_input(home):
    shown = CliRunner().invoke(app, ["resume", "nobody"])
    assert shown.exit_code == 2
    assert "config show" in shown.stderr
