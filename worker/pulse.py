"""A pulse: one process writes when its loop turned, another one reads how long ago that is."""

import os
import struct
import time
from pathlib import Path
from typing import Final

__all__ = ["PULSE_EVERY_S", "Pulse"]

PULSE_EVERY_S: Final = 5.0
_MOMENT: Final = struct.Struct("d")


class Pulse:
    """Eight bytes in a file; the monotonic clock is one for all processes of a host.

    Args:
        path: The file, in a directory of the supervisor's own.
    """

    def __init__(self, path: Path) -> None:
        """Make the file if it is not there; its life begins now."""
        self._path = path
        if not path.exists():
            self.beat()

    def beat(self) -> None:
        """Write that the loop turned."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(descriptor, _MOMENT.pack(time.monotonic()), 0)
        finally:
            os.close(descriptor)

    def age_s(self) -> float:
        """Give the seconds since the last beat."""
        moment = _MOMENT.unpack(self._path.read_bytes()[: _MOMENT.size])[0]
        return max(0.0, time.monotonic() - float(moment))
