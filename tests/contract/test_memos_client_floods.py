"""Servers that send without end: the call ends, and the client's memory stays flat.

The client runs in a process of its own, so that its peak is not the server's.
"""

import asyncio
import json
import sys
import threading
import zlib
from subprocess import run

import pytest

from tests.contract.memos_wire import OK_BODY, WireServer, answer

pytestmark = pytest.mark.fault("F73")

MOST_GROWTH_MIB = 16
_CLIENT = """
import asyncio, json, sys
from memos_api import MemosClient, MemoryBatch, delete_call

def peak_kib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

async def main(well, flood):
    call = delete_call(MemoryBatch(memory_ids=("a", "b")))
    async with MemosClient(base_url=well, api_key="key", deadline_s=20.0) as memos:
        await memos.send(call)
    before = peak_kib()
    async with MemosClient(base_url=flood, api_key="key", deadline_s=20.0) as memos:
        answer = (await memos.send(call)).answer
    print(json.dumps([answer.outcome, answer.reason, (peak_kib() - before) / 1024]))

asyncio.run(main(*sys.argv[1:]))
"""


def packed_zeros(size):
    """Give the pieces of so many zeros as gzip, without ever holding them."""
    packer = zlib.compressobj(level=9, wbits=31)
    for _ in range(size // 1_000_000):
        yield packer.compress(bytes(1_000_000))
    yield packer.flush()


BOMB = b"".join(packed_zeros(200_000_000))


async def a_gzip_bomb(exchange):
    await exchange.send(answer(BOMB, headers="Content-Encoding: gzip\r\n"))


async def a_body_of_100_mb(exchange):
    await exchange.send(answer(b"", length=100_000_000))
    for _ in range(1_000):
        await exchange.send(b" " * 100_000)


async def a_body_of_chunks_of_one_byte(exchange):
    await exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(1_000):
        await exchange.send(b"1\r\n \r\n" * 2_000)


async def a_header_of_2_mb(exchange):
    await exchange.send(b"HTTP/1.1 200 OK\r\nX-Long: ")
    for _ in range(20):
        await exchange.send(b"x" * 100_000)


async def headers_of_2_mb(exchange):
    await exchange.send(b"HTTP/1.1 200 OK\r\n")
    for number in range(2_000):
        await exchange.send(b"X-%d: " % number + b"x" * 1_000 + b"\r\n")
    await exchange.send(b"\r\n")


async def a_status_line_of_10_mb(exchange):
    await exchange.send(b"HTTP/1.1 200 ")
    for _ in range(100):
        await exchange.send(b"x" * 100_000)


async def trailers_of_10_mb(exchange):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    await exchange.send(head + b"%x\r\n" % len(OK_BODY) + OK_BODY + b"\r\n0\r\n")
    for number in range(10_000):
        await exchange.send(b"X-%d: " % number + b"x" * 1_000 + b"\r\n")


async def ten_thousand_early_hints(exchange):
    for _ in range(100):
        await exchange.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 100)
    await exchange.send(answer())


async def says_ok(exchange):
    await exchange.send(answer())


def served(flood):
    """Let the client's process call a good server, then this one; gives what it prints."""
    ready, over = threading.Event(), threading.Event()
    urls = []

    async def serve():
        async with WireServer(says_ok) as well, WireServer(flood) as bad:
            urls.extend([well.base_url, bad.base_url])
            ready.set()
            await asyncio.to_thread(over.wait)

    server = threading.Thread(target=asyncio.run, args=(serve(),))
    server.start()
    try:
        assert ready.wait(10)
        done = run(
            [sys.executable, "-c", _CLIENT, *urls],
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )
    finally:
        over.set()
        server.join()
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("flood", "outcome", "reason"),
    [
        (a_gzip_bomb, "unknown", "content_encoding"),
        (a_body_of_100_mb, "unknown", "body_over_cap"),
        (a_body_of_chunks_of_one_byte, "unknown", "body_over_cap"),
        (a_header_of_2_mb, "unknown", "no_answer"),
        (headers_of_2_mb, "unknown", "no_answer"),
        (a_status_line_of_10_mb, "unknown", "no_answer"),
        (trailers_of_10_mb, "unknown", "no_answer"),
        # Interim answers say nothing; the final one counts.
        (ten_thousand_early_hints, "acknowledged", "ok"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_flood_ends_the_call_without_filling_the_memory(flood, outcome, reason):
    said, why, growth_mib = served(flood)
    assert (said, why) == (outcome, reason)
    assert growth_mib < MOST_GROWTH_MIB
