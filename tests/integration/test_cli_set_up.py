"""From nothing to the first request, and what the command shows of itself."""

import json
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from expunge.cli import app
from expunge.cli.output import Output
from tests.support.homes import CLOSED_REDIS

CANARY = "canary-44aa"


@pytest.fixture
def expunge(monkeypatch):
    monkeypatch.setenv("EXPUNGE_REDIS_URL", CLOSED_REDIS)
    runner = CliRunner()
    return lambda *args: runner.invoke(app, [str(each) for each in args])


def test_keys_tables_and_a_request_are_three_commands(expunge, monkeypatch, tmp_path):
    monkeypatch.setenv("EXPUNGE_HOME", str(tmp_path / "new" / "home"))
    assert expunge("keys", "init").exit_code == 0
    assert expunge("db", "upgrade").exit_code == 0
    assert expunge("db", "upgrade").exit_code == 0
    assert expunge("submit", "--user-id", "u").exit_code == 0
    assert expunge("list", "-o", "id").stdout.count("\n") == 1


def test_keys_are_never_overwritten(expunge, tmp_path):
    assert expunge("keys", "init").exit_code == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "keys").iterdir()}
    assert len(before) == 4
    assert expunge("keys", "init").exit_code == 2
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "keys").iterdir()}


def test_migrations_go_to_the_owners_url_when_there_is_one(expunge, monkeypatch, tmp_path):
    monkeypatch.setenv("EXPUNGE_LEDGER_ADMIN_URL", f"sqlite:///{tmp_path}/owner.db")
    assert expunge("db", "upgrade").exit_code == 0
    assert (tmp_path / "owner.db").exists()
    assert not (tmp_path / "expunge.db").exists()


def test_the_settings_are_shown_with_origins_and_without_secrets(expunge, monkeypatch, tmp_path):
    (tmp_path / "crm.key").write_text(f"{CANARY}-of-crm")
    (tmp_path / "e.toml").write_text(
        "chunk_size = 7\n[accounts.b]\nrate_per_second = 2\n"
        "[projects.crm]\naccount = 'b'\napi_key_file = 'crm.key'\n"
    )
    monkeypatch.setenv("EXPUNGE_CONFIG", str(tmp_path / "e.toml"))
    monkeypatch.setenv("MEMOS_API_KEY", CANARY)
    monkeypatch.setenv("EXPUNGE_REDIS_URL", f"redis://:{CANARY}@cache:6379/0")
    monkeypatch.setenv("EXPUNGE_LEDGER_URL", f"postgresql://app:{CANARY}@db/x?password={CANARY}")
    for output in Output:
        result = expunge("config", "show", "-o", output.value)
        assert result.exit_code == 0
        assert CANARY not in result.output
    shown = json.loads(expunge("config", "show", "-o", "json").stdout)
    settings = {row["name"]: row for row in shown["settings"]}
    assert settings["EXPUNGE_CHUNK_SIZE"]["value"] == 7
    assert settings["EXPUNGE_CHUNK_SIZE"]["origin"] == "config file"
    assert settings["MEMOS_API_KEY"]["origin"] == "environment"
    assert settings["EXPUNGE_REDIS_URL"]["value"].endswith("@cache:6379/0")
    assert [one["name"] for one in shown["projects"]] == ["default", "crm"]
    assert [one["rate_per_second"] for one in shown["accounts"]] == [30, 2]


def test_help_answers_at_once_and_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from expunge.cli import app\n"
        "sys.argv = ['expunge', '--help']\n"
        "try:\n    app()\nexcept SystemExit:\n    pass\n"
        "heavy = {'sqlalchemy', 'celery', 'redis', 'httpx', 'pydantic', 'alembic'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "submit" in done.stdout
    # The promise is half a second; a busy machine gets four times that.
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    "command",
    [
        *("demo", "worker", "submit", "import", "status", "list"),
        *("db upgrade", "keys init", "config show", "simulator"),
    ],
)
def test_every_command_has_help(command, capfd):
    result = CliRunner().invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert "Usage" in (result.output + capfd.readouterr().out).title()


def test_the_simulator_takes_its_own_options():
    result = CliRunner().invoke(app, ["simulator", "--port", "no-number"])
    assert result.exit_code == 2
