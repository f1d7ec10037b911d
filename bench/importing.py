"""Figure (d): an import's ids a second, its memory, its bytes; and calls while it goes on.

    python -m bench.importing [--ids 100000 1000000] [--format plain|parquet] [--ledger sqlite]

Each number of ids is a file of its own, handed in by `expunge import` into a fresh ledger; an
import of a single id tells what starting takes, which is taken off; where little more than that is
left, there is no speed. The memory is the peak resident size as the kernel tells it: flat means
that it is the same for all sizes. Bytes are those of the ledger on disk less those of an empty one,
for ids of 36 characters in chunks of 100.

Beside that: a worker's calls a second on SQLite alone, and while another process hands in ids
without end; at a limit that it can keep to, and at none that it could reach.
"""

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench.house import KINDS, House, Ledgers, ledger_bytes, settings
from bench.report import keep, say, table
from bench.server import Server
from tests.support.stack import until

IDS: Final = (100_000, 1_000_000)
RATES: Final = (500, 5_000)
MOST_MB: Final = 150
_MIB: Final = 1 << 20
# Linux counts in KiB, macOS in bytes.
_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1 << 10
_ROWS_AT_ONCE: Final = 100_000
# Seconds of calls beside those that are counted: the first ones, and while the import begins.
_BESIDE_S: Final = 4.0
_LATENCY_MS: Final = 20
_STARTS: Final = 2
# The size that the numbers to reach are about: a disk may be slow for a second.
_JUDGED: Final = 1_000_000
_TIMES: Final = 3
# A start differs by as much from the next one, so less than this share of it tells nothing.
_LEAST: Final = 0.2
# Nothing listens there: no server of this machine is rung.
_NO_REDIS: Final = "redis://127.0.0.1:1/0"
# A process's peak begins with that of whoever started it, so a small one does.
_TIMED: Final = """
import resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL, check=True)
took = time.perf_counter() - began
print(took, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
_ENDLESS: Final = """
import sys, time
from itertools import count
from pathlib import Path
from ledger import Keys, Kind, Ledger, Order
from expunge.cli.importing import give_way
give_way()
with Ledger.open(sys.argv[1], keys=Keys.load(Path(sys.argv[2]))) as ledger:
    intake = ledger.begin(Order(project="default", kind=Kind.MEMORIES), chunk_size=100)
    def numbered():
        for number in count():
            if number % 1000 == 0:
                print(number, time.monotonic(), flush=True)
            yield f"memory-{number:030d}"
    intake.add(numbered())
"""


def measure(ledgers: Ledgers, kind: str, count: int, form: str) -> dict[str, Any]:
    """Import so many ids into a fresh ledger; gives seconds, peak memory in MiB, bytes on disk."""
    path = ledgers.folder / f"ids.{form}"
    (write_parquet if form == "parquet" else write_plain)(path, count)
    with ledgers.empty(kind) as url:
        before = ledger_bytes(url)
        environment = {
            "EXPUNGE_HOME": str(ledgers.folder),
            "EXPUNGE_KEYS_DIR": str(ledgers.keys_folder),
            "EXPUNGE_LEDGER_URL": url,
            "EXPUNGE_REDIS_URL": _NO_REDIS,
            "PATH": os.defpath,
        }
        done = subprocess.run(
            [sys.executable, "-c", _TIMED, "-m", "expunge", "import", str(path), "-o", "id"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"the import failed: {done.stderr[-200:]}"
        seconds, peak = (float(word) for word in done.stdout.split())
        size = ledger_bytes(url) - before
    path.unlink()
    return {
        "ledger": kind,
        "ids": count,
        "seconds": seconds,
        "peak_mb": peak * _RSS_UNIT / _MIB,
        "bytes_per_id": size / count,
    }


def ids(count: int) -> Iterator[str]:
    """Yield made-up random ids of 36 characters; PostgreSQL would compress ids in a row."""
    chance = random.Random(1)  # noqa: S311 - no secrets
    for _ in range(count):
        one = f"{chance.getrandbits(128):032x}"
        yield f"{one[:8]}-{one[8:12]}-{one[12:16]}-{one[16:20]}-{one[20:]}"


def write_plain(path: Path, count: int) -> None:
    """Write one id a line."""
    with path.open("w") as file:
        file.writelines(f"{each}\n" for each in ids(count))


def write_parquet(path: Path, count: int) -> None:
    """Write one column, in row groups of 100,000."""
    import pyarrow as pa  # noqa: PLC0415 - an extra
    import pyarrow.parquet as pq  # noqa: PLC0415

    with pq.ParquetWriter(path, pa.schema([("memory_id", pa.string())])) as writer:
        made: list[str] = []
        for each in ids(count):
            made.append(each)
            if len(made) == _ROWS_AT_ONCE:
                writer.write_table(pa.table({"memory_id": made}))
                made = []
        writer.write_table(pa.table({"memory_id": pa.array(made, pa.string())}))


# -- beside calls ---------------------------------------------------------------------------------


def beside(ledgers: Ledgers, *, rate: float, seconds: float) -> dict[str, Any]:
    """Give a worker's calls a second without and with an import on the same SQLite ledger."""
    chunks = int(rate * (2 * seconds + _BESIDE_S))
    with (
        ledgers.filled("sqlite", chunks=chunks, ids_per_chunk=100) as url,
        Server(latency_ms=_LATENCY_MS) as server,
    ):
        values = settings(rate_per_second=rate)
        with House(url, ledgers.keys_folder, server.base_url, values) as house:
            house.start_worker()
            until(lambda: server.count().calls > rate / 5, seconds=30, why="calls")
            time.sleep(1.0)
            before = server.count()
            time.sleep(seconds)
            without = server.count().per_s(before)
            with _importing(url, ledgers.keys_folder, house.folder / "import.log") as ids_per_s:
                time.sleep(1.0)
                before = server.count()
                time.sleep(seconds)
                during = server.count().per_s(before)
                taken = ids_per_s()
        assert server.count().calls < chunks, "the ledger ran dry; fill it with more"
    return {
        "limit": rate,
        "without_per_s": without,
        "during_per_s": during,
        "ratio": during / without,
        "ids_per_s": taken,
        "seconds": seconds,
    }


@contextmanager
def _importing(url: str, keys: Path, log: Path) -> Iterator[Callable[[], float]]:
    """Let another process hand in ids without end; gives what tells how many a second."""
    with log.open("wb") as output:
        child = subprocess.Popen([sys.executable, "-c", _ENDLESS, url, str(keys)], stdout=output)

    def ids_per_s() -> float:
        lines = [line.split() for line in log.read_text().splitlines()[1:-1]]
        first, last = lines[len(lines) // 3], lines[-1]
        return (int(last[0]) - int(first[0])) / (float(last[1]) - float(first[1]))

    try:
        until(lambda: len(log.read_text().splitlines()) > 1, seconds=20, why="the import to begin")
        yield ids_per_s
        assert child.poll() is None, "the import ended by itself"
    finally:
        child.kill()
        child.wait()


def run(
    ledgers: Ledgers,
    *,
    sizes: Sequence[int] = IDS,
    seconds: float = 3.0,
    kinds: Sequence[str] = KINDS,
    form: str = "plain",
) -> dict[str, Any]:
    """Measure both, print and keep them."""
    rows = []
    for kind in kinds:
        start_s = min(measure(ledgers, kind, 1, form)["seconds"] for _ in range(_STARTS))
        for count in sizes:
            times = _TIMES if count == _JUDGED else 1
            row = _median([measure(ledgers, kind, count, form) for _ in range(times)])
            row |= {"start_s": start_s}
            took_s = row["seconds"] - start_s
            if took_s > _LEAST * start_s:
                row |= {"per_s": count / took_s}
            say(f"import, {kind}: {count:,} ids in {row['seconds']:.2f} s, {start_s:.2f} to start")
            rows.append(row)
    columns = {
        "ledger": "ledger",
        "ids": "ids",
        "seconds": "seconds in all",
        "start_s": "of it to start",
        "per_s": "ids/s",
        "peak_mb": "peak MiB",
        "bytes_per_id": "bytes an id",
    }
    imports = table(f"(d) expunge import, {form}", rows, columns)
    calls = [beside(ledgers, rate=rate, seconds=seconds) for rate in RATES]
    columns = {
        "limit": "limit/s",
        "without_per_s": "calls/s without",
        "during_per_s": "during an import",
        "ratio": "ratio",
        "ids_per_s": "imported ids/s",
        "seconds": "looked at, s each",
    }
    besides = table(
        f"(d) calls during an import on SQLite, {_LATENCY_MS} ms, one process", calls, columns
    )
    found = {"format": form, "rows": rows, "beside": calls}
    keep("importing", found, imports, besides)
    return found


def _median(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return sorted(rows, key=lambda row: float(row["seconds"]))[len(rows) // 2]


def main() -> None:
    """Measure as asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ids", type=int, nargs="+", default=list(IDS))
    parser.add_argument("--format", choices=["plain", "parquet"], default="plain")
    parser.add_argument("--ledger", choices=KINDS, action="append")
    options = parser.parse_args()
    with Ledgers() as ledgers:
        run(ledgers, sizes=options.ids, kinds=options.ledger or KINDS, form=options.format)


if __name__ == "__main__":
    main()
