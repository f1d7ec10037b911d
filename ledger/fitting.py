"""Are these the keys of this ledger? Others make orders that nobody can carry out, and find nobody.

The ledger keeps a fingerprint of the keys that it was first opened with. One from before there was
a fingerprint is judged by the requests that stand in it.
"""

from typing import Final

from sqlalchemy import Connection, delete, select

from ledger.acting import check_act
from ledger.checks import header_holds
from ledger.engine import Database
from ledger.errors import KeysError
from ledger.events import EventType, append
from ledger.macs import Macs
from ledger.schema import key_check, request
from ledger.states import RequestState
from ledger.upsert import insert_missing

__all__ = ["adopt_keys", "are_own_keys", "require_own_keys"]

_LOOKED_AT: Final = 5


def require_own_keys(database: Database, macs: Macs) -> None:
    """Refuse the keys of another ledger; the first ones that a ledger sees are its own.

    Raises:
        KeysError: They are another ledger's; the message says what to do.
        LedgerError: The database did not answer.
    """
    known = database.read(_fingerprint)
    if known is None:
        known = database.write(lambda conn: _take(conn, macs))
    if known != macs.fingerprint:
        msg = (
            "order.key or pseudonym.key in EXPUNGE_KEYS_DIR is not this ledger's own: nothing made "
            "with them could be carried out here. Bring its own keys, or correct "
            "EXPUNGE_LEDGER_URL; if its own are lost, see `expunge keys adopt --help`."
        )
        raise KeysError(msg)


def are_own_keys(conn: Connection, macs: Macs) -> bool | None:
    """Say whether these are the ledger's own keys; None when it has not seen any yet."""
    known = _fingerprint(conn)
    return known == macs.fingerprint if known is not None else _hold(conn, macs)


def adopt_keys(database: Database, macs: Macs, *, principal: str, reason: str) -> None:
    """Make these the ledger's own keys from here on, and record that: its own ones are lost.

    What is open and was made with the lost keys is not carried out: it is stopped as changed when
    its turn comes. Idempotency keys that were given before find their requests no more, and
    `expunge find` knows nobody whose request was made before.

    Args:
        database: Where the ledger is.
        macs: Of the keys.
        principal: Who adopts them, for the record; at most 64 characters.
        reason: A short code for the record.

    Raises:
        RequestError: The reason is no short code.
        LedgerError: The ledger did not confirm; running it again is safe.
    """
    check_act(principal=principal, reason=reason)

    def work(conn: Connection) -> None:
        conn.execute(delete(key_check))
        insert_missing(conn, key_check, id=1, fingerprint=macs.fingerprint)
        append(conn, EventType.KEYS_ADOPTED, {"principal": principal, "reason": reason})

    database.write(work)


def _fingerprint(conn: Connection) -> str | None:
    found: str | None = conn.execute(select(key_check.c.fingerprint)).scalar()
    return found


def _take(conn: Connection, macs: Macs) -> str | None:
    if _hold(conn, macs) is not False:
        insert_missing(conn, key_check, id=1, fingerprint=macs.fingerprint)
    return _fingerprint(conn)


def _hold(conn: Connection, macs: Macs) -> bool | None:
    """Say whether one of the newest requests holds under these keys; None when there is none.

    One that was changed does not hold either; that all of them were is less likely than a folder
    of keys that is another installation's.
    """
    newest = (
        select(request)
        .where(request.c.state != RequestState.RECEIVING, request.c.closing_mac.is_not(None))
        .order_by(request.c.created_at.desc(), request.c.id.desc())
        .limit(_LOOKED_AT)
    )
    rows = conn.execute(newest).all()
    if not rows:
        return None
    return any(header_holds(macs, row) for row in rows)
