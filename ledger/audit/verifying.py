"""Finds out whether anybody changed the record: derives everything anew from the rows.

One pass over the leaves: each event's bytes are hashed again, compared with every place that says
what their hash is, and put into a tree whose root has to be that of each checkpoint at its size.
All checkpoints so are of one and the same growing tree. What was published outside the database,
and copies of checkpoints that others kept, are held against the same tree. Rows of requests are
held against what the events say of them.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, func, select, text, tuple_

from ledger.audit.faults import Kind, Verdict
from ledger.audit.merkle import Frontier
from ledger.audit.notes import Checkpoint, PublicKey, open_checkpoint
from ledger.audit.pruned import pruned_below
from ledger.audit.requests import ABOUT, RequestRows
from ledger.audit.stored import count_leaves
from ledger.blobs import raw
from ledger.canonical import is_canonical
from ledger.event_types import BASE_FIELDS, SCHEMAS, fault_of
from ledger.events import leaf_hash
from ledger.schema import checkpoint, origin, subtree

__all__ = ["leaf_rows", "verify"]

_BATCH: Final = 5_000
# Roots of full subtrees that are looked up together.
_ROOTS: Final = 64
_decode: Final = json.JSONDecoder().raw_decode
_KNOWN: Final = {
    (kind.value, schema.version): schema
    for kind, versions in SCHEMAS.items()
    for schema in versions
}
_LEAVES: Final = text(
    "SELECT l.idx, l.event, l.hash, e.type, e.request, e.leaf_hash, b.payload, b.salt"
    " FROM leaf l LEFT JOIN event e ON e.id = l.event LEFT JOIN event_body b ON b.event = l.event"
    " WHERE l.idx >= :first AND l.idx < :end ORDER BY l.idx"
)
# PostgreSQL would read all events for each range, which took half a verification of 300,000. The
# inner LIMITs leave it nothing but to look each event up.
_LEAVES_POSTGRES: Final = text(
    "SELECT l.idx, l.event, l.hash, e.type, e.request, e.leaf_hash, b.payload, b.salt FROM leaf l"
    " LEFT JOIN LATERAL (SELECT * FROM event WHERE id = l.event LIMIT 1) e ON true"
    " LEFT JOIN LATERAL (SELECT * FROM event_body WHERE event = l.event LIMIT 1) b ON true"
    " WHERE l.idx >= :first AND l.idx < :end ORDER BY l.idx"
)
_STRAY: Final = text(
    "SELECT e.id FROM event e"
    " WHERE NOT EXISTS (SELECT 1 FROM leaf l WHERE l.event = e.id)"
    " AND NOT EXISTS (SELECT 1 FROM unsealed u WHERE u.event = e.id) ORDER BY e.id LIMIT 20"
)
_WAITING: Final = text(
    "SELECT u.event, e.type, e.leaf_hash, b.payload, b.salt FROM unsealed u"
    " LEFT JOIN leaf l ON l.event = u.event LEFT JOIN event e ON e.id = u.event"
    " LEFT JOIN event_body b ON b.event = u.event WHERE l.idx IS NULL ORDER BY u.seq"
)


def verify(
    conn: Connection,
    *,
    keys: Sequence[PublicKey],
    published: str | None = None,
    kept: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Verdict:
    """Verify a whole log.

    Args:
        conn: A transaction that only reads. What is sealed while it runs is left for the next one.
        keys: Public keys that are trusted; they must come from outside of the ledger.
        published: The note of the last published checkpoint, None when it is not at hand.
        kept: Notes of checkpoints that others kept.
        progress: Is told how many of how many leaves are done.

    Returns:
        The verdict; faults of the database itself are raised.

    Raises:
        LedgerError: The database did not answer.
    """
    return _Verification(conn, keys, progress).run(published, kept)


def leaf_rows(conn: Connection, leaves: int) -> Iterator[Row[*tuple[Any, ...]]]:
    """Give the rows of all leaves below a number, with event and body where these are there."""
    query = _LEAVES if conn.dialect.name == "sqlite" else _LEAVES_POSTGRES
    for first in range(0, leaves, _BATCH):
        end = min(first + _BATCH, leaves)
        yield from conn.execute(query, {"first": first, "end": end}).all()


class _Verification:
    def __init__(
        self,
        conn: Connection,
        keys: Sequence[PublicKey],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._conn = conn
        self._keys = keys
        self._progress = progress
        self._verdict = Verdict()
        self._requests = RequestRows(conn, self._verdict)
        # Roots that have to come out at a size, what it is when one does not, and whose they are.
        self._due: dict[int, list[tuple[bytes, Kind, str]]] = {}
        # The largest size whose root came out.
        self._good = 0
        self._told: set[Kind] = set()

    def run(self, published: str | None, kept: Sequence[str]) -> Verdict:
        self._leaves = count_leaves(self._conn)
        self._below = pruned_below(self._conn, self._verdict)
        self._read_checkpoints()
        self._read_outside(published, kept)
        self._walk()
        self._look_at_waiting()
        self._requests.close()
        return self._verdict

    # -- checkpoints ------------------------------------------------------------------------------

    def _read_checkpoints(self) -> None:
        origins = self._conn.execute(select(origin).order_by(origin.c.no)).all()
        opened = {one.name: one for one in origins}
        self._origin = origins[-1].name if origins else None
        self._last = 0
        number, place = 0, -1
        for row in self._conn.execute(select(checkpoint).order_by(checkpoint.c.no)):
            self._verdict.checkpoints += 1
            number += 1
            if row.no != number:
                says = f"Checkpoint {number} is missing: the next one is {row.no}."
                self._verdict.add(Kind.CHECKPOINT_MISSING, says, index=self._last)
                number = row.no
            signed = self._opened(row.note, f"Checkpoint {row.no}")
            if signed is None:
                continue
            if (row.origin, row.size, raw(row.root)) != (
                signed.origin,
                signed.size,
                signed.root,
            ):
                says = f"Checkpoint {row.no} was edited: its columns say other than what is signed."
                self._verdict.add(Kind.CHECKPOINT_EDITED, says)
            first = opened.get(signed.origin)
            if first is None or first.no < place or signed.size <= self._last:
                says = f"Checkpoint {row.no} does not follow on the one before it."
                self._verdict.add(Kind.ORIGIN_DIFFERS, says)
            else:
                place = first.no
            self._expect(signed, Kind.ROOT_DIFFERS, f"checkpoint {row.no}")
            self._last = max(self._last, signed.size)

    def _opened(self, note: str, what: str) -> Checkpoint | None:
        try:
            return open_checkpoint(note, self._keys)
        except ValueError as error:
            self._verdict.add(Kind.CHECKPOINT_UNTRUSTED, f"{what} is not to be trusted: {error}")
            return None

    def _read_outside(self, published: str | None, kept: Sequence[str]) -> None:
        names = {row.name for row in self._conn.execute(select(origin.c.name))}
        notes = [] if published is None else [(published, "the published checkpoint")]
        notes += [(note, f"the kept checkpoint {n}") for n, note in enumerate(kept, 1)]
        for note, what in notes:
            signed = self._opened(note, what.capitalize())
            if signed is None:
                continue
            if signed.origin not in names:
                says = f"{what.capitalize()} is of another log, {signed.origin}."
                self._verdict.add(Kind.ORIGIN_DIFFERS, says)
            elif signed.size > self._leaves:
                says = (
                    f"The log was cut or rolled back: it has {self._leaves} leaves, and {what} "
                    f"says {signed.size}."
                )
                self._verdict.add(Kind.ROLLED_BACK, says, index=self._leaves)
            else:
                self._expect(signed, Kind.FORKED, what)
                if what == "the published checkpoint" and signed.size > self._last:
                    says = f"The checkpoint of {signed.size} leaves is published, not recorded."
                    self._verdict.add(Kind.CHECKPOINT_MISSING, says, index=self._last)

    def _expect(self, signed: Checkpoint, kind: Kind, what: str) -> None:
        if signed.size <= self._leaves:
            self._due.setdefault(signed.size, []).append((signed.root, kind, what))
        elif kind is Kind.ROOT_DIFFERS:
            says = f"The log was cut: it has {self._leaves} leaves, and {what} says {signed.size}."
            self._verdict.add(Kind.ROLLED_BACK, says, index=self._leaves)

    # -- leaves -----------------------------------------------------------------------------------

    def _walk(self) -> None:
        frontier = Frontier()
        self._settle(frontier)
        add = self._verdict.add
        append, made = frontier.append, frontier.made
        for row in leaf_rows(self._conn, self._leaves):
            idx, event_id, digest, kind, request_id, stored, payload, salt = row
            while frontier.size < idx:
                add(Kind.LEAF_MISSING, f"Leaf {frontier.size} is missing.", index=frontier.size)
                append(b"\x00" * 32)
                self._settle(frontier)
            # Nearly all are as they were recorded, so that is looked for first.
            if (
                type(payload) is type(salt) is type(digest) is bytes
                and digest == stored
                and leaf_hash(payload, salt) == digest
            ):
                self._check_payload(idx, payload, (event_id, kind, request_id))
            else:
                self._tell_of_leaf(row)
            if self._requests.full:
                self._requests.compare()
            append(raw(digest))
            due = frontier.size in self._due
            if len(made) >= _ROOTS or (made and due):
                self._check_subtrees(made)
                if self._progress is not None:
                    self._progress(frontier.size, self._leaves)
            if due:
                self._settle(frontier)
        self._check_subtrees(made)
        self._verdict.leaves = frontier.size
        self._verdict.signed = min(self._last, frontier.size)
        self._check_extra_subtrees(frontier.size)

    def _settle(self, frontier: Frontier) -> None:
        size = frontier.size
        for root, kind, what in self._due.pop(size, ()):
            if frontier.root() == root:
                self._good = size
            elif kind not in self._told:
                # All later roots differ as well.
                self._told.add(kind)
                bad = self._verdict.first_bad
                index = self._good if bad is None or bad >= size else bad
                says = _root_fault(kind, what, index, size)
                self._verdict.add(kind, says, index=index, end=size)

    def _tell_of_leaf(self, row: Row[Any]) -> None:
        """Say what is wrong with a leaf, if anything is."""
        idx, digest = row.idx, raw(row.hash)
        if row.leaf_hash is None:
            says = f"The event of leaf {idx} is missing."
            self._verdict.add(Kind.EVENT_MISSING, says, index=idx)
            return
        if raw(row.leaf_hash) != digest:
            says = f"Leaf {idx} and its event {row.event} have different hashes."
            self._verdict.add(Kind.LEAF_DIFFERS, says, index=idx)
        if row.payload is None:
            if idx < self._below:
                self._verdict.pruned += 1
                if row.type in ABOUT and type(row.request) is str:
                    self._requests.note_pruned(row.request)
            else:
                says = f"The body of leaf {idx} is missing, and no pruning of it is recorded."
                self._verdict.add(Kind.BODY_MISSING, says, index=idx)
        elif leaf_hash(raw(row.payload), raw(row.salt)) != digest:
            says = f"The body of leaf {idx} (event {row.event}) is not what was recorded."
            self._verdict.add(Kind.BODY_DIFFERS, says, index=idx)

    def _check_payload(self, idx: int, payload: bytes, columns: tuple[Any, Any, Any]) -> None:
        fault: str | None = "it is no JSON object of ours"
        try:
            fields, end = _decode(text_of := payload.decode())
            if end == len(text_of):
                said = fields["id"], fields["type"], fields["request"]
                if said != columns:
                    says = f"The event of leaf {idx} says other than its body (id, type, request)."
                    self._verdict.add(Kind.ROW_DIFFERS, says, index=idx)
                fault = _schema_fault(fields)
                if fault is None and not is_canonical(fields, payload):
                    fault = "it is not in its canonical form"
                if fault is None and fields["type"] in ABOUT:
                    self._requests.note(fields)
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        if fault is not None:
            says = f"Leaf {idx} is no event of this release: {fault}."
            self._verdict.add(Kind.SCHEMA_UNKNOWN, says, index=idx)

    # -- stored subtrees --------------------------------------------------------------------------

    def _check_subtrees(self, made: list[tuple[int, int, bytes]]) -> None:
        """Compare roots with those that are stored, and forget them."""
        at = [(level, idx) for level, idx, _ in made]
        query = select(subtree).where(tuple_(subtree.c.level, subtree.c.idx).in_(at))
        stored = {(row.level, row.idx): raw(row.hash) for row in self._conn.execute(query)}
        for level, idx, digest in made:
            found = stored.get((level, idx))
            if found != digest:
                first, end = idx << 8 * level, idx + 1 << 8 * level
                what = "is missing" if found is None else "is not that of their hashes"
                says = f"The stored root of leaves {first} to {end - 1} {what}."
                self._verdict.add(Kind.SUBTREE_DIFFERS, says, index=first, end=end)
        made.clear()

    def _check_extra_subtrees(self, size: int) -> None:
        counted = select(subtree.c.level, func.count()).group_by(subtree.c.level)
        for level, count in self._conn.execute(counted):
            if type(level) is not int or count > size >> 8 * level:
                says = f"There are more stored roots at level {level} than leaves make full."
                self._verdict.add(Kind.SUBTREE_DIFFERS, says)

    # -- what is around the tree ------------------------------------------------------------------

    def _look_at_waiting(self) -> None:
        for row in self._conn.execute(_WAITING):
            self._verdict.waiting += 1
            whole = row.payload is not None and row.leaf_hash is not None
            if not whole or leaf_hash(raw(row.payload), raw(row.salt)) != raw(row.leaf_hash):
                says = f"Event {row.event}, which waits to be sealed, is not what was recorded."
                self._verdict.add(Kind.NOT_SEALED, says)
            elif row.type in ABOUT:
                self._note_waiting(raw(row.payload))
        for row in self._conn.execute(_STRAY):
            says = f"Event {row.id} is in no leaf and does not wait for one either."
            self._verdict.add(Kind.NOT_SEALED, says)

    def _note_waiting(self, payload: bytes) -> None:
        try:
            fields = json.loads(payload)
            known = _schema_fault(fields) is None and fields["type"] in ABOUT
        except (ValueError, KeyError, TypeError, RecursionError):
            return  # once it is sealed the walk says so
        if known:
            self._requests.note(fields)
            if self._requests.full:
                self._requests.compare()


def _root_fault(kind: Kind, what: str, index: int, size: int) -> str:
    if kind is Kind.FORKED:
        return (
            f"The log was forked or written anew: its first {size} leaves are not those that "
            f"{what} was signed over."
        )
    return (
        f"The root of the first {size} leaves is not that of {what}: one of {index} to {size - 1} "
        "was changed, or stands in another place."
    )


def _schema_fault(fields: dict[str, Any]) -> str | None:
    schema = _KNOWN.get((fields["type"], fields["v"]))
    if schema is None:
        return "its type or version is not known"
    own = {name: value for name, value in fields.items() if name not in BASE_FIELDS}
    return fault_of(schema, own)
