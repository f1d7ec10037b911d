"""References without a ledger: the bare HTTP client, and how fast the server alone is.

    python -m bench.raw [--latency-ms 20] [--in-flight 256] [--seconds 3]

`client` is `MemosClient.send` on the product's transport, with deadline, body cap and judgement,
and nothing else: no ledger, no limit, the same encoded call again and again. `server` is a loop
over plain sockets that sends bytes and reads bytes, so that the server is what bounds it.
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
from typing import Any, Final

from bench.server import ANSWER, Server
from memos_api.client import MemosClient, delete_call
from memos_api.orders import MemoryBatch

CALL: Final = delete_call(
    MemoryBatch(memory_ids=tuple(f"00000000-0000-4000-8000-{n:012d}" for n in range(100)))
)
_WARM_S: Final = 0.5


async def _client(base_url: str, in_flight: int, seconds: float) -> dict[str, float]:
    async with MemosClient(base_url=base_url, api_key="bench", in_flight=in_flight) as memos:
        calls = 0
        ends = time.monotonic() + _WARM_S + seconds

        async def one_after_the_other() -> None:
            nonlocal calls
            while time.monotonic() < ends:
                reply = await memos.send(CALL)
                assert reply.answer.code == 0, reply.answer
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
    """Measure one of the two in a process of its own.

    Returns:
        Calls a second (`per_s`), ms of CPU a call of the sending process (`cpu_ms`), and how long
        it was looked at (`seconds`).
    """
    command = [sys.executable, "-m", "bench.raw", "--what", what, "--port", str(server.port)]
    command += ["--in-flight", str(in_flight), "--seconds", str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print both, or one to a server that runs already."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--what", choices=["client", "server"], help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    given: dict[str, Any] = {"in_flight": options.in_flight, "seconds": options.seconds}
    if options.what == "client":
        url = f"http://127.0.0.1:{options.port}/v1"
        print(json.dumps(asyncio.run(_client(url, options.in_flight, options.seconds))))
    elif options.what == "server":
        print(json.dumps(_server(options.port, options.in_flight, options.seconds)))
    else:
        with Server(latency_ms=options.latency_ms) as server:
            for what in ("server", "client"):
                found = measure(what, server, **given)
                print(f"{what}: {found['per_s']:,.0f}/s, {found['cpu_ms']:.3f} ms CPU a call")


if __name__ == "__main__":
    main()
