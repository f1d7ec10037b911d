"""A clock that passes only where somebody waits: the same on every machine, however busy it is.

While it is installed, `time.monotonic`, `time.monotonic_ns` and `time.sleep` are this clock's.
On its loop nothing takes time but what sleeps: `asyncio.sleep` lets everybody else go on,
`time.sleep` holds the loop up, as work does.
"""

import asyncio
import math
import selectors
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

import pytest

__all__ = ["VirtualThread", "VirtualTime"]

P = ParamSpec("P")
T = TypeVar("T")
_NS: Final = 1_000_000_000


class VirtualTime:
    """One clock: of the test, of its loop, and of each `VirtualThread` that the loop waits for."""

    def __init__(self) -> None:
        """Start at some moment that is not zero."""
        self._now_ns = 1_000 * _NS

    @classmethod
    def install(cls, monkeypatch: pytest.MonkeyPatch) -> "VirtualTime":
        """Make one and let it stand for the machine's until the test is over."""
        clock = cls()
        monkeypatch.setattr(time, "monotonic", lambda: clock.now_ns / _NS)
        monkeypatch.setattr(time, "monotonic_ns", lambda: clock.now_ns)
        monkeypatch.setattr(time, "sleep", clock.sleep)
        return clock

    @property
    def now_ns(self) -> int:
        """Nanoseconds of the monotonic clock."""
        return self._now_ns

    def sleep(self, seconds: float) -> None:
        """Let so much time pass, in whole nanoseconds and not less."""
        self._now_ns += math.ceil(seconds * _NS)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run it on a loop of this clock, as `asyncio.run` does.

        Raises:
            RuntimeError: Everybody waits for something that no clock brings.
        """
        with asyncio.Runner(loop_factory=lambda: _Loop(self)) as runner:
            return runner.run(main)

    def aside(self, work: Callable[[], T], *, at_ns: int) -> tuple[T, int]:
        """Run work that takes its time beside everybody else: no time passes for them.

        Args:
            work: Run at once; the clock that it sees is later where it begins later.
            at_ns: When it begins, if that is not over.

        Returns:
            What it gives, and when it ends.
        """
        here_ns = self._now_ns
        try:
            self._now_ns = max(here_ns, at_ns)
            return work(), self._now_ns
        finally:
            self._now_ns = here_ns


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: VirtualTime) -> None:
        super().__init__(_Skipping(clock))
        self.clock = clock


class _Skipping(selectors.DefaultSelector):
    """Lets the clock pass instead of waiting for it."""

    def __init__(self, clock: VirtualTime) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            message = "nothing is ready and nobody waits for the clock: this would last for ever"
            raise RuntimeError(message)
        if not ready and timeout is not None:
            self._clock.sleep(max(0.0, timeout))
        return ready


class VirtualThread(Executor):
    """One thread for a loop of `VirtualTime`; its work takes the time that it sleeps.

    The work sees the world as it was when it was handed in.
    """

    def __init__(self) -> None:
        """Be free at once."""
        self._free_ns = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run it after what was handed in before."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, _Loop)
        future: Future[T] = Future()

        def work() -> Callable[[], None]:
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - whoever waits for it gets it
                return partial(future.set_exception, error)
            return partial(future.set_result, result)

        settle, self._free_ns = loop.clock.aside(work, at_ns=self._free_ns)
        loop.call_later((self._free_ns - loop.clock.now_ns) / _NS, settle)
        return future
