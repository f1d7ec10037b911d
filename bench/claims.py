"""Figures (e) and (f): milliseconds of a claim against open chunks, and bytes of a ledger's rows.

    python -m bench.claims [--chunks 1000 10000 100000] [--ids 10] [--ledger sqlite] [--claims 80]
        [--events 10] [--rate 50] [--beside]

Fills a fresh ledger with open chunks and, for each, so many old events; then claims and records in
turns. The ledger's clock goes on by itself between two claims, so that slots are free at once and
nobody has to wait. With `--beside` the same again while another process imports. `cpu` is this
process's own share.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection

from bench.house import KINDS, Ledgers, ledger_bytes
from bench.report import keep, say, table
from ledger import Ledger
from ledger.clock import Clock
from ledger.tasks import Delivered, Settlement
from tests.support.full_ledger import add_events, add_open_chunks, analyze

CHUNKS: Final = (1_000, 10_000, 100_000)
_IMPORT: Final = """
import sys
from itertools import count
from pathlib import Path
from ledger import Keys, Kind, Ledger, Order
with Ledger.open(sys.argv[1], keys=Keys.load(Path(sys.argv[2]))) as ledger:
    intake = ledger.begin(Order(project="other", kind=Kind.MEMORIES), chunk_size=100)
    print("begun", flush=True)
    intake.add(f"{number:036d}" for number in count())
"""
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


def measure(
    ledgers: Ledgers,
    kind: str,
    *,
    chunks: int,
    ids_per_chunk: int = 10,
    events_per_chunk: int = 1,
    claims: int = 80,
    rate: float = 50.0,
    beside: bool = False,
) -> dict[str, Any]:
    """Fill one ledger and measure its claims."""
    with ledgers.empty(kind) as url, Ledger.open(url, keys=ledgers.keys) as ledger:
        ledger.register(
            projects={"default": "default", "other": "default"}, rates={"default": rate}
        )
        began = time.perf_counter()
        add_open_chunks(
            url, ledgers.keys, chunks=chunks, ids_per_chunk=ids_per_chunk, verify="none"
        )
        add_events(url, events=chunks * events_per_chunk)
        analyze(url)
        filled_s = time.perf_counter() - began
        clock = RunningClock(ledger._database.clock)  # noqa: SLF001 - there is no other way
        ledger._database.clock = clock  # noqa: SLF001 - as above
        before = ledger_bytes(url)
        row = _claims(ledger, clock, claims)
        row["bytes_a_call"] = (ledger_bytes(url) - before) / row["calls_a_claim"] / claims
        found = {"ledger": kind, "chunks": chunks, "ids": chunks * ids_per_chunk, **row}
        if beside:
            with _import(url, ledgers):
                found["beside_an_import"] = _claims(ledger, clock, claims)
    say(
        f"claims, {kind}: {chunks:,} chunks, filled in {filled_s:.0f} s, p50 {row['p50_ms']:.2f} ms"
    )
    return found


def _claims(ledger: Ledger, clock: RunningClock, count: int) -> dict[str, float]:
    took, used, recorded = [], [], []
    tasks = 0
    for _ in range(count):
        clock.ahead_ns += _STEP_NS
        began, before = time.perf_counter(), time.thread_time()
        claim = ledger.claim(worker="bench", capacity=1_000, lead_s=0.02, lease_s=3_600)
        took.append(1_000 * (time.perf_counter() - began))
        used.append(1_000 * (time.thread_time() - before))
        assert claim.tasks, "nothing was due"
        tasks += len(claim.tasks)
        began = time.perf_counter()
        ledger.record(
            [
                Settlement(task=task, move=Delivered(), outcome="acknowledged", reason="ok")
                for task in claim.tasks
            ]
        )
        recorded.append(1_000 * (time.perf_counter() - began))
    for each in (took, used, recorded):
        each.sort()
    return {
        "claims": count,
        "calls_a_claim": tasks / count,
        "p50_ms": took[count // 2],
        "p99_ms": took[min(count - 1, int(0.99 * count))],
        "most_ms": took[-1],
        "cpu_p50_ms": used[count // 2],
        "record_p50_ms": recorded[count // 2],
        "ms_a_call": (sum(took) + sum(recorded)) / tasks,
        "p50_ms_a_call": (took[count // 2] + recorded[count // 2]) / tasks * count,
    }


@contextmanager
def _import(url: str, ledgers: Ledgers) -> Iterator[None]:
    """Let another process hand in ids without end."""
    child = subprocess.Popen(
        [sys.executable, "-c", _IMPORT, url, str(ledgers.keys_folder)], stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
        yield
        assert child.poll() is None, "the import ended by itself"
    finally:
        child.kill()
        child.wait()


def run(
    ledgers: Ledgers,
    *,
    sizes: Sequence[int] = CHUNKS,
    kinds: Sequence[str] = KINDS,
    **how: Any,  # noqa: ANN401 - as `measure` takes them
) -> dict[str, Any]:
    """Measure all sizes, print and keep them."""
    rows = [measure(ledgers, kind, chunks=chunks, **how) for kind in kinds for chunks in sizes]
    columns = {
        "ledger": "ledger",
        "chunks": "open chunks",
        "ids": "ids",
        "claims": "claims",
        "calls_a_claim": "calls a claim",
        "p50_ms": "claim p50, ms",
        "p99_ms": "p99, ms",
        "cpu_p50_ms": "CPU p50, ms",
        "record_p50_ms": "record p50, ms",
        "p50_ms_a_call": "both p50, ms a call",
        "ms_a_call": "mean, ms a call",
        "bytes_a_call": "bytes a call",
    }
    tables = [table("(f) a claim and a record against open chunks", rows, columns)]
    if how.get("beside"):
        again = [row | row["beside_an_import"] for row in rows]
        tables.append(table("(f) the same beside an import", again, columns))
    found = {"rows": rows}
    keep("claims", found, *tables)
    return found


def main() -> None:
    """Measure as asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--chunks", type=int, nargs="+", default=list(CHUNKS))
    parser.add_argument("--events", type=int, default=1, help="old events for each chunk")
    parser.add_argument("--ids", type=int, default=10, help="ids in a chunk")
    parser.add_argument("--claims", type=int, default=80)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--ledger", choices=KINDS, action="append")
    parser.add_argument("--beside", action="store_true", help="again beside an import")
    options = parser.parse_args()
    with Ledgers() as ledgers:
        run(
            ledgers,
            sizes=options.chunks,
            kinds=options.ledger or KINDS,
            ids_per_chunk=options.ids,
            events_per_chunk=options.events,
            claims=options.claims,
            rate=options.rate,
            beside=options.beside,
        )


if __name__ == "__main__":
    main()
