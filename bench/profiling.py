"""What a worker process spends its CPU time on: by thread and library, at 0 ms and at 20 ms.

    python -m bench.profiling [--latency-ms 0 20] [--ledger sqlite] [--seconds 5] [--top 12]

One process drains a filled ledger, without Celery around it, under cProfile with the CPU clock of
each thread: `loop` makes the calls, `ledger` talks to the database. The profiler makes everything
slower, small functions most of all, so only the shares mean something.
"""

import argparse
import cProfile
import json
import os
import pstats
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from bench.calls import CHUNKS, IDS_PER_CHUNK, RATE, in_flight
from bench.house import KINDS, Ledgers, settings
from bench.report import Table, keep, table
from bench.server import Server
from ledger.settings import load_settings
from worker.process import Process
from worker.stop import StopFlag

_PACKAGES: Final = ("ledger", "memos_api", "worker", "aiohttp", "httpx", "sqlalchemy", "psycopg")
_ROOT: Final = Path(__file__).parents[1]


def measure(ledgers: Ledgers, kind: str, *, latency_ms: float, seconds: float) -> dict[str, Any]:
    """Profile one process; gives calls, seconds, and of each thread shares and functions."""
    with (
        ledgers.filled(kind, chunks=CHUNKS, ids_per_chunk=IDS_PER_CHUNK) as url,
        Server(latency_ms=latency_ms) as server,
    ):
        environment = {
            "PATH": os.defpath,
            "EXPUNGE_HOME": str(ledgers.folder),
            "EXPUNGE_KEYS_DIR": str(ledgers.keys_folder),
            "EXPUNGE_LEDGER_URL": url,
            "MEMOS_API_KEY": "bench",
            "MEMOS_BASE_URL": server.base_url,
            **settings(rate_per_second=RATE, in_flight=in_flight(latency_ms)),
        }
        command = [sys.executable, "-m", "bench.profiling", "--inside", "--seconds", str(seconds)]
        done = subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True, cwd=_ROOT
        )
        calls = server.count().calls
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"ledger": kind, "latency_ms": latency_ms, "calls": calls, **found}


def inside(seconds: float) -> dict[str, Any]:
    """Drain in this process, under a profiler for each of the two threads."""
    process = Process(load_settings(), role="drain", stop=StopFlag())
    process.drain(budget_s=1.0)  # connections, caches, imports
    loop, ledger = cProfile.Profile(time.thread_time), cProfile.Profile(time.thread_time)
    thread = process._database  # noqa: SLF001 - the thread has to enable its own
    thread.submit(ledger.enable).result()
    began, cpu = time.monotonic(), time.process_time()
    loop.runcall(process.drain, budget_s=seconds)
    took, used = time.monotonic() - began, time.process_time() - cpu
    thread.submit(ledger.disable).result()
    return {
        "seconds": took,
        "cpu_s": used,
        "threads": {"loop": _shares(loop), "ledger": _shares(ledger)},
    }


def _shares(profile: cProfile.Profile) -> dict[str, Any]:
    rows = pstats.Stats(profile).stats  # type: ignore[attr-defined]  # not in the stubs
    groups: dict[str, float] = {}
    functions = []
    for (file, line, name), (_, calls, own_s, _, _) in rows.items():
        groups[_group(file, name)] = groups.get(_group(file, name), 0.0) + own_s
        place = f"{Path(file).name}:{line} {name}" if line else name
        functions.append({"function": place, "calls": calls, "own_s": own_s})
    total = sum(groups.values())
    functions.sort(key=lambda each: each["own_s"], reverse=True)
    ordered = sorted(groups.items(), key=lambda item: item[1], reverse=True)
    return {
        "cpu_s": total,
        "groups": {name: own / total for name, own in ordered},
        "functions": functions[:30],
    }


def _group(file: str, name: str) -> str:
    """Name whose code a function is."""
    if file == "~":  # built in
        for words, group in (
            (("sqlite3",), "sqlite3 (C)"),
            (("psycopg", "Cursor", "PGconn"), "psycopg (C)"),
            (("hmac", "_hashlib", "sha"), "hashing (C)"),
            (("socket", "epoll", "select"), "sockets, epoll (C)"),
            (("json",), "json (C)"),
        ):
            if any(word in name for word in words):
                return group
        return "other built in"
    parts = Path(file).parts
    for package in _PACKAGES:
        if any(part == package or part.startswith(f"{package}_") for part in parts):
            return package
    if "asyncio" in parts or Path(file).name == "selectors.py":
        return "asyncio"
    return "other Python"


def show(found: dict[str, Any], top: int) -> list[Table]:
    """Print one profile."""
    how = f"{found['ledger']}, {found['latency_ms']:g} ms, {found['calls']:,} calls"
    cpu = found["cpu_s"] / found["seconds"]
    tables = []
    for thread, shares in found["threads"].items():
        rows = [{"group": name, "share": share} for name, share in shares["groups"].items()]
        title = f"{how}; thread {thread}: {shares['cpu_s']:.1f} s CPU (process {cpu:.0%} of a core)"
        tables.append(
            table(title, rows[:top], {"group": "whose code", "share": "share of the thread's CPU"})
        )
        columns = {"function": "function", "calls": "calls", "own_s": "own CPU, s"}
        tables.append(
            table(f"{how}; dearest of thread {thread}", shares["functions"][:top], columns)
        )
    return tables


def main() -> None:
    """Profile as asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--latency-ms", type=float, nargs="+", default=[0.0, 20.0])
    parser.add_argument("--ledger", choices=KINDS, action="append")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--top", type=int, default=12)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(inside(options.seconds)))
        return
    found = []
    tables: list[Table] = []
    with Ledgers() as ledgers:
        for kind in options.ledger or KINDS:
            for latency_ms in options.latency_ms:
                found.append(measure(ledgers, kind, latency_ms=latency_ms, seconds=options.seconds))
                tables += show(found[-1], options.top)
    keep("profile", {"profiles": found}, *tables)


if __name__ == "__main__":
    main()
