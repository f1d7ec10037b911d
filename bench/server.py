"""A MemOS that answers every call with the same bytes, after a fixed latency, and counts.

    python -m bench.server [--latency-ms 20] [--stamp]

One process and one loop over plain sockets, no framework: it has to be several times faster than
any client, or it would be the server that is measured. Its port goes to standard output. With
`--stamp` it notes when each call came and under which first path segment. On Linux that is the
kernel's own time stamp, taken at the sender's `send`, so it does not matter when this process got
to it; elsewhere it is the time of reading.

`Server` starts one and asks it what it counted.
"""

from __future__ import annotations

import argparse
import json
import resource
import selectors
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

BODY: Final = b'{"code":0,"message":"ok","data":{"success":true}}'
ANSWER: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    + BODY
)
_END_OF_HEAD: Final = b"\r\n\r\n"
_MOST_AT_ONCE: Final = 1 << 18
_BACKLOG: Final = 1_024
_MOST_FILES: Final = 8_192
_STAMPED: Final = sys.platform == "linux"
_SO_TIMESTAMPNS: Final = 35


class _Connection:
    """One client; what it has sent of a call that is not complete yet."""

    __slots__ = ("came_ns", "received", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = b""
        self.came_ns = 0


class _Loop:
    """Accepts, reads, answers when the latency is over; never blocks on a client."""

    def __init__(self, latency_s: float, *, stamp: bool) -> None:
        self._latency_s = latency_s
        self._stamp = stamp
        self._due: deque[tuple[float, socket.socket]] = deque()
        self._calls = 0
        # Of the calls under way: their number, summed over time.
        self._under_way_s = 0.0
        self._seen_s = time.monotonic()
        self._came: list[tuple[str, int]] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        self._listener.setblocking(False)  # noqa: FBT003 - the socket module's own
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, None)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def run(self) -> None:
        """Serve until killed."""
        select, due = self._selector.select, self._due
        while True:
            wait = max(0.0, due[0][0] - time.monotonic()) if due else None
            for key, _ in select(wait):
                if key.data is None:
                    self._accept()
                else:
                    self._read(key.data)
            if due:
                self._answer_due()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        sock.setblocking(False)  # noqa: FBT003 - the socket module's own
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._stamp and _STAMPED:
            sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._selector.register(sock, selectors.EVENT_READ, _Connection(sock))

    def _read(self, client: _Connection) -> None:
        try:
            data = self._received(client)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(client.sock)
            client.sock.close()
            return
        if client.received:
            data = client.received + data
        end = data.find(_END_OF_HEAD)
        if end < 0 or len(data) < end + 4 + _length(data, end):
            client.received = data
            return
        client.received = b""
        path = data[data.find(b" ") + 1 : data.find(b" HTTP/", 0, end)]
        if path.startswith(b"/-/"):
            _send(client.sock, self._control(path))
            return
        self._calls += 1
        if self._stamp:
            self._came.append((path.split(b"/", 2)[1].decode(), client.came_ns))
        if self._latency_s:
            self._note()
            self._due.append((time.monotonic() + self._latency_s, client.sock))
        else:
            _send(client.sock, ANSWER)

    def _received(self, client: _Connection) -> bytes:
        if not self._stamp:
            return client.sock.recv(_MOST_AT_ONCE)
        data, extra, _, _ = client.sock.recvmsg(_MOST_AT_ONCE, 64)
        if not client.received:
            client.came_ns = _came_ns(extra)
        return data

    def _answer_due(self) -> None:
        self._note()
        due, now = self._due, time.monotonic()
        while due and due[0][0] <= now:
            _send(due.popleft()[1], ANSWER)

    def _note(self) -> None:
        now = time.monotonic()
        self._under_way_s += len(self._due) * (now - self._seen_s)
        self._seen_s = now

    def _control(self, path: bytes) -> bytes:
        self._note()
        answer: dict[str, object] = {
            "calls": self._calls,
            "at_s": time.monotonic(),
            "under_way_s": self._under_way_s,
        }
        if path == b"/-/came":
            answer["came"], self._came = self._came, []
        body = json.dumps(answer).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (
            len(body),
            body,
        )


def _length(data: bytes, end: int) -> int:
    place = data.find(b"ontent-", 0, end)
    while place >= 0:
        name, _, rest = data[place : place + 40].partition(b":")
        if name.lower() == b"ontent-length":
            return int(rest.split(b"\r\n", 1)[0])
        place = data.find(b"ontent-", place + 1, end)
    return 0


def _came_ns(extra: list[tuple[int, int, bytes]]) -> int:
    for level, kind, value in extra:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, ns = struct.unpack("qq", value)
            return int(seconds * 1_000_000_000 + ns)
    return time.time_ns()


def _send(sock: socket.socket, answer: bytes) -> None:
    try:
        sent = sock.send(answer)
        if sent < len(answer):  # only the long lists that the bench itself asks for
            sock.setblocking(True)  # noqa: FBT003 - the socket module's own
            sock.sendall(answer[sent:])
            sock.setblocking(False)  # noqa: FBT003 - the socket module's own
    except OSError:
        return  # it hung up


@dataclass(frozen=True, kw_only=True)
class Count:
    """What a server counted up to a moment.

    Attributes:
        calls: Calls that came.
        at_s: The moment, of the host's monotonic clock.
        under_way_s: Calls that waited for their answer, summed over time.
    """

    calls: int
    at_s: float
    under_way_s: float

    def per_s(self, before: Count) -> float:
        """Give the calls a second since then."""
        return (self.calls - before.calls) / (self.at_s - before.at_s)

    def under_way(self, before: Count) -> float:
        """Give how many calls waited for their answer at a time, on average since then."""
        return (self.under_way_s - before.under_way_s) / (self.at_s - before.at_s)


class Server:
    """A context manager around one such process.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        base_url: As `MEMOS_BASE_URL` takes it.
    """

    def __init__(self, *, latency_ms: float = 0.0, stamp: bool = False) -> None:
        """Prepare; nothing is started yet."""
        self._command = [sys.executable, "-m", "bench.server", "--latency-ms", str(latency_ms)]
        if stamp:
            self._command.append("--stamp")

    def __enter__(self) -> Self:
        """Start it."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def count(self) -> Count:
        """Ask what it counted."""
        answer = self._ask("count")
        return Count(**{name: answer[name] for name in Count.__dataclass_fields__})

    def came(self) -> dict[str, list[float]]:
        """Give when calls came since the last time, in s since 1970, by their first segment."""
        found: dict[str, list[float]] = {}
        for segment, ns in self._ask("came")["came"]:
            found.setdefault(segment, []).append(ns / 1e9)
        return {segment: sorted(moments) for segment, moments in found.items()}

    def _ask(self, what: str) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.port}/-/{what}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
        return found


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--stamp", action="store_true")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_MOST_FILES, hard), hard))
    loop = _Loop(options.latency_ms / 1000, stamp=options.stamp)
    print(loop.port, flush=True)
    loop.run()


if __name__ == "__main__":
    main()
