"""What the sealer keeps outside the database: the last checkpoint, and the public keys.

Whoever can change the ledger, or put an older copy of it in its place, cannot change these files.
They are public: neither holds a secret, and copies of them elsewhere are the better witnesses.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ledger.audit.notes import PublicKey
from ledger.errors import AuditError

__all__ = ["Published"]

_CHECKPOINT: Final = "checkpoint"
_KEYS: Final = "public.keys"
_LOCK: Final = "lock"


class Published:
    """A directory with what was published.

    Args:
        folder: Of EXPUNGE_AUDIT_DIR.
    """

    def __init__(self, folder: Path) -> None:
        """Open nothing yet."""
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Keep other sealers of this directory out; says whether that worked.

        Raises:
            AuditError: The directory cannot be written.
        """
        try:
            self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            handle = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(error) from None
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(handle)

    def checkpoint(self) -> str | None:
        """Give the last checkpoint's note, None when there is none.

        Raises:
            AuditError: It cannot be read.
        """
        return self._read(_CHECKPOINT)

    def keys(self) -> list[PublicKey]:
        """Give all public keys that ever signed, the newest last.

        Raises:
            AuditError: They cannot be read.
        """
        lines = (self._read(_KEYS) or "").splitlines()
        try:
            return [PublicKey.parse(line) for line in lines if line.strip()]
        except ValueError as error:
            msg = f"{_KEYS} in {self.folder} is damaged: {error} Restore it from its copy."
            raise AuditError(msg) from None

    def publish(self, note: str) -> None:
        """Put a checkpoint in the place of the last one; on disk when this returns.

        Raises:
            AuditError: It cannot be written; the last one is still there.
        """
        self._write(_CHECKPOINT, note)

    def add_key(self, key: PublicKey) -> None:
        """Add a public key, unless it is there.

        Raises:
            AuditError: It cannot be written.
        """
        known = self.keys()
        if key not in known:
            self._write(_KEYS, "".join(f"{one}\n" for one in [*known, key]))

    def set_aside(self) -> None:
        """Rename the last checkpoint to `checkpoint.N`: its log goes on under another origin."""
        number = 1
        while (self.folder / f"{_CHECKPOINT}.{number}").exists():
            number += 1
        try:
            (self.folder / _CHECKPOINT).rename(self.folder / f"{_CHECKPOINT}.{number}")
            self._sync_folder()
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unusable(error) from None

    def _read(self, name: str) -> str | None:
        try:
            return (self.folder / name).read_text("utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise self._unusable(error) from None

    def _write(self, name: str, text: str) -> None:
        draft = self.folder / f"{name}.new"
        try:
            with draft.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.folder / name)
            self._sync_folder()
        except OSError as error:
            raise self._unusable(error) from None

    def _sync_folder(self) -> None:
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _unusable(self, error: OSError | UnicodeDecodeError) -> AuditError:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        return AuditError(
            f"What was published cannot be kept in {self.folder} ({why}); give the sealer a "
            "directory that it may write (EXPUNGE_AUDIT_DIR)."
        )
