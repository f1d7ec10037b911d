"""A root over a request's ids that shows none of them, and that who has the list can make anew.

Each id is a leaf behind a salt of its own, so that nobody can try ids out. The leaves of each
submitted chunk make a tree after RFC 6962, and the chunks' roots are the leaves of the request's.
"""

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from ledger.audit.merkle import EMPTY_ROOT, Frontier, leaf_hash
from ledger.canonical import framed

__all__ = [
    "ItemsRoot",
    "chunk_root",
    "list_root",
    "opening_digest",
    "subject_binding",
    "subject_nonce",
]

_ITEM: Final = b"expunge/item/v1\n"
_BLOCK: Final = 64
_IPAD: Final = bytes(byte ^ 0x36 for byte in range(256))
_OPAD: Final = bytes(byte ^ 0x5C for byte in range(256))
_sha256 = hashlib.sha256


def chunk_root(salt: bytes, first: int, ids: Iterable[str]) -> bytes:
    """Give the root over one submitted chunk.

    Args:
        salt: The request's.
        first: Place of the first id among the request's unique ids; the others follow it.
        ids: In their order.
    """
    # Level by level, an odd one carried up as it is: the same tree as `root_of`, in half the time.
    level = list(_leaves(salt, first, ids))
    while len(level) > 1:
        last = level[-1:] if len(level) % 2 else []
        each = iter(level)
        pairs = zip(each, each, strict=False)
        level = [_sha256(b"\x01" + left + right).digest() for left, right in pairs] + last
    return level[0] if level else EMPTY_ROOT


class ItemsRoot:
    """The root over all ids of a request, chunk by chunk.

    Args:
        salt: The request's.

    Attributes:
        count: Ids taken in so far.
    """

    def __init__(self, salt: bytes) -> None:
        """Start with no id."""
        self.count = 0
        self._salt = salt
        self._chunks = Frontier()

    def add(self, ids: Sequence[str]) -> None:
        """Take in the next chunk as it was handed in."""
        self._chunks.append(leaf_hash(chunk_root(self._salt, self.count, ids)))
        self.count += len(ids)

    def root(self) -> bytes:
        """Give the root over what was taken in."""
        return self._chunks.root()


def list_root(salt: bytes, ids: Iterable[str], chunk_size: int) -> tuple[bytes, int]:
    """Give the root over a whole list, and how many ids it has; for whoever still has it.

    Args:
        salt: The request's.
        ids: Unique, in the order they were handed in.
        chunk_size: As the request has it.
    """
    items = ItemsRoot(salt)
    source = iter(ids)
    while some := list(islice(source, chunk_size)):
        items.add(some)
    return items.root(), items.count


def opening_digest(salt: bytes) -> bytes:
    """Hash a request's salt, so that a wrong one shows by itself."""
    return hashlib.sha256(framed("expunge/opening/v1", salt)).digest()


def subject_nonce(salt: bytes) -> bytes:
    """Give what opens a request's subject, and nothing else of it."""
    return hmac.digest(salt, b"expunge/subject-nonce/v1", "sha256")


def subject_binding(nonce: bytes, project: str, kind: str, subject: str) -> bytes:
    """Commit to whom a request was about: shows nothing without the nonce."""
    parts = (nonce, project.encode(), b"agent" if kind == "agent" else b"user", subject.encode())
    return hashlib.sha256(framed("expunge/certificate-subject/v1", *parts)).digest()


def _leaves(salt: bytes, first: int, ids: Iterable[str]) -> Iterator[bytes]:
    # HMAC with one key, a hundred times a call: its two padded keys are hashed once (RFC 2104)
    # and copied, which takes a third of `hmac.digest`. A salt is shorter than a block.
    key = salt.ljust(_BLOCK, b"\0")
    inside, outside = _sha256(key.translate(_IPAD)), _sha256(key.translate(_OPAD))
    prefix = b"\x00" + _ITEM
    for place, item in enumerate(ids, first):
        inner, outer = inside.copy(), outside.copy()
        inner.update(place.to_bytes(8, "big"))
        outer.update(inner.digest())
        yield _sha256(prefix + outer.digest() + item.encode()).digest()
