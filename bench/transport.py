"""Measure the HTTP transports against each other, in one run against one local server.

    python -m bench.transport [--seconds 2] [--rounds 3] [--latency-ms 0]

Per transport and number of calls in flight: calls/s and milliseconds of CPU time a call of this
process (the server runs in one of its own), the median over the rounds. The transports take turns
within a round, so that a busy moment of the machine meets all of them. Compare within one run only.

The body is a batch of 100 ids (4 KB). `aiohttp` is an httpx
client on what `memos_api.transport` builds, `slots` one
httpx client of one connection for each call in flight, `pool` a single httpx client, `client` the
whole of `MemosClient.send` on aiohttp, with deadline, body cap and judgement.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import httpx

from bench.raw import CALL, httpx_client
from bench.server import BODY, Server
from memos_api.client import MemosClient
from memos_api.transport import tls_context

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Send = Callable[[], Awaitable[None]]

IN_FLIGHT = (1, 16, 64)


async def exchange(http: httpx.AsyncClient, url: str) -> None:
    """Send the call and read the answer as `MemosClient` does."""
    async with asyncio.timeout(30):
        request = http.build_request("POST", url, content=CALL.body)
        response = await http.send(request, stream=True)
        body = b"".join([chunk async for chunk in response.aiter_raw()])
        await response.aclose()
    assert body == BODY


def plain_httpx(connections: int) -> httpx.AsyncClient:
    """Build a client on httpx' own pool."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx.AsyncClient(
        limits=limits, verify=tls_context(), timeout=httpx.Timeout(None), trust_env=False
    )


async def open_variant(name: str, stack: AsyncExitStack, base_url: str, in_flight: int) -> Send:
    """Open one transport; give the function that sends one call."""
    url = base_url + CALL.path
    if name == "client":
        memos = await stack.enter_async_context(
            MemosClient(base_url=base_url, api_key="bench", in_flight=in_flight)
        )

        async def send() -> None:
            reply = await memos.send(CALL)
            assert reply.answer.code == 0

        return send
    if name == "slots":
        free = [await stack.enter_async_context(plain_httpx(1)) for _ in range(in_flight)]

        async def send_by_slot() -> None:
            slot = free.pop()
            try:
                await exchange(slot, url)
            finally:
                free.append(slot)

        return send_by_slot
    http = httpx_client(in_flight=in_flight) if name == "aiohttp" else plain_httpx(in_flight)
    await stack.enter_async_context(http)
    return lambda: exchange(http, url)


async def measure(name: str, base_url: str, in_flight: int, seconds: float) -> tuple[float, float]:
    """Give calls/s and CPU ms a call of one transport."""
    async with AsyncExitStack() as stack:
        send = await open_variant(name, stack, base_url, in_flight)
        await asyncio.gather(*(send() for _ in range(in_flight)))  # opens the connections
        calls = 0
        started, cpu = time.perf_counter(), time.process_time()

        async def worker() -> None:
            nonlocal calls
            while time.perf_counter() - started < seconds:
                await send()
                calls += 1

        await asyncio.gather(*(worker() for _ in range(in_flight)))
        elapsed, used = time.perf_counter() - started, time.process_time() - cpu
    return calls / elapsed, used / calls * 1000


def main() -> int:
    """Run all rounds and print one row for each transport and number in flight."""
    parser = argparse.ArgumentParser(description="Compare HTTP transports.")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency-ms", type=float, default=0.0, help="of the server")
    options = parser.parse_args()
    with Server(latency_ms=options.latency_ms) as server:
        base_url = server.base_url
        print("in flight  transport  calls/s   CPU ms/call  calls/s against slots")
        for in_flight in IN_FLIGHT:
            names = ("slots", "aiohttp", "client", "pool")
            rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
            for _ in range(options.rounds):
                for name in names:
                    figures = asyncio.run(measure(name, base_url, in_flight, options.seconds))
                    rounds[name].append(figures)
            rates = {name: statistics.median(r for r, _ in rounds[name]) for name in names}
            for name in names:
                cpu = statistics.median(c for _, c in rounds[name])
                ratio = rates[name] / rates["slots"]
                print(f"{in_flight:9}  {name:9}  {rates[name]:7.0f}  {cpu:12.3f}  {ratio:20.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
