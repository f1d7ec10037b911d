"""A root over a request's ids that shows none of them, and that who has the list can make anew.

Each id is a leaf behind a salt of its own, so that nobody can try ids out. The leaves of each
submitted chunk make a tree after RFC 6962, and the chunks' roots are the leaves of the request's:
so each chunk's root is made when its call was answered, and the request's in no time at its end.
"""

import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from sqlalchemy import Connection, case, select

from ledger.audit.merkle import EMPTY_ROOT, leaf_hash, root_of
from ledger.canonical import framed
from ledger.macs import Macs, same
from ledger.schema import chunk

__all__ = [
    "chunk_root",
    "list_root",
    "opening_digest",
    "request_root",
    "stored_root",
    "subject_binding",
    "subject_nonce",
]

_ITEM: Final = b"expunge/item/v1\n"
_HASH: Final = 32
_BLOCK: Final = 64
_IPAD: Final = bytes(byte ^ 0x36 for byte in range(256))
_OPAD: Final = bytes(byte ^ 0x5C for byte in range(256))
_AT_ONCE: Final = 500
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


def list_root(salt: bytes, ids: Iterable[str], chunk_size: int) -> tuple[bytes, int]:
    """Give the root over a whole list, and how many ids it has; for whoever still has it.

    Args:
        salt: The request's.
        ids: Unique, in the order they were handed in.
        chunk_size: As the request has it.
    """
    count = 0

    def roots() -> Iterator[bytes]:
        nonlocal count
        source = iter(ids)
        while some := list(islice(source, chunk_size)):
            yield leaf_hash(chunk_root(salt, count, some))
            count += len(some)

    return root_of(roots()), count


def stored_root(macs: Macs, request_id: str, no: int, root: bytes) -> bytes:
    """Give what a chunk's row keeps: the root and a MAC, for the row may be changed."""
    return root + macs.items(request_id, no, root)


def request_root(conn: Connection, macs: Macs, request_id: str, salt: bytes) -> bytes:
    """Give the root over all ids of a request, from its chunks' roots where they are kept.

    Args:
        conn: A transaction.
        macs: Checks kept roots.
        request_id: A batch that was handed in whole.
        salt: Its salt.
    """
    return root_of(map(leaf_hash, _chunk_roots(conn, macs, request_id, salt)))


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


def _chunk_roots(conn: Connection, macs: Macs, request_id: str, salt: bytes) -> Iterator[bytes]:
    ids = case((chunk.c.items_root.is_(None), chunk.c.ids)).label("missing")
    after = -1
    while True:
        query = (
            select(chunk.c.no, chunk.c.first, chunk.c.items_root, ids)
            .where(chunk.c.request_id == request_id, chunk.c.parent.is_(None), chunk.c.no > after)
            .order_by(chunk.c.no)
            .limit(_AT_ONCE)
        )
        rows = conn.execute(query).all()
        for row in rows:
            after = row.no
            kept = b"" if row.items_root is None else bytes(row.items_root)
            root = kept[:_HASH]
            if not same(kept[_HASH:], macs.items(request_id, row.no, root)):
                # Divided, never sent, or changed by somebody: the ids are under the closing MAC.
                root = chunk_root(salt, row.first, _ids_of(conn, request_id, row.no, row.missing))
            yield root
        if len(rows) < _AT_ONCE:
            return


def _ids_of(conn: Connection, request_id: str, no: int, known: str | None) -> Sequence[str]:
    if known is None:
        query = select(chunk.c.ids).where(chunk.c.request_id == request_id, chunk.c.no == no)
        known = conn.execute(query).scalar_one()
    found: list[str] = json.loads(known)
    return found
