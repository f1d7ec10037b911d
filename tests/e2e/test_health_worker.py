"""A worker's health as an operator and an orchestrator see it: real processes, a real port."""

import os
import signal
import socket
import subprocess
import sys

import pytest
from sqlalchemy import text

from tests.support.health import page, sample, status
from tests.support.ports import free_port
from tests.support.stack import Stack, until
from worker.folder import Folder

STEWARD = "expunge.health.steward_main"


@pytest.fixture
def stack(tmp_path, ledger_url):
    with Stack(tmp_path, ledger_url, rate=100) as running:
        yield running


@pytest.fixture
def sqlite_stack(tmp_path):
    with Stack(tmp_path, f"sqlite:///{tmp_path / 'ledger.db'}", rate=100) as running:
        yield running


def start(stack, **changed):
    port = free_port()
    worker = stack.start_worker(EXPUNGE_HEALTH_PORT=str(port), **changed)
    until(lambda: page(port, "/readyz")[0] == 200, seconds=15, why="the worker to be ready")
    return worker, port


def events(worker, name):
    return [line for line in worker.log_lines() if line["event"] == name]


def healthcheck(stack, *arguments, **changed):
    return subprocess.run(
        [sys.executable, "-m", "expunge", "healthcheck", *arguments],
        env=stack.environment(**changed),
        capture_output=True,
        check=False,
        text=True,
        timeout=20,
    )


def test_a_worker_tells_how_it_is_counts_what_it_did_and_leaves_no_file(sqlite_stack, tmp_path):
    stack, temporary = sqlite_stack, tmp_path / "temporary"
    temporary.mkdir()
    worker, port = start(stack, TMPDIR=str(temporary))
    seeded = stack.control.seed(users=2, memories=20, seed=1)
    stack.submit(seeded.by_user[seeded.users[0]])
    stack.purge(seeded.users[1])
    stack.wait_for_end()

    code, live = status(port, "/livez?verbose")
    assert (code, live["live"], live["failed"]) == (200, True, [])
    assert [one["name"] for one in live["checks"]] == [
        "steward_loop",
        "work_claimed",
        "celery_loop",
    ]
    code, ready = status(port, "/readyz?verbose")
    assert (code, ready["warnings"]) == (200, [])
    assert {one["name"] for one in ready["checks"]} == {
        *("ledger", "schema", "keys", "api_key", "broker")
    }
    calls = stack.scalar("SELECT count(*) FROM attempt WHERE outcome <> 'unsent'")
    until(
        lambda: sample(port, 'expunge_attempts_total{kind="delete",outcome="success"}') == 3,
        seconds=5,
        why="every call to be counted",
    )
    metrics = page(port, "/metrics")[1]
    counted = [
        float(line.rpartition(" ")[2])
        for line in metrics.splitlines()
        if line.startswith("expunge_upstream_requests_total{")
    ]
    assert sum(counted) == calls
    ended = 'expunge_request_duration_seconds_count{kind="%s",outcome="complete"}'
    assert [sample(port, ended % kind) for kind in ("memories", "user")] == [1, 1]
    assert sample(port, "expunge_ledger_up") == 1
    assert 'role="steward"' in metrics
    assert len(events(worker, "request_finished")) == 2
    (listening,) = events(worker, "health_listening")
    assert listening["port"] == port

    (folder,) = temporary.glob("expunge-worker-*")
    pulse = Folder(folder).celery_pulse()
    age_s = pulse.age_s()
    until(lambda: pulse.age_s() < age_s, seconds=15, why="Celery's loop to beat its pulse")

    worker.terminate()
    assert worker.wait(5) == 0
    assert list(temporary.iterdir()) == []


def test_a_worker_on_a_ledger_that_is_migrated_meanwhile_stops_claiming_until_it_fits(stack):
    worker, port = start(stack)
    seeded = stack.control.seed(users=1, memories=2_000, seed=1)
    stack.submit(seeded.memory_ids, chunk_size=1)
    stack.wait_for_calls(20)
    (known,) = stack.rows("SELECT version_num FROM alembic_version")[0]

    migrate(stack, "9999")
    until(lambda: page(port, "/readyz")[0] == 503, seconds=5, why="the worker not to be ready")
    _, ready = status(port, "/readyz")
    assert ready["failed"] == ["schema"]
    assert page(port, "/livez")[0] == 200  # there is nothing that starting it anew would mend
    until(
        lambda: stack.scalar("SELECT count(*) FROM chunk WHERE state = 'leased'") == 0,
        seconds=5,
        why="calls under way to be recorded",
    )
    claimed = stack.scalar("SELECT count(*) FROM attempt")
    until(
        lambda: len({line["logger"] for line in events(worker, "schema_mismatch")}) == 2,
        seconds=10,
        why="the drain and the steward to say so",
    )
    assert stack.scalar("SELECT count(*) FROM attempt") == claimed
    for said in events(worker, "schema_mismatch"):
        assert (said["level"], said["found"], said["needed"]) == ("error", "9999", known)

    migrate(stack, known)
    until(
        lambda: stack.scalar("SELECT count(*) FROM attempt") > claimed + 20,
        seconds=15,
        why="the work to go on",
    )
    assert page(port, "/readyz")[0] == 200
    assert events(worker, "schema_fits")
    stack.assert_within_rate()


def migrate(stack, revision):
    stack._database.write(
        lambda conn: conn.execute(
            text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision}
        )
    )


def test_the_port_stays_while_the_steward_is_replaced_and_a_broker_away_is_told(
    sqlite_stack, tmp_path
):
    stack, temporary = sqlite_stack, tmp_path / "temporary"
    temporary.mkdir()
    worker, port = start(stack, TMPDIR=str(temporary))

    os.kill(worker.part(STEWARD), signal.SIGKILL)
    assert page(port, "/livez")[0] in (0, 200)  # waits for the next one, or was in its hands
    until(lambda: page(port, "/livez")[0] == 200, seconds=15, why="the next steward to answer")

    stack.valkey.kill()
    until(
        lambda: status(port, "/readyz")[1].get("warnings") == ["broker"],
        seconds=10,
        why="the broker to be missed",
    )
    assert page(port, "/readyz")[0] == 200
    assert page(port, "/livez")[0] == 200

    os.kill(worker.pid, signal.SIGKILL)
    worker.process.wait()
    until(lambda: not list(temporary.iterdir()), seconds=10, why="the last one to tidy up")


def test_healthcheck_asks_the_port(sqlite_stack):
    stack = sqlite_stack
    worker, port = start(stack)
    given = {"EXPUNGE_HEALTH_PORT": str(port)}

    for arguments, said in ((["worker"], "alive"), (["worker", "--ready"], "ready")):
        done = healthcheck(stack, *arguments, **given)
        assert (done.returncode, done.stdout) == (0, f"worker is {said}\n")
    done = healthcheck(stack, "bridge", **given)
    assert (done.returncode, done.stdout) == (
        1,
        "bridge is not alive: another process answers at its port\n",
    )
    migrate(stack, "9999")
    done = healthcheck(stack, "worker", "--ready", **given)
    assert (done.returncode, done.stdout) == (1, "worker is not ready: schema\n")
    worker.close()
    done = healthcheck(stack, "worker", **given)
    assert done.returncode == 1
    assert done.stdout == "worker is not alive: no answer (ConnectionRefusedError)\n"


def test_healthcheck_imports_nothing_that_is_slow(sqlite_stack):
    asking = "import runpy, sys; sys.argv = ['expunge', 'healthcheck', 'worker']"
    done = subprocess.run(
        [
            sys.executable,
            *("-X", "importtime"),
            *("-c", f"{asking}; runpy.run_module('expunge', run_name='__main__')"),
        ],
        env=sqlite_stack.environment(EXPUNGE_HEALTH_PORT=str(free_port())),
        capture_output=True,
        check=False,
        text=True,
        timeout=20,
    )
    assert done.returncode == 1
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & {"sqlalchemy", "celery", "redis", "httpx", "rich", "structlog"}


def test_healthcheck_without_a_port_says_what_to_set(sqlite_stack, tmp_path):
    for changed in ({}, {"EXPUNGE_HEALTH_PORT": "0"}):
        done = healthcheck(sqlite_stack, "worker", **changed)
        assert done.returncode == 2
        assert "EXPUNGE_HEALTH_PORT" in done.stderr

    port = free_port()
    (tmp_path / "expunge.toml").write_text(f"health_port = {port}\n")
    done = healthcheck(sqlite_stack, "worker", EXPUNGE_CONFIG=str(tmp_path / "expunge.toml"))
    assert (done.returncode, done.stderr) == (1, "")


def test_a_worker_whose_health_port_is_taken_says_so_and_does_not_start(sqlite_stack):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "expunge", "worker"],
            env=sqlite_stack.environment(EXPUNGE_HEALTH_PORT=str(port)),
            capture_output=True,
            check=False,
            text=True,
            timeout=20,
        )

    assert (done.returncode, done.stdout) == (2, "")
    assert str(port) in done.stderr
    assert "EXPUNGE_HEALTH_PORT" in done.stderr
