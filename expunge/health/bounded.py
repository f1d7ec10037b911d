"""Asking something that may hang, without hanging oneself."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

__all__ = ["LIMIT_S", "Bounded", "Finding", "Probe", "examine"]

T = TypeVar("T")
LIMIT_S: Final = 2.0


class Bounded(Generic[T]):
    """Runs a function on a thread, and waits only so long for it.

    While a run hangs no other one is started: whoever asks meanwhile waits for the same.

    Args:
        ask: What is run.
        limit_s: Longest wait, in seconds.
    """

    def __init__(self, ask: Callable[[], T], *, limit_s: float = LIMIT_S) -> None:
        """Start with no run under way."""
        self._ask = ask
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self._run: _Run[T] | None = None

    def start(self) -> "_Run[T]":
        """Start a run, or join the one under way."""
        with self._lock:
            if self._run is None or self._run.over.is_set():
                self._run = _Run()
                threading.Thread(
                    target=self._run.carry_out, args=(self._ask,), name="health", daemon=True
                ).start()
            return self._run

    def get(self) -> T:
        """Give what the function gives.

        Raises:
            TimeoutError: It did not answer in time.
            Exception: Whatever it raised.
        """
        return self.start().answer(self._limit_s)


class _Run(Generic[T]):
    """One run; `milliseconds` says how long it took, or has taken so far."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self._started = time.monotonic()
        self._ended: float | None = None
        self._answer: list[T] = []
        self._error: Exception | None = None

    @property
    def milliseconds(self) -> float:
        return ((self._ended or time.monotonic()) - self._started) * 1_000

    def carry_out(self, ask: Callable[[], T]) -> None:
        try:
            self._answer.append(ask())
        except Exception as error:  # noqa: BLE001 - is raised where somebody waits for it
            self._error = error
        self._ended = time.monotonic()
        self.over.set()

    def answer(self, limit_s: float) -> T:
        if not self.over.wait(max(0.0, limit_s)):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._answer[0]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check found.

    Attributes:
        name: Of the check.
        ok: It is as it should be.
        soft: It is told, and does not decide.
        milliseconds: How long the look took.
    """

    name: str
    ok: bool
    soft: bool
    milliseconds: float


class Probe:
    """One check: *look* says whether all is well; an error or no answer in time says it is not."""

    def __init__(
        self,
        name: str,
        look: Callable[[], bool],
        *,
        soft: bool = False,
        limit_s: float = LIMIT_S,
    ) -> None:
        """Prepare; nothing is looked at yet."""
        self.name = name
        self.soft = soft
        self.limit_s = limit_s
        self.bounded = Bounded(look, limit_s=limit_s)


def examine(probes: list[Probe]) -> list[Finding]:
    """Look at all at the same time; takes as long as the slowest, at most its limit."""
    began = time.monotonic()
    runs = [(probe, probe.bounded.start()) for probe in probes]
    found = []
    for probe, run in runs:
        try:
            ok = run.answer(probe.limit_s - (time.monotonic() - began))
        except Exception:  # noqa: BLE001 - its text may name a host or a password
            ok = False
        found.append(
            Finding(
                name=probe.name, ok=ok, soft=probe.soft, milliseconds=round(run.milliseconds, 1)
            )
        )
    return found
