"""Drains that run in the test's own process, against everything else that is real."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from ledger import ReadbackPolicy
from ledger.settings import load_settings
from tests.support.stack import Stack
from worker.process import Process
from worker.stop import StopFlag

__all__ = ["POLICY", "drain_to_the_end", "drained_by", "processes"]

POLICY = ReadbackPolicy(settle_s=0.1)
_SOON_S = 0.05


@contextmanager
def processes(stack: Stack, count: int = 1, **changed: str) -> Iterator[list[Process]]:
    """Open parts of so many worker processes in this one; *changed* as in `Stack.environment`."""
    with ExitStack() as opened:
        settings = load_settings(stack.environment(**changed))
        made = []
        for _ in range(count):
            made.append(Process(settings, role="drain", stop=StopFlag()))
            opened.callback(made[-1].close)
        yield made


@contextmanager
def drained_by(stack: Stack, some: list[Process], *, max_attempts: int = 8) -> Iterator[None]:
    """Let each drain in a thread of its own, again and again, as long as the block lasts."""
    over = threading.Event()
    failures: list[BaseException] = []

    def drain(process: Process) -> None:
        try:
            while not over.is_set():
                if not process.drain(budget_s=1.0):
                    process.ledger.sweep(max_attempts=max_attempts, policy=POLICY)
                    over.wait(_SOON_S)
        except BaseException as error:  # noqa: BLE001 - it belongs to the test, not to the thread
            failures.append(error)

    threads = [threading.Thread(target=drain, args=(one,)) for one in some]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not failures, failures


def drain_to_the_end(
    stack: Stack,
    process: Process,
    *,
    seconds: float = 25,
    until: Callable[[], bool] | None = None,
) -> None:
    """Drain in this thread until every request has ended, or something else is so."""
    end = time.monotonic() + seconds
    over = until or (lambda: all(view.finished_at is not None for view in stack.views()))
    while not over():
        assert time.monotonic() < end, [view.counts for view in stack.views()]
        if not process.drain(budget_s=5 if until is None else 0.2):
            process.ledger.sweep(max_attempts=8, policy=POLICY)
            time.sleep(_SOON_S)
