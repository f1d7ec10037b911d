"""The reference that most people would write: one Celery task a call, synchronous httpx, on Redis.

    python -m bench.naive [--latency-ms 20] [--seconds 3]

No ledger, no limit, no retry, no read-back; acknowledged late, so that a killed worker loses
nothing. Each thread or process has a client of its own, which is faster than one for all. Tasks
are in the queue before the worker starts. `BENCH_URL` and `BENCH_REDIS` tell the worker where.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import httpx
from celery import Celery

from bench.house import group_cpu_s
from bench.report import say, table
from bench.server import Server
from tests.support.stack import group_members, until
from tests.support.valkey import ValkeyServer

POOLS: Final = ("prefork 2", "prefork 16", "threads 32")
IDS_PER_CALL: Final = 100
_TASKS: Final = 6_000
_WARM_CALLS: Final = 100
_QUEUE: Final = "naive"

app = Celery("naive", broker=os.environ.get("BENCH_REDIS", "redis://127.0.0.1:1/0"))
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    task_default_queue=_QUEUE,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)
_here = threading.local()


@app.task(name="delete")  # type: ignore[untyped-decorator]  # celery has no types
def delete(memory_ids: list[str]) -> None:
    """Make one call."""
    client: httpx.Client | None = getattr(_here, "client", None)
    if client is None:
        client = _here.client = httpx.Client(headers={"Authorization": "Token bench"}, timeout=30)
    url = f"{os.environ['BENCH_URL']}/delete/memory"
    answer = client.post(url, json={"memory_ids": memory_ids})
    answer.raise_for_status()
    assert answer.json()["code"] == 0


def measure(server: Server, *, pool: str, seconds: float) -> dict[str, Any]:
    """Measure one pool, such as `prefork 16`; gives a row as `bench.calls` has them."""
    kind, _, number = pool.partition(" ")
    valkey = ValkeyServer().start()
    try:
        _publish(valkey.url)
        command = [sys.executable, "-m", "celery", "-A", "bench.naive", "--quiet", "worker"]
        command += [f"--pool={kind}", f"--concurrency={number}", "--loglevel=ERROR"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        environment = os.environ | {"BENCH_URL": server.base_url, "BENCH_REDIS": valkey.url}
        with _running(command, environment) as group:
            start = server.count().calls
            until(lambda: server.count().calls > start + _WARM_CALLS, seconds=60, why="calls")
            time.sleep(0.5)
            before, cpu = server.count(), group_cpu_s(group)
            time.sleep(seconds)
            after, used = server.count(), group_cpu_s(group) - cpu
    finally:
        valkey.close()
    done = after.calls - before.calls
    assert after.calls - start < _TASKS, "the queue ran dry; publish more"
    return {
        "who": f"celery, {pool}",
        "per_s": after.per_s(before),
        "cpu_ms": used / done * 1000,
        "under_way": after.under_way(before),
        "seconds": after.at_s - before.at_s,
    }


@contextmanager
def _running(command: list[str], environment: dict[str, str]) -> Iterator[int]:
    """Run a worker in a process group of its own, whose number it gives."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield process.pid
            assert process.poll() is None, "celery ended by itself"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            until(lambda: not group_members(process.pid), seconds=10, why="celery to be gone")


def _publish(url: str) -> None:
    """Fill the queue."""
    script = "from bench.naive import publish_all; publish_all()"
    subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"BENCH_REDIS": url}, check=True
    )


def publish_all() -> None:
    """Publish the tasks, each of 100 ids."""
    ids = [str(uuid.uuid4()) for _ in range(IDS_PER_CALL)]
    with app.producer_pool.acquire() as producer:
        for _ in range(_TASKS):
            delete.apply_async((ids,), producer=producer)


def main() -> None:
    """Print all pools."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--latency-ms", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    rows = []
    with Server(latency_ms=options.latency_ms) as server:
        for pool in POOLS:
            rows.append(measure(server, pool=pool, seconds=options.seconds))
            say(f"{pool}: {rows[-1]['per_s']:,.0f}/s")
    columns = {"who": "who", "per_s": "calls/s", "cpu_ms": "CPU ms a call", "seconds": "s"}
    table(f"naive Celery at {options.latency_ms} ms", rows, columns)


if __name__ == "__main__":
    main()
