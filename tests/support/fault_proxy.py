"""A TCP proxy that does to a connection what networks do: before MemOS, Redis or PostgreSQL.

It runs on a loop in a thread of its own. What it does is said by faults: one can be in force for
everything (`set`), and some can wait for bytes that pass by (`arm`). `up` is from the client to the
server.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Self, TypeVar

from tests.support.ports import free_port

__all__ = ["FaultProxy", "Mode", "TcpFault"]

T = TypeVar("T")
_CHUNK = 65_536
_KEPT = 64  # longest pattern
_RST = struct.pack("ii", 1, 0)
_TRIES = 5


class Mode(StrEnum):
    """What happens to a connection."""

    PASS = "pass"
    REFUSE = "refuse"  # nobody listens; what was open is reset
    BLACK_HOLE = "black_hole"  # bytes vanish, for ever, and neither side is told
    HOLD = "hold"  # bytes wait until `clear`, as packets that are sent again do
    RESET = "reset"  # RST to the client, and the server does not get these bytes
    SWALLOW = "swallow"  # the server gets them, its answer vanishes, and RST to the client
    DELAY = "delay"  # these bytes come `seconds` later
    THROTTLE = "throttle"  # `rate` bytes a second
    CUT = "cut"  # the client gets `after_bytes` of the answer, then RST


@dataclass(kw_only=True)
class TcpFault:
    """One fault, and when it strikes.

    Attributes:
        mode: What happens.
        direction: Which bytes it looks at and touches; None takes both.
        pattern: Strikes at bytes that hold this; empty at any.
        skip: Lets so many strikes pass first.
        count: Strikes at most so often; None without end.
        seconds: Of a delay.
        rate: Bytes a second of a throttle.
        after_bytes: Bytes of the answer that a cut lets through.
        struck: How often it struck.
    """

    mode: Mode
    direction: Literal["up", "down"] | None = None
    pattern: bytes = b""
    skip: int = 0
    count: int | None = None
    seconds: float = 0.0
    rate: float = 1_000.0
    after_bytes: int = 0
    struck: int = field(default=0, init=False)
    seen: int = field(default=0, init=False)

    def strikes(self, before: bytes, data: bytes, direction: str) -> bool:
        """Tell whether it strikes at these bytes, which came after those, and count it."""
        # A pattern may come in two pieces, but not twice for having been seen.
        data = before[len(before) - max(0, len(self.pattern) - 1) :] + data
        if self.direction not in (None, direction) or self.pattern not in data:
            return False
        self.seen += 1
        if self.seen <= self.skip or (self.count is not None and self.struck >= self.count):
            return False
        self.struck += 1
        return True


class _Connection:
    """A client's connection and ours to the server, with what befell them."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.lost: set[str] = set()  # directions whose bytes vanish
        self.swallowing = False
        self.left: int | None = None  # bytes of the answer before the cut

    def reset(self) -> None:
        """Break both sides off, as a crash does."""
        for side in (self.client, self.server):
            _reset(side)


class FaultProxy:
    """A context manager around one listening port of 127.0.0.1 that leads to a server.

    Attributes:
        port: Where clients connect.
        accepted: Connections so far.
    """

    def __init__(self, port: int, *, host: str = "127.0.0.1") -> None:
        """Lead to *port* of *host*; nothing listens before the context is entered."""
        self._to = (host, port)
        self.port = 0
        self.accepted = 0
        self._faults: list[TcpFault] = []
        self._open: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._listener: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._clear = self._run(_event())
        for tries_left in reversed(range(_TRIES)):
            self.port = free_port()
            try:
                self._run(self._listen())
            except OSError:  # another program was faster
                if not tries_left:
                    raise
            else:
                break
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def set(self, mode: Mode, **members: Any) -> TcpFault:
        """Put one fault in force for all bytes from now on, instead of all others."""
        self.clear()
        return self.arm(mode, **members)

    def arm(self, mode: Mode, **members: Any) -> TcpFault:
        """Add a fault; the first that strikes counts. Gives it, to look how often it struck."""
        fault = TcpFault(mode=mode, **members)
        self._run(self._add(fault))
        return fault

    def clear(self) -> None:
        """Let everything pass; what waits goes on, what vanished stays so."""
        self._run(self._reopen())

    def reset_all(self) -> None:
        """Reset every connection that is open."""
        self._run(self._reset_all())

    # -- on the loop ------------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _add(self, fault: TcpFault) -> None:
        self._faults.append(fault)
        self._clear.clear()
        if fault.mode is Mode.REFUSE and self._listener is not None:
            self._listener.close()
            self._listener = None
            await self._reset_all()

    async def _reopen(self) -> None:
        self._faults = []
        self._clear.set()
        if self._listener is None:
            await self._listen()

    async def _reset_all(self) -> None:
        for one in list(self._open):
            one.reset()

    async def _end(self) -> None:
        if self._listener is not None:
            self._listener.close()
        await self._reset_all()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            answers, server = await asyncio.open_connection(*self._to)
        except OSError:
            _reset(client)
            return
        one = _Connection(client, server)
        self._open.add(one)
        try:
            await asyncio.gather(
                self._relay(one, reader, server, "up"), self._relay(one, answers, client, "down")
            )
        except (OSError, asyncio.CancelledError):
            one.reset()
        finally:
            self._open.discard(one)
            client.close()
            server.close()

    async def _relay(
        self,
        one: _Connection,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        direction: str,
    ) -> None:
        before = b""
        while data := await source.read(_CHUNK):
            fault = self._struck(before, data, direction)
            before = (bytes(_KEPT) + before + data)[-_KEPT:]
            if direction in one.lost:
                continue
            if direction == "down" and one.swallowing:
                one.reset()
                return
            if fault is not None and not await self._pass(fault, one, data, direction):
                continue
            if direction == "down" and one.left is not None:
                data, one.left = data[: one.left], max(0, one.left - len(data))
            if fault is not None and fault.mode is Mode.THROTTLE:
                await _drip(sink, data, fault.rate)
            else:
                sink.write(data)
                await sink.drain()
            if one.left == 0:
                one.reset()
                return
        if direction not in one.lost and sink.can_write_eof():
            with suppress(OSError):
                sink.write_eof()

    def _struck(self, before: bytes, data: bytes, direction: str) -> TcpFault | None:
        return next((one for one in self._faults if one.strikes(before, data, direction)), None)

    async def _pass(self, fault: TcpFault, one: _Connection, data: bytes, direction: str) -> bool:
        """Do what the fault does before these bytes go on; says whether they do."""
        match fault.mode:
            case Mode.BLACK_HOLE:
                one.lost |= {fault.direction} if fault.direction else {"up", "down"}
                return False
            case Mode.RESET:
                one.reset()
                return False
            case Mode.SWALLOW if direction == "down":
                one.reset()
                return False
            case Mode.SWALLOW:
                one.swallowing = True
            case Mode.HOLD:
                await self._clear.wait()
            case Mode.DELAY:
                await asyncio.sleep(fault.seconds)
            case Mode.CUT:
                one.left = fault.after_bytes
        return True


def _reset(side: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        side.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
    side.transport.abort()


async def _event() -> asyncio.Event:
    return asyncio.Event()


async def _drip(sink: asyncio.StreamWriter, data: bytes, rate: float) -> None:
    step = max(1, int(rate / 20))
    for first in range(0, len(data), step):
        sink.write(data[first : first + step])
        await sink.drain()
        await asyncio.sleep(step / rate)
