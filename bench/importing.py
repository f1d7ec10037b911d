"""Measure an import: ids a second, and the most memory that its process ever had.

    python bench/importing.py [--ids 1000000 10000000] [--format plain|parquet]

Each number of ids is a file of its own, handed in by `expunge import` into a fresh SQLite ledger in
a temporary directory that is removed at the end (10 million ids take some 6 GB). The memory is the
peak resident size as the kernel tells it: flat means that it is the same for both sizes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ledger import Keys, upgrade
from ledger.settings import Settings

_MIB: Final = 1 << 20
_ROWS_AT_ONCE: Final = 100_000
# Nothing listens there: no server of this machine is rung.
_NO_REDIS: Final = "redis://127.0.0.1:1/0"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ids", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--format", choices=["plain", "parquet"], default="plain")
    options = parser.parse_args()
    print(f"{'ids':>12} {'seconds':>9} {'ids/s':>9} {'peak MiB':>9}")
    for count in options.ids:
        with tempfile.TemporaryDirectory(prefix="expunge-bench-") as folder:
            seconds, peak = measure(Path(folder), count, options.format)
        print(f"{count:>12,} {seconds:>9.1f} {count / seconds:>9,.0f} {peak:>9.0f}", flush=True)


def measure(folder: Path, count: int, form: str) -> tuple[float, float]:
    """Give the seconds and the peak memory in MiB of one import."""
    settings = Settings(home=folder, redis_url=_NO_REDIS)
    Keys.create(settings.keys_dir)
    upgrade(settings.ledger_url)
    path = folder / ("ids.parquet" if form == "parquet" else "ids.txt")
    (write_parquet if form == "parquet" else write_plain)(path, count)
    environment = {"EXPUNGE_HOME": str(folder), "EXPUNGE_REDIS_URL": _NO_REDIS, "PATH": os.defpath}
    started = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "expunge", "import", str(path), "-o", "id"],
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1 << 10
    return time.perf_counter() - started, used.ru_maxrss * unit / _MIB


def ids(count: int) -> Iterator[str]:
    """Yield made-up ids of 37 characters."""
    return (f"memory-{number:030d}" for number in range(count))


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


if __name__ == "__main__":
    main()
