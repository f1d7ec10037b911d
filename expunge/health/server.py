"""Three pages over HTTP, on threads that nobody waits for."""

import json
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

import structlog

from expunge.health.bounded import Finding, Probe, examine

__all__ = ["Health", "serve"]

_MOST_AT_ONCE: Final = 8
_IDLE_S: Final = 5.0
_JSON: Final = "application/json"
_log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Health:
    """What a process answers with.

    Attributes:
        process: `worker` or `bridge`.
        live: Whether it makes progress; when not, it should be started anew.
        ready: Whether it can do its work; when not, a person may have to look.
        metrics: Gives content type and text of all metrics.
    """

    process: str
    live: list[Probe] = field(default_factory=list)
    ready: list[Probe] = field(default_factory=list)
    metrics: Callable[[], tuple[str, bytes]]


def serve(health: Health, listener: socket.socket) -> int:
    """Answer on a listening socket until the process ends; gives the port."""
    server = _Server(health, listener)
    port = int(listener.getsockname()[1])
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    _log.info("health_listening", port=port, process=health.process)
    return port


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, health: Health, listener: socket.socket) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.health = health
        self._free = threading.BoundedSemaphore(_MOST_AT_ONCE)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as above it
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002
        """Say the least: the library would print a traceback."""
        _log.warning("health_failed", error=sys.exc_info()[0])


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "expunge"
    sys_version = ""
    timeout = _IDLE_S

    def do_GET(self) -> None:
        """Answer one of the three pages."""
        parts = urlsplit(self.path)
        health = self.server.health
        if parts.path == "/metrics":
            kind, body = health.metrics()
            self._answer(HTTPStatus.OK, kind, body)
        elif parts.path == "/livez":
            self._tell("live", examine(health.live), verbose=parts.query == "verbose")
        elif parts.path == "/readyz":
            self._tell("ready", examine(health.ready), verbose=parts.query == "verbose")
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    do_HEAD = do_GET  # noqa: N815 - the library calls it by that name

    def _tell(self, word: str, found: list[Finding], *, verbose: bool) -> None:
        failed = [one.name for one in found if not one.ok and not one.soft]
        record: dict[str, Any] = {
            "process": self.server.health.process,
            word: not failed,
            "failed": failed,
            "warnings": [one.name for one in found if not one.ok and one.soft],
        }
        if verbose:
            record["checks"] = [asdict(one) for one in found]
        status = HTTPStatus.SERVICE_UNAVAILABLE if failed else HTTPStatus.OK
        self._answer(status, _JSON, json.dumps(record).encode() + b"\n")

    def send_error(
        self,
        code: int,
        message: str | None = None,  # noqa: ARG002 - the library's may repeat what was asked
        explain: str | None = None,  # noqa: ARG002 - as above
    ) -> None:
        """Answer with the status alone."""
        body = json.dumps({"status": code, "error": HTTPStatus(code).phrase}).encode() + b"\n"
        self._answer(code, _JSON, body)

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401
        """Log nothing: probes come every few seconds."""
