"""The stop flag: a pipe whose write end the supervisor holds.

Closing it stops everybody, and so does the supervisor's death, however it came: nobody goes on
calling MemOS without the process that operators see and stop.
"""

import os
import select
from dataclasses import dataclass

__all__ = ["StopFlag"]


@dataclass(frozen=True)
class StopFlag:
    """Read end of the pipe; `None` never stops (a drain in a test, or by hand)."""

    fd: int | None = None

    def is_set(self) -> bool:
        """Say whether to stop; costs one system call."""
        if self.fd is None:
            return False
        ready, _, _ = select.select([self.fd], [], [], 0)
        return bool(ready)

    def wait(self, seconds: float) -> bool:
        """Sleep for so long, or until the flag is set; says whether it is."""
        ready, _, _ = select.select([self.fd] if self.fd is not None else [], [], [], seconds)
        return bool(ready)

    @staticmethod
    def make() -> tuple["StopFlag", int]:
        """Make a flag and the descriptor to close when all shall stop."""
        read_end, write_end = os.pipe()
        os.set_inheritable(read_end, True)  # noqa: FBT003 - os's own signature
        return StopFlag(read_end), write_end
