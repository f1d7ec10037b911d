"""The embedded stack: Valkey, a SQLite ledger, keys, a worker and a MemOS, all on this machine.

Everything lives in one temporary directory and on free ports, and goes with the context: processes
are ended by their ids, the directory is removed, also after Ctrl-C, SIGTERM, errors and, by a guard
process, after SIGKILL.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final, Self

from pydantic import SecretStr

from expunge.valkey import Valkey
from ledger.errors import SettingsError
from ledger.settings import Settings, environment_for

__all__ = ["Stack", "memos_settings"]

_GRACE_S: Final = 5.0
_LOOK_S: Final = 0.05
_LOG_TAIL: Final = 4_000
_ENDING_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


class Stack:
    """A whole Expunge for as long as the `with` block runs.

    Attributes:
        settings: With these, producers and workers find it.
        folder: The temporary directory.
    """

    settings: Settings
    folder: Path

    def __init__(self, template: Settings) -> None:
        """Prepare; nothing is started yet.

        Args:
            template: Rate, chunk size, MemOS and all else; ledger, keys and Redis are replaced by
                the stack's own.
        """
        self._template = template
        self._open = ExitStack()
        self._workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        """Start everything but workers.

        Raises:
            SettingsError: There is no Valkey server program on this machine.
        """
        with ExitStack() as opening:
            opening.callback(_EndLikeAnInterrupt())
            made = opening.enter_context(
                tempfile.TemporaryDirectory(prefix="expunge-", ignore_cleanup_errors=True)
            )
            self.folder = Path(made)
            self._guard = opening.enter_context(_Guard(self.folder))
            valkey = opening.enter_context(Valkey(self.folder))
            self._guard.watch(valkey.process.pid)
            self.settings = _settings(self._template, self.folder, valkey.url)
            _make_ledger(self.settings)
            opening.callback(self._end_workers)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End all processes, then remove the directory; a second Ctrl-C does not break this off."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._open.close()
        finally:
            signal.signal(signal.SIGINT, before)

    def start_worker(self) -> int:
        """Start one `expunge worker` in a session of its own; gives its process id."""
        log = self.folder / f"worker-{len(self._workers) + 1}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "expunge", "worker"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment_for(self.settings),
                start_new_session=True,
            )
        self._workers.append(process)
        self._guard.watch(process.pid)
        return process.pid

    def check_workers(self) -> None:
        """Make sure that all workers run.

        Raises:
            SettingsError: One has ended; the end of its log goes to stderr.
        """
        for number, process in enumerate(self._workers, start=1):
            if process.poll() is not None:
                self._show_log(number)
                msg = f"The worker ended with exit code {process.returncode}; its log is above."
                raise SettingsError(msg)

    def show_logs(self) -> None:
        """Write the end of each worker's log to stderr; logs hold no ids."""
        for number, _ in enumerate(self._workers, start=1):
            self._show_log(number)

    def _show_log(self, number: int) -> None:
        text = (self.folder / f"worker-{number}.log").read_text(errors="replace")
        sys.stderr.write(text[-_LOG_TAIL:])

    def _end_workers(self) -> None:
        for process in self._workers:
            # The supervisor alone: it tells its parts, and they finish the calls in flight.
            process.terminate()
        grace = self._template.call_deadline_seconds + _GRACE_S
        until = time.monotonic() + grace
        for process in self._workers:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(_LOOK_S, until - time.monotonic()))
            _kill_group(process.pid)
            process.wait()
        self._workers.clear()


def _settings(template: Settings, folder: Path, redis_url: str) -> Settings:
    changed: dict[str, object] = {
        "home": folder,
        "config": None,
        "ledger_url": f"sqlite:///{folder}/expunge.db",
        "ledger_admin_url": None,
        "keys_dir": folder / "keys",
        "redis_url": redis_url,
        # The children read the environment, and that names project `default` alone.
        "more_projects": {},
        "more_accounts": {},
    }
    return template.model_copy(update=changed)


def _make_ledger(settings: Settings) -> None:
    from ledger import Keys, upgrade  # noqa: PLC0415 - SQLAlchemy takes its time

    upgrade(settings.ledger_url)
    Keys.create(settings.keys_dir)


def _kill_group(leader: int) -> None:
    """Kill what is left of a session that we started, and wait until it is gone."""
    until = time.monotonic() + _GRACE_S
    with suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < until:
            os.killpg(leader, signal.SIGKILL)
            time.sleep(_LOOK_S)


class _Guard:
    """A process that ends the others should this one be killed; see `expunge.guard`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "expunge.guard"],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._tell(f"folder {self._folder}")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._tell("done")
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()

    def watch(self, leader: int) -> None:
        """Answer for a process that leads a session of its own."""
        self._tell(f"group {leader}")

    def _tell(self, line: str) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()


class _EndLikeAnInterrupt:
    """Turns SIGTERM and SIGHUP into KeyboardInterrupt while the stack stands."""

    def __init__(self) -> None:
        self._before = {number: signal.getsignal(number) for number in _ENDING_SIGNALS}
        for number in _ENDING_SIGNALS:
            signal.signal(number, self._interrupt)

    def __call__(self) -> None:
        """Put back what was there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt


def memos_settings(template: Settings, *, base_url: str, api_key: str) -> Settings:
    """Give the settings with another MemOS as project `default`."""
    return template.model_copy(
        update={"memos_base_url": base_url, "memos_api_key": SecretStr(api_key)}
    )
