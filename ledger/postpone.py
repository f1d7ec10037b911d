"""Moving an account's next free slot: what makes up for a call that departed late."""

from sqlalchemy import Connection, update

from ledger.schema import account

__all__ = ["postpone"]


def postpone(conn: Connection, name: str, *, by_ns: int) -> None:
    """Let the account's next free slot be later by so many nanoseconds."""
    conn.execute(
        update(account)
        .where(account.c.name == name)
        .values(next_slot_ns=account.c.next_slot_ns + by_ns)
    )
