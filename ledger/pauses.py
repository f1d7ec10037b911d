"""What stands still, why, and letting it go on."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, update

from ledger.clock import from_wall
from ledger.engine import Database
from ledger.errors import RequestError
from ledger.events import EventType, append
from ledger.schema import account, project

__all__ = ["Pause", "pauses", "resume_project"]


@dataclass(frozen=True, kw_only=True)
class Pause:
    """One project or account of which nothing is sent.

    Attributes:
        scope: `project` (until somebody resumes it) or `account` (goes on by itself).
        name: Its name in the settings.
        reason: Slug of the answer that stopped it, such as `code_40132` or `http_429`.
        since: When a project was stopped; None for accounts.
        seconds_left: How long an account still rests; None for projects.
    """

    scope: str
    name: str
    reason: str
    since: datetime | None = None
    seconds_left: float | None = None


def pauses(conn: Connection, database: Database) -> list[Pause]:
    """List the projects that were stopped and the accounts that rest."""
    now = database.clock.now_ns(conn)
    stopped = [
        Pause(
            scope="project",
            name=row.name,
            reason=row.pause_reason,
            since=None if row.paused_at is None else from_wall(row.paused_at),
        )
        for row in conn.execute(
            select(project).where(project.c.paused == 1).order_by(project.c.name)
        )
    ]
    resting = [
        Pause(
            scope="account",
            name=row.name,
            reason=row.pause_reason or "unknown",
            seconds_left=(row.paused_until_ns - now) / 1_000_000_000,
        )
        for row in conn.execute(
            select(account).where(account.c.paused_until_ns > now).order_by(account.c.name)
        )
    ]
    return stopped + resting


def resume_project(conn: Connection, name: str, *, principal: str) -> bool:
    """Let a stopped project go on; what waited is due at once.

    Args:
        conn: The transaction.
        name: The project.
        principal: Who resumes it, for the record.

    Returns:
        False when it was not stopped.

    Raises:
        RequestError: There is no such project.
    """
    known = conn.execute(select(project.c.paused).where(project.c.name == name)).first()
    if known is None:
        msg = f"There is no project {name!r} in this ledger; `expunge config show` lists them."
        raise RequestError(msg)
    if not known.paused:
        return False
    conn.execute(
        update(project)
        .where(project.c.name == name)
        .values(paused=0, pause_reason=None, paused_at=None, open_until_ns=0, failures=0)
    )
    append(conn, EventType.PROJECT_RESUMED, {"project": name, "principal": principal})
    return True
