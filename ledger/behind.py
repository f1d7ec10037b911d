"""One piece of work at a time in a thread of its own, while the next one is made ready."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

__all__ = ["Behind"]


class Behind:
    """A context manager; whoever leaves it knows what came of all that was begun in it.

    What a piece of work raises comes to whoever begins the next one, or leaves.
    """

    def __init__(self) -> None:
        """Begin nothing, not even the thread."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="behind")
        self._begun: Future[None] | None = None

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let end what was begun, and raise what it raised."""
        try:
            self.settle()
        finally:
            self._thread.shutdown()

    def begin(self, work: Callable[[], None]) -> None:
        """Begin the next one once the last one has ended.

        Args:
            work: Must not begin another one.

        Raises:
            Exception: Whatever the last one raised; then this one is not begun.
        """
        self.settle()
        self._begun = self._thread.submit(work)

    def settle(self) -> None:
        """Wait for what was begun.

        Raises:
            Exception: Whatever it raised.
        """
        if self._begun is None:
            return
        begun = self._begun
        begun.exception()
        # Not when the wait was interrupted: it goes on, and has to be waited for again.
        self._begun = None
        begun.result()
