"""What stands still, and why: a list of it, and a person's stop and go.

A person's pause is one short transaction that locks the account's row first, as every claim does: a
claim is over before it, or finds the pause. `halted_ns` is the ledger's clock after that lock, so
whatever was claimed earlier is known by its moment, and does not depart any more either.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, select, update

from ledger.acting import check_principal
from ledger.clock import from_wall, wall_us
from ledger.codes import check_code
from ledger.engine import Database
from ledger.errors import RequestError
from ledger.events import EventType, append
from ledger.schema import account, project
from ledger.slots import HORIZON_NS

__all__ = [
    "Pause",
    "pause_account",
    "pause_project",
    "pauses",
    "resume_account",
    "resume_project",
]

_NS: Final = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Pause:
    """One project or account of which nothing is sent.

    Attributes:
        scope: `project` or `account`.
        name: Its name in the settings.
        reason: Slug of the answer that stopped it, such as `code_40132` or `http_429`, or the code
            that a person gave.
        kind: `paused` until somebody resumes it, `rests` for a while (an account), or `broken`
            while MemOS cannot be reached (a project).
        since: When it was stopped; None for what rests.
        seconds_left: How long it still stands by itself; None for what a person has to resume.
    """

    scope: str
    name: str
    reason: str
    kind: str = "paused"
    since: datetime | None = None
    seconds_left: float | None = None


def pauses(conn: Connection, database: Database) -> list[Pause]:
    """List what stands still: projects first, and what a person has to resume before the rest."""
    now = database.clock.now_ns(conn)
    projects = conn.execute(select(project).order_by(project.c.name)).all()
    accounts = conn.execute(select(account).order_by(account.c.name)).all()
    return [
        *_stopped("project", projects, reason="pause_reason"),
        *_stopped("account", accounts, reason="stop_reason"),
        *(
            Pause(
                scope="project",
                name=row.name,
                reason=row.break_reason or "unreachable",
                kind="broken",
                since=None if row.broken_at is None else from_wall(row.broken_at),
                seconds_left=max(0, row.open_until_ns - now) / _NS,
            )
            for row in projects
            if row.broken_at is not None or row.open_until_ns > now
        ),
        *(
            Pause(
                scope="account",
                name=row.name,
                reason=row.pause_reason or "unknown",
                kind="rests",
                seconds_left=(row.paused_until_ns - now) / _NS,
            )
            for row in accounts
            if row.paused_until_ns > now
        ),
    ]


def _stopped(scope: str, rows: Sequence[Row[Any]], *, reason: str) -> list[Pause]:
    return [
        Pause(
            scope=scope,
            name=row.name,
            reason=getattr(row, reason),
            since=None if row.paused_at is None else from_wall(row.paused_at),
        )
        for row in rows
        if row.paused
    ]


def pause_project(
    conn: Connection, database: Database, name: str, *, principal: str, reason: str
) -> bool:
    """Let nothing more of a project depart, deletions and read-backs, until it is resumed.

    Args:
        conn: The transaction.
        database: Whose clock counts.
        name: The project.
        principal: Who pauses it, for the record; at most 64 characters.
        reason: A short code, which is shown while it stands still.

    Returns:
        False when it was paused already; its reason then stays what it was.

    Raises:
        RequestError: There is no such project, or the reason is no short code.
    """
    check_code(reason, "The reason")
    check_principal(principal)
    row = _locked_project(conn, name)
    if row.paused:
        return False
    now = database.clock.now_ns(conn)
    conn.execute(
        update(project)
        .where(project.c.name == name)
        .values(paused=1, pause_reason=reason, paused_at=wall_us(), halted_ns=now)
    )
    payload = {"project": name, "principal": principal, "reason": reason}
    append(conn, EventType.PROJECT_PAUSED, payload)
    return True


def pause_account(
    conn: Connection, database: Database, name: str, *, principal: str, reason: str
) -> bool:
    """Let nothing more of all projects of an account depart, until it is resumed.

    Arguments, result and errors are those of `pause_project`. A rest that the account is in goes on
    beside it.
    """
    check_code(reason, "The reason")
    check_principal(principal)
    row = _locked_account(conn, name)
    if row.paused:
        return False
    now = database.clock.now_ns(conn)
    conn.execute(
        update(account)
        .where(account.c.name == name)
        .values(paused=1, stop_reason=reason, paused_at=wall_us(), halted_ns=now)
    )
    payload = {"account": name, "principal": principal, "reason": reason}
    append(conn, EventType.ACCOUNT_PAUSED, payload)
    return True


def resume_project(
    conn: Connection,
    database: Database,
    name: str,
    *,
    principal: str,
    reason: str | None = None,
) -> bool:
    """Let a stopped project go on, whoever stopped it; what waited is due at once.

    A breaker that is open is closed, too: whoever resumes it knows that MemOS can be reached.

    Args:
        conn: The transaction.
        database: Whose clock counts.
        name: The project.
        principal: Who resumes it, for the record; at most 64 characters.
        reason: A short code for the record, or None.

    Returns:
        False when it did not stand still.

    Raises:
        RequestError: There is no such project, or the reason is no short code.
    """
    _check_resume(principal, reason)
    row = _locked_project(conn, name)
    broken = row.broken_at is not None or row.open_until_ns > database.clock.now_ns(conn)
    if not row.paused and not broken:
        return False
    conn.execute(
        update(project)
        .where(project.c.name == name)
        .values(
            paused=0,
            pause_reason=None,
            paused_at=None,
            failures=0,
            open_until_ns=0,
            broken_at=None,
            break_reason=None,
        )
    )
    payload = {
        "project": name,
        "principal": principal,
        "reason": reason,
        "paused_for": row.pause_reason or row.break_reason,
    }
    append(conn, EventType.PROJECT_RESUMED, payload)
    return True


def resume_account(
    conn: Connection,
    database: Database,
    name: str,
    *,
    principal: str,
    reason: str | None = None,
) -> bool:
    """Let an account go on, whether a person stopped it or it rests by itself.

    Arguments, result and errors are those of `resume_project`.
    """
    _check_resume(principal, reason)
    row = _locked_account(conn, name)
    now = database.clock.now_ns(conn)
    if not row.paused and row.paused_until_ns <= now:
        return False
    conn.execute(
        update(account)
        .where(account.c.name == name)
        .values(
            paused=0,
            stop_reason=None,
            paused_at=None,
            paused_until_ns=0,
            strikes=0,
            pause_reason=None,
            # A rest moved the next slot to its end. What was booked before lies within the horizon.
            next_slot_ns=min(row.next_slot_ns, now + HORIZON_NS + row.interval_ns),
        )
    )
    payload = {
        "account": name,
        "principal": principal,
        "reason": reason,
        "paused_for": row.stop_reason or row.pause_reason,
    }
    append(conn, EventType.ACCOUNT_RESUMED, payload)
    return True


def _check_resume(principal: str, reason: str | None) -> None:
    if reason is not None:
        check_code(reason, "The reason")
    check_principal(principal)


def _locked_account(conn: Connection, name: str) -> Row[Any]:
    found = None
    if name.isprintable():  # else PostgreSQL may refuse the very question
        query = select(account).where(account.c.name == name)
        found = conn.execute(query.with_for_update(key_share=True)).first()
    if found is None:
        msg = f"There is no account {name!r} in this ledger; `expunge config show` lists them."
        raise RequestError(msg)
    return found


def _locked_project(conn: Connection, name: str) -> Row[Any]:
    """Lock the account, as claims do, then the project."""
    owner = None
    if name.isprintable():
        owner = conn.execute(select(project.c.account).where(project.c.name == name)).scalar()
    if owner is None:
        msg = f"There is no project {name!r} in this ledger; `expunge config show` lists them."
        raise RequestError(msg)
    _locked_account(conn, owner)
    query = select(project).where(project.c.name == name).with_for_update(key_share=True)
    return conn.execute(query).one()
