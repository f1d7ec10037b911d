"""The real client and a real simulator behind workers whose clock a test moves."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from ledger.tasks import Task
from memos_api import Dialect, MemosClient, Reply
from memos_api.simulator.process import SimulatorProcess
from worker.prepared import prepare

__all__ = ["RealClient", "real_client"]

_LATENCY_S = 0.03


class RealClient:
    """Sends each call over HTTP, and lets the simulator's clock go with the ledger's.

    Attributes:
        dialect: As calls are encoded.
        calls: How many of each kind were sent.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, client: MemosClient, simulator: SimulatorProcess
    ) -> None:
        self._loop = loop
        self._client = client
        self._control = simulator.control
        self._passed: float | None = None
        self.dialect = client.dialect
        self.calls: Counter[str] = Counter()

    def reply(self, task: Task, now: float) -> Reply:
        """Send it; it seems to have taken 30 ms."""
        if self._passed is not None:
            self._control.pass_time(max(0.0, now - self._passed))
        self._passed = now
        self.calls[task.call] += 1
        sent = self._client.send(prepare(task, self.dialect))
        return replace(self._loop.run_until_complete(sent), seconds=_LATENCY_S)


@contextmanager
def real_client(
    simulator: SimulatorProcess, base_url: str, dialect: Dialect
) -> Iterator[RealClient]:
    """Open a client of the simulator that speaks this dialect."""
    loop = asyncio.new_event_loop()
    client = MemosClient(
        base_url=base_url, api_key=simulator.api_key, deadline_s=0.5, dialect=dialect
    )
    try:
        loop.run_until_complete(client.__aenter__())
        yield RealClient(loop, client, simulator)
    finally:
        loop.run_until_complete(client.aclose())
        loop.close()
