"""Another slot for a call that came too late for its own, before it departs."""

from typing import Final

from sqlalchemy import Connection, bindparam, select, update

from ledger.engine import Database
from ledger.host import own_now_ns
from ledger.schema import account
from ledger.slots import book

__all__ = ["rebook"]

# As claims lock it: whoever gives out slots of an account does so one after the other.
_LOCK: Final = (
    select(account).where(account.c.name == bindparam("of_account")).with_for_update(key_share=True)
)
_BOOK: Final = update(account).where(account.c.name == bindparam("of_account"))


def rebook(database: Database, name: str, *, lead_ns: int) -> int | None:
    """Give an account's next free slot to a call that was claimed before and missed its own.

    The slot that it missed is lost. Its record keeps that one.

    Args:
        database: Where the ledger is.
        name: The account.
        lead_ns: Time from here to a departure; an earlier slot would be missed as well.

    Returns:
        The slot by the ledger's clock, less than a second away; None when there is none so near, or
        the account rests.

    Raises:
        LedgerError: The ledger did not confirm; the call must not depart.
    """

    def work(conn: Connection) -> int | None:
        row = conn.execute(_LOCK, {"of_account": name}).one()
        now = own_now_ns(conn, database)
        if row.paused or row.paused_until_ns > now:
            return None
        booking = book(
            next_slot_ns=row.next_slot_ns,
            now_ns=now,
            lead_ns=lead_ns,
            interval=row.interval_ns,
            wanted=1,
        )
        if not booking.slots:
            return None
        conn.execute(_BOOK, {"of_account": name, "next_slot_ns": booking.next_slot_ns})
        return booking.slots[0]

    return database.write(work)
