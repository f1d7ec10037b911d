"""References without a ledger: the raw HTTP client, ours alone, and how fast the server is.

    python -m bench.raw [--latency-ms 20] [--in-flight 256] [--seconds 3]

`httpx` is `AsyncClient.post` on the product's transport, as its documentation has it. `client` is
`MemosClient.send`, with deadline, body cap and judgement. Neither has a ledger or a limit, and
both send the same encoded call again and again. `server` is a loop over plain sockets that sends
bytes and reads bytes, so that the server is what bounds it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import selectors
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import httpx

from bench.server import ANSWER, BODY, Server
from memos_api.client import MemosClient, delete_call
from memos_api.orders import MemoryBatch
from memos_api.transport import build_transport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CALL: Final = delete_call(
    MemoryBatch(memory_ids=tuple(f"00000000-0000-4000-8000-{n:012d}" for n in range(100)))
)
_WARM_S: Final = 0.5


def httpx_client(*, in_flight: int) -> httpx.AsyncClient:
    """Build what a caller of httpx would on the product's transport, inside the event loop."""
    return httpx.AsyncClient(
        transport=build_transport(in_flight=in_flight),
        headers={"Authorization": "Token bench", "Content-Type": "application/json"},
        timeout=httpx.Timeout(None),
        trust_env=False,
    )


async def _httpx(base_url: str, in_flight: int, seconds: float) -> dict[str, float]:
    async with httpx_client(in_flight=in_flight) as http:

        async def send() -> None:
            response = await http.post(base_url + CALL.path, content=CALL.body)
            assert response.content == BODY

        return await _steadily(send, in_flight, seconds)


async def _client(base_url: str, in_flight: int, seconds: float) -> dict[str, float]:
    async with MemosClient(base_url=base_url, api_key="bench", in_flight=in_flight) as memos:

        async def send() -> None:
            reply = await memos.send(CALL)
            assert reply.answer.code == 0, reply.answer

        return await _steadily(send, in_flight, seconds)


async def _steadily(
    send: Callable[[], Awaitable[None]], in_flight: int, seconds: float
) -> dict[str, float]:
    calls = 0
    ends = time.monotonic() + _WARM_S + seconds

    async def one_after_the_other() -> None:
        nonlocal calls
        while time.monotonic() < ends:
            await send()
            calls += 1

    running = [asyncio.create_task(one_after_the_other()) for _ in range(in_flight)]
    await asyncio.sleep(_WARM_S)  # the connections are made
    before, began, cpu = calls, time.monotonic(), time.process_time()
    await asyncio.sleep(max(0.0, ends - time.monotonic() - 0.05))
    done, took, used = calls - before, time.monotonic() - began, time.process_time() - cpu
    await asyncio.gather(*running)
    return {"per_s": done / took, "cpu_ms": used / done * 1000, "seconds": took}


def _server(port: int, in_flight: int, seconds: float) -> dict[str, float]:
    """Send what the client sends, over so many connections, as fast as a loop can."""
    head = (
        f"POST /v1{CALL.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Token bench\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(CALL.body)}\r\n\r\n"
    )
    request = head.encode() + CALL.body
    selector = selectors.DefaultSelector()
    _raise_limit_of_files(in_flight)
    for _ in range(in_flight):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(sock, selectors.EVENT_READ)
        sock.sendall(request)
    calls = 0

    def exchange(until: float) -> None:
        nonlocal calls
        while time.monotonic() < until:
            for key, _ in selector.select():
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                assert len(sock.recv(4096)) == len(ANSWER)
                calls += 1
                sock.sendall(request)

    exchange(time.monotonic() + _WARM_S)
    before, began, cpu = calls, time.monotonic(), time.process_time()
    exchange(began + seconds)
    done, took, used = calls - before, time.monotonic() - began, time.process_time() - cpu
    return {"per_s": done / took, "cpu_ms": used / done * 1000, "seconds": took}


def _raise_limit_of_files(connections: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + 64
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard), hard))


def measure(what: str, server: Server, *, in_flight: int, seconds: float) -> dict[str, float]:
    """Measure one of the three in a process of its own.

    Returns:
        Calls a second (`per_s`), ms of CPU a call of the sending process (`cpu_ms`), and how long
        it was looked at (`seconds`).
    """
    command = [sys.executable, "-m", "bench.raw", "--what", what, "--port", str(server.port)]
    command += ["--in-flight", str(in_flight), "--seconds", str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


_LOOPS: Final = {"httpx": _httpx, "client": _client}


def main() -> None:
    """Print all, or one to a server that runs already."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--what", choices=[*_LOOPS, "server"], help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    given: dict[str, Any] = {"in_flight": options.in_flight, "seconds": options.seconds}
    if options.what in _LOOPS:
        url = f"http://127.0.0.1:{options.port}/v1"
        sending = _LOOPS[options.what](url, options.in_flight, options.seconds)
        print(json.dumps(asyncio.run(sending)))
    elif options.what == "server":
        print(json.dumps(_server(options.port, options.in_flight, options.seconds)))
    else:
        with Server(latency_ms=options.latency_ms) as server:
            for what in ("server", *_LOOPS):
                found = measure(what, server, **given)
                print(f"{what}: {found['per_s']:,.0f}/s, {found['cpu_ms']:.3f} ms CPU a call")


if __name__ == "__main__":
    main()
