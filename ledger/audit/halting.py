"""Stops all calls when the ledger turns out to be an older copy: what it orders may be done."""

from typing import Final

from sqlalchemy import select

from ledger.engine import Database
from ledger.pauses import pause_account
from ledger.schema import account

__all__ = ["RESTORED", "halt_all"]

# The reason that accounts are paused with; whoever resumes them has dealt with it.
RESTORED: Final = "ledger_restored"


def halt_all(database: Database, *, principal: str) -> list[str]:
    """Pause every account until a person resumes it.

    Args:
        database: Where the ledger is.
        principal: Who found out, for the record.

    Returns:
        Names of the accounts that went on until now.

    Raises:
        LedgerError: The ledger did not confirm; halting again is safe.
    """
    names = database.read(lambda conn: conn.execute(select(account.c.name)).scalars().all())
    return [
        name
        for name in names
        if database.write(
            lambda conn, name=name: pause_account(  # type: ignore[misc]
                conn, database, name, principal=principal, reason=RESTORED
            )
        )
    ]
