"""The signing key's files: the one in force, and during a rotation the next one.

The sealer alone has them. A rotation writes the next seed, records an event that names both public
keys, and lets the checkpoint that covers the event be signed by both; only then the old one goes.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.audit.notes import PublicKey, Signer
from ledger.errors import KeysError
from ledger.keys import checked, read_key, write_key

__all__ = ["SigningKeys", "drop_next", "make_next", "put_in_force"]

_FILE: Final = "signing.key"
_NEXT: Final = "signing.key.next"


@dataclass(frozen=True, kw_only=True, repr=False)
class SigningKeys:
    """The seeds, 32 bytes each.

    Attributes:
        current: Signs every checkpoint.
        following: Signs too, while a rotation is under way; else None.
        event: Id of the event that records the rotation; empty without one.
    """

    current: bytes
    following: bytes | None
    event: str = ""

    @classmethod
    def load(cls, directory: Path) -> "SigningKeys":
        """Read them.

        Raises:
            KeysError: The key is missing, unreadable or of the wrong length.
        """
        current = read_key(directory / _FILE)
        try:
            line = (directory / _NEXT).read_text("ascii")
        except FileNotFoundError:
            return cls(current=current, following=None)
        except (OSError, UnicodeDecodeError):
            line = ""
        seed, _, event_id = line.strip().partition(" ")
        try:
            following = checked(seed)
        except ValueError:
            msg = (
                f"{_NEXT} in {directory} is no key; remove it, the rotation that made it was not "
                "completed, and run `expunge keys rotate` again."
            )
            raise KeysError(msg) from None
        # In force already, and only its draft was left by a crash.
        done = following == current
        return cls(current=current, following=None if done else following, event=event_id)

    def signers(self, origin: str) -> list[Signer]:
        """Give who signs for an origin, the key in force first."""
        seeds = [self.current] if self.following is None else [self.current, self.following]
        return [Signer(origin, seed) for seed in seeds]

    def public(self, origin: str) -> PublicKey:
        """Give the public key in force."""
        return Signer(origin, self.current).public

    def __repr__(self) -> str:
        """Show nothing of the keys."""
        return "SigningKeys(…)"


def make_next(directory: Path, seed: bytes, event_id: str) -> None:
    """Keep the seed that a rotation goes over to.

    Args:
        directory: Where the keys are.
        seed: 32 bytes.
        event_id: Of the event that records the rotation.

    Raises:
        KeysError: One is there already, or it cannot be written.
    """
    try:
        write_key(directory / _NEXT, f"{seed.hex()} {event_id}")
    except FileExistsError:
        msg = "Another rotation is under way; let `expunge seal` complete it first."
        raise KeysError(msg) from None
    except OSError as error:
        msg = f"The next key cannot be written to {directory} ({error.strerror}); check its owner."
        raise KeysError(msg) from None


def drop_next(directory: Path) -> None:
    """Throw away the next seed of a rotation that was never recorded."""
    (directory / _NEXT).unlink(missing_ok=True)


def put_in_force(directory: Path) -> None:
    """Put the next seed in the place of the current one, which is gone then.

    Raises:
        KeysError: The directory cannot be written.
    """
    following = SigningKeys.load(directory).following
    draft = directory / f"{_FILE}.new"
    try:
        if following is not None:
            draft.unlink(missing_ok=True)
            write_key(draft, following.hex())
            draft.replace(directory / _FILE)
        drop_next(directory)
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        msg = f"Keys in {directory} cannot be changed ({error.strerror}); check its owner."
        raise KeysError(msg) from None
