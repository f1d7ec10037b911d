"""The sealer: gives events their places in the log, and signs what came of it.

An event's index is given here and not when it is recorded, so that what commits late is sealed like
the rest. One round: take what waits, hash it again from the bytes as stored, commit the leaves;
then read the tree's root back, sign it, publish it outside the database, and at last note it in the
ledger. Signing comes after the commit and publishing right after signing, so that a crash anywhere
leaves no size with two signed roots.

Two sealers: those of one ledger meet at its lease, those of one directory at its lock.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, text

from ledger.audit.merkle import Frontier
from ledger.audit.notes import Checkpoint, open_checkpoint, sign_checkpoint
from ledger.audit.opening import open_first
from ledger.audit.published import Published
from ledger.audit.signing import SigningKeys, put_in_force
from ledger.audit.state import LogState, opened_note, read_state, require_current
from ledger.audit.stored import StoredTree, count_leaves, insert_rows
from ledger.blobs import raw
from ledger.clock import wall_us
from ledger.commits import leave_witness
from ledger.crash_points import reached
from ledger.engine import Database
from ledger.errors import AuditError, StaleLeaseError
from ledger.events import leaf_hash
from ledger.leases import hold_lease, hold_lease_in, release_lease
from ledger.schema import checkpoint, leaf, unsealed

__all__ = ["LEASE", "Sealed", "Sealer", "is_event_whole"]

LEASE: Final = "seal"
_LEASE_S: Final = 10.0
# Some 10 ms of SQLite's writer; on PostgreSQL nobody waits for it.
_BATCH_SQLITE: Final = 1_000
_BATCH: Final = 5_000
# A checkpoint at least this often while much comes in.
_ROUND_S: Final = 1.0

_WAITING: Final = text(
    "SELECT u.seq, u.event, l.idx, e.id, e.type, e.request, e.leaf_hash, b.payload, b.salt"
    " FROM unsealed u LEFT JOIN leaf l ON l.event = u.event LEFT JOIN event e ON e.id = u.event"
    " LEFT JOIN event_body b ON b.event = u.event"
    " WHERE u.seq > :after ORDER BY u.seq LIMIT :most"
)


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """What a round came to.

    Attributes:
        events: How many were sealed.
        size: Leaves of the log afterwards.
        damaged: Ids of events that wait and are not what was recorded; they are never sealed.
        more: Some wait still; come again at once.
    """

    events: int
    size: int
    damaged: tuple[str, ...] = ()
    more: bool = False


class Sealer:
    """Seals one ledger; the only one that needs the signing key.

    Args:
        database: Where the ledger is.
        keys_dir: Directory of the signing key; read anew each round.
        published: Where checkpoints are published.
        owner: This process's name, for the lease.
        adopt: Take the ledger's last checkpoint for the published one when that file is missing.
    """

    def __init__(
        self,
        database: Database,
        *,
        keys_dir: Path,
        published: Published,
        owner: str,
        adopt: bool = False,
    ) -> None:
        """Read nothing yet."""
        self._database = database
        self._keys_dir = keys_dir
        self._published = published
        self._owner = owner
        self._adopt = adopt

    def round(self) -> Sealed | None:
        """Seal what waits, for about a second at most, and sign a checkpoint over it.

        Returns:
            None while another sealer is at work.

        Raises:
            RolledBackError: The ledger is older than what was published; nothing was changed.
            AuditError: What is stored is not what was signed, or files cannot be used.
            StaleLeaseError: Another sealer took over meanwhile; nothing is lost.
            KeysError: There is no signing key.
            LedgerError: The ledger did not confirm; the next round goes on.
        """
        with self._published.locked() as mine:
            held = mine and hold_lease(self._database, LEASE, owner=self._owner, seconds=_LEASE_S)
            return self._round(SigningKeys.load(self._keys_dir)) if held else None

    def close(self) -> None:
        """Let the next sealer begin at once."""
        release_lease(self._database, LEASE, owner=self._owner)

    # -- one round --------------------------------------------------------------------------------

    def _round(self, keys: SigningKeys) -> Sealed:
        self._check(self._opened(keys), keys)
        state = self._database.read(read_state)
        keys = self._finished_rotation(state, keys)
        frontier = self._database.read(lambda conn: StoredTree(conn).frontier(state.leaves))
        until = time.monotonic() + _ROUND_S
        damaged: list[str] = []
        after, more = -1, True
        while more and time.monotonic() < until:
            after, more = self._take(frontier, after, damaged)
        if frontier.size > max(state.last_size, state.opened_size):
            self._sign(frontier, keys)
        return Sealed(
            events=frontier.size - state.leaves,
            size=frontier.size,
            damaged=tuple(damaged),
            more=more,
        )

    def _opened(self, keys: SigningKeys) -> LogState:
        state = self._database.read(read_state)
        if state.origin is not None:
            return state
        note = self._published.checkpoint()
        if note is not None:
            of = opened_note(note, self._trusted(keys, None), whose="The published checkpoint")
            self._database.read(lambda conn: require_current(conn, state, of))
        self._database.write(lambda conn: open_first(conn, keys))
        return self._database.read(read_state)

    def _trusted(self, keys: SigningKeys, origin: str | None) -> list[Any]:
        known = self._published.keys()
        return known if origin is None else [*known, *(s.public for s in keys.signers(origin))]

    def _check(self, state: LogState, keys: SigningKeys) -> None:
        """Make sure that the ledger goes on from what was published, and mend what a crash left."""
        trusted = self._trusted(keys, state.origin)
        note = self._published.checkpoint()
        if note is None:
            if state.last is None:
                return
            if not self._adopt:
                msg = (
                    f"The last checkpoint is missing in {self._published.folder}, so nobody can "
                    "tell whether this ledger is the newest. Put the directory back; or, when you "
                    "know that the ledger is, run `expunge seal --adopt` once."
                )
                raise AuditError(msg)
            note = state.last
            of = opened_note(note, trusted, whose="The ledger's last checkpoint")
            self._database.read(lambda conn: require_current(conn, state, of))
            self._published.publish(note)
            return
        of = opened_note(note, trusted, whose="The published checkpoint")
        self._database.read(lambda conn: require_current(conn, state, of))
        if state.last is not None and state.last_size > of.size:
            newer = opened_note(state.last, trusted, whose="The ledger's last checkpoint")
            self._database.read(lambda conn: require_current(conn, state, newer))
            self._published.publish(state.last)
        elif state.last_size < of.size:
            published = note
            self._database.write(lambda conn: self._note(conn, of, published))

    def _finished_rotation(self, state: LogState, keys: SigningKeys) -> SigningKeys:
        """Let a key that has signed already take the old one's place: a crash kept it from it."""
        if keys.following is None or state.last is None:
            return keys
        following = keys.signers(state.last.partition("\n")[0])[1].public
        try:
            open_checkpoint(state.last, [following])
        except ValueError:
            return keys
        put_in_force(self._keys_dir)
        return SigningKeys.load(self._keys_dir)

    # -- growing ----------------------------------------------------------------------------------

    def _take(self, frontier: Frontier, after: int, damaged: list[str]) -> tuple[int, bool]:
        """Seal one batch; gives the last place in the queue that was seen, and if more wait."""
        most = _BATCH_SQLITE if self._database.is_sqlite else _BATCH
        rows = self._database.read(
            lambda conn: conn.execute(_WAITING, {"after": after, "most": most}).all()
        )
        if not rows:
            return after, False
        known: dict[str, bytes] = {}
        done = []
        for row in rows:
            if row.idx is None and row.event not in known:
                if not is_event_whole(row):
                    damaged.append(row.event)
                    continue
                known[row.event] = raw(row.leaf_hash)
            done.append(row.seq)
        first = frontier.size
        leaves = []
        for place, (event_id, digest) in enumerate(known.items(), first):
            leaves.append((place, event_id, digest))
            frontier.append(digest)
        subtrees, frontier.made = frontier.made, []

        def work(conn: Connection) -> None:
            self._require_lease(conn)
            if count_leaves(conn) != first:
                msg = "Another sealer gave out places meanwhile; this one stops."
                raise StaleLeaseError(msg)
            if leaves:
                leave_witness(conn, {leaf.c.idx: leaves[0][0], leaf.c.event: leaves[0][1]})
            insert_rows(conn, "leaf", "idx, event, hash", leaves)
            insert_rows(conn, "subtree", "level, idx, hash", subtrees)
            _dequeue(conn, done)

        if done:
            self._database.write_bulk(work)
            reached("seal.after_leaves")
        return rows[-1].seq, len(rows) == most

    def _require_lease(self, conn: Connection) -> None:
        if not hold_lease_in(conn, self._database, LEASE, owner=self._owner, seconds=_LEASE_S):
            msg = "Another sealer holds the lease by now; this one stops."
            raise StaleLeaseError(msg)

    # -- signing ----------------------------------------------------------------------------------

    def _sign(self, frontier: Frontier, keys: SigningKeys) -> None:
        state = self._database.read(read_state)
        root = self._database.read(lambda conn: StoredTree(conn).root(0, frontier.size))
        if root != frontier.root() or state.leaves != frontier.size or state.origin is None:
            msg = (
                "The tree that was stored is not the one that was made; nothing is signed over "
                "it. `expunge audit verify` names the first bad index."
            )
            raise AuditError(msg)
        of = Checkpoint(state.origin, frontier.size, root)
        signers = keys.signers(of.origin)
        rotates = keys.following is not None and self._is_sealed(keys.event)
        for signer in signers if rotates else signers[:1]:
            self._published.add_key(signer.public)
        note = sign_checkpoint(of, signers if rotates else signers[:1])
        reached("seal.before_publish")
        self._published.publish(note)
        reached("seal.after_publish")
        self._database.write(lambda conn: self._note(conn, of, note))
        if rotates:
            reached("seal.before_new_key")
            put_in_force(self._keys_dir)

    def _note(self, conn: Connection, of: Checkpoint, note: str) -> None:
        self._require_lease(conn)
        leave_witness(conn, {checkpoint.c.origin: of.origin, checkpoint.c.size: of.size})
        conn.execute(
            insert(checkpoint).values(
                no=read_state(conn).number + 1,
                origin=of.origin,
                size=of.size,
                root=of.root,
                note=note,
                signed_at=wall_us(),
            )
        )

    def _is_sealed(self, event_id: str) -> bool:
        query = select(leaf.c.idx).where(leaf.c.event == event_id)
        return self._database.read(lambda conn: conn.execute(query).first()) is not None


def _dequeue(conn: Connection, places: list[int]) -> None:
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql("DELETE FROM unsealed WHERE seq = ANY(%s)", (places,))
        return
    gone = delete(unsealed).where(unsealed.c.seq.in_(bindparam("seqs", expanding=True)))
    conn.execute(gone, {"seqs": places})


def is_event_whole(row: Row[Any]) -> bool:
    """Say whether a stored event is what was recorded: its bytes give its hash.

    Args:
        row: With `leaf_hash`, `payload` and `salt`, each None when its row is missing.
    """
    if row.leaf_hash is None or row.payload is None:
        return False
    return leaf_hash(raw(row.payload), raw(row.salt)) == raw(row.leaf_hash)
