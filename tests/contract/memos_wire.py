"""A server on a real socket that does to each request what a test's script says."""

import asyncio
import contextlib
import re
import socket
import struct
from dataclasses import dataclass, field
from typing import Any

__all__ = ["OK_BODY", "Exchange", "WireServer", "answer"]

OK_BODY = b'{"code":0,"message":"ok","data":{"success":true}}'


def answer(
    body: bytes = OK_BODY, *, status: str = "200 OK", headers: str = "", length: int | None = None
) -> bytes:
    """Build the bytes of a whole answer."""
    size = len(body) if length is None else length
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n"
    return (head + headers + "\r\n").encode() + body


@dataclass(slots=True)
class Exchange:
    """One request that has been read to its end, and the socket it came on."""

    number: int  # among all requests of the server, from 0
    connection: int  # from 0
    head: str
    body: bytes
    writer: asyncio.StreamWriter

    def reset(self) -> None:
        """Send a TCP reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def hang_up(self) -> None:
        """Send a FIN."""
        self.writer.close()

    async def send(self, data: bytes) -> None:
        """Send raw bytes."""
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()


@dataclass
class WireServer:
    """An async context manager; the script is awaited for each request."""

    script: Any
    tls: Any = None
    requests: list[Exchange] = field(default_factory=list)
    connections: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)  # the first request
    closed: asyncio.Event = field(default_factory=asyncio.Event)  # the first connection

    async def __aenter__(self):
        self._tasks = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        scheme = "https" if self.tls else "http"
        self.base_url = f"{scheme}://127.0.0.1:{self.port}/api"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        connection, self.connections = self.connections, self.connections + 1
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while not writer.is_closing():
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                    size = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
                    body = await reader.readexactly(int(size[1]) if size else 0)
                    exchange = Exchange(len(self.requests), connection, head, body, writer)
                    self.requests.append(exchange)
                    self.arrived.set()
                    await self.script(exchange)
        finally:
            self.closed.set()
            writer.close()
            self._tasks.discard(task)
