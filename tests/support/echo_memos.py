"""A MemOS that says back what it was asked, in every place where an answer can hold text."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

__all__ = ["EchoMemos"]


class EchoMemos:
    """Answers the n-th deletion the n-th way, from the last on always with success.

    Attributes:
        base_url: To be set as a project's.
        refuses_key: While True it says that the key is wrong.
        deletions: How many came.
    """

    def __init__(self) -> None:
        self.refuses_key = False
        self.deletions = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/api/openmem/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        memos = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                said = self.path
                _reply(self, 200, {"code": 40001, "message": f"no such memory {said}"}, said)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                said = body.decode() + self.headers["Authorization"]
                if memos.refuses_key:
                    _reply(self, 200, {"code": 40132, "message": f"wrong key {said}"}, said)
                elif self.path.endswith("/get/memory"):
                    page = {"memory_detail_list": [], "current": 1, "pages": 0, "echo": said}
                    rest: dict[str, object] = {name: [] for name in _LISTS}
                    _reply(self, 200, {"code": 0, "message": said, "data": page | rest}, said)
                else:
                    with memos._lock:
                        way = _WAYS[min(memos.deletions, len(_WAYS) - 1)]
                        memos.deletions += 1
                    way(self, said)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Say nothing."""

        return Handler


_LISTS = (
    "preference_detail_list",
    "tool_memory_detail_list",
    "skill_detail_list",
    "profile_detail_list",
    "event_detail_list",
)


def _reply(handler: BaseHTTPRequestHandler, status: int, record: object, said: str) -> None:
    _send(handler, status, json.dumps(record).encode(), "application/json", said)


def _send(handler: BaseHTTPRequestHandler, status: int, body: bytes, kind: str, said: str) -> None:
    plain = "".join(mark for mark in said if " " <= mark <= "~")
    handler.send_response(status, plain)
    for name in ("X-Request-Id", "Server", "Set-Cookie", "Retry-After", "ETag", "WWW-Authenticate"):
        handler.send_header(name, plain)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _html(handler: BaseHTTPRequestHandler, said: str) -> None:
    _send(handler, 502, f"<html>{said}</html>".encode(), "text/html", said)


def _code(code: object, *, status: int = 200) -> Callable[[BaseHTTPRequestHandler, str], None]:
    def way(handler: BaseHTTPRequestHandler, said: str) -> None:
        record = {"code": said if code is None else code, "message": said, "data": {"id": said}}
        _reply(handler, status, record, said)

    return way


def _not_json(handler: BaseHTTPRequestHandler, said: str) -> None:
    _send(handler, 200, said.encode() + b"\xff\x00{", "application/json", said)


def _no_http(handler: BaseHTTPRequestHandler, said: str) -> None:
    handler.wfile.write(said.encode() + b"\r\n\r\n")
    handler.close_connection = True


def _cut(handler: BaseHTTPRequestHandler, said: str) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    handler.wfile.write(said.encode())
    handler.close_connection = True


def _redirect(handler: BaseHTTPRequestHandler, said: str) -> None:
    handler.send_response(503)
    handler.send_header("Location", "http://127.0.0.1:1/" + said.encode().hex())
    handler.send_header("Content-Encoding", "gzip")
    handler.send_header("Content-Length", "4")
    handler.end_headers()
    handler.wfile.write(b"abcd")


def _success(handler: BaseHTTPRequestHandler, said: str) -> None:
    _reply(
        handler, 200, {"code": 0, "message": said, "data": {"success": True, "echo": said}}, said
    )


_WAYS: tuple[Callable[[BaseHTTPRequestHandler, str], None], ...] = (
    _code(50000, status=500),
    _html,
    _code(None),
    _not_json,
    _no_http,
    _cut,
    _redirect,
    _code(49170123456789),
    _code(40000),
    _code(40002),
    _success,
)
