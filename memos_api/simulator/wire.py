"""The ASGI side of the simulator: reading bodies, sending answers, and sending them badly."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from memos_api.simulator.faults import Fault

__all__ = [
    "Receive",
    "Scope",
    "Send",
    "SocketProtocol",
    "read_body",
    "reset",
    "send_badly",
    "send_empty",
    "send_json",
]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_JSON = (b"content-type", b"application/json")
_DRIPS = 10
_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


class SocketProtocol(H11Protocol):
    """uvicorn's HTTP protocol, which also hands its socket to the application (to reset it)."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Put the transport where each request finds it."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


async def read_body(receive: Receive) -> bytes:
    """Read the request's body to its end."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
    return body


async def send_json(
    send: Send, status: int, members: object, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """Send *members* as JSON."""
    body = json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()
    await _start(send, status, (_JSON, *headers), len(body))
    await send({"type": "http.response.body", "body": body})


async def send_empty(send: Send, status: int) -> None:
    """Send an answer without a body."""
    await _start(send, status, (), 0)
    await send({"type": "http.response.body", "body": b""})


def reset(scope: Scope) -> None:
    """End the connection with a TCP reset instead of an answer."""
    transport: asyncio.Transport = scope["state"]["transport"]
    sock: socket.socket = transport.get_extra_info("socket")
    # A linger time of zero makes the kernel send RST instead of FIN.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def send_badly(scope: Scope, send: Send, fault: Fault, members: object) -> int:
    """Send the answer in the way of *fault*; return the HTTP status."""
    body = json.dumps(members, ensure_ascii=False).encode()
    if fault.kind == "html":
        status = fault.status or 502
        await _start(send, status, ((b"content-type", b"text/html"),), len(_PAGE))
        await send({"type": "http.response.body", "body": _PAGE})
        return status
    if fault.kind == "empty":
        status = fault.status or 202
        await send_empty(send, status)
        return status
    status = fault.status or 200
    await _start(send, status, (_JSON,), len(body))
    if fault.kind == "truncated":
        await send(
            {"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True}
        )
        scope["state"]["transport"].close()
        return status
    if fault.kind == "slow_body":
        step = -(-len(body) // _DRIPS)
        for first in range(0, len(body), step):
            await asyncio.sleep(fault.seconds / _DRIPS)
            part = {"body": body[first : first + step], "more_body": True}
            await send({"type": "http.response.body", **part})
    else:
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await asyncio.sleep(fault.seconds)
        await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
    return status


async def _start(
    send: Send, status: int, headers: tuple[tuple[bytes, bytes], ...], length: int
) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, (b"content-length", b"%d" % length)],
        },
    )
