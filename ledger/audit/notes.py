"""Signed notes and checkpoints in the formats of C2SP (signed-note, tlog-checkpoint), Ed25519.

A checkpoint says of a log, by its *origin*, how many leaves it has and what root they give:

    expunge/6f0c2d1e9a7b4c35
    1024
    47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=

    — expunge/6f0c2d1e9a7b4c35 XWgGvA…
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.audit.merkle import HASH_BYTES

__all__ = [
    "Checkpoint",
    "PublicKey",
    "Signer",
    "is_checkpoint",
    "open_checkpoint",
    "sign_checkpoint",
]

_ED25519: Final = b"\x01"
_ID_BYTES: Final = 4
_MOST_SIGNATURES: Final = 16
_MOST_LEAVES: Final = 2**63
_DASH: Final = "\u2014 "


@dataclass(frozen=True)
class Checkpoint:
    """How many leaves a log has, and the root over them."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Give the text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True)
class PublicKey:
    """A key that checks notes: `name+id+base64`, a *vkey*.

    Attributes:
        name: The origin it signs for.
        raw: 32 bytes.
    """

    name: str
    raw: bytes

    @classmethod
    def parse(cls, vkey: str) -> "PublicKey":
        """Read a vkey.

        Raises:
            ValueError: It is none of Ed25519, or its id is not that of its key.
        """
        name, _, rest = vkey.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        try:
            raw = base64.b64decode(encoded, validate=True)
        except ValueError:  # binascii.Error, or not ASCII at all
            raw = b""
        key = cls(name, raw[1:])
        plain = name and not any(mark.isspace() or mark < "!" for mark in name)
        if not plain or raw[:1] != _ED25519 or len(raw) != HASH_BYTES + 1 or key.id != key_id:
            msg = "This is no public key: one is written NAME+ID+KEY, as `expunge keys show` does."
            raise ValueError(msg)
        return key

    @property
    def id(self) -> str:
        """The four bytes that a signature names its key by, in hex."""
        whole = self.name.encode() + b"\n" + _ED25519 + self.raw
        return hashlib.sha256(whole).digest()[:_ID_BYTES].hex()

    def __str__(self) -> str:
        """Write it as a vkey."""
        return f"{self.name}+{self.id}+{base64.b64encode(_ED25519 + self.raw).decode()}"

    def signed(self, text: str, signature: bytes) -> bool:
        """Say whether a signature is this key's."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, text.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


class Signer:
    """A key that signs notes for one origin.

    Args:
        origin: Which log.
        seed: 32 bytes; the private key.
    """

    def __init__(self, origin: str, seed: bytes) -> None:
        """Derive the public key."""
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = PublicKey(origin, self._private.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        """Show nothing of the key."""
        return f"Signer({self.public.id})"

    def line(self, text: str) -> str:
        """Give the line that signs a text."""
        signature = bytes.fromhex(self.public.id) + self._private.sign(text.encode())
        return f"{_DASH}{self.public.name} {base64.b64encode(signature).decode()}\n"


def sign_checkpoint(checkpoint: Checkpoint, signers: Sequence[Signer]) -> str:
    """Write a checkpoint as a note with a signature by each of the keys."""
    text = checkpoint.text()
    return text + "\n" + "".join(signer.line(text) for signer in signers)


def open_checkpoint(note: str, keys: Iterable[PublicKey]) -> Checkpoint:
    """Read a checkpoint that one of the keys signed.

    Args:
        note: The whole note.
        keys: Those that are trusted. Signatures by others are passed over.

    Raises:
        ValueError: It is no such note, none of the keys signed it, or a signature that names one
            of them is not by it. The message says which.
    """
    text, checkpoint, signatures = _split(note)
    by_id = {(key.name, key.id): key for key in keys if key.name == checkpoint.origin}
    good: set[str] = set()
    for name, signature in signatures:
        key = by_id.get((name, signature[:_ID_BYTES].hex()))
        if key is None:
            continue
        if key.id in good or not key.signed(text, signature[_ID_BYTES:]):
            msg = f"The signature by key {key.id} is wrong."
            raise ValueError(msg)
        good.add(key.id)
    if not good:
        msg = "None of the trusted keys signed it."
        raise ValueError(msg)
    return checkpoint


def is_checkpoint(note: str) -> bool:
    """Say whether a text has the form of a signed checkpoint, by whomever."""
    try:
        _split(note)
    except ValueError:
        return False
    return True


def _split(note: str) -> tuple[str, Checkpoint, list[tuple[str, bytes]]]:
    text, mark, tail = note.rpartition("\n\n")
    lines = tail.split("\n")
    if not mark or lines.pop() or not 0 < len(lines) <= _MOST_SIGNATURES:
        msg = "It is no signed note: a text, an empty line, and up to 16 signatures."
        raise ValueError(msg)
    if any(sign < " " and sign != "\n" for sign in note):
        msg = "It is no signed note: there are control characters in it."
        raise ValueError(msg)
    text += "\n"
    return text, _parse(text), [_signature(line) for line in lines]


def _parse(text: str) -> Checkpoint:
    origin, size, root, *more = [*text.split("\n"), "", ""]
    if more != ["", "", ""] or not origin:
        msg = "It is no checkpoint: origin, size and root, a line each."
        raise ValueError(msg)
    try:
        checkpoint = Checkpoint(origin, int(size), base64.b64decode(root, validate=True))
    except (ValueError, binascii.Error):
        checkpoint = Checkpoint(origin, -1, b"")
    # Written in another way, the same numbers would be another text.
    canonical = checkpoint.text() == text and len(checkpoint.root) == HASH_BYTES
    if not canonical or not 0 <= checkpoint.size < _MOST_LEAVES:
        msg = "It is no checkpoint: its size or its root is not written as one."
        raise ValueError(msg)
    return checkpoint


def _signature(line: str) -> tuple[str, bytes]:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        raw = b""
    if not line.startswith(_DASH) or not name or len(raw) < _ID_BYTES + 1:
        msg = "It is no signed note: a signature's line is broken."
        raise ValueError(msg)
    return name, raw
