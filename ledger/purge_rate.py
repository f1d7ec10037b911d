"""How many purges a project ordered lately."""

from typing import Final

from sqlalchemy import Connection, func, select

from ledger.schema import project, request
from ledger.states import Kind

__all__ = ["count_purges", "recent_purges"]

_HOUR_US: Final = 3_600 * 1_000_000
_PURGES: Final = (Kind.USER, Kind.AGENT)


def recent_purges(
    conn: Connection, project_name: str, *, now_us: int, most: int, but: str | None = None
) -> int:
    """Count them in the transaction that is about to add one, as `count_purges` does.

    Under the lock of the project's row, so that no two transactions count past each other.
    """
    conn.execute(
        select(project.c.name).where(project.c.name == project_name).with_for_update(key_share=True)
    ).all()
    return count_purges(conn, project_name, now_us=now_us, most=most, but=but)


def count_purges(
    conn: Connection, project_name: str, *, now_us: int, most: int, but: str | None = None
) -> int:
    """Count a project's purges of the last hour, those on hold included.

    Args:
        conn: The transaction.
        project_name: The project.
        now_us: Now, microseconds since 1970.
        most: Nobody wants to know of more; so a flood costs no more than this.
        but: Id of a request that is not counted.
    """
    query = select(request.c.id).where(
        request.c.project == project_name,
        request.c.kind.in_(_PURGES),
        request.c.created_at > now_us - _HOUR_US,
    )
    if but is not None:
        query = query.where(request.c.id != but)
    some = query.limit(most).subquery()
    return conn.execute(select(func.count()).select_from(some)).scalar_one()
