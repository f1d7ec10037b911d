"""Figure (b): when calls depart, at four limits at once, undisturbed and in trouble.

    python -m bench.departures [--seconds 64] [--latency-ms 200]

Four accounts with limits of 0.5, 10, 50 and 500 calls a second, all with more work than they can
do, are served by two workers of two processes. Departures are the kernel's time stamps of what the
server received: on the loopback they are set within `send`, so no busy process can blur them. A
window of W seconds may hold floor(limit x W) of them, at least one.

Trouble comes every few seconds, by turns: the broker is flushed, a process is killed, one is
stopped for 1.5 s with claimed work in its hands, the ledger is locked for a second in the midst of
claims, a whole worker is killed and started again, the broker is lost for a second.
"""

import argparse
import os
import random
import signal
import sqlite3
import time
from contextlib import suppress
from itertools import cycle, pairwise
from typing import TYPE_CHECKING, Any, Final

from bench.house import House, Ledgers, settings
from bench.report import Table, keep, say, table
from bench.server import Server
from ledger import Ledger
from memos_api.simulator.process import worst_window
from tests.support.full_ledger import add_open_chunks
from tests.support.stack import Worker, until

if TYPE_CHECKING:
    from collections.abc import Callable

RATES: Final = (0.5, 10.0, 50.0, 500.0)
WINDOWS_S: Final = (1.0, 10.0, 60.0)
_WORKERS: Final = 2
_PROCESSES_EACH: Final = 2
# Until everybody is there and knows how long a claim takes.
_WARM_S: Final = 3.0
_EVERY_S: Final = 4.0
_LEASE_S: Final = 6.5


def measure(
    ledgers: Ledgers, *, seconds: float, latency_ms: float = 200.0, trouble: bool
) -> dict[str, Any]:
    """Look at the departures of so many seconds."""
    with (
        ledgers.empty("sqlite") as url,
        Server(latency_ms=latency_ms, stamp=True) as server,
    ):
        _fill(ledgers, url, seconds)
        values = settings(
            processes=_PROCESSES_EACH, lease_seconds=_LEASE_S, call_deadline_seconds=1
        )
        with House(url, ledgers.keys_folder, f"{server.base_url}/unused", values) as house:
            house.settings["EXPUNGE_CONFIG"] = _config(house, server)
            for _ in range(_WORKERS):
                house.start_worker()
            until(lambda: server.count().calls > 2 * max(RATES), seconds=60, why="calls")
            time.sleep(_WARM_S)
            server.came()
            done = _trouble(house, url, seconds) if trouble else _calm(seconds)
            came = server.came()
    rows = [_row(rate, came[_name(rate)]) for rate in RATES]
    return {
        "latency_ms": latency_ms,
        "seconds": seconds,
        "trouble": done,
        "rows": rows,
        "kept": all(row["kept"] for row in rows),
    }


def _name(rate: float) -> str:
    return f"rate-{rate:g}"


def _fill(ledgers: Ledgers, url: str, seconds: float) -> None:
    names = {_name(rate): rate for rate in RATES}
    with Ledger.open(url, keys=ledgers.keys) as ledger:
        ledger.register(projects={name: name for name in names}, rates=names)
    for name, rate in names.items():
        chunks = int(rate * (seconds + 30)) + 10
        add_open_chunks(
            url,
            ledgers.keys,
            chunks=chunks,
            ids_per_chunk=1,
            chunks_per_request=chunks,
            project_name=name,
            verify="none",
        )


def _config(house: House, server: Server) -> str:
    (house.folder / "bench.key").write_text("bench\n")
    (house.folder / "bench.key").chmod(0o600)
    path = house.folder / "bench.toml"
    path.write_text(
        "".join(
            f'[accounts."{_name(rate)}"]\nrate_per_second = {rate}\n'
            f'[projects."{_name(rate)}"]\naccount = "{_name(rate)}"\napi_key_file = "bench.key"\n'
            f'base_url = "http://127.0.0.1:{server.port}/{_name(rate)}"\n'
            for rate in RATES
        )
    )
    return str(path)


def _row(rate: float, moments: list[float]) -> dict[str, Any]:
    row: dict[str, Any] = {"limit": rate, "calls": len(moments), "kept": True}
    for window in WINDOWS_S:
        most, may = worst_window(moments, window), max(1, int(rate * window + 1e-9))
        row |= {f"most_{window:g}": most, f"may_{window:g}": may}
        row["kept"] = row["kept"] and most <= may
        row[f"of_{window:g}"] = f"{most} of {may}"
    row["share"] = (len(moments) - 1) / (moments[-1] - moments[0]) / rate
    row["longest_gap_s"] = max(later - earlier for earlier, later in pairwise(moments))
    return row


# -- trouble --------------------------------------------------------------------------------------


def _calm(seconds: float) -> list[str]:
    time.sleep(seconds)
    return []


def _trouble(house: House, url: str, seconds: float) -> list[str]:
    chance = random.Random(17)  # noqa: S311 - which process is hit
    kinds: dict[str, Callable[[], None]] = {
        "broker flushed": lambda: _flush(house),
        "process killed": lambda: _kill_child(house, chance),
        "process stopped for 1.5 s": lambda: _stop_child(house, chance),
        "ledger locked for 1 s": lambda: _lock(url),
        "worker killed and started": lambda: _kill_worker(house, chance),
        "broker lost for 1 s": lambda: _lose_broker(house),
    }
    end = time.monotonic() + seconds
    done: list[str] = []
    for name in cycle(kinds):
        pause = min(_EVERY_S, end - time.monotonic())
        if pause <= 0:
            return done
        time.sleep(pause)
        if time.monotonic() < end - _EVERY_S:
            kinds[name]()
            done.append(name)
    raise AssertionError


def _living(house: House) -> list[Worker]:
    return [worker for worker in house.workers if worker.process.poll() is None]


def _child(house: House, chance: random.Random) -> int | None:
    worker = chance.choice(_living(house))
    with suppress(AssertionError):  # its Celery is just being started again
        children = worker.children(worker.part("worker.celery_main"))
        return chance.choice(children) if children else None
    return None


def _kill_child(house: House, chance: random.Random) -> None:
    if (pid := _child(house, chance)) is not None:
        os.kill(pid, signal.SIGKILL)


def _stop_child(house: House, chance: random.Random) -> None:
    if (pid := _child(house, chance)) is not None:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1.5)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _lock(url: str) -> None:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    time.sleep(1.0)
    connection.execute("ROLLBACK")
    connection.close()


def _kill_worker(house: House, chance: random.Random) -> None:
    chance.choice(_living(house)).kill_group()
    house.start_worker()


def _flush(house: House) -> None:
    with house.valkey.client() as client:
        client.flushall()


def _lose_broker(house: House) -> None:
    house.valkey.kill()
    time.sleep(1.0)
    house.valkey.start()


def show(found: dict[str, Any]) -> Table:
    """Print one run."""
    how = f"{len(found['trouble'])} troubles" if found["trouble"] else "undisturbed"
    columns = {
        "limit": "limit/s",
        "calls": "calls",
        **{f"of_{window:g}": f"most in {window:g} s" for window in WINDOWS_S},
        "kept": "kept",
        "share": "share of the limit",
        "longest_gap_s": "longest gap, s",
    }
    title = f"(b) departures at {found['latency_ms']:g} ms latency over {found['seconds']:g} s"
    return table(f"{title}, {how}", found["rows"], columns)


def run(ledgers: Ledgers, *, seconds: float, latency_ms: float = 200.0) -> dict[str, Any]:
    """Measure both, print and keep them."""
    found = {}
    tables = []
    for name, trouble in (("calm", False), ("trouble", True)):
        found[name] = measure(ledgers, seconds=seconds, latency_ms=latency_ms, trouble=trouble)
        tables.append(show(found[name]))
        say(f"departures, {name}: {'kept' if found[name]['kept'] else 'NOT KEPT'}")
    keep("departures", found, *tables)
    return found


def main() -> None:
    """Measure as asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=64.0)
    parser.add_argument("--latency-ms", type=float, default=200.0)
    options = parser.parse_args()
    with Ledgers() as ledgers:
        run(ledgers, seconds=options.seconds, latency_ms=options.latency_ms)


if __name__ == "__main__":
    main()
