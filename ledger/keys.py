"""The keys, one file each, kept outside the database.

`order.key` and `pseudonym.key` belong to producers and workers, `signing.key` to the sealer alone.
Each file holds 32 random bytes as 64 hex digits and a newline.
"""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.errors import KeysError
from ledger.private import make_private_folder

__all__ = ["KEY_FILES", "Keys", "checked", "read_key", "write_key"]

KEY_FILES: Final = ("order.key", "pseudonym.key", "signing.key")
_BYTES: Final = 32


@dataclass(frozen=True, kw_only=True, repr=False)
class Keys:
    """The keys that producers and workers need.

    Attributes:
        order: 32 bytes; MACs what was ordered, so that a writer of the database cannot widen it.
        pseudonym: 32 bytes; turns user ids and idempotency keys into references.
    """

    order: bytes
    pseudonym: bytes

    @classmethod
    def load(cls, directory: Path) -> "Keys":
        """Read the keys.

        Raises:
            KeysError: A file is missing, unreadable or does not hold 64 hex digits.
        """
        return cls(
            order=read_key(directory / "order.key"), pseudonym=read_key(directory / "pseudonym.key")
        )

    @classmethod
    def create(cls, directory: Path, *, signing_dir: Path | None = None) -> "Keys":
        """Make all three key files, mode 0600, in a directory of mode 0700.

        Args:
            directory: Of EXPUNGE_KEYS_DIR.
            signing_dir: Where the sealer's key goes instead, which nobody else needs.

        Raises:
            KeysError: A key is there already (it is never overwritten: what was MACed with it
                could not be checked any more), or the directory cannot be written.
        """
        paths = [directory / name for name in KEY_FILES]
        if signing_dir is not None:
            paths[-1] = signing_dir / KEY_FILES[-1]
        try:
            for path in paths:
                make_private_folder(path.parent)
                if path.exists():
                    msg = (
                        f"{path.name} is already in {path.parent}; keys are never overwritten, "
                        "because what they vouch for could not be checked any more. Use another "
                        "EXPUNGE_KEYS_DIR, or keep these."
                    )
                    raise KeysError(msg)
            for path in paths:
                write_key(path, secrets.token_hex(_BYTES))
        except OSError as error:
            msg = f"Keys cannot be written to {directory} ({error.strerror}); check its owner."
            raise KeysError(msg) from None
        return cls.load(directory)

    def __repr__(self) -> str:
        """Show nothing of the keys."""
        return "Keys(…)"


def checked(digits: str) -> bytes:
    """Turn the digits of a key file into its key.

    Raises:
        ValueError: They are not 64 hex digits.
    """
    key = bytes.fromhex(digits.strip())
    if len(key) != _BYTES:
        msg = f"A key has {_BYTES * 2} hex digits."
        raise ValueError(msg)
    return key


def read_key(path: Path) -> bytes:
    """Read one key file.

    Raises:
        KeysError: It is missing, unreadable or does not hold 64 hex digits.
    """
    try:
        return checked(path.read_text("ascii"))
    except OSError as error:
        msg = (
            f"{path.name} cannot be read from {path.parent} ({error.strerror}); run "
            "`expunge keys init`, or point EXPUNGE_KEYS_DIR at the directory that has it."
        )
        raise KeysError(msg) from None
    except ValueError:
        msg = (
            f"{path.name} in {path.parent} does not hold {_BYTES * 2} hex digits; "
            "restore it from its copy. Never make a new one while requests are open."
        )
        raise KeysError(msg) from None


def write_key(path: Path, digits: str) -> None:
    """Write one key file, mode 0600; never over one that is there.

    Raises:
        FileExistsError: One is there.
        OSError: It cannot be written.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(digits + "\n")
        file.flush()
        os.fsync(file.fileno())
