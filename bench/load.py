"""Measure long lines: an urgent purge behind bulk work, and a worker's memory over many chunks.

    python bench/load.py [--bulk 1000000] [--purges 200] [--chunks 200000] [--json FILE]

Everything is real and on this machine: a Valkey, a worker's processes, the simulator over HTTP, a
SQLite ledger in a temporary directory that is removed at the end. The line is filled before the
worker starts. Waits are from the purge's commit to the arrival of its call.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.stack import Stack, Worker

URGENT_RATE = 50.0
_MEGA = 1024
MOST_MB = 200
MOST_GROWTH = 0.05


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bulk", type=int, default=1_000_000, help="chunks in line; 0 leaves it")
    parser.add_argument("--purges", type=int, default=200)
    parser.add_argument("--chunks", type=int, default=200_000, help="chunks sent; 0 leaves it")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    options = parser.parse_args()
    figures: dict[str, object] = {}
    if options.bulk:
        figures["urgent"] = urgent(options.bulk, options.purges)
    if options.chunks:
        figures["memory"] = memory(options.chunks)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def urgent(bulk: int, purges: int) -> dict[str, float]:
    """Give the waits of purges that come one by one, in seconds, behind so many bulk chunks."""
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
        users = stack.control.seed(users=purges, memories=1, seed=1).users
        began = time.monotonic()
        fill(stack, bulk)
        print(f"{bulk:,} bulk chunks in line after {time.monotonic() - began:.0f} s", flush=True)
        stack.start_worker()
        stack.wait_for_calls(50, seconds=120)
        chance = random.Random(1)  # noqa: S311 - spreads the moments
        moments: dict[str, float] = {}
        for user in users:
            time.sleep(chance.uniform(0.1, 0.3))
            stack.purge(user, verify="none")
            moments[user] = time.monotonic()
        time.sleep(5)
        waits = sorted(
            call.at_s - moments[call.ids[0]]
            for call in stack.control.journal()
            if call.kind == "user" and call.endpoint == "delete"
        )
    assert len(waits) == purges
    found = {
        "bulk": bulk,
        "purges": purges,
        "p50_s": waits[len(waits) // 2],
        "p99_s": waits[int(len(waits) * 0.99)],
        "most_s": waits[-1],
    }
    must = 1 + 1 / URGENT_RATE
    print(
        f"wait of {purges} purges: p50 {found['p50_s']:.3f} s, p99 {found['p99_s']:.3f} s, most "
        f"{found['most_s']:.3f} s; must be at most {must:.2f} s at p99: "
        f"{'pass' if found['p99_s'] <= must else 'MISS'}",
        flush=True,
    )
    return found


def fill(stack: Stack, chunks: int) -> None:
    """Put so many chunks of one id in line; nobody else writes yet, so the intake need not wait."""
    with patch("ledger.intake.time.sleep"), patch("ledger.release.time.sleep"):
        stack.submit((f"bulk-{number}" for number in range(chunks)), chunk_size=1, verify="none")


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
        while (done := stack.scalar("SELECT chunks - pending FROM request")) < chunks:
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
