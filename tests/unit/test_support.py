"""What the tests stand on: servers of their own, a clean environment, no silent skips."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import redis
import sqlalchemy

from tests.support.missing import requires_all

ROOT = Path(__file__).parents[2]

SKIPPED_TEST = """
import pytest

@pytest.mark.skipif(True, reason="no such part")
def test_a(): pass

@pytest.mark.xfail(reason="known")
def test_b(): raise ValueError

def test_c(): pass
"""
SKIPPED_FILE = """
import pytest

pytest.importorskip("no_such_part")

def test_a(): pass
"""


def run_tests(folder, source, *, ci):
    (folder / "test_it.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), str(folder)]
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"CI": ci, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        check=False,
        text=True,
    )


@pytest.mark.parametrize(
    ("environment", "strict"),
    [
        ({}, False),
        ({"CI": "false"}, False),
        ({"CI": "true"}, True),
        ({"EXPUNGE_TEST_REQUIRE_ALL": "1"}, True),
    ],
)
def test_ci_and_a_setting_forbid_skips(environment, strict):
    assert requires_all(environment) is strict


def test_in_ci_a_skipped_test_fails_and_says_why(tmp_path):
    done = run_tests(tmp_path, SKIPPED_TEST, ci="true")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "1 passed, 1 xfailed, 1 error" in done.stdout
    assert "no such part" in done.stdout


def test_in_ci_a_file_that_skips_itself_fails(tmp_path):
    done = run_tests(tmp_path, SKIPPED_FILE, ci="true")
    assert done.returncode == pytest.ExitCode.INTERRUPTED
    assert "no_such_part" in done.stdout


def test_elsewhere_a_skip_is_a_skip(tmp_path):
    done = run_tests(tmp_path, SKIPPED_TEST, ci="")
    assert done.returncode == pytest.ExitCode.OK
    assert "1 passed, 1 skipped, 1 xfailed" in done.stdout


def test_settings_of_the_machine_do_not_reach_a_test(tmp_path):
    source = "import os\ndef test_it(tmp_path):\n"
    source += "    assert 'MEMOS_API_KEY' not in os.environ and 'PGHOST' not in os.environ\n"
    source += "    assert os.environ['EXPUNGE_HOME'] == str(tmp_path)\n"
    (tmp_path / "test_it.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env=os.environ | {"MEMOS_API_KEY": "k", "PGHOST": "h", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == pytest.ExitCode.OK, done.stdout


def test_a_killed_valkey_comes_back_empty_on_the_same_port(make_valkey):
    server = make_valkey()
    port, first = server.port, server.pid
    with server.client() as client:
        client.set("a", "1")
        server.kill()
        assert server.pid is None
        with pytest.raises(redis.ConnectionError):
            client.ping()
        server.start()
        assert client.get("a") is None
    assert server.port == port
    assert server.pid != first


def test_a_frozen_valkey_answers_again_after_the_thaw_and_stops_when_frozen(make_valkey):
    server = make_valkey()
    with server.client() as client:
        client.ping()
        server.freeze()
        client.connection_pool.disconnect()
        with redis.Redis(port=server.port, socket_timeout=0.1, retry=client.get_retry()) as other:
            with pytest.raises(redis.TimeoutError):
                other.ping()
            server.thaw()
        assert client.ping()
    server.freeze()
    server.stop()
    assert server.pid is None


def test_two_valkeys_share_nothing(make_valkey):
    one, other = make_valkey(), make_valkey()
    with one.client() as first, other.client() as second:
        first.set("a", "1")
        assert second.get("a") is None


@pytest.mark.parametrize("turn", [1, 2])
def test_the_shared_valkey_is_handed_out_empty(valkey, turn):
    with valkey.client() as client:
        assert client.dbsize() == 0
        client.set("a", str(turn))


@pytest.mark.parametrize("turn", [1, 2])
def test_a_ledger_is_handed_out_empty(ledger_url, turn):
    engine = sqlalchemy.create_engine(ledger_url)
    assert sqlalchemy.inspect(engine).get_table_names() == []
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE left_over (turn INTEGER)")
    engine.dispose()


def test_postgresql_keeps_what_was_committed_when_it_is_killed(postgres):
    with postgres.database() as url:
        plain = url.replace("+psycopg", "")
        with psycopg.connect(plain) as connection:
            connection.execute("CREATE TABLE kept (a int)")
            connection.commit()
            postgres.kill()
        postgres.start()
        with psycopg.connect(plain) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_postgresql_does_not_run_as_root(postgres):
    """It refuses to; under root its files and processes belong to somebody without rights."""
    assert postgres._folder.stat().st_uid == (os.geteuid() or postgres._run_as.pw_uid) != 0
