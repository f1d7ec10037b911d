"""Accounts and projects as the settings name them, written into the ledger.

The limit lives in the ledger, so that it is one number for all workers. A worker that starts with
other settings changes it for everybody within a second; those who only hand in never do.
"""

from collections.abc import Mapping

from sqlalchemy import Connection, select, update

from ledger.errors import UnknownProjectError
from ledger.schema import account, project
from ledger.slots import interval_ns
from ledger.upsert import insert_missing

__all__ = ["account_of", "register"]


def register(
    conn: Connection,
    *,
    projects: Mapping[str, str],
    rates: Mapping[str, float],
    decides: bool,
) -> None:
    """Record accounts with their limits, and which project belongs to which.

    Args:
        conn: The transaction.
        projects: Account name by project name.
        rates: Calls per second by account name.
        decides: Whether these settings replace what the ledger has; else they only fill gaps.
    """
    for name in sorted(rates):
        interval = interval_ns(rates[name])
        fresh = insert_missing(conn, account, name=name, interval_ns=interval)
        if decides and not fresh:
            conn.execute(update(account).where(account.c.name == name).values(interval_ns=interval))
    for name in sorted(projects):
        fresh = insert_missing(conn, project, name=name, account=projects[name])
        if decides and not fresh:
            conn.execute(
                update(project).where(project.c.name == name).values(account=projects[name])
            )


def account_of(conn: Connection, project_name: str) -> str:
    """Give the account of a project.

    Raises:
        UnknownProjectError: No such project is registered.
    """
    found = None
    if project_name.isprintable():  # else PostgreSQL may refuse the very question
        query = select(project.c.account).where(project.c.name == project_name)
        found = conn.execute(query).scalar()
    if found is None:
        msg = (
            f"There is no project {project_name!r}; `expunge config show` lists those that are "
            "configured, and EXPUNGE_CONFIG names the file to add one to."
        )
        raise UnknownProjectError(msg)
    return str(found)
