"""The folder of a dev stack: one stack at a time, one MemOS for ever, emptied or kept."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ledger.errors import SettingsError

__all__ = ["claimed_folder", "is_claimed"]

_LOCK: Final = "lock"
_MEMOS: Final = "memos"
_KEPT: Final = "kept"


@contextmanager
def claimed_folder(folder: Path, *, memos: str, kept: bool) -> Iterator[Path]:
    """Have the folder to oneself while the block runs.

    Args:
        folder: Made when it is missing, with mode 0700.
        memos: Which MemOS the work in it is for, one line; the same each time.
        kept: Leave everything in it at the end; else what an earlier stack left is taken away
            first, and the folder itself at the end.

    Raises:
        SettingsError: Another stack has it, it holds other things, it is for another MemOS, or it
            was kept before and would be emptied now.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_strangers(folder)
        lock = _lock(folder)
    except OSError as error:
        msg = f"The folder {folder} cannot be used ({error.strerror}); name another with --dir."
        raise SettingsError(msg) from None
    try:
        _check_owner(folder, memos, kept=kept)
        if not kept:
            _empty(folder)
        (folder / _MEMOS).write_text(f"{memos}\n{_KEPT if kept else ''}\n")
        try:
            yield folder
        finally:
            if not kept:
                _empty(folder)
                (folder / _LOCK).unlink()
                folder.rmdir()
    finally:
        os.close(lock)


def is_claimed(folder: Path) -> bool:
    """Whether a folder is, or was, that of a dev stack."""
    return (folder / _MEMOS).exists()


def _refuse_strangers(folder: Path) -> None:
    if not is_claimed(folder) and any(one.name != _LOCK for one in folder.iterdir()):
        msg = (
            f"The folder {folder} holds other things than a dev stack; name an empty or a new one "
            "with --dir."
        )
        raise SettingsError(msg)


def _lock(folder: Path) -> int:
    """Lock the folder, and write into it who did; the kernel unlocks it when the process ends."""
    path = folder / _LOCK
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(handle, 32).decode("ascii", "replace").strip()
            os.close(handle)
            msg = (
                f"`expunge dev` runs on {folder} already, as process {owner or 'yet to say'}. Use "
                "that one, end it, or give this one a folder of its own with --dir."
            )
            raise SettingsError(msg) from None
        # Its last owner may have taken the file away between our two steps.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                os.ftruncate(handle, 0)
                os.write(handle, f"{os.getpid()}\n".encode())
                return handle
        os.close(handle)


def _check_owner(folder: Path, memos: str, *, kept: bool) -> None:
    """Refuse to send the work of one MemOS to another, and to throw a record away."""
    marker = folder / _MEMOS
    if not marker.exists():
        return
    before, _, was_kept = marker.read_text().partition("\n")
    if before != memos:
        msg = (
            f"The work in {folder} is for another MemOS ({before}); name another folder with --dir."
        )
        raise SettingsError(msg)
    if was_kept.strip() and not kept:
        msg = (
            f"The folder {folder} was kept by an earlier `--dir` and would be emptied now; give "
            "it with --dir again, or remove it yourself."
        )
        raise SettingsError(msg)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name == _LOCK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
