"""Who is in the middle of a drain: a lock that the kernel gives back when a process dies."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Busy"]


class Busy:
    """Made before the fork and shared by parent and children; one `hold` at a time a process.

    Record locks belong to a process and not to the descriptor, so children may use the inherited
    one.
    """

    def __init__(self) -> None:
        """Make the file, which has no name."""
        with tempfile.TemporaryFile() as file:
            # The descriptor lives as long as the process.
            self._file = os.dup(file.fileno())

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Count as busy; never waits for other children."""
        fcntl.lockf(self._file, fcntl.LOCK_SH, 1, 0, os.SEEK_SET)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, 0, os.SEEK_SET)

    def nobody(self) -> bool:
        """Say whether no other process holds it."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0, os.SEEK_SET)
        except OSError:
            return False
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, 0, os.SEEK_SET)
        return True
