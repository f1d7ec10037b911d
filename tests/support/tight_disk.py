"""A small disk of a test's own, to fill and to make read-only."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.missing import missing_part

__all__ = ["TightDisk", "tight_disk"]

_READ_ONLY: Final = 1
_REMOUNT: Final = 32
_DETACH: Final = 2


class TightDisk:
    """A tmpfs.

    Attributes:
        folder: Where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._libc = ctypes.CDLL(None, use_errno=True)

    def mount(self, size: int) -> None:
        """Mount it; raises OSError where that is not allowed."""
        self._mount(0, f"size={size}")

    def unmount(self) -> None:
        self._libc.umount2(os.fsencode(self.folder), _DETACH)

    def set_read_only(self, read_only: bool) -> None:  # noqa: FBT001 - says what it is
        """Nobody may have a file open for writing."""
        self._mount(_REMOUNT | (_READ_ONLY if read_only else 0), "")

    def fill(self) -> None:
        """Take all of its space; `make_room` gives it back."""
        with (self.folder / "filler").open("wb", buffering=0) as file:
            piece = b"x" * 4096
            try:
                while True:
                    file.write(piece)
            except OSError:
                return

    def make_room(self) -> None:
        (self.folder / "filler").unlink()

    def _mount(self, flags: int, data: str) -> None:
        target = os.fsencode(self.folder)
        if self._libc.mount(b"tmpfs", target, b"tmpfs", flags, data.encode()):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(self.folder))


@contextmanager
def tight_disk(folder: Path, *, size: int) -> Iterator[TightDisk]:
    """Give a disk of *size* bytes; skips where nothing may be mounted.

    Args:
        folder: Made here.
        size: In bytes; the kernel rounds up to pages.
    """
    folder.mkdir()
    disk = TightDisk(folder)
    try:
        disk.mount(size)
    except (OSError, AttributeError) as error:
        missing_part(f"Mounting a small tmpfs takes root on Linux ({type(error).__name__}).")
    try:
        yield disk
    finally:
        disk.unmount()
