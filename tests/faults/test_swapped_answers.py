"""A server, or something before it, that gives the answer of one call to another one."""

import asyncio
import threading
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests.contract.memos_wire import WireServer
from tests.support.draining import drain_to_the_end, processes
from tests.support.stack import Stack


class Swapper:
    """Sends calls on, and gives the first deletions their answers in pairs, swapped."""

    def __init__(self, to, key, *, pairs):
        self.to = to
        self.key = key
        self.left = pairs
        self.waiting = None
        self.http: Any = None

    async def __call__(self, exchange):
        method, path, _ = exchange.head.split("\r\n")[0].split(" ")
        headers = {"Authorization": f"Token {self.key}", "Content-Type": "application/json"}
        url = self.to + path.removeprefix("/api")
        reply = await self.http.request(method, url, content=exchange.body, headers=headers)
        body = reply.content
        if path.endswith("/delete/memory") and self.left:
            body = await self.swapped(body)
        head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        await exchange.send(head % (reply.status_code, len(body)) + body)

    async def swapped(self, body):
        if self.waiting is None:
            self.waiting = body, asyncio.get_running_loop().create_future()
            return await self.waiting[1]
        other, partner = self.waiting
        self.waiting = None
        self.left -= 1
        partner.set_result(body)
        return other


@contextmanager
def before(swapper):
    """Serve in a thread; gives the base URL."""
    ready, over, found = threading.Event(), threading.Event(), []

    async def serve():
        async with (
            httpx.AsyncClient(trust_env=False) as swapper.http,
            WireServer(swapper) as server,
        ):
            found.append(server.base_url)
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield found[0]
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.fault("F75")
def test_swapped_answers_of_deletions_are_put_right_by_the_read_back(
    tmp_path, monkeypatch, fault_report
):
    """MemOS names no id in them, so nobody can tell at once: only looking can."""
    monkeypatch.setattr("worker.drain.random", SimpleNamespace(random=lambda: 0.05))
    settings = {"EXPUNGE_SETTLE_SECONDS": "0.1", "EXPUNGE_CALL_DEADLINE_SECONDS": "1.4"}
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with Stack(tmp_path, url, rate=50, latency_ms=5, settings=settings) as stack:
        ids = stack.seed(users=1, memories=78, seed=41).memory_ids
        # Every second chunk of ten is refused for an id that MemOS does not know.
        mixed = [*ids[:10], "never-1", *ids[10:29], "never-2", *ids[29:]]
        stack.submit(mixed, chunk_size=10, verify="full")
        swapper = Swapper(stack.simulator.base_url, stack.simulator.api_key, pairs=3)
        with before(swapper) as base_url, processes(stack, MEMOS_BASE_URL=base_url) as (process,):
            drain_to_the_end(stack, process)
        verdict = stack.verdict(seconds=1)
        fault_report(verdict)
        (view,) = stack.views()

    assert swapper.left == 0
    assert (verdict.lost, verdict.unordered, verdict.excess) == (0, 0, 0)
    # What was refused in truth and "acknowledged" in error was found and deleted again.
    assert view.retried > 0
    assert (view.counts.verified_absent + view.counts.already_absent) == 80
    assert view.counts.already_absent >= 2
