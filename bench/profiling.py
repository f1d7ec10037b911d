"""What a worker process does with its time: by thread, library and own function.

    python -m bench.profiling [--latency-ms 0 20] [--ledger sqlite] [--seconds 5] [--top 10]

One process drains a filled ledger, without Celery around it, while another thread looks every 2 ms
where it is. The thread `loop`, which makes the calls, is looked at with its clerk (`worker.clerk`),
as in production; then the thread `ledger` without one, which does beside the calls what the clerk's
process does. Looking slows nothing down by much, which a tracing profiler does to small functions
most of all. A thread that waits for the interpreter is counted where it stands, one that has
nothing to do as idle.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any, Final

import worker.process
from bench.calls import IDS_PER_CHUNK, RATE
from bench.house import KINDS, Ledgers, settings
from bench.report import Table, keep, table
from bench.server import Server
from ledger.settings import load_settings
from worker.process import Process
from worker.stop import StopFlag

_OWN: Final = ("ledger", "memos_api", "worker")
_LIBRARIES: Final = ("aiohttp", "httpx", "sqlalchemy", "psycopg")
_THREADS: Final = ("loop", "ledger")
_EVERY_S: Final = 0.002
# Where the loop waits for sockets, and the executor's thread for work.
_IDLE: Final = ("select", "_worker")
_ROOT: Final = Path(__file__).parents[1]


def measure(
    ledgers: Ledgers, kind: str, thread: str, *, latency_ms: float, seconds: float
) -> dict[str, Any]:
    """Profile a thread of one process; gives calls, seconds, CPU seconds, and the shares."""
    chunks = int(RATE * (seconds + 1))
    with (
        ledgers.filled(kind, chunks=chunks, ids_per_chunk=IDS_PER_CHUNK) as url,
        Server(latency_ms=latency_ms) as server,
    ):
        environment = {
            "PATH": os.defpath,
            "EXPUNGE_HOME": str(ledgers.folder),
            "EXPUNGE_KEYS_DIR": str(ledgers.keys_folder),
            "EXPUNGE_LEDGER_URL": url,
            "MEMOS_API_KEY": "bench",
            "MEMOS_BASE_URL": server.base_url,
            **settings(rate_per_second=RATE),
        }
        command = [sys.executable, "-m", "bench.profiling", "--inside", thread]
        command += ["--seconds", str(seconds)]
        done = subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True, cwd=_ROOT
        )
        calls = server.count().calls
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"ledger": kind, "thread": thread, "latency_ms": latency_ms, "calls": calls, **found}


def inside(thread: str, seconds: float) -> dict[str, Any]:
    """Drain in this process, looked at."""
    if thread == "ledger":
        worker.process.CLERK_FROM_PER_S = math.inf  # type: ignore[misc]  # no setting of anybody's
    process = Process(load_settings(), role="drain", stop=StopFlag())
    process.drain(budget_s=1.0)  # connections, caches, imports
    looks = Looks(next(one for one in threading.enumerate() if one.name.startswith(thread)))
    done = threading.Event()
    looking = threading.Thread(target=_look, args=(looks, done))
    began, cpu = time.monotonic(), time.process_time()
    looking.start()
    process.drain(budget_s=seconds)
    done.set()
    looking.join()
    took, used = time.monotonic() - began, time.process_time() - cpu
    process.close()
    return {"seconds": took, "cpu_s": used, **looks.shares()}


class Looks:
    """Where one thread was found.

    Args:
        thread: Which.
    """

    def __init__(self, thread: threading.Thread) -> None:
        assert thread.ident is not None
        self.ident = thread.ident
        self._all = 0
        self._groups: Counter[str] = Counter()
        self._own: Counter[str] = Counter()

    def note(self, frame: FrameType | None) -> None:
        """Count one look at the innermost frame."""
        self._all += 1
        if frame is None or frame.f_code.co_name in _IDLE:
            self._groups["idle"] += 1
            return
        self._groups[_group(frame.f_code.co_filename)] += 1
        while frame is not None:
            file = frame.f_code.co_filename
            if Path(file).parts[-2:-1] and Path(file).parent.name in _OWN:
                name = f"{Path(file).parent.name}/{Path(file).name} {frame.f_code.co_qualname}"
                self._own[name] += 1
                return
            frame = frame.f_back
        self._own["none of ours"] += 1

    def shares(self) -> dict[str, Any]:
        """Give the shares of all looks, by library and by the innermost function of ours."""
        return {
            "looks": self._all,
            "groups": [(name, one / self._all) for name, one in self._groups.most_common()],
            "own": [(name, one / self._all) for name, one in self._own.most_common(30)],
        }


def _look(looks: Looks, done: threading.Event) -> None:
    while not done.wait(_EVERY_S):
        frames = sys._current_frames()  # noqa: SLF001 - documented, with the underscore
        looks.note(frames.get(looks.ident))


def _group(file: str) -> str:
    """Name whose code a function is."""
    parts = Path(file).parts
    for package in (*_OWN, *_LIBRARIES):
        if any(part == package or part.startswith(f"{package}_") for part in parts):
            return package
    if "asyncio" in parts:
        return "asyncio"
    return "standard library, other"


def show(found: dict[str, Any], top: int) -> Table:
    """Print one profile."""
    how = f"{found['ledger']}, {found['latency_ms']:g} ms, thread {found['thread']}"
    how += " with its clerk" if found["thread"] == "loop" else " beside the loop"
    cpu = found["cpu_s"] / found["seconds"]
    rows = [
        {"group": group[0], "group_share": group[1], "own": own[0], "own_share": own[1]}
        for group, own in zip(
            [*found["groups"], *[("", None)] * top][:top],
            [*found["own"], *[("", None)] * top][:top],
            strict=True,
        )
    ]
    columns = {
        "group": "innermost code of",
        "group_share": "share",
        "own": "innermost function of ours",
        "own_share": "share ",
    }
    return table(f"{how}; the process used {cpu:.0%} of a core", rows, columns)


def main() -> None:
    """Profile as asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--latency-ms", type=float, nargs="+", default=[0.0, 20.0])
    parser.add_argument("--ledger", choices=KINDS, action="append")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--top", type=int, default=10)
    parser.add_argument("--inside", choices=_THREADS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(inside(options.inside, options.seconds)))
        return
    found = []
    tables: list[Table] = []
    with Ledgers() as ledgers:
        for kind in options.ledger or KINDS:
            for latency_ms in options.latency_ms:
                for thread in _THREADS:
                    found.append(
                        measure(
                            ledgers, kind, thread, latency_ms=latency_ms, seconds=options.seconds
                        )
                    )
                    tables.append(show(found[-1], options.top))
    keep("profile", {"profiles": found}, *tables)


if __name__ == "__main__":
    main()
