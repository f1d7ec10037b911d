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
        self._subjects = {0: keys.pseudonym, **keys.subjects}

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

    def idempotency(self, project: str, key: str) -> str:
        """Keyed pseudonym of a project's idempotency key, as the request's row has it."""
        return self.reference("idempotency", project, key)

    @property
    def fingerprint(self) -> str:
        """Which order and pseudonym keys these are: 64 hex digits that tell nothing of them."""
        message = framed("expunge/keys/v1", self._pseudonym)
        return hmac.digest(self._order, message, "sha256").hex()

    @property
    def epoch(self) -> int:
        """The newest epoch whose key is there; `ledger.in_force` says whether it is in force."""
        return max(self._subjects)

    @property
    def epochs(self) -> list[int]:
        """The epochs whose keys are there, the newest first."""
        return sorted(self._subjects, reverse=True)

    def subject(self, epoch: int, project: str, kind: str, subject: str) -> str:
        """Keyed pseudonym of a user or agent: 64 hex digits.

        Args:
            epoch: One of `epochs`.
            project: Each has a key of its own, made of the epoch's.
            kind: Of a request; a batch's `memories` are of a user.
            subject: The id.
        """
        message = framed("expunge/subject/v2", _about(kind), project.encode(), subject.encode())
        return hmac.digest(self._of_project(epoch, project), message, "sha256").hex()

    def salt(self, epoch: int, project: str, request_id: str) -> bytes:
        """Give a request's salt; nobody can tell it once the epoch's key is destroyed."""
        message = framed("expunge/salt/v1", request_id.encode())
        return hmac.digest(self._of_project(epoch, project), message, "sha256")

    def _of_project(self, epoch: int, project: str) -> bytes:
        message = framed("expunge/project/v1", project.encode())
        return hmac.digest(self._subjects[epoch], message, "sha256")

    def _mac(self, domain: str, values: HeaderFields | ChunkFields) -> bytes:
        parts = [_encoded(value) for value in _COVERED[type(values)](values)]
        return hmac.digest(self._order, framed(domain, *parts), "sha256")


def same(one: bytes | None, other: bytes | None) -> bool:
    """Compare two MACs in constant time; a missing one equals nothing."""
    return one is not None and other is not None and hmac.compare_digest(one, other)


def chained(chain: bytes, mac: bytes) -> bytes:
    """Take one more chunk's MAC into the chain; the empty chain is b""."""
    return hashlib.sha256(chain + mac).digest()


def _about(kind: str) -> bytes:
    return b"agent" if kind == "agent" else b"user"


def _encoded(value: str | int | bytes | None) -> bytes:
    # The first byte tells the types apart: no text can pass for a number or for "nothing".
    if isinstance(value, str):
        return b"s" + value.encode()
    if value is None:
        return b"-"
    if isinstance(value, bytes):
        return b"b" + value
    return b"i%d" % value
