"""`python -m memos_api.simulator`: serve a simulated MemOS until it is told to end.

Standard output gets one line of JSON when it serves, with `port`, `base_url` and `api_key`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from memos_api.simulator.journal import Journal
from memos_api.simulator.limit import RateLimit
from memos_api.simulator.server import Simulator
from memos_api.simulator.settings import Settings
from memos_api.simulator.state import Project, generate
from memos_api.simulator.wire import SocketProtocol
from memos_api.simulator.world import BASE_PATH, DEFAULT_API_KEY, World

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


class _Server(uvicorn.Server):
    """uvicorn, which says on standard output when it serves."""

    def __init__(self, config: uvicorn.Config, ready: dict[str, object]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            sys.stdout.write(json.dumps(self._ready) + "\n")
            sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM, SIGINT or, if so asked, the end of standard input."""
    options = _parser().parse_args(argv)
    world = _world(options)
    listener = _listen(options.host, options.port)
    port = listener.getsockname()[1]
    ready: dict[str, object] = {
        "ready": True,
        "port": port,
        "base_url": f"http://{options.host}:{port}{BASE_PATH}",
        "api_key": next(iter(world.projects)),
        "pid": os.getpid(),
    }
    server = _Server(
        uvicorn.Config(
            Simulator(world),
            http=SocketProtocol,
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
        ),
        ready,
    )
    if options.end_with_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    # A full collection over the memories and the journal takes 25 ms, and whatever arrives in them
    # would be noted as one burst. What is kept here is kept for good, and free of cycles.
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)
    try:
        asyncio.run(server.serve(sockets=[listener]))
    except KeyboardInterrupt:
        pass  # uvicorn raises the signal again when it has closed everything
    finally:
        world.journal.close()
    return 0


def _listen(host: str, port: int) -> socket.socket:
    # asyncio turns Nagle's algorithm off only on sockets that name TCP as their protocol, and
    # `socket.create_server` does not: each answer would wait 40 ms for a delayed acknowledgement.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(1024)
    return listener


def _end_with_stdin() -> None:
    """Wait for whoever holds our standard input to close it or to die."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _world(options: argparse.Namespace) -> World:
    projects: dict[str, Project] = {}
    for text in options.api_key or [DEFAULT_API_KEY]:
        key, _, account = text.partition("=")
        projects[key] = Project(account=account or "main")
    world = World(
        projects=projects,
        journal=Journal(options.journal, keep_ids=options.keep_ids),
        settings=Settings(
            latency_s=options.latency_ms / 1000,
            jitter_s=options.jitter_ms / 1000,
            unknown_id_policy=options.unknown_ids,
        ),
        seed=options.seed,
    )
    world.limit(RateLimit(per_second=options.rate))
    first = next(iter(projects.values()))
    for user, ids in generate(users=options.users, memories=options.memories, seed=options.seed):
        first.add(ids, ("user", user), category=None, created_ms=None)
    return world


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m memos_api.simulator",
        description="A simulated MemOS, Cloud and self-hosted; all of its data is made up.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=0, help="TCP port; 0 takes a free one (default)")
    add("--users", type=int, default=0, help="users to begin with (default: %(default)s)")
    add("--memories", type=int, default=0, help="memories of each user (default: %(default)s)")
    add("--seed", type=int, default=0, help="of ids, latency and faults (default: %(default)s)")
    add("--rate", type=float, default=None, help="calls a second an account may make (no limit)")
    add("--latency-ms", type=float, default=0.0, help="before each answer (default: %(default)s)")
    add("--jitter-ms", type=float, default=0.0, help="at most so much more (default: %(default)s)")
    add("--journal", type=Path, default=None, metavar="FILE", help="append each call as JSON")
    add("--keep-ids", action="store_true", help="keep the ids of each call in the journal")
    add(
        "--unknown-ids",
        choices=["all_or_nothing", "partial", "accept"],
        default="all_or_nothing",
        help="what a batch with unknown ids comes to (default: %(default)s)",
    )
    add(
        "--api-key",
        action="append",
        metavar="KEY[=ACCOUNT]",
        help=f"a project; may be repeated (default: {DEFAULT_API_KEY})",
    )
    add("--end-with-stdin", action="store_true", help="end when standard input is closed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
