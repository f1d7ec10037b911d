"""Named leases for periodic duties, and heartbeats: who is alive, and who does what."""

from importlib import metadata

from sqlalchemy import Connection, delete, insert, select, update

from ledger.clock import wall_us
from ledger.engine import Database
from ledger.schema import heartbeat, lease
from ledger.upsert import insert_missing

__all__ = ["beat", "hold_lease", "hold_lease_in", "release_lease"]

_FORGOTTEN_AFTER_US = 3_600 * 1_000_000


def hold_lease(database: Database, name: str, *, owner: str, seconds: float) -> bool:
    """Take or renew a named lease.

    Returns:
        True when `owner` holds it for the next `seconds`; False while somebody else does.
    """
    return database.write(
        lambda conn: hold_lease_in(conn, database, name, owner=owner, seconds=seconds)
    )


def hold_lease_in(
    conn: Connection, database: Database, name: str, *, owner: str, seconds: float
) -> bool:
    """Do as `hold_lease` does inside a transaction: others wait for its end, on PostgreSQL too."""
    now = database.clock.now_ns(conn)
    until = now + int(seconds * 1_000_000_000)
    if insert_missing(conn, lease, name=name, owner=owner, until_ns=until, token=1):
        return True
    row = conn.execute(
        select(lease).where(lease.c.name == name).with_for_update(key_share=True)
    ).one()
    if row.owner != owner and row.until_ns > now:
        return False
    conn.execute(
        update(lease)
        .where(lease.c.name == name)
        .values(owner=owner, until_ns=until, token=row.token + int(row.owner != owner))
    )
    return True


def release_lease(database: Database, name: str, *, owner: str) -> None:
    """Give a named lease back, if `owner` holds it, so that the next one need not wait."""
    mine = (lease.c.name == name, lease.c.owner == owner)
    database.write(lambda conn: conn.execute(update(lease).where(*mine).values(until_ns=0)))


def beat(database: Database, *, process: str, role: str) -> None:
    """Write that a process is alive; forget those silent for an hour.

    Args:
        database: Where the ledger is.
        process: The process's name, unique while it runs.
        role: `drain`, `steward` or `sealer`.
    """
    database.write(lambda conn: _beat(conn, database, process, role))


def _beat(conn: Connection, database: Database, process: str, role: str) -> None:
    values = {"beat_ns": database.clock.now_ns(conn), "beat_at": wall_us()}
    known = conn.execute(update(heartbeat).where(heartbeat.c.process == process).values(values))
    if not known.rowcount:
        conn.execute(
            insert(heartbeat).values(
                process=process, role=role, release=metadata.version("expunge"), **values
            )
        )
    conn.execute(
        delete(heartbeat).where(heartbeat.c.beat_at < values["beat_at"] - _FORGOTTEN_AFTER_US)
    )
