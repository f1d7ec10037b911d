"""The dev stack from its first process to its last."""

import json
import random
import secrets
import shlex
import signal
import socket
import sys
import time
from contextlib import ExitStack, suppress
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self, TextIO

from expunge.dev.folder import claimed_folder, is_claimed
from expunge.dev.samples import MEMORIES_PER_USER, USERS, write_samples
from expunge.dev.shell import write_shell_files
from expunge.dev.up import Watch
from expunge.exit_codes import EXIT_UNEXPECTED
from expunge.stack import Stack, memos_settings
from ledger.errors import RequestError, SettingsError
from ledger.settings import Settings, load_settings
from ledger.streams import DEFAULT_STREAM, Stream
from memos_api.simulator.process import SimulatorProcess

__all__ = ["run_dev"]

_RATE: Final = 50.0
_DEADLINE_S: Final = 10.0
_SETTLE_S: Final = 1.0
_START_S: Final = 60.0
_LOOK_S: Final = 0.2
_PORTS: Final = (20_000, 32_000)
_PORT_TRIES: Final = 200


def run_dev(
    *,
    memos: str = "simulator",
    folder: Path | None = None,
    rate: float | None = None,
    out: TextIO | None = None,
) -> int:
    """Keep a whole Expunge running until SIGINT, SIGTERM or SIGHUP.

    Args:
        memos: `simulator`, or `env` for the MemOS that the settings name.
        folder: Where everything lies and is found again; None is `dev` in EXPUNGE_HOME, which goes
            at the end.
        rate: Calls a second; None is 50 with the simulator, else EXPUNGE_RATE_PER_SECOND.
        out: Where the one line of JSON goes when everything is up; None is stdout.

    Returns:
        The exit code: 0 when it was asked to end, 1 when a part ended by itself; what that said is
        on stderr.

    Raises:
        RequestError: An argument cannot be taken.
        SettingsError: A setting is wrong, the folder is in use, or it does not come up.
    """
    if memos not in ("simulator", "env"):
        msg = "--memos is simulator or env."
        raise RequestError(msg)
    if memos == "env" and folder is None:
        msg = (
            "--memos env deletes for real, and its record must not go with the stack: name a "
            "folder that is kept, with --dir."
        )
        raise RequestError(msg)
    settings = load_settings()
    where = (folder or _default_folder(settings)).expanduser().absolute()
    with _Ending() as ending, ExitStack() as opened:
        try:
            opened.enter_context(
                claimed_folder(where, memos=_memos(memos, settings), kept=folder is not None)
            )
            _keep_running(opened, where, memos, settings, rate, out or sys.stdout)
        except KeyboardInterrupt:
            _say("Ending: calls in flight are waited for.")
        except _PartEndedError as error:
            _say(f"Error: {error}")
            return EXIT_UNEXPECTED
        finally:
            ending.heeds = False
    return 0


def _default_folder(settings: Settings) -> Path:
    if is_claimed(settings.home):
        msg = (
            f"This shell was told to use the stack in {settings.home}. Start another one from a "
            "shell that was not, or give it a folder of its own with --dir."
        )
        raise SettingsError(msg)
    return settings.home / "dev"


class _PartEndedError(Exception):
    """A part ended although nobody asked it to."""


class _Ending:
    """Turns what asks us to end into KeyboardInterrupt, until we are ending anyway."""

    def __init__(self) -> None:
        self.heeds = True
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self.heeds:
            raise KeyboardInterrupt


def _memos(memos: str, settings: Settings) -> str:
    """Name the MemOS that the folder's work is for."""
    return memos if memos == "simulator" else f"{memos} {settings.memos_base_url}"


def _keep_running(  # noqa: PLR0917 - private
    opened: ExitStack,
    folder: Path,
    memos: str,
    settings: Settings,
    rate: float | None,
    out: TextIO,
) -> None:
    """Start everything, say so, and look after it for ever.

    Raises:
        KeyboardInterrupt: It was asked to end.
    """
    simulator = None
    samples: dict[str, list[str]] = {}
    if memos == "simulator":
        rate = _RATE if rate is None else rate
        simulator = opened.enter_context(SimulatorProcess(rate=rate, keep_ids=False))
        seeded = simulator.control.seed(users=USERS, memories=MEMORIES_PER_USER)
        samples = write_samples(folder, seeded.by_user)
    template = _template(settings, simulator, rate)
    # Whoever can write to the stream orders deletions, and this machine may have other users.
    password = None if simulator else secrets.token_hex(16)
    stack = opened.enter_context(Stack(template, folder=folder, redis_password=password))
    env = write_shell_files(stack.settings)

    def check() -> None:
        try:
            stack.check_parts()
        except SettingsError as error:
            raise _PartEndedError(error) from None
        if simulator is not None and not simulator.runs:
            msg = "The simulated MemOS ended; what it said is above."
            raise _PartEndedError(msg)

    ports = _free_ports(2)
    watch = Watch(stack.settings)
    for name, port in zip(("worker", "bridge"), ports, strict=True):
        stack.start_part(name, name, environment={"EXPUNGE_HEALTH_PORT": str(port)})
    stack.start_part("sealer", "seal")
    watch.wait(check, seconds=_START_S)
    ready = {
        "ready": True,
        "folder": str(folder),
        "env": str(env),
        "ledger_url": stack.settings.ledger_url,
        "redis_url": stack.settings.redis_url if password is None else None,
        "memos_base_url": template.memos_base_url,
        "stream": DEFAULT_STREAM,
        "health_url": f"http://127.0.0.1:{ports[0]}",
        "bridge_health_url": f"http://127.0.0.1:{ports[1]}",
        # Made-up users by the sample file that orders something of theirs; `free` are in none.
        "users": samples,
        "version": version("expunge"),
    }
    out.write(json.dumps(ready) + "\n")
    out.flush()
    _show_next(folder, env, samples)
    while True:
        time.sleep(_LOOK_S)
        check()


def _template(
    settings: Settings, simulator: SimulatorProcess | None, rate: float | None
) -> Settings:
    streams = {DEFAULT_STREAM: Stream(name=DEFAULT_STREAM, principal="dev")}
    if simulator is not None:
        plain = Settings(
            rate_per_second=_RATE if rate is None else rate,
            call_deadline_seconds=_DEADLINE_S,
            settle_seconds=_SETTLE_S,
            log_level=settings.log_level,
            streams=streams,
        )
        return memos_settings(plain, base_url=simulator.base_url, api_key=simulator.api_key)
    if settings.memos_api_key is None:
        msg = "MEMOS_API_KEY is not set, so no call can be made. Set it, and MEMOS_BASE_URL."
        raise SettingsError(msg)
    changed: dict[str, object] = {"streams": streams}
    if rate is not None:
        changed["rate_per_second"] = rate
    return settings.model_copy(update=changed)


def _free_ports(count: int) -> list[int]:
    """Find ports that are free now, outside of those that outgoing connections take."""
    found: list[int] = []
    for port in random.sample(range(*_PORTS), _PORT_TRIES):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            break
    return found


def _show_next(folder: Path, env: Path, samples: dict[str, list[str]]) -> None:
    if samples:
        commands = [
            f"expunge submit --user-id {samples['submit'][0]} --wait",
            f"expunge import {shlex.quote(str(folder / 'ids.txt'))}",
        ]
    else:
        commands = ["expunge doctor", "expunge submit --memory-id @FILE --wait"]
    lines = [f". {shlex.quote(str(env))}", *commands]
    _say("Everything is up, until Ctrl-C. In another shell:")
    for line in lines:
        _say(f"  {line}")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
