"""Figure (c): the wait of an urgent purge behind bulk work; and a worker's memory over many chunks.

    python -m bench.load [--bulk 10000 100000 1000000] [--purges 40] [--chunks 200000]

Everything is real and on this machine: a Valkey, a worker's processes, the simulator over HTTP, a
SQLite ledger in a temporary directory that is removed at the end. The line is filled before the
worker starts, with ids in chunks of ten. Waits are from the purge's commit to the arrival of its
call. Redis' memory is read while the line is as long as it ever is.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.report import keep, say, table
from ledger import Keys
from tests.support.full_ledger import add_open_chunks
from tests.support.stack import Stack, Worker, until

URGENT_RATE: Final = 50.0
BULK: Final = (10_000, 100_000, 1_000_000)
IDS_PER_CHUNK: Final = 10
MOST_MB: Final = 200
MOST_GROWTH: Final = 0.05
# The one before may take its slot, and its call takes the latency.
MOST_WAIT_S: Final = 1 + 1 / URGENT_RATE
_MEGA: Final = 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bulk", type=int, nargs="*", default=list(BULK), help="ids in line")
    parser.add_argument("--purges", type=int, default=40)
    parser.add_argument("--chunks", type=int, default=0, help="chunks sent, for the memory")
    options = parser.parse_args()
    if options.bulk:
        run(options.bulk, purges=options.purges)
    if options.chunks:
        memory(options.chunks)


def run(bulk: Sequence[int], *, purges: int) -> dict[str, Any]:
    """Measure the waits behind so many ids, print and keep them."""
    rows = []
    for ids in bulk:
        rows.append(urgent(ids, purges))
        say(f"urgent behind {ids:,} ids: p99 {rows[-1]['p99_s']:.3f} s")
    columns = {
        "ids": "bulk ids in line",
        "purges": "purges",
        "p50_s": "wait p50, s",
        "p99_s": "p99, s",
        "most_s": "most, s",
        "must_s": "must, s",
        "redis_kb": "Redis, KB",
        "seconds": "looked at, s",
    }
    shown = table(f"(c) wait of an urgent purge at {URGENT_RATE:g} calls/s, 20 ms", rows, columns)
    found = {"rate_per_second": URGENT_RATE, "rows": rows}
    keep("urgent", found, shown)
    return found


def urgent(ids: int, purges: int) -> dict[str, Any]:
    """Give the waits of purges that come one by one, in seconds, behind so many bulk ids."""
    with (
        tempfile.TemporaryDirectory(prefix="expunge-bench-") as folder,
        Stack(
            Path(folder),
            f"sqlite:///{folder}/ledger.db",
            rate=URGENT_RATE,
            latency_ms=20,
            settings={"EXPUNGE_VERIFY": "none"},
        ) as stack,
    ):
        stack.control.set_settings(unknown_id_policy="accept")
        users = stack.control.seed(users=purges, memories=1, seed=1).users
        fill(stack, ids // IDS_PER_CHUNK, IDS_PER_CHUNK)
        stack.start_worker()
        stack.wait_for_calls(int(URGENT_RATE), seconds=120)
        chance = random.Random(1)  # noqa: S311 - spreads the moments
        moments: dict[str, float] = {}
        began = time.monotonic()
        for user in users:
            time.sleep(chance.uniform(0.05, 0.25))
            stack.purge(user, verify="none")
            moments[user] = time.monotonic()

        def waits() -> list[float]:
            return sorted(
                call.at_s - moments[call.ids[0]]
                for call in stack.control.journal()
                if call.kind == "user" and call.endpoint == "delete"
            )

        until(lambda: len(waits()) == purges, seconds=60, why="all purges to be called")
        found = waits()
        with stack.valkey.client() as client:
            redis_kb = client.info("memory")["used_memory"] / 1024
        assert sum(view.counts.pending for view in stack.views()) > 0, "the line ran empty"
    return {
        "ids": ids,
        "purges": purges,
        "p50_s": found[purges // 2],
        "p99_s": found[min(purges - 1, int(purges * 0.99))],
        "most_s": found[-1],
        "must_s": MOST_WAIT_S,
        "redis_kb": redis_kb,
        "seconds": time.monotonic() - began,
    }


def fill(stack: Stack, chunks: int, ids_per_chunk: int = 1) -> None:
    """Put so many chunks in line, as bulk work that is not read back."""
    add_open_chunks(
        stack.ledger_url,
        Keys.load(stack.folder / "keys"),
        chunks=chunks,
        ids_per_chunk=ids_per_chunk,
        verify="none",
    )


def memory(chunks: int) -> dict[str, float]:
    """Give a worker's resident memory over so many chunks, in MB by process, and its growth."""
    with (
        tempfile.TemporaryDirectory(prefix="expunge-bench-") as folder,
        Stack(
            Path(folder),
            f"sqlite:///{folder}/ledger.db",
            rate=1_000,
            latency_ms=0,
            settings={"EXPUNGE_VERIFY": "none"},
        ) as stack,
    ):
        stack.control.set_settings(unknown_id_policy="accept")
        fill(stack, chunks)
        worker = stack.start_worker()
        began = time.monotonic()
        seen: list[tuple[int, float]] = []
        while (done := stack.scalar("SELECT sum(chunks - pending) FROM request")) < chunks:
            seen.append((done, resident_mb(worker)))
            time.sleep(1)
        seconds = time.monotonic() - began
        peak = max(worker.peaks_mb().values())
    after_a_fifth = next(mb for done, mb in seen if done >= chunks / 5)
    growth = seen[-1][1] / after_a_fifth - 1
    found = {
        "chunks": chunks,
        "calls_per_s": chunks / seconds,
        "peak_mb": peak,
        "after_a_fifth_mb": after_a_fifth,
        "at_the_end_mb": seen[-1][1],
        "growth": growth,
    }
    print(
        f"{chunks:,} chunks at {found['calls_per_s']:,.0f}/s: largest process {peak:.0f} MB "
        f"(must be {MOST_MB}: {'pass' if peak <= MOST_MB else 'MISS'}); "
        f"{after_a_fifth:.0f} MB after a fifth, {seen[-1][1]:.0f} MB at the end, {growth:+.1%} "
        f"(must be {MOST_GROWTH:.0%}: {'pass' if growth <= MOST_GROWTH else 'MISS'})",
        flush=True,
    )
    return found


def resident_mb(worker: Worker) -> float:
    """Give the resident memory of the process that makes the calls, the largest one, in MB."""
    sizes = []
    for pid in worker.members():
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        line = next((one for one in status.splitlines() if one.startswith("VmRSS")), None)
        if line is not None:
            sizes.append(int(line.split()[1]) / _MEGA)
    return max(sizes)


if __name__ == "__main__":
    main()
