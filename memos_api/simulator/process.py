"""A simulator in a process of its own, for tests, benches and the demo."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Self

from memos_api.simulator.journal import CallRecord
from memos_api.simulator.remote import Remaining, Seeded, SimulatorControl, worst_window
from memos_api.simulator.world import BASE_PATH, DEFAULT_API_KEY

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

__all__ = [
    "CallRecord",
    "Remaining",
    "Seeded",
    "SimulatorControl",
    "SimulatorProcess",
    "worst_window",
]

_STOP_S = 5.0


class SimulatorProcess:
    """A context manager around `python -m memos_api.simulator` on 127.0.0.1.

    The process ends with the context, and also when the process that started it dies.

    Attributes:
        base_url: Of the Cloud's API, to be set as MEMOS_BASE_URL.
        self_hosted_url: Of the same server as a self-hosted one.
        api_key: Of the first project, to be set as MEMOS_API_KEY.
        control: The control side.
        pid: Of the simulator.
    """

    base_url: str
    self_hosted_url: str
    api_key: str
    control: SimulatorControl
    pid: int

    def __init__(
        self,
        *,
        port: int = 0,
        users: int = 0,
        memories: int = 0,
        seed: int = 0,
        rate: float | None = None,
        latency_ms: float = 0.0,
        journal: Path | None = None,
        keep_ids: bool = True,
        api_keys: tuple[str, ...] = (DEFAULT_API_KEY,),
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            port: TCP port; 0 takes a free one.
            users: Users to begin with.
            memories: Memories of each of them.
            seed: Of the ids and of all that is left to chance.
            rate: Calls a second an account may make; None without limit.
            latency_ms: Before each answer.
            journal: A file for the journal, as lines of JSON.
            keep_ids: Keep the exact ids of each call in the journal.
            api_keys: One project each, as `KEY` or `KEY=ACCOUNT`; the default account is `main`.
        """
        options = {
            "--port": port,
            "--users": users,
            "--memories": memories,
            "--seed": seed,
            "--latency-ms": latency_ms,
        }
        self._command = [sys.executable, "-m", "memos_api.simulator", "--end-with-stdin"]
        for name, value in options.items():
            self._command += [name, str(value)]
        if rate is not None:
            self._command += ["--rate", str(rate)]
        if journal is not None:
            self._command += ["--journal", str(journal)]
        if keep_ids:
            self._command += ["--keep-ids"]
        for key in api_keys:
            self._command += ["--api-key", key]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it and wait until it serves.

        Raises:
            RuntimeError: It ended before it was ready; its own message is on stderr.
        """
        # Standard input is the tether: the kernel closes it when this process dies, however.
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C in the terminal is its user's to handle: workers may still have calls there.
            start_new_session=True,
        )
        assert self._process.stdout is not None  # noqa: S101  # asked for two lines above
        line = self._process.stdout.readline()
        if not line:
            self._stop()
            raise RuntimeError("The simulator did not start; its message is on standard error.")
        ready = json.loads(line)
        self.pid = self._process.pid
        self.base_url = ready["base_url"]
        self.self_hosted_url = self.base_url.removesuffix(BASE_PATH)
        self.api_key = ready["api_key"]
        self.control = SimulatorControl(self.base_url)
        return self

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it and wait until it is gone."""
        self.control.close()
        self._stop()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
