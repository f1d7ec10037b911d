"""Ports for servers that tests start."""

import random
import socket

__all__ = ["free_port"]

# Below the range from which Linux takes the ports of outgoing connections (32768 and up), so that a
# server that was stopped finds its port free when it starts again.
_LOWEST, _HIGHEST = 20_000, 32_000
_TRIES = 200


def free_port() -> int:
    """Find a port of 127.0.0.1 on which nothing listens.

    Another program may take it before the caller does: try again with another one then.

    Raises:
        RuntimeError: None was free in 200 tries.
    """
    for _ in range(_TRIES):
        port = random.randint(_LOWEST, _HIGHEST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    message = f"No free port between {_LOWEST} and {_HIGHEST} on 127.0.0.1; stop some servers."
    raise RuntimeError(message)
