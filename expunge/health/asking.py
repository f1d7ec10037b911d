"""Asking a process how it is; imports next to nothing, for containers ask every few seconds."""

import json
import socket
from dataclasses import dataclass
from typing import Final

__all__ = ["Reply", "ask"]

_MOST: Final = 65_536
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "*": "127.0.0.1", "": "127.0.0.1"}  # noqa: S104


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back; `failed` names the checks that did not pass."""

    status: int
    process: str
    failed: tuple[str, ...]


def ask(address: str, port: int, *, path: str, limit_s: float) -> Reply:
    """Ask once.

    Args:
        address: Where it listens; an address that stands for all is asked at this machine's own.
        port: The health port.
        path: `/livez` or `/readyz`.
        limit_s: Longest wait for each step, in seconds.

    Raises:
        OSError: Nobody answers.
        ValueError: It is no answer of ours.
    """
    host = _ANY.get(address, address)
    with socket.create_connection((host, port), timeout=limit_s) as connection:
        connection.settimeout(limit_s)
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        answer = b""
        while len(answer) < _MOST and (some := connection.recv(_MOST)):
            answer += some
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/"):  # noqa: PLR2004 - version and status
        raise ValueError
    record = json.loads(body)
    if not isinstance(record, dict):
        raise ValueError  # noqa: TRY004 - what came is at fault, not our types
    failed = record.get("failed")
    return Reply(
        status=int(words[1]),
        process=str(record.get("process")),
        failed=tuple(map(str, failed)) if isinstance(failed, list) else (),
    )
