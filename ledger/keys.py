"""The keys, one file each, kept outside the database.

`order.key`, `pseudonym.key` and `subjects.N.key` belong to producers and workers, `signing.key` to
the sealer alone. Each file holds 32 random bytes as 64 hex digits and a newline. `subjects.N.key`
is that of epoch N; the highest one is in force, and older ones are kept until they are destroyed
(`ledger.epochs`).
"""

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ledger.errors import KeysError
from ledger.private import make_private_folder

__all__ = ["KEY_FILES", "Keys", "checked", "epoch_file", "read_key", "write_key"]

KEY_FILES: Final = ("order.key", "pseudonym.key", "signing.key")
_BYTES: Final = 32
_EPOCH_FILE: Final = re.compile(r"subjects\.([1-9][0-9]{0,5})\.key")


@dataclass(frozen=True, kw_only=True, repr=False)
class Keys:
    """The keys that producers and workers need.

    Attributes:
        order: 32 bytes; MACs what was ordered, so that a writer of the database cannot widen it.
        pseudonym: 32 bytes; turns idempotency keys and what senders asked for into references.
        subjects: 32 bytes each, by epoch; turn user ids into references. Empty where there was
            never an epoch: then `pseudonym` does, as epoch 0.
    """

    order: bytes
    pseudonym: bytes
    subjects: Mapping[int, bytes] = field(default_factory=dict)

    @classmethod
    def load(cls, directory: Path) -> "Keys":
        """Read the keys.

        Raises:
            KeysError: A file is missing, unreadable or does not hold 64 hex digits.
        """
        return cls(
            order=read_key(directory / "order.key"),
            pseudonym=read_key(directory / "pseudonym.key"),
            subjects={no: read_key(directory / epoch_file(no)) for no in _epochs(directory)},
        )

    @classmethod
    def create(cls, directory: Path, *, signing_dir: Path | None = None) -> "Keys":
        """Make all key files, that of epoch 1 too, mode 0600, in a directory of mode 0700.

        Args:
            directory: Of EXPUNGE_KEYS_DIR.
            signing_dir: Where the sealer's key goes instead, which nobody else needs.

        Raises:
            KeysError: A key is there already (it is never overwritten: what was MACed with it
                could not be checked any more), or the directory cannot be written.
        """
        paths = [directory / name for name in (epoch_file(1), *KEY_FILES)]
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


def epoch_file(no: int) -> str:
    """Name the file of an epoch's key."""
    return f"subjects.{no}.key"


def _epochs(directory: Path) -> list[int]:
    try:
        found = [_EPOCH_FILE.fullmatch(path.name) for path in directory.iterdir()]
    except OSError as error:
        msg = f"The keys in {directory} cannot be listed ({error.strerror}); check its owner."
        raise KeysError(msg) from None
    return sorted(int(match[1]) for match in found if match)


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
