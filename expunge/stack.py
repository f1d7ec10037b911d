"""The embedded stack: Valkey, a SQLite ledger, keys, and what is started on them, on this machine.

Everything lives in one folder and on free ports and goes with the context: processes are ended by
their ids, also after Ctrl-C, SIGTERM, errors and, by a guard process, after SIGKILL. The folder is
a temporary one that goes too, unless the caller has one to keep.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A process of the stack's own, leader of a session."""

    name: str
    log: Path
    process: "subprocess.Popen[bytes]"


class Stack:
    """A whole Expunge for as long as the `with` block runs.

    Attributes:
        settings: With these, producers and workers find it.
        folder: Where everything lies.
    """

    settings: Settings
    folder: Path

    def __init__(
        self, template: Settings, *, folder: Path | None = None, redis_password: str | None = None
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            template: Rate, chunk size, MemOS and all else; ledger, keys and Redis are replaced by
                the stack's own.
            folder: One to keep, of mode 0700: ledger, keys and what Redis holds are found there at
                the next start, and the settings name its `expunge.toml`, which the caller writes
                before a part is started. None makes a temporary one.
            redis_password: What Redis asks for; None lets everybody of this machine in.
        """
        self._template = template
        self._kept = folder
        self._password = redis_password
        self._open = ExitStack()
        self._parts: list[_Part] = []

    def __enter__(self) -> Self:
        """Start everything but parts such as workers.

        Raises:
            SettingsError: There is no Valkey server program on this machine.
        """
        with ExitStack() as opening:
            opening.callback(_EndLikeAnInterrupt())
            if self._kept is None:
                made = opening.enter_context(
                    tempfile.TemporaryDirectory(prefix="expunge-", ignore_cleanup_errors=True)
                )
                self.folder = Path(made)
            else:
                self.folder = self._kept
            # Of the parts alone, so that a killed one leaves nothing outside of the folder.
            self._scratch = opening.enter_context(
                tempfile.TemporaryDirectory(
                    prefix="tmp-", dir=self.folder, ignore_cleanup_errors=True
                )
            )
            # A folder that is kept must outlive a killed stack, and may be another one's by then.
            self._guard = opening.enter_context(_Guard(None if self._kept else self.folder))
            self._valkey = opening.enter_context(
                Valkey(self.folder, keeps=self._kept is not None, password=self._password)
            )
            self._guard.watch(self._valkey.process.pid)
            self.settings = _settings(
                self._template, self.folder, self._valkey.url, kept=self._kept is not None
            )
            _make_ledger(self.settings)
            opening.callback(self._end_parts)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End all processes, then remove the directory; a second signal does not break this off."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, *_ENDING_SIGNALS)}
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        try:
            self._open.close()
        finally:
            # The others were put back when the stack closed.
            signal.signal(signal.SIGINT, before[signal.SIGINT])

    def start_worker(self) -> int:
        """Start one `expunge worker` in a session of its own; gives its process id."""
        return self.start_part(f"worker-{len(self._parts) + 1}", "worker")

    def start_part(
        self, name: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> int:
        """Start `expunge ARGUMENTS` with the stack's settings, in a session of its own.

        Args:
            name: For messages, and of its log, `NAME.log` in the folder.
            arguments: Command and options.
            environment: What its environment has besides.

        Returns:
            Its process id.
        """
        log = self.folder / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "expunge", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment_for(self.settings)
                | {"TMPDIR": self._scratch}
                | dict(environment or {}),
                start_new_session=True,
            )
        self._parts.append(_Part(name=name, log=log, process=process))
        self._guard.watch(process.pid)
        return process.pid

    def check_parts(self) -> None:
        """Make sure that all parts run, and the server that they meet at.

        Raises:
            SettingsError: One has ended; the end of its log goes to stderr.
        """
        for part in self._parts:
            if part.process.poll() is not None:
                _show(part.log)
                what = "The worker" if part.name.startswith("worker") else f"The {part.name}"
                msg = f"{what} ended with exit code {part.process.returncode}; its log is above."
                raise SettingsError(msg)
        if not self._valkey.runs:
            _show(self.folder / "valkey.log")
            msg = "The embedded Valkey ended; its log is above."
            raise SettingsError(msg)

    def show_logs(self) -> None:
        """Write the end of each part's log to stderr; logs hold no ids."""
        for part in self._parts:
            _show(part.log)

    def _end_parts(self) -> None:
        """End one after the other, the last one first: what takes work in before what does it."""
        grace_s = self._template.call_deadline_seconds + _GRACE_S
        for part in reversed(self._parts):
            # The supervisor alone: it tells its parts, and they finish the calls in flight.
            part.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                part.process.wait(grace_s)
            _kill_group(part.process.pid)
            part.process.wait()
        self._parts.clear()


def _show(log: Path) -> None:
    sys.stderr.write(log.read_text(errors="replace")[-_LOG_TAIL:])


def _settings(template: Settings, folder: Path, redis_url: str, *, kept: bool) -> Settings:
    changed: dict[str, object] = {
        "home": folder,
        "config": folder / "expunge.toml" if kept else None,
        "ledger_url": f"sqlite:///{folder}/expunge.db",
        "ledger_admin_url": None,
        "keys_dir": folder / "keys",
        "audit_dir": folder / "audit",
        "redis_url": redis_url,
        # The children read the environment, and that names project `default` alone.
        "more_projects": {},
        "more_accounts": {},
        "streams": template.streams if kept else {},
    }
    return template.model_copy(update=changed)


def _make_ledger(settings: Settings) -> None:
    from ledger import Keys, upgrade  # noqa: PLC0415 - SQLAlchemy takes its time

    upgrade(settings.ledger_url)
    if not settings.keys_dir.exists():
        Keys.create(settings.keys_dir)
    Keys.load(settings.keys_dir)


def _kill_group(leader: int) -> None:
    """Kill what is left of a session that we started, and wait until it is gone."""
    until = time.monotonic() + _GRACE_S
    with suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < until:
            os.killpg(leader, signal.SIGKILL)
            time.sleep(_LOOK_S)


class _Guard:
    """A process that ends the others should this one be killed; see `expunge.guard`."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "expunge.guard"],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if self._folder is not None:
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
