"""Figure (a): deletions a second and CPU a call, against references of the same minute.

    python -m bench.calls [--latency-ms 20] [--ledger sqlite] [--processes 1] [--full]

The ledger holds chunks of 100 ids that are due. Workers start as operators start them, with a limit
of 5,000 calls a second, the highest there is: the limiter is on, but it is not what holds back. The
server counts what comes; a worker's time to start is left out. Two processes at 20 ms differ most
from run to run: they run three times, and the one in the middle counts.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any, Final

from sqlalchemy import text

from bench import naive, official, raw
from bench.house import KINDS, House, Ledgers, settings
from bench.report import Table, keep, say, table
from bench.server import Server
from ledger.engine import Database
from tests.support.stack import until

LATENCIES_MS: Final = (0, 20, 200)
PROCESSES: Final = (1, 2)
# At 200 ms a task that waits holds a whole process or thread: 10 to 160 calls/s by arithmetic.
CELERY_LATENCIES_MS: Final = (0, 20)
RATE: Final = 5_000
IDS_PER_CHUNK: Final = 100
# With so many the server is measured by what it can do, not by what its latency lets it.
_SERVER_CONNECTIONS: Final = 4_096
_LEAST_SERVER: Final = 3.0
_WARM_CALLS: Final = 500
# Each process finds out by then how many calls it can take on.
_WARM_S: Final = 2.0
# Runs of the rows that the numbers to reach are about and that differ most from run to run.
_TIMES: Final = 3
_JUDGED: Final = (20, 2)
# More than what is called before and between.
_SPARE_S: Final = 1.0
# Naive workers do the same all the time.
_CELERY_S: Final = 2.0


def in_flight(latency_ms: float) -> int:
    """Give the calls in flight of the raw client: as many as fill a core."""
    return 1_024 if latency_ms >= 100 else 256  # noqa: PLR2004 - 5 calls a second each


def measure_worker(
    ledgers: Ledgers, kind: str, server: Server, *, processes: int, seconds: float
) -> dict[str, Any]:
    """Measure real worker processes on a filled ledger.

    Args:
        ledgers: Where the ledger comes from.
        kind: `sqlite` or `postgresql`.
        server: What they call.
        processes: `EXPUNGE_PROCESSES` of the one worker.
        seconds: How long to look, after it has warmed up.
    """
    values = settings(rate_per_second=RATE, processes=processes)
    chunks = int(RATE * (seconds + _WARM_S + _SPARE_S))
    with (
        ledgers.filled(kind, chunks=chunks, ids_per_chunk=IDS_PER_CHUNK) as url,
        House(url, ledgers.keys_folder, server.base_url, values) as house,
    ):
        start = server.count().calls
        house.start_worker()
        until(lambda: server.count().calls > start + _WARM_CALLS, seconds=30, why="calls")
        time.sleep(_WARM_S)
        before, cpu = server.count(), house.cpu_s()
        time.sleep(seconds)
        after, used = server.count(), house.cpu_s() - cpu
        missed = _missed(url)
    done = after.calls - before.calls
    assert after.calls - start < chunks, "the ledger ran dry; fill it with more"
    return {
        "who": f"expunge, {kind}, {processes} process{'es' * (processes > 1)}",
        "ledger": kind,
        "processes": processes,
        "per_s": after.per_s(before),
        "cpu_ms": used / done * 1000,
        "under_way": after.under_way(before),
        "missed": missed,
        "seconds": after.at_s - before.at_s,
    }


def _missed(url: str) -> float:
    """Give the share of claimed calls that missed their slot, and so were not made."""
    query = text(
        "SELECT avg(CASE WHEN outcome = 'unsent' THEN 1.0 ELSE 0.0 END) FROM attempt"
        " WHERE outcome IS NOT NULL"
    )
    with closing(Database(url)) as database:
        return float(database.read(lambda conn: conn.execute(query).scalar_one()))


def measure(
    ledgers: Ledgers,
    *,
    seconds: float,
    latencies_ms: Sequence[float] = LATENCIES_MS,
    kinds: Sequence[str] = KINDS,
    processes: Sequence[int] = PROCESSES,
) -> dict[str, Any]:
    """Measure all rows, print and keep them."""
    found = []
    tables = []
    for latency_ms in latencies_ms:
        with Server(latency_ms=latency_ms) as server:
            found.append(
                _rows(
                    ledgers,
                    server,
                    latency_ms=latency_ms,
                    kinds=kinds,
                    processes=processes,
                    seconds=seconds,
                )
            )
        tables.append(_print(found[-1]))
    result = {"rate_per_second": RATE, "ids_per_chunk": IDS_PER_CHUNK, "latencies": found}
    keep("calls", result, *tables)
    return result


def _rows(
    ledgers: Ledgers,
    server: Server,
    *,
    latency_ms: float,
    kinds: Sequence[str],
    processes: Sequence[int],
    seconds: float,
) -> dict[str, Any]:
    calls = in_flight(latency_ms)
    alone = raw.measure("server", server, in_flight=_SERVER_CONNECTIONS, seconds=1.0)
    raws = [raw.measure("httpx", server, in_flight=calls, seconds=1.5)]
    ours = raw.measure("client", server, in_flight=calls, seconds=1.5)
    rows = []
    for kind in kinds:
        for number in processes:
            runs = []
            for _ in range(_TIMES if (latency_ms, number) == _JUDGED else 1):
                row = measure_worker(ledgers, kind, server, processes=number, seconds=seconds)
                # Before and after each, for the machine's speed changes from minute to minute.
                raws.append(raw.measure("httpx", server, in_flight=calls, seconds=1.5))
                row["of_raw"] = row["per_s"] / statistics.mean(one["per_s"] for one in raws[-2:])
                say(f"{latency_ms} ms: {row['who']}: {row['per_s']:,.0f}/s")
                runs.append(row)
            runs.sort(key=lambda row: row["of_raw"])
            rows.append(runs[len(runs) // 2] | {"runs": [row["of_raw"] for row in runs]})
    celery = []
    if latency_ms in CELERY_LATENCIES_MS:
        for pool in naive.POOLS:
            celery.append(naive.measure(server, pool=pool, seconds=min(seconds, _CELERY_S)))
            say(f"{latency_ms} ms: {celery[-1]['who']}: {celery[-1]['per_s']:,.0f}/s")
    loop = official.measure(server, seconds=1.5)
    client = statistics.median(each["per_s"] for each in raws)
    for row in (*celery, loop):
        if "per_s" in row:
            row["of_raw"] = row["per_s"] / client
    return {
        "latency_ms": latency_ms,
        "in_flight": calls,
        "server": {**alone, "of_raw": alone["per_s"] / client},
        "counts": alone["per_s"] >= _LEAST_SERVER * client,
        "raw": {
            "per_s": client,
            "cpu_ms": statistics.median(each["cpu_ms"] for each in raws),
            "runs": [each["per_s"] for each in raws],
            "seconds": sum(each["seconds"] for each in raws),
        },
        "client": {**ours, "of_raw": ours["per_s"] / client},
        "rows": rows,
        "celery": celery,
        "official": loop,
    }


def _print(found: dict[str, Any]) -> Table:
    title = f"(a) {found['latency_ms']} ms latency, {found['in_flight']} raw calls in flight"
    if not found["counts"]:
        title += f"; DOES NOT COUNT: the server alone gives less than {_LEAST_SERVER} x the client"
    rows = [
        {"who": "server alone", **found["server"]},
        {"who": "raw client", **found["raw"], "of_raw": 1.0},
        {"who": "MemosClient alone", **found["client"]},
        *found["rows"],
        *found["celery"],
        found["official"],
    ]
    columns = {
        "who": "who",
        "per_s": "calls/s",
        "of_raw": "of raw",
        "cpu_ms": "CPU ms a call",
        "under_way": "on the wire",
        "missed": "slots missed",
        "seconds": "looked at, s",
        "note": "",
    }
    return table(title, rows, columns)


def main() -> None:
    """Measure as asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--latency-ms", type=float, action="append")
    parser.add_argument("--ledger", choices=KINDS, action="append")
    parser.add_argument("--processes", type=int, action="append")
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    with Ledgers() as ledgers:
        measure(
            ledgers,
            seconds=options.seconds,
            latencies_ms=options.latency_ms or LATENCIES_MS,
            kinds=options.ledger or KINDS,
            processes=options.processes or PROCESSES,
        )


if __name__ == "__main__":
    main()
