"""The whole house for a test: valkey, ledger, simulator and workers, each a real process.

Every worker has a session of its own and is ended by its process group, so that nothing it started
is left behind, whatever the test did to it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import make_url, text

from ledger import Keys, Kind, Ledger, Order, RequestView, upgrade
from ledger.engine import Database
from memos_api.simulator.process import Seeded, SimulatorProcess, worst_window
from tests.support.fault_proxy import FaultProxy
from tests.support.ledger_facts import LedgerFacts
from tests.support.oracle import Evidence, Verdict, judge
from tests.support.producer_journal import ProducerJournal
from tests.support.valkey import ValkeyServer

__all__ = ["Stack", "Worker", "group_members", "until"]

T = TypeVar("T")
_LOOK_S = 0.05
NOTED_LATE_S = 0.05
_ROOT = Path(__file__).parents[2]
_FOREIGN = ("EXPUNGE_", "MEMOS_", "CELERY_", "PG")


def until(what: Callable[[], T], *, seconds: float, why: str) -> T:
    """Wait until *what* gives something true, and give that.

    Raises:
        AssertionError: It did not within *seconds*; says *why* it was waited for.
    """
    end = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > end:
            message = f"Waited {seconds} s in vain for: {why}."
            raise AssertionError(message)
        time.sleep(_LOOK_S)
    return found


def group_members(group: int) -> dict[int, str]:
    """Give pid and command line of the living processes of a process group."""
    found: dict[int, str] = {}
    for line in _processes("pid=,pgid=,stat=,args="):
        pid, member_of, state, command = line.split(None, 3)
        if int(member_of) == group and not state.startswith("Z"):
            found[int(pid)] = command
    return found


def _processes(columns: str) -> list[str]:
    ps = shutil.which("ps")
    assert ps is not None, "These tests need `ps` (Debian: apt install procps)."
    done = subprocess.run(
        [ps, "-A", "-ww", "-o", columns], capture_output=True, check=True, text=True
    )
    return done.stdout.splitlines()


class Worker:
    """One `expunge worker`.

    Attributes:
        log: What it wrote to standard error.
        pid: Of the supervisor, and the number of its process group.
        kills: How often it was killed as a whole.
    """

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.log = log
        self.kills = 0
        with log.open("wb") as stderr, log.with_suffix(".out").open("wb") as stdout:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "expunge", "worker"],
                cwd=_ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        self.pid = self.process.pid

    @property
    def stdout(self) -> str:
        return self.log.with_suffix(".out").read_text()

    def log_lines(self) -> list[dict[str, Any]]:
        """Parse its log; raises ValueError when a line is no JSON."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def members(self) -> dict[int, str]:
        """Give pid and command line of all its processes."""
        return group_members(self.pid)

    def part(self, module: str) -> int:
        """Give the pid of the part that the supervisor started, such as `worker.celery_main`."""
        pids = [pid for pid in self.children(self.pid) if f"-m {module} " in self.members()[pid]]
        assert len(pids) == 1, self.members()
        return pids[0]

    def peaks_mb(self) -> dict[str, float]:
        """Give the highest resident memory so far of each of its processes, in MB (Linux)."""
        found = {}
        for pid, command in self.members().items():
            with suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                (line,) = [one for one in status.splitlines() if one.startswith("VmHWM")]
                found[f"{pid} {command[:60]}"] = int(line.split()[1]) / 1024
        return found

    def children(self, parent: int) -> list[int]:
        """Give the pids of a process's children, zombies left out."""
        members = self.members()
        pairs = [tuple(map(int, line.split())) for line in _processes("pid=,ppid=")]
        return sorted(pid for pid, its_parent in pairs if its_parent == parent and pid in members)

    def terminate(self) -> None:
        """Ask the supervisor to end, as an operator or a container does."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> int:
        """Wait for the supervisor's exit code."""
        return self.process.wait(seconds)

    def kill_group(self) -> None:
        """Kill all of it at one moment, as a lost machine would."""
        self.kills += 1
        self._kill_group()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """End it and whatever it left."""
        self._kill_group()
        until(lambda: not self.members(), seconds=10, why="the worker's processes to be gone")


class Stack:
    """A context manager around everything but the workers, which a test starts when it wants.

    Attributes:
        valkey: For this test alone to stop, freeze and kill.
        simulator: `control` seeds, switches faults and tells the truth.
        ledger: Opened in this process, for submitting and looking.
        rate: The limit of the account, calls a second, for workers and simulator alike.
        orders: The journal of what was handed in.
        proxies: The fault proxies asked for, by what they stand before; workers go through them,
            `ledger` and `control` here do not.
        kills: Processes that a test killed by itself; it counts them here. Workers killed as a
            whole, and crash points, are counted anyway.
        folder: Of keys, logs and marks of crash points.
        ledger_url: As given; workers may reach it through a proxy.
    """

    def __init__(
        self,
        folder: Path,
        ledger_url: str,
        *,
        rate: float = 50.0,
        latency_ms: float = 30.0,
        simulator_rate: float | None = None,
        settings: dict[str, str] | None = None,
        proxied: Collection[str] = (),
    ) -> None:
        """Prepare.

        Args:
            folder: For keys and logs.
            ledger_url: Of an empty database.
            rate: The limit that workers keep to.
            latency_ms: Of each answer.
            simulator_rate: The limit that the simulator enforces; None enforces none, so that the
                journal alone judges.
            settings: More settings of the workers, by environment name.
            proxied: Before which of `memos`, `redis` and `ledger` (PostgreSQL) a fault proxy
                stands.
        """
        self.rate = rate
        self.folder = folder
        self.kills = 0
        self.proxies: dict[str, FaultProxy] = {}
        self._proxied = frozenset(proxied)
        self._seeded: dict[str, list[str]] = {}
        self.ledger_url = ledger_url
        self._latency_ms = latency_ms
        self._simulator_rate = simulator_rate
        self._settings = settings or {}
        self._open = ExitStack()
        self.workers: list[Worker] = []

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            self.valkey = ValkeyServer().start()
            opening.callback(self.valkey.close)
            self.simulator = opening.enter_context(
                SimulatorProcess(rate=self._simulator_rate, latency_ms=self._latency_ms)
            )
            self.control = self.simulator.control
            upgrade(self.ledger_url)
            self._open_proxies(opening)
            self.orders = ProducerJournal(self.folder / "orders.jsonl")
            opening.callback(self.orders.close)
            keys = Keys.create(self.folder / "keys")
            self.ledger = opening.enter_context(Ledger.open(self.ledger_url, keys=keys))
            self.ledger.register(projects={"default": "default"}, rates={"default": self.rate})
            self._database = Database(self.ledger_url)
            opening.callback(self._database.close)
            opening.callback(self._close_workers)
            self._open = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def environment(self, **changed: str) -> dict[str, str]:
        """Give the environment of a worker; *changed* by name, an empty value takes one away."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)
        }
        environment |= {
            "EXPUNGE_HOME": str(self.folder),
            # A worker that is killed as a whole leaves its temporary files behind.
            "TMPDIR": str(self.folder),
            "EXPUNGE_KEYS_DIR": str(self.folder / "keys"),
            "EXPUNGE_LEDGER_URL": self._through("ledger", self.ledger_url),
            "EXPUNGE_REDIS_URL": self._through("redis", self.valkey.url),
            "EXPUNGE_RATE_PER_SECOND": str(self.rate),
            "EXPUNGE_LEASE_SECONDS": "6.5",
            "EXPUNGE_CALL_DEADLINE_SECONDS": "1",
            "EXPUNGE_SETTLE_SECONDS": "0.2",
            "EXPUNGE_PROCESSES": "1",
            "MEMOS_API_KEY": self.simulator.api_key,
            "MEMOS_BASE_URL": self._through("memos", self.simulator.base_url),
        }
        environment |= self._settings | changed
        return {name: value for name, value in environment.items() if value}

    def start_worker(self, **changed: str) -> Worker:
        """Start one more worker; *changed* as for `environment`."""
        log = self.folder / f"worker-{len(self.workers)}.log"
        self.workers.append(Worker(self.environment(**changed), log))
        return self.workers[-1]

    def seed(self, *, users: int = 1, memories: int = 1, seed: int = 0) -> Seeded:
        """Put memories into the simulator; the oracle looks at all of them in the end."""
        seeded = self.control.seed(users=users, memories=memories, seed=seed)
        self._seeded |= seeded.by_user
        return seeded

    def submit(self, ids: Iterable[str], *, chunk_size: int = 10, **order: Any) -> str:
        """Order memories to be deleted; gives the request's id."""
        ids = list(ids)
        number = self.orders.attempt(Kind.MEMORIES, ids=ids)
        intake = self.ledger.begin(
            Order(project="default", kind=Kind.MEMORIES, **order), chunk_size=chunk_size
        )
        intake.add(ids)
        receipt = intake.finish()
        self.orders.acknowledge(number, receipt.id)
        return receipt.id

    def purge(self, user: str, **order: Any) -> str:
        """Order everything of a user to be deleted; gives the request's id."""
        number = self.orders.attempt(Kind.USER, subject=user)
        intake = self.ledger.begin(
            Order(project="default", kind=Kind.USER, subject=user, **order), chunk_size=100
        )
        receipt = intake.finish()
        self.orders.acknowledge(number, receipt.id)
        return receipt.id

    def views(self) -> list[RequestView]:
        """Show all requests."""
        return self.ledger.list_requests(limit=10_000)

    def wait_for_calls(self, calls: int, *, seconds: float = 20) -> None:
        """Wait until the simulator has seen so many calls in all."""
        until(
            lambda: bool(self.control.journal(after=calls - 1)),
            seconds=seconds,
            why=f"{calls} calls to arrive",
        )

    def wait_for_end(self, *, seconds: float = 30) -> None:
        """Wait until every request has ended."""

        def ended() -> bool:
            return all(view.finished_at is not None for view in self.views())

        try:
            until(ended, seconds=seconds, why="every request to end")
        except AssertionError:
            left = [
                (view.kind.value, view.state.value, view.counts, view.attempts)
                for view in self.views()
                if view.finished_at is None
            ]
            logs = [line for worker in self.workers for line in worker.log.read_text().splitlines()]
            message = f"Not ended: {left}\n" + "\n".join(logs[-40:])
            raise AssertionError(message) from None

    def scalar(self, statement: str) -> Any:
        """Ask the ledger's database for one value."""
        return self._database.read(lambda conn: conn.execute(text(statement)).scalar())

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the ledger's database for rows."""
        return self._database.read(
            lambda conn: [tuple(row) for row in conn.execute(text(statement))]
        )

    def verdict(
        self, *, seconds: float = 60, kills: int | None = None, rate: float | None = None
    ) -> Verdict:
        """Let everything end, then compare all that is known (`tests.support.oracle`).

        What is to be found lost must have been put in by `seed` here.

        Args:
            seconds: The longest that the rest of the work may take.
            kills: Processes that were killed with work in their hands; None takes those counted.
            rate: The limit that held; None takes the stack's.
        """
        self.wait_for_end(seconds=seconds)
        offset_us = time.time_ns() // 1_000 - time.monotonic_ns() // 1_000
        everything = [one for ids in self._seeded.values() for one in ids]
        peaks: dict[str, float] = {}
        for worker in self.workers:
            peaks |= worker.peaks_mb()
        return judge(
            Evidence(
                orders=self.orders.orders(),
                calls=self.control.journal(),
                seeded=self._seeded,
                left=frozenset(self.control.remaining(ids=everything).ids),
                facts=LedgerFacts.read(self.rows),
                rates={"default": rate or self.rate},
                kills=self.counted_kills if kills is None else kills,
                wall_offset_us=offset_us,
                peaks_mb=peaks,
            )
        )

    def crash_mark(self, point: str) -> Path:
        """Give the file that tells of a fired crash point, named as in `claim.after_commit@1`."""
        return self.folder / "crash-points" / point

    def wait_for_crash(self, point: str, *, seconds: float = 20) -> int:
        """Wait until a crash point has fired; gives the pid of the process that it hit."""
        mark = self.crash_mark(point)
        return int(
            until(
                lambda: mark.exists() and mark.read_text(), seconds=seconds, why=f"{point} to fire"
            )
        )

    def assert_nothing_in_doubt(self) -> None:
        """Check that no work is with a worker, and that every call has its outcome on record."""
        assert self.scalar("SELECT count(*) FROM chunk WHERE state = 'leased'") == 0
        assert self.scalar("SELECT count(*) FROM readback WHERE state = 'leased'") == 0
        assert self.scalar("SELECT count(*) FROM attempt WHERE outcome IS NULL") == 0

    def assert_truth(
        self, seeded: Seeded, *, ordered: Iterable[str] = (), purged: Iterable[str] = ()
    ) -> None:
        """Compare what the ledger says with what the simulator has and saw.

        Args:
            seeded: Everything that was there at first.
            ordered: Ids that were ordered to be deleted.
            purged: Users that were ordered to be purged.
        """
        purged = list(purged)
        gone = set(ordered) | {one for user in purged for one in seeded.by_user[user]}
        bystanders = sorted(set(seeded.memory_ids) - gone)
        left = self.control.remaining(ids=seeded.memory_ids)
        assert sorted(left.ids) == bystanders  # lost 0, unordered 0
        named = {
            one for call in self.control.journal() if call.endpoint == "delete" for one in call.ids
        }
        assert named <= gone | set(purged) | set(ordered)
        for view in self.views():
            counts = view.counts
            assert counts.pending == counts.unknown == counts.still_present == 0, view
            assert counts.refused == counts.cancelled == 0, view
            assert (
                counts.acknowledged + counts.verified_absent + counts.already_absent
                == counts.unique
            ), view
        self.assert_nothing_in_doubt()

    def assert_within_rate(self) -> None:
        """Check that no window of a second holds more calls than the limit: slots and arrivals.

        The ledger's slots are checked to the call. The journal notes when the simulator's loop got
        to a call, which on a busy machine is up to 50 ms after it came, so its windows are that
        much shorter; a burst shows all the same.
        """
        used = "SELECT slot_ns FROM attempt WHERE outcome IS NULL OR outcome <> 'unsent'"
        slots = [int(slot_ns) / 1e9 for (slot_ns,) in self.rows(used)]
        assert worst_window(slots, 1.0) <= self.rate
        worst = self.control.worst_window(1.0 - NOTED_LATE_S)
        assert worst <= self.rate, f"{worst} calls in a second at {self.rate}/s"

    @property
    def counted_kills(self) -> int:
        """Processes that were killed: by the test, as a whole, or at crash points."""
        marks = self.folder / "crash-points"
        crashed = sum(1 for _ in marks.iterdir()) if marks.exists() else 0
        return self.kills + crashed + sum(worker.kills for worker in self.workers)

    def _open_proxies(self, opening: ExitStack) -> None:
        ports = {
            "memos": make_url(self.simulator.base_url).port,
            "redis": self.valkey.port,
            "ledger": make_url(self.ledger_url).port,
        }
        for name in sorted(self._proxied):
            port = ports[name]
            assert port is not None, f"There is no port of {name} to stand before."
            self.proxies[name] = opening.enter_context(FaultProxy(port))

    def _through(self, name: str, url: str) -> str:
        if name not in self.proxies:
            return url
        port = make_url(url).port
        return url.replace(f":{port}/", f":{self.proxies[name].port}/")

    def _close_workers(self) -> None:
        for worker in self.workers:
            worker.close()
