"""A bridge's health, and that it takes in nothing while the ledger is another release's."""

import json
import subprocess
import sys

import pytest
from sqlalchemy import text

from ledger.streams import DEFAULT_STREAM
from tests.support.health import page, sample, status
from tests.support.ports import free_port
from tests.support.stack import Stack, until


@pytest.fixture
def stack(tmp_path):
    with Stack(tmp_path, f"sqlite:///{tmp_path / 'ledger.db'}") as running:
        yield running


@pytest.fixture
def bridge(stack, tmp_path):
    """A bridge on the default stream; gives its health port and its log."""
    port, log = free_port(), tmp_path / "bridge.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "expunge", "bridge"],
            env=stack.environment(EXPUNGE_HEALTH_PORT=str(port)),
            stdout=out,
            stderr=out,
        )
    try:
        until(lambda: page(port, "/readyz")[0] == 200, seconds=15, why="the bridge to be ready")
        yield port, log
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


def send(stack, number):
    event = {
        "specversion": "1.0",
        "type": "expunge.deletion.requested.v1",
        "source": "/test",
        "id": str(number),
        "data": {"user_id": f"u-{number}"},
    }
    with stack.valkey.client() as client:
        client.xadd(DEFAULT_STREAM, {"event": json.dumps(event)})


def migrate(stack, revision):
    stack._database.write(
        lambda conn: conn.execute(
            text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision}
        )
    )


def test_a_bridge_tells_how_it_is_and_waits_while_the_ledger_is_newer(stack, bridge):
    port, log = bridge
    (known,) = stack.rows("SELECT version_num FROM alembic_version")[0]
    send(stack, 1)
    accepted = (
        'expunge_intake_messages_total{broker="redis",outcome="accepted",'
        f'stream="{DEFAULT_STREAM}"}}'
    )
    until(lambda: sample(port, accepted) == 1, seconds=10, why="the message to be counted")
    assert status(port, "/livez") == (
        200,
        {"process": "bridge", "live": True, "failed": [], "warnings": []},
    )
    _, ready = status(port, "/readyz?verbose")
    assert {one["name"] for one in ready["checks"]} == {"ledger", "schema", "keys", "broker"}

    migrate(stack, "9999")
    send(stack, 2)
    until(lambda: '"schema_mismatch"' in log.read_text(), seconds=10, why="the bridge to say so")
    code, ready = status(port, "/readyz")
    assert (code, ready["failed"]) == (503, ["schema"])
    assert page(port, "/livez")[0] == 200
    assert len(stack.views()) == 1
    with stack.valkey.client() as client:
        assert client.xlen(DEFAULT_STREAM) == 1

    migrate(stack, known)
    until(lambda: len(stack.views()) == 2, seconds=15, why="the message to be taken in")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    (said, *_) = [line for line in lines if line["event"] == "schema_mismatch"]
    assert (said["level"], said["found"], said["needed"]) == ("error", "9999", known)
    assert said["stream"] == DEFAULT_STREAM
