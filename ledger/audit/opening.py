"""Names of the log: the first one, and another after each restore of an older ledger.

What was signed under the old name after that moment is gone from the ledger, and under one name a
size may have one root only.
"""

import secrets
from pathlib import Path

from sqlalchemy import Connection, func, insert, select

from ledger.acting import check_act
from ledger.audit.notes import Checkpoint
from ledger.audit.published import Published
from ledger.audit.signing import SigningKeys
from ledger.audit.state import opened_note, read_state
from ledger.audit.stored import count_leaves
from ledger.clock import wall_us
from ledger.engine import Database
from ledger.errors import AuditError
from ledger.events import EventType, append
from ledger.schema import origin

__all__ = ["open_first", "open_new_origin"]

_PREFIX = "expunge/"


def open_first(conn: Connection, keys: SigningKeys) -> str:
    """Give the log its first name.

    Returns:
        The name; random, so that no two ledgers share one.
    """
    return _open(conn, keys, None, principal="sealer", reason="first")


def open_new_origin(
    database: Database, *, keys_dir: Path, published: Published, principal: str, reason: str
) -> str:
    """Let the log go on under another name, after an older copy of the ledger was restored.

    The last published checkpoint is set aside, and the first event under the new name says which
    it was. Run it again when it was broken off.

    Args:
        database: Where the ledger is.
        keys_dir: Directory of the signing key.
        published: Where checkpoints are published.
        principal: Who opens it, for the record; at most 64 characters.
        reason: A short code for the record.

    Returns:
        The new name.

    Raises:
        RequestError: The reason is no short code.
        AuditError: The published checkpoint is not to be trusted, or a sealer is at work.
        KeysError: There is no signing key.
        LedgerError: The ledger did not confirm; running it again is safe.
    """
    check_act(principal=principal, reason=reason)
    keys = SigningKeys.load(keys_dir)
    with published.locked() as mine:
        if not mine:
            msg = "A sealer is at work here; stop `expunge seal`, then open the new origin."
            raise AuditError(msg)
        note = published.checkpoint()
        previous = None
        if note is not None:
            trusted = published.keys()
            previous = opened_note(note, trusted, whose="The published checkpoint")
        name = database.write(
            lambda conn: _open(conn, keys, previous, principal=principal, reason=reason)
        )
        published.set_aside()
    return name


def _open(
    conn: Connection,
    keys: SigningKeys,
    previous: Checkpoint | None,
    *,
    principal: str,
    reason: str,
) -> str:
    name = f"{_PREFIX}{secrets.token_hex(8)}"
    size = count_leaves(conn)
    last = conn.execute(select(func.coalesce(func.max(origin.c.no), 0))).scalar_one()
    before = read_state(conn).origin if previous is None else previous.origin
    conn.execute(insert(origin).values(no=last + 1, name=name, size=size, opened_at=wall_us()))
    payload = {
        "principal": principal,
        "reason": reason,
        "origin": name,
        "key": str(keys.public(name)),
        "size": size,
        "previous_origin": before,
        "previous_size": None if previous is None else previous.size,
        "previous_root": None if previous is None else previous.root.hex(),
    }
    append(conn, EventType.LOG_OPENED, payload)
    return name
