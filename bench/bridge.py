"""Measure how many queue messages a second become committed requests.

    python -m bench.bridge [--messages 20000] [--ledger-url postgresql://user@host/empty]

Starts a Valkey of its own, fills a stream, and runs one bridge in this process until all are in the
ledger, from reading to confirming. Half of the messages order one memory id, half a user's purge.
The ledger is a SQLite file, with every commit flushed to disk, or the empty database that is named.
Prints messages/s, and how long a transaction of the ledger took, its commit included.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import redis

from expunge.valkey import Valkey
from ledger import Keys, Ledger, upgrade
from ledger.engine import Database
from ledger.settings import Settings
from ledger.streams import Stream
from producer.bridge import run_bridge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

T = TypeVar("T")
STREAM = "bench"
LONGEST_S = 60.0


def event(number: int) -> str:
    """Give a message: by turns one memory and one user."""
    data: dict[str, Any] = (
        {"user_id": f"user-{number:08d}", "reason": "gdpr-17"}
        if number % 2
        else {"memory_ids": [str(uuid.uuid4())]}
    )
    return json.dumps(
        {
            "specversion": "1.0",
            "type": "expunge.deletion.requested.v1",
            "source": "/bench",
            "id": str(number),
            "time": "2026-11-20T09:00:00Z",
            "data": data,
        }
    )


def fill(client: redis.Redis, messages: int) -> None:
    """Put all messages into the stream."""
    for start in range(0, messages, 1_000):
        with client.pipeline(transaction=False) as some:
            for number in range(start, min(messages, start + 1_000)):
                some.xadd(STREAM, {"event": event(number)})
            some.execute()


@contextlib.contextmanager
def holds_watched() -> Iterator[list[float]]:
    """Note how many milliseconds each writing transaction took, its commit included."""
    holds: list[float] = []
    write = Database.write

    def watched(self: Database, work: Callable[[Connection], T]) -> T:
        began = 0.0

        def timed(conn: Connection) -> T:
            nonlocal began
            began = time.perf_counter()
            return work(conn)

        try:
            return write(self, timed)
        finally:
            holds.append((time.perf_counter() - began) * 1_000)

    Database.write = watched  # type: ignore[assignment,method-assign]
    try:
        yield holds
    finally:
        Database.write = write  # type: ignore[method-assign]


def measure(settings: Settings, client: redis.Redis, messages: int) -> float:
    """Run a bridge until the stream is empty; gives messages/s."""
    stop = threading.Event()
    began = 0.0

    def started(_progress: object) -> None:
        nonlocal began
        began = time.perf_counter()

    bridge = threading.Thread(
        target=run_bridge,
        args=(settings, [Stream(name=STREAM)]),
        kwargs={"stop": stop, "on_start": started},
    )
    bridge.start()
    until = time.monotonic() + LONGEST_S
    while client.xlen(STREAM) and time.monotonic() < until:
        time.sleep(0.05)
    took = time.perf_counter() - began
    stop.set()
    bridge.join()
    with Ledger.open(settings.ledger_url, keys=Keys.load(settings.keys_dir)) as ledger:
        found = len(ledger.list_requests(limit=messages + 1))
    assert found == messages, f"{found} of {messages} requests"
    return messages / took


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="Messages a second through the bridge.")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--ledger-url")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(Valkey(folder))
        client = stack.enter_context(redis.Redis.from_url(server.url))
        values: dict[str, Any] = {"home": folder, "redis_url": server.url}
        if given.ledger_url:
            values["ledger_url"] = given.ledger_url
        settings = Settings(**values)
        Keys.create(settings.keys_dir)
        upgrade(settings.ledger_url)
        fill(client, given.messages)
        with holds_watched() as holds:
            rate = measure(settings, client, given.messages)
        print(f"messages/s  {rate:,.0f}")
        print(f"transaction ms  median {statistics.median(holds):.1f}  longest {max(holds):.1f}")


if __name__ == "__main__":
    main()
