"""Rotation of the signing key: a recorded act, and a checkpoint that both keys sign.

Whoever trusts the old key finds the new one named in an event below a checkpoint that the old key
signed too. What the old key signed stays valid; its private half is gone afterwards.
"""

import secrets
from pathlib import Path

from sqlalchemy import select

from ledger.acting import check_act
from ledger.audit.notes import PublicKey, Signer
from ledger.audit.published import Published
from ledger.audit.signing import SigningKeys, drop_next, make_next
from ledger.audit.state import read_state
from ledger.engine import Database
from ledger.errors import AuditError
from ledger.events import EventType, event_rows, insert_event
from ledger.schema import event

__all__ = ["begin_rotation"]


def begin_rotation(
    database: Database, *, keys_dir: Path, published: Published, principal: str, reason: str
) -> PublicKey:
    """Make the next signing key and record it; the sealer completes the rotation.

    Args:
        database: Where the ledger is.
        keys_dir: Directory of the signing key.
        published: Where checkpoints are published; learns the new public key at once.
        principal: Who rotates, for the record; at most 64 characters.
        reason: A short code for the record.

    Returns:
        The new public key.

    Raises:
        AuditError: Nothing was sealed yet, so there is no log to sign for.
        KeysError: A rotation is under way already, or the directory cannot be written.
        RequestError: The reason is no short code.
        LedgerError: The ledger did not confirm.
    """
    check_act(principal=principal, reason=reason)
    keys = SigningKeys.load(keys_dir)
    origin = database.read(read_state).origin
    if origin is None:
        msg = "Nothing was sealed yet; run `expunge seal --once`, then rotate."
        raise AuditError(msg)
    if keys.following is None or not _is_recorded(database, keys.event):
        drop_next(keys_dir)
    seed = secrets.token_bytes(32)
    following = Signer(origin, seed).public

    payload = {
        "principal": principal,
        "reason": reason,
        "old_key": str(keys.public(origin)),
        "new_key": str(following),
    }
    head, body = event_rows(EventType.KEY_ROTATED, payload)
    # The file first: an event without its key would name one that nobody has. A file whose event
    # was never committed is thrown away above.
    make_next(keys_dir, seed, head["id"])
    database.write(lambda conn: insert_event(conn, head, body))
    published.add_key(following)
    return following


def _is_recorded(database: Database, event_id: str) -> bool:
    query = select(event.c.id).where(event.c.id == event_id)
    return database.read(lambda conn: conn.execute(query).first()) is not None
