"""Measure claims on a full ledger: milliseconds for each, quiet and beside an import.

    python bench/claims.py [--chunks 1000000] [--events 10000000] [--ids 10] [--ledger sqlite]
        [--url postgresql://…] [--claims 500] [--rate 50]

Fills a fresh ledger with open chunks and old events, then claims and records in turns. The
ledger's clock goes on by itself between two claims, so that slots are free at once and nobody has
to wait. Without `--url`, PostgreSQL is a cluster of the tests' own. Figures go to stdout as JSON
(`cpu_p50` is this process's own share), progress to stderr.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from ledger import Keys, Ledger, upgrade
from ledger.clock import Clock
from ledger.tasks import Delivered, Settlement

# The tests fill ledgers too, and start PostgreSQL.
sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.full_ledger import add_events, add_open_chunks, analyze
from tests.support.postgres import PostgresServer

_IMPORT: Final = """
import sys
from itertools import count
from ledger import Keys, Kind, Ledger, Order
keys = Keys(order=b"o" * 32, pseudonym=b"p" * 32)
with Ledger.open(sys.argv[1], keys=keys) as ledger:
    intake = ledger.begin(Order(project="other", kind=Kind.MEMORIES), chunk_size=100)
    print("begun", flush=True)
    intake.add(f"{number:036d}" for number in count())
"""
_KEYS: Final = Keys(order=b"o" * 32, pseudonym=b"p" * 32)
_STEP_NS: Final = 250_000_000


class RunningClock:
    """The ledger's own clock, asked as ever, plus as much as slots need between two claims."""

    def __init__(self, own: Clock) -> None:
        """Begin with the own clock's time."""
        self._own = own
        self.ahead_ns = 0

    @property
    def source(self) -> str:
        """The own clock's."""
        return self._own.source

    def now_ns(self, conn: Connection) -> int:
        """Ask the own clock, and go ahead of it."""
        return self._own.now_ns(conn) + self.ahead_ns


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--chunks", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--ids", type=int, default=10, help="ids in a chunk")
    parser.add_argument("--claims", type=int, default=500)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--ledger", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--url", help="an empty PostgreSQL database, instead of an own cluster")
    options = parser.parse_args()
    for kind in options.ledger or ["sqlite", "postgresql"]:
        with ExitStack() as stack:
            url = stack.enter_context(_ledger(kind, options.url))
            print(json.dumps(measure(url, kind, options)), flush=True)


@contextmanager
def _ledger(kind: str, url: str | None) -> Iterator[str]:
    with ExitStack() as stack:
        if kind == "sqlite":
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="expunge-bench-"))
            yield f"sqlite:///{Path(folder) / 'ledger.db'}"
        elif url is not None:
            yield url
        else:
            server = PostgresServer()
            stack.callback(server.close)
            yield stack.enter_context(server.start().database())


def measure(url: str, kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """Fill one ledger and measure its claims."""
    upgrade(url)
    with Ledger.open(url, keys=_KEYS) as ledger:
        ledger.register(
            projects={"default": "default", "other": "default"},
            rates={"default": options.rate},
        )
        began = time.perf_counter()
        add_open_chunks(url, _KEYS, chunks=options.chunks, ids_per_chunk=options.ids)
        add_events(url, events=options.events)
        analyze(url)
        _say(f"{kind}: filled in {time.perf_counter() - began:.0f} s")
        clock = RunningClock(ledger._database.clock)  # noqa: SLF001 - there is no other way to it
        ledger._database.clock = clock  # noqa: SLF001 - as above
        quiet = _claims(ledger, clock, options.claims)
        with _import(url):
            beside = _claims(ledger, clock, options.claims)
    return {
        "ledger": kind,
        "chunks": options.chunks,
        "ids_per_chunk": options.ids,
        "events": options.events,
        "rate_per_second": options.rate,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "claim_ms": {"quiet": quiet, "beside_an_import": beside},
    }


def _claims(ledger: Ledger, clock: RunningClock, count: int) -> dict[str, float]:
    took = []
    used = []
    tasks = 0
    for _ in range(count):
        clock.ahead_ns += _STEP_NS
        began, before = time.perf_counter(), time.thread_time()
        claim = ledger.claim(worker="bench", capacity=1_000, lead_s=0.02, lease_s=3_600)
        took.append(1_000 * (time.perf_counter() - began))
        used.append(1_000 * (time.thread_time() - before))
        assert claim.tasks, "nothing was due"
        tasks += len(claim.tasks)
        ledger.record(
            [
                Settlement(task=task, move=Delivered(), outcome="acknowledged", reason="ok")
                for task in claim.tasks
            ]
        )
    took.sort()
    used.sort()
    return {
        "claims": count,
        "calls_a_claim": round(tasks / count, 1),
        "p50": round(took[count // 2], 2),
        "p99": round(took[min(count - 1, int(0.99 * count))], 2),
        "most": round(took[-1], 2),
        "cpu_p50": round(used[count // 2], 2),
    }


@contextmanager
def _import(url: str) -> Iterator[None]:
    """Let another process hand in ids without end."""
    child = subprocess.Popen([sys.executable, "-c", _IMPORT, url], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
        yield
        assert child.poll() is None, "the import ended by itself"
    finally:
        child.kill()
        child.wait()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
