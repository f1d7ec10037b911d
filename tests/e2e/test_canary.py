"""No id, user or key in anything that is not meant to hold it, whatever goes wrong."""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from ledger import Kind, Order
from ledger.redaction import REDACTED
from ledger.streams import DEFAULT_STREAM
from tests.support.echo_memos import EchoMemos
from tests.support.health import page
from tests.support.ports import free_port
from tests.support.stack import Stack, until

TOKEN = "9c41d7"
USER = f"canary-user-{TOKEN}"
MEMORY = f"canary-mem-{TOKEN}"
KEY = f"canary-key-{TOKEN}"
PASSWORD = f"canary-pass-{TOKEN}"
OURS = ("expunge", "producer", "worker", "ledger", "memos_api")

# An error that nobody foresaw, with an id in its text, in its locals and in what led to it.
BROKEN_COMMAND = """
import sys
from producer.submit import Producer
from expunge.cli import app
def fail(self, subject, **terms):
    try:
        {}[subject]
    except KeyError:
        raise RuntimeError("cannot delete " + subject)
Producer.purge_user = fail
app(["--debug", "submit", "--user-id", "-"])
"""
# A crash with an id at hand.
ABORTED_COMMAND = BROKEN_COMMAND.replace("try:", "import os; os.abort()\n    try:", 1)


class House:
    """The whole stack with everything that can be looked at afterwards."""

    def __init__(self, stack, echo, folder):
        self.stack = stack
        self.echo = echo
        self.folder = folder
        self.ports = {"worker": free_port(), "bridge": free_port()}
        self.bridge: subprocess.Popen[bytes] | None = None
        self.command_lines: set[str] = set()
        self.outputs: list[str] = []
        self.monitored: list[str] = []
        config = folder / "expunge.toml"
        (folder / "echo.key").write_text(KEY)
        config.write_text(
            f'[accounts.echo]\nrate_per_second = 100\n[projects.echo]\naccount = "echo"\n'
            f'base_url = "{echo.base_url}"\napi_key_file = "echo.key"\n'
        )
        self.settings = {
            "EXPUNGE_CONFIG": str(config),
            "EXPUNGE_LOG_LEVEL": "debug",
            "EXPUNGE_MAX_ATTEMPTS": "3",
            # Valkey takes any password of a user that has none.
            "EXPUNGE_REDIS_URL": stack.valkey.url.replace("//", f"//default:{PASSWORD}@"),
        }

    def start_worker(self, **changed):
        self.worker = self.stack.start_worker(
            EXPUNGE_HEALTH_PORT=str(self.ports["worker"]), **self.settings, **changed
        )

    def start(self):
        self.start_worker()
        with (self.folder / "bridge.log").open("wb") as log:
            self.bridge = subprocess.Popen(
                [sys.executable, "-m", "expunge", "bridge"],
                env=self.stack.environment(
                    EXPUNGE_HEALTH_PORT=str(self.ports["bridge"]), **self.settings
                ),
                stdout=log,
                stderr=log,
            )
        for port in self.ports.values():
            until(lambda: page(port, "/readyz")[0] == 200, seconds=20, why="all to be ready")  # noqa: B023 - used at once
        self.look_at_command_lines()

    def look_at_command_lines(self):
        bridge = [] if self.bridge is None else [self.bridge.pid]
        for pid in [*self.worker.members(), *bridge]:
            try:
                raw = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            self.command_lines.add(raw.replace(b"\0", b" ").decode())

    def run(self, *command, given="", code=None, **changed):
        done = subprocess.run(
            [sys.executable, *command],
            env=self.stack.environment(**(self.settings | changed)),
            input=given,
            capture_output=True,
            check=False,
            text=True,
            timeout=30,
        )
        if code is not None:
            assert done.returncode == code, done.stderr
        self.outputs.append(done.stdout + done.stderr)
        return done

    def order(self, kind, *, ids=(), subject=None, project="echo", **rest):
        intake = self.stack.ledger.begin(
            Order(project=project, kind=kind, subject=subject, **rest), chunk_size=1
        )
        if ids:
            intake.add(ids)
        return intake.finish().id

    def send(self, body):
        with self.stack.valkey.client() as client:
            client.xadd(DEFAULT_STREAM, {"event": body})

    def log(self):
        return self.worker.log.read_text()

    def everything(self):
        """Give all that anybody could read, by where it is."""
        seen = {f"output {number}": text for number, text in enumerate(self.outputs)}
        for path in self.folder.glob("*.log"):
            seen[path.name] = path.read_text()
        seen["stdout of the worker"] = self.worker.stdout
        for name, port in self.ports.items():
            for path in ("/metrics", "/livez?verbose", "/readyz?verbose"):
                seen[f"{name}{path}"] = page(port, path)[1]
                assert seen[f"{name}{path}"]
        seen["redis"] = self.redis()
        seen["published"] = "\n".join(
            line for line in self.monitored if f"XADD {DEFAULT_STREAM} " not in line
        )
        seen["command lines"] = "\n".join(self.command_lines)
        return seen

    def redis(self):
        found = []
        for database in range(16):
            with redis.Redis(port=self.stack.valkey.port, db=database) as client:
                read = {
                    b"string": client.get,
                    b"list": lambda name: client.lrange(name, 0, -1),
                    b"set": client.smembers,
                    b"hash": client.hgetall,
                    b"zset": lambda name: client.zrange(name, 0, -1),
                    b"stream": client.xrange,
                    b"none": lambda _: None,  # it lapsed just now, as the bell does
                }
                found += [(key, read[client.type(key)](key)) for key in client.scan_iter()]
        return str(found)


# With it Python warns of everything, and shows where it was when a signal ends it.
DEVELOPMENT = {"PYTHONDEVMODE": "1", "PYTHONFAULTHANDLER": "1"}


@pytest.fixture
def house(tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with EchoMemos() as echo, Stack(tmp_path, url, rate=100, latency_ms=5) as stack:
        made = House(stack, echo, tmp_path)
        try:
            yield made
        finally:
            if made.bridge is not None:
                made.bridge.kill()
                made.bridge.wait()


def watch_redis(house):
    """Take down every command that anybody sends; gives what ends it."""
    client = house.stack.valkey.client()
    over = threading.Event()

    def listen():
        # The server goes when the test fails half-way.
        with suppress(redis.ConnectionError), client.monitor() as monitor:
            started.set()
            for command in monitor.listen():
                house.monitored.append(command["command"])
                if over.is_set():
                    return

    started = threading.Event()
    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert started.wait(10)

    def end():
        over.set()
        with house.stack.valkey.client() as other:
            other.ping()
        thread.join(10)
        client.close()

    return end


@pytest.mark.fault("F118", "F120")
def test_nothing_that_anybody_can_read_holds_an_id_a_user_or_a_key(house):
    stack = house.stack
    end_of_watch = watch_redis(house)
    house.start()

    # By hand, through queues, well and badly.
    stack.control.seed_ids([f"{MEMORY}-{n}" for n in range(30)], user_id=USER)
    stack.submit([f"{MEMORY}-{n}" for n in range(20)], chunk_size=5, verify="full")
    event = {
        "specversion": "1.0",
        "type": "expunge.deletion.requested.v1",
        "source": f"/crm/{USER}",
        "id": USER,
        "data": {"user_id": USER, "reason": "gdpr-17"},
    }
    bad = [
        f"no json {USER}",
        json.dumps(event | {"type": USER}),
        json.dumps(event | {"data": {"user_id": USER, USER: MEMORY}}),
        json.dumps(event | {"id": "2", "data": {"memory_ids": [MEMORY, f"{MEMORY}\0"]}}),
        json.dumps(event | {"data": {"user_id": f"{USER}-other"}}),
    ]
    for body in [json.dumps(event), *bad]:
        house.send(body)
    with stack.valkey.client() as client:
        client.xadd(DEFAULT_STREAM, {USER: MEMORY})
    until(
        lambda: stack.scalar("SELECT count(*) FROM parked_message") == 6,
        seconds=10,
        why="what is no order to be parked",
    )

    # Answers that repeat what was asked, in every way that an answer can be wrong.
    house.order(Kind.MEMORIES, ids=[f"{MEMORY}-e{n}" for n in range(12)], verify="full")
    house.order(Kind.USER, subject=USER)
    until(lambda: house.echo.deletions > 12, seconds=20, why="all answers to be given")
    house.echo.refuses_key = True
    house.order(Kind.USER, subject=f"{USER}-2")
    until(stack.ledger.pauses, seconds=10, why="the key to be refused")
    house.echo.refuses_key = False
    stack.control.set_faults(
        {"kind": "html", "endpoint": "any", "count": 2},
        {"kind": "truncated", "endpoint": "any", "count": 2},
        {"kind": "reset_after_applying", "endpoint": "any", "count": 2},
    )
    stack.submit([f"{MEMORY}-{n}" for n in range(20, 30)], chunk_size=2, verify="none")
    os.kill(worker_child(house), signal.SIGKILL)

    # What people type, and what they see of errors.
    run_commands(house)

    house.look_at_command_lines()
    stack.ledger.resume_project("echo", principal="test")
    stack.wait_for_end(seconds=25)
    seen = house.everything()
    end_of_watch()

    assert [name for name, text in seen.items() if TOKEN in text] == []
    assert "canary" not in "".join(seen.values())
    assert stack.simulator.api_key not in "".join(seen.values())
    lines = [json.loads(line) for line in (seen["worker-0.log"] + seen["bridge.log"]).splitlines()]
    assert len([line for line in lines if line["level"] != "debug"]) > 5
    # Our own statements log nothing that has to be hidden: one with an id would show up here.
    ours = [line for line in lines if line["logger"].startswith(OURS)]
    assert [line for line in ours if REDACTED in line.values() or "redacted_fields" in line] == []
    assert {"request_finished", "message_parked", "part_ended"} & {line["event"] for line in ours}


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.fault("F118")
def test_a_worker_in_development_mode_shows_none_of_it_although_it_crashes(house):
    """Python tells more then: of slow tasks, of what was not closed, of where a crash was."""
    stack = house.stack
    house.start_worker(**DEVELOPMENT)
    ready = house.ports["worker"], "/readyz"
    until(lambda: page(*ready)[0] == 200, seconds=60, why="the worker to be ready")
    house.order(Kind.MEMORIES, ids=[f"{MEMORY}-e{n}" for n in range(12)], verify="full")
    house.order(Kind.USER, subject=USER)
    stack.control.seed_ids([f"{MEMORY}-{n}" for n in range(30)], user_id=USER)
    stack.control.set_faults(
        {"kind": "html", "endpoint": "any", "count": 2},
        {"kind": "truncated", "endpoint": "any", "count": 2},
        {"kind": "reset_after_applying", "endpoint": "any", "count": 2},
    )
    stack.submit([f"{MEMORY}-{n}" for n in range(30)], chunk_size=2, verify="none")
    until(lambda: house.echo.deletions > 12, seconds=120, why="all answers to be given")
    stack.wait_for_calls(6, seconds=60)

    child = worker_child(house)
    assert b"PYTHONDEVMODE=1" in Path(f"/proc/{child}/environ").read_bytes()
    os.kill(child, signal.SIGABRT)

    until(lambda: "Fatal Python error" in house.log(), seconds=30, why="the crash to be told")
    house.worker.terminate()
    house.worker.wait(60)
    seen = house.log() + house.worker.stdout
    assert [word for word in (TOKEN, stack.simulator.api_key) if word in seen] == []


def worker_child(house):
    (child, *_) = house.worker.children(house.worker.part("worker.celery_main"))
    return child


def run_commands(house):
    expunge = ("-m", "expunge", "--debug")
    ids = house.folder / "ids.txt"
    ids.write_text(f"{MEMORY}-x\n{MEMORY}\x07\n")
    objects = house.folder / "orders.jsonl"
    objects.write_text(
        json.dumps({"user_id": USER, "lane": USER})
        + f"\n{USER}\n"
        + json.dumps({"memory_ids": [MEMORY], "user": USER})
    )
    nowhere = {"EXPUNGE_LEDGER_URL": f"postgresql://u:{PASSWORD}@127.0.0.1:1/db"}

    house.run(*expunge, "submit", "--memory-id", f"@{ids}", code=2)
    house.run(*expunge, "submit", "--user-id", "-", "--project", "none", given=USER, code=2)
    house.run(*expunge, "submit", "--user-id", "-", given=f"{USER}\n{USER}\n", code=2)
    house.run(*expunge, "submit", "--user-id", "-", given=USER, code=8, **nowhere)
    house.run(*expunge, "import", str(objects), code=3)
    house.run(*expunge, "list", "-o", "json", code=0)
    house.run(*expunge, "config", "show", "-o", "json", code=0, **nowhere)
    house.run(*expunge, "worker", code=8, **nowhere)
    done = house.run("-c", BROKEN_COMMAND, given=USER, code=1)
    assert "RuntimeError" in done.stderr
    assert "purge_user" in done.stderr or "fail" in done.stderr
    done = house.run("-c", BROKEN_COMMAND, given=USER, code=1, **DEVELOPMENT)
    assert "RuntimeError" in done.stderr
    done = house.run("-c", ABORTED_COMMAND, given=USER, code=-signal.SIGABRT, **DEVELOPMENT)
    assert "Fatal Python error: Aborted" in done.stderr
