"""`expunge bridge` and `expunge parked` as an operator runs them."""

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from ledger import Keys, Ledger
from ledger.parked import UnusableMessage
from ledger.streams import Stream
from producer.bridge import run_bridge
from producer.bridge.redis_stream import RedisStream
from tests.contract.bridge_world import CANARY, an_event
from tests.support.homes import make_home

LONGEST_S = 30.0


@contextmanager
def a_bridge(*args):
    """Run the command in a process of its own; its environment is this test's."""
    process = subprocess.Popen(
        [sys.executable, "-m", "expunge", "bridge", *args],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(condition):
    end = time.monotonic() + LONGEST_S
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def test_a_foreign_clients_messages_become_requests_and_term_ends_it(tmp_path, valkey):
    settings = make_home(tmp_path)
    with valkey.client() as redis, a_bridge("--stream", f"{valkey.url}#crm") as process:
        redis.execute_command("XADD", "crm", "*", "event", an_event(1))
        redis.execute_command("XADD", "crm", "*", "event", f"garbage {CANARY}")
        until(lambda: redis.exists("crm") and redis.xlen("crm") == 0)
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=LONGEST_S)
        assert redis.xinfo_consumers("crm", "expunge") == []
    assert (process.returncode, stdout) == (0, "")
    events = [json.loads(line) for line in stderr.splitlines()]
    assert [each["event"] for each in events] == [
        *("bridge_started", "message_parked", "bridge_ended")
    ]
    assert (events[1]["stream"], events[1]["reason"]) == ("crm", "not_json")
    assert CANARY not in stderr
    with Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir)) as ledger:
        (view,) = ledger.list_requests()
    assert (view.kind, view.project) == ("user", "default")


def test_a_bridge_that_is_killed_is_followed_by_one_that_takes_over_what_it_left(
    tmp_path, valkey, monkeypatch
):
    """The second runs in here, where it need not wait until what the first had is idle."""
    settings = make_home(tmp_path, redis_url=valkey.url)
    total = 1_000
    with valkey.client() as redis:
        with redis.pipeline(transaction=False) as some:
            for n in range(total):
                some.xadd("crm", {"event": an_event(n)})
            some.execute()
        with a_bridge("--stream", f"{valkey.url}#crm") as process:
            until(lambda: redis.xlen("crm") < total)
            process.kill()
            process.wait()
        left = redis.xlen("crm")
        make = RedisStream.__init__
        monkeypatch.setattr(
            RedisStream,
            "__init__",
            lambda self, **options: make(self, **options, claim_idle_s=0.0, claim_every_s=0.0),
        )

        class Stop:
            def is_set(self):
                return redis.xlen("crm") == 0

            def wait(self, timeout):
                time.sleep(min(timeout, 0.05))
                return self.is_set()

        run_bridge(settings, [Stream(name="crm")], stop=Stop())
    assert 0 < left < total
    with Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir)) as ledger:
        assert len(ledger.list_requests(limit=10_000)) == total


def test_the_streams_of_the_config_file_are_read_when_none_is_named(tmp_path, valkey, monkeypatch):
    make_home(tmp_path)
    config = tmp_path / "expunge.toml"
    config.write_text(
        f'[streams."billing"]\nurl = "{valkey.url}"\nkinds = ["memories"]\nprincipal = "bill"\n'
    )
    monkeypatch.setenv("EXPUNGE_CONFIG", str(config))
    with valkey.client() as redis, a_bridge() as process:
        redis.xadd("billing", {"event": an_event(1)})
        redis.xadd("billing", {"event": an_event(2, {"memory_ids": ["m"]})})
        until(lambda: redis.xlen("billing") == 0)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LONGEST_S)
        assert process.returncode == 0
        assert redis.xrange("billing.dead")[0][1]["reason"] == "kind_not_allowed"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--stream", "nonsense-secret"), "server and stream"),
        (("--stream", "redis://u:secret@127.0.0.1:1/0"), "server and stream"),
        (("--stream", "amqp://u:secret@127.0.0.1:1/0#x"), "server and stream"),
        (
            ("--stream", "redis://127.0.0.1:1/0#x", "--stream", "redis://127.0.0.1:1/1#x"),
            "the same name",
        ),
    ],
)
def test_a_stream_that_is_none_stops_the_start_and_is_not_repeated(expunge, args, said):
    result = expunge("bridge", *args)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "secret" not in result.stderr


def test_without_a_ledger_there_is_no_start(tmp_path, valkey, monkeypatch):
    monkeypatch.setenv("EXPUNGE_REDIS_URL", valkey.url)
    settings = make_home(tmp_path)
    (settings.home / "expunge.db").unlink()
    with a_bridge() as process:
        _, stderr = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 8
    assert "expunge db upgrade" in stderr


def test_parked_messages_are_listed_without_what_they_said(expunge, settings):
    assert expunge("parked", "-o", "json").stdout.strip() == "[]"
    with Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir)) as ledger:
        ids = ledger.park_messages(
            [
                UnusableMessage(
                    broker="redis",
                    stream="crm",
                    position=f"{n}-0",
                    reason="not_json",
                    detail="It is no JSON.",
                    body=CANARY.encode(),
                )
                for n in range(3)
            ]
        )
    found = json.loads(expunge("parked", "-o", "json").stdout)
    assert {each["id"] for each in found} == set(ids)
    assert set(found[0]) == {
        *("id", "broker", "stream", "position", "reason", "detail"),
        *("size", "body_ref", "parked_at"),
    }
    assert found[0]["size"] == len(CANARY)
    assert len(expunge("parked", "--limit", "2", "-o", "id").stdout.split()) == 2
    table = expunge("parked").stdout
    assert "not_json" in table
    assert CANARY not in table
