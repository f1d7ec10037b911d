"""How far a call came before it failed: the difference between *not applied* and *unknown*.

Exception classes don't tell. httpx-aiohttp reports a server that hung up after the request as a
connect timeout, which reads like "nothing was sent". So aiohttp's own trace signals are asked, and
only positive evidence counts: a call that was last seen waiting for or making its connection has
not left. Should a later version stop signalling, every failure becomes *unknown*.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = [
    "CURRENT",
    "Departure",
    "KeptBackError",
    "ResendRefusedError",
    "Stage",
    "trace_departures",
]


class Stage(StrEnum):
    """The last that was seen of a call."""

    UNSEEN = "unseen"
    QUEUED = "queued"
    CONNECTING = "connecting"
    CONNECTED = "connected"


class ResendRefusedError(Exception):
    """The transport wanted to send one call a second time, without a slot for it."""


class KeptBackError(Exception):
    """Raised by whoever is told that a call departs: it must not. Not a byte of it is sent.

    Args:
        reason: Why, in a word: the reason of the answer.
    """

    def __init__(self, reason: str) -> None:
        """Keep the reason."""
        super().__init__(reason)
        self.reason = reason


class Departure:
    """One call on its way; filled in by the trace signals of the transport.

    Args:
        leaves: Awaited in the last moment before the first byte goes to the socket.
        has_body: The first byte goes with the body's; before Python 3.12 aiohttp writes that in a
            task of its own, a turn of the loop after the call has its connection.

    Both moments lie where aiohttp closes the connection of a call that fails. In the signals that
    a connection was made or taken it would forget that one, and nobody could close it.
    """

    __slots__ = ("_has_body", "_leaves", "connections", "kept_back", "left_s", "stage")

    def __init__(
        self, leaves: Callable[[], Awaitable[None]] | None = None, *, has_body: bool = False
    ) -> None:
        """Start with nothing seen."""
        self.stage = Stage.UNSEEN
        self.connections = 0
        self.kept_back: str | None = None
        self.left_s: float | None = None
        self._leaves = leaves
        self._has_body = has_body

    @property
    def surely_not_sent(self) -> bool:
        """Whether the call was still without a connection (queue, DNS, connect, TLS)."""
        return self.stage in {Stage.QUEUED, Stage.CONNECTING}

    def take_connection(self, stage: Stage) -> None:
        """Note the one connection this call may have.

        Raises:
            ResendRefusedError: It is the second one, so the transport is sending again by itself.
        """
        self.connections += 1
        if self.connections > 1:
            raise ResendRefusedError
        self.stage = stage

    async def write_headers(self) -> None:
        """Note that the headers are about to be put together; they leave with the body, if any."""
        if not self._has_body:
            await self._leave()

    async def write_body(self) -> None:
        """Note that the body, or a part of it, is about to be written."""
        if self._has_body:
            await self._leave()

    async def _leave(self) -> None:
        leaves, self._leaves = self._leaves, None
        if leaves is None:
            return
        try:
            await leaves()
        except KeptBackError as error:
            self.kept_back = error.reason
            raise
        self.left_s = time.monotonic()


CURRENT: ContextVar[Departure] = ContextVar("memos_api_departure")
"""The departure of the call that the running task is sending."""


def _context(trace_request_ctx: object = None) -> Departure:
    del trace_request_ctx  # httpx-aiohttp has no way to pass one
    return CURRENT.get(Departure())


async def _on_queued(_session: aiohttp.ClientSession, departure: Departure, _params: Any) -> None:  # noqa: ANN401  # aiohttp's signature
    departure.stage = Stage.QUEUED


async def _on_connecting(
    _session: aiohttp.ClientSession,
    departure: Departure,
    _params: Any,  # noqa: ANN401  # aiohttp's signature
) -> None:
    departure.take_connection(Stage.CONNECTING)


async def _on_connected(
    _session: aiohttp.ClientSession,
    departure: Departure,
    _params: Any,  # noqa: ANN401  # aiohttp's signature
) -> None:
    departure.stage = Stage.CONNECTED


async def _on_reused(_session: aiohttp.ClientSession, departure: Departure, _params: Any) -> None:  # noqa: ANN401  # aiohttp's signature
    departure.take_connection(Stage.CONNECTED)


async def _on_headers(_session: aiohttp.ClientSession, departure: Departure, _params: Any) -> None:  # noqa: ANN401  # aiohttp's signature
    await departure.write_headers()


async def _on_body(_session: aiohttp.ClientSession, departure: Departure, _params: Any) -> None:  # noqa: ANN401  # aiohttp's signature
    await departure.write_body()


def trace_departures() -> aiohttp.TraceConfig:
    """Build the trace that keeps `CURRENT` up to date."""
    trace: Any = aiohttp.TraceConfig(trace_config_ctx_factory=_context)  # type: ignore[arg-type]  # any callable does
    trace.on_connection_queued_start.append(_on_queued)
    trace.on_connection_create_start.append(_on_connecting)
    trace.on_connection_create_end.append(_on_connected)
    trace.on_connection_reuseconn.append(_on_reused)
    trace.on_request_headers_sent.append(_on_headers)  # both are called before anything is sent
    trace.on_request_chunk_sent.append(_on_body)
    config: aiohttp.TraceConfig = trace
    return config
