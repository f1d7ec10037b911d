"""Folders that only their owner may look into: ledger and keys hold what names people."""

from pathlib import Path

__all__ = ["make_private_folder"]


def make_private_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, each with mode 0700.

    One that is there already stays as it is: somebody decided who may look into it.

    Raises:
        OSError: One of them cannot be made.
    """
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
