"""MACs over what was ordered, checked before a call leaves, and keyed references to names.

A MAC covers every field that decides what is deleted. Its key is not in the database, so whoever
can write rows still cannot make a worker delete anything that was not ordered.
"""

import hashlib
import hmac
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Final

from ledger.canonical import framed
from ledger.keys import Keys

__all__ = ["ChunkFields", "HeaderFields", "Macs", "chained", "same"]


@dataclass(frozen=True, kw_only=True, repr=False)
class HeaderFields:
    """The fields of a request row that its header MAC covers."""

    id: str
    project: str
    account: str
    kind: str
    lane: str
    verify: str
    subject: str | None
    reason: str | None
    principal: str
    idempotency_ref: str | None
    chunk_size: int
    created_at: int
    submitted_at: int
    due_at: int | None
    not_before: int | None
    salt: bytes
    include_later: int = 0


@dataclass(frozen=True, kw_only=True, repr=False)
class ChunkFields:
    """The fields of a chunk row that its MAC covers; `ids` is the stored JSON text."""

    request_id: str
    project: str
    kind: str
    generation: int
    no: int
    parent: int | None
    first: int
    places: str | None
    ids: str


_COVERED: Final = {
    made: attrgetter(*(field.name for field in fields(made) if field.name != "include_later"))
    for made in (HeaderFields, ChunkFields)
}


class Macs:
    """Makes and checks MACs and references with the keys of this installation."""

    def __init__(self, keys: Keys) -> None:
        """Keep the keys; they are never given out again."""
        self._order = keys.order
        self._pseudonym = keys.pseudonym

    def header(self, header: HeaderFields) -> bytes:
        """MAC over the request's own fields.

        One that includes what came later has a MAC of its own kind, so that those made before there
        was such a choice still hold.
        """
        version = "v2" if header.include_later else "v1"
        return self._mac(f"expunge/header/{version}", header)

    def chunk(self, chunk: ChunkFields) -> bytes:
        """MAC over what one call will carry."""
        return self._mac("expunge/chunk/v1", chunk)

    def closing(self, request_id: str, chunks: int, chain: bytes) -> bytes:
        """MAC over the number of submitted chunks and the chain of their MACs."""
        message = framed("expunge/closing/v1", request_id.encode(), str(chunks).encode(), chain)
        return hmac.digest(self._order, message, "sha256")

    def reference(self, domain: str, *parts: str) -> str:
        """Keyed pseudonym of a name: 64 hex digits, the same for the same parts."""
        message = framed(f"expunge/{domain}/v1", *(part.encode() for part in parts))
        return hmac.digest(self._pseudonym, message, "sha256").hex()

    def _mac(self, domain: str, values: HeaderFields | ChunkFields) -> bytes:
        parts = [_encoded(value) for value in _COVERED[type(values)](values)]
        return hmac.digest(self._order, framed(domain, *parts), "sha256")


def same(one: bytes | None, other: bytes | None) -> bool:
    """Compare two MACs in constant time; a missing one equals nothing."""
    return one is not None and other is not None and hmac.compare_digest(one, other)


def chained(chain: bytes, mac: bytes) -> bytes:
    """Take one more chunk's MAC into the chain; the empty chain is b""."""
    return hashlib.sha256(chain + mac).digest()


def _encoded(value: str | int | bytes | None) -> bytes:
    # The first byte tells the types apart: no text can pass for a number or for "nothing".
    if isinstance(value, str):
        return b"s" + value.encode()
    if value is None:
        return b"-"
    if isinstance(value, bytes):
        return b"b" + value
    return b"i%d" % value
