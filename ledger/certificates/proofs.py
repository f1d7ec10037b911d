"""C2SP's tlog-proof: that something is in a log, as one text that verifies offline.

c2sp.org/tlog-proof@v1
index 73894
gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
…

expunge/6f0c2d1e9a7b4c35
109482
…
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ledger.audit.merkle import HASH_BYTES

__all__ = ["Proof", "parse_proof", "write_proof"]

_FIRST: Final = "c2sp.org/tlog-proof@v1"
_INDEX: Final = "index "
_MOST_HASHES: Final = 63


@dataclass(frozen=True)
class Proof:
    """An entry's index, the path from its hash to the root, and the checkpoint as it was signed."""

    index: int
    path: tuple[bytes, ...]
    checkpoint: str


def write_proof(index: int, path: Sequence[bytes], checkpoint: str) -> str:
    """Write a proof.

    Args:
        index: Of the entry.
        path: Hashes from the leaf's sibling to the root's child.
        checkpoint: A signed note.
    """
    hashes = [base64.b64encode(one).decode() for one in path]
    return "\n".join([_FIRST, f"{_INDEX}{index}", *hashes, "", checkpoint])


def parse_proof(text: str) -> Proof:
    """Read a proof; only as it would be written is it one.

    Raises:
        ValueError: It is none, or has extra data, which nobody vouches for. The message says what.
    """
    head, mark, checkpoint = text.partition("\n\n")
    first, *lines = head.split("\n")
    if first != _FIRST or not mark:
        msg = f"it does not begin with {_FIRST}"
        raise ValueError(msg)
    if not lines or not lines[0].startswith(_INDEX):
        msg = "its second line is no index"
        raise ValueError(msg)
    number, hashes = lines[0].removeprefix(_INDEX), lines[1:]
    if not (number.isascii() and number.isdigit()) or len(number) > len(str(2**63)):
        msg = "its index is no number"
        raise ValueError(msg)
    try:
        path = [base64.b64decode(one, validate=True) for one in hashes]
    except (ValueError, binascii.Error):
        path = [b""]
    if len(path) > _MOST_HASHES or any(len(one) != HASH_BYTES for one in path):
        msg = "one of its hashes is none"
        raise ValueError(msg)
    proof = Proof(int(number), tuple(path), checkpoint)
    if write_proof(*vars(proof).values()) != text:
        msg = "it is not written as one"
        raise ValueError(msg)
    return proof
