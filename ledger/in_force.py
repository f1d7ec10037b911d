"""Which pseudonym key new requests are recorded under: the newest one that the ledger knows of.

Keys lie on each host apart from the ledger, so a host may lack the newest one, or still have one
that was destroyed. What it recorded under another key than the one in force could not be found
where that is, or could still be told by a file that should be gone; so it records nothing.
"""

from sqlalchemy import Connection, Row, func, select

from ledger.engine import Database
from ledger.errors import KeysError
from ledger.keys import epoch_file
from ledger.macs import Macs
from ledger.schema import key_epoch, request
from ledger.upsert import insert_missing

__all__ = ["epoch_fault", "last_epoch", "learn_epoch", "require_in_force", "take_in_force"]


def last_epoch(conn: Connection) -> Row[tuple[int, int, int | None]] | None:
    """Give the row of the newest epoch that the ledger knows of, None when it has seen no key."""
    return conn.execute(select(key_epoch).order_by(key_epoch.c.no.desc()).limit(1)).first()


def learn_epoch(database: Database, macs: Macs) -> None:
    """Let the ledger know of the newest epoch among these keys, which have to be its own.

    The first time it also looks which epochs its requests are of: one from an earlier release was
    told of none that came with `expunge keys init`.

    Raises:
        LedgerError: The database did not answer.
    """
    last = database.read(last_epoch)
    if last is not None and last.no >= macs.epoch:
        return
    no = macs.epoch
    if last is None:
        used = select(func.max(request.c.key_epoch))
        no = max(no, database.read(lambda conn: conn.execute(used).scalar()) or 0)
    database.write(lambda conn: insert_missing(conn, key_epoch, no=no, began_at=0))


def epoch_fault(conn: Connection, epoch: int) -> str | None:
    """Say why nothing may be recorded under an epoch any more, and what to do; None when it may."""
    return _fault(last_epoch(conn), epoch)


def require_in_force(conn: Connection, epoch: int) -> None:
    """Refuse to record a request under another pseudonym key than the one in force.

    Raises:
        KeysError: Its key is not the newest, or was destroyed; the message says what to do.
    """
    if (fault := epoch_fault(conn, epoch)) is not None:
        raise KeysError(fault)


def take_in_force(conn: Connection, epoch: int) -> None:
    """As `require_in_force`, in the transaction that records the request.

    A ledger that does not know the epoch yet (an older copy, put back under a process that runs)
    knows it from here on.

    Raises:
        KeysError: As for `require_in_force`.
    """
    last = last_epoch(conn)
    if (fault := _fault(last, epoch)) is not None:
        raise KeysError(fault)
    if last is None or last.no < epoch:
        insert_missing(conn, key_epoch, no=epoch, began_at=0)


def _fault(last: Row[tuple[int, int, int | None]] | None, epoch: int) -> str | None:
    if last is None or last.no < epoch:
        return None
    if last.destroyed_at is not None:
        return (
            f"The pseudonym key of epoch {last.no} was destroyed, and there is no newer one, so no "
            "request can be recorded. Begin the next with `expunge keys new-epoch`, and destroy "
            f"what copies of {epoch_file(last.no)} are left."
        )
    if last.no > epoch:
        return (
            f"{epoch_file(last.no)} is not in EXPUNGE_KEYS_DIR, or came there after this process "
            "was started, and requests are recorded under this pseudonym key alone. Copy it from "
            "the host where `expunge keys init` or `expunge keys new-epoch` made it, and start "
            "anew; if it is lost for good, begin the next with `expunge keys new-epoch`."
        )
    return None
