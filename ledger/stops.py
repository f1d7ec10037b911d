"""What stops traffic: rests of an account, the breaker of a project, a person's pause.

All of it are columns of the account's and the project's row, which every claim reads under the
account's lock, so it holds for all workers together. After a rest or an outage one call goes first
(the trial); only a good answer to it lets the others follow. What was claimed before a stop says
nothing about the time after it, and `halted_ns` tells drains to keep it back.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, literal_column, select, union_all, update

from ledger.among import among
from ledger.clock import wall_us
from ledger.engine import Database
from ledger.events import EventType, append
from ledger.schema import account, project
from ledger.tasks import Dead, Delivered, Page, Probe, Seen, Settlement, Split

__all__ = ["PATIENCE", "TRIPS", "halts", "is_trial", "outage_s", "stop"]

# Failures in a row after which a project's calls stop.
TRIPS: Final = 5
_MOST_OUTAGE_S: Final = 60.0
# So many trials in a row may fail without using up attempts: a night's outage must not turn a
# backlog into dead letters, and a call that MemOS never answers must end some day. With one in 60
# to 120 s it is about a day for deletions and an hour for read-backs; people's clocks may jump.
PATIENCE: Final = {"delete": 960, "list": 45, "read": 45}
_NS: Final = 1_000_000_000
# Which of these accounts rest, and in which of these projects the last call failed.
_IN_TROUBLE: Final = union_all(
    select(literal_column("'account'").label("what"), account.c.name).where(
        among(account.c.name, "accounts"), account.c.strikes != 0
    ),
    select(literal_column("'project'").label("what"), project.c.name).where(
        among(project.c.name, "projects"), project.c.failures != 0
    ),
)


def outage_s(failures: int, *, chance: Callable[[], float] = random.random) -> float:
    """Seconds between two trials of a broken project: 1 to 2, then 2 to 4, … at most 60 to 120.

    Args:
        failures: Failures in a row, `TRIPS` or more.
        chance: Gives a number from 0 up to 1.
    """
    return (1.0 + chance()) * min(_MOST_OUTAGE_S, 2.0 ** min(failures - TRIPS, 30))


def is_trial(row: Row[Any]) -> bool:
    """Say whether a project (a row of its table) may have one call under way and no more."""
    return bool(row.failures >= TRIPS)


def halts(conn: Connection) -> dict[str, int]:
    """Give `account/NAME` and `project/NAME` -> the ledger's clock at the last stop of each.

    A call that was claimed at or before that moment must not depart any more.
    """
    found = {}
    for table, prefix in ((account, "account"), (project, "project")):
        for row in conn.execute(select(table.c.name, table.c.halted_ns)):
            found[f"{prefix}/{row.name}"] = row.halted_ns
    return found


def stop(conn: Connection, database: Database, settlements: Sequence[Settlement]) -> int:
    """Stop and start accounts and projects as these outcomes say, in the order of locks.

    Returns:
        The ledger's clock under the locks: what was claimed up to here is halted where it stopped.
    """
    by_account = _grouped(settlements, lambda settled: settled.task.account)
    by_project = _grouped(settlements, lambda settled: settled.task.project)
    troubled = _in_trouble(conn, by_account, by_project)
    accounts = {
        name: _locked(conn, account, name)
        for name, some in by_account.items()
        if ("account", name) in troubled
        or any(settled.pause_account_s is not None for settled in some)
    }
    if accounts:
        # Whoever held them may have changed the projects.
        troubled = _in_trouble(conn, by_account, by_project)
    projects = {
        name: _locked(conn, project, name)
        for name, some in by_project.items()
        if ("project", name) in troubled
        or any(settled.outage or settled.pause_project is not None for settled in some)
    }
    # After the locks: a claim that they waited for is older than this.
    now = database.clock.now_ns(conn)
    for name, row in accounts.items():
        _stop_account(conn, row, by_account[name], now)
    for name, row in projects.items():
        _stop_project(conn, row, by_project[name], now)
    return now


def _in_trouble(
    conn: Connection, accounts: Iterable[str], projects: Iterable[str]
) -> set[tuple[str, str]]:
    names = {"accounts": list(accounts), "projects": list(projects)}
    return {(row.what, row.name) for row in conn.execute(_IN_TROUBLE, names)}


def _grouped(
    settlements: Iterable[Settlement], key: Callable[[Settlement], str]
) -> dict[str, list[Settlement]]:
    groups: dict[str, list[Settlement]] = {}
    for settled in sorted(settlements, key=key):
        groups.setdefault(key(settled), []).append(settled)
    return groups


def _is_well(settled: Settlement) -> bool:
    """Say whether a server at work has answered, whatever it said about the call."""
    answered = Delivered | Dead | Page | Probe | Seen | Split
    return not settled.outage and isinstance(settled.move, answered)


def _locked(conn: Connection, table: Any, name: str) -> Row[Any]:  # noqa: ANN401 - a Table
    return conn.execute(
        select(table).where(table.c.name == name).with_for_update(key_share=True)
    ).one()


# -- accounts -------------------------------------------------------------------------------------


def _stop_account(conn: Connection, row: Row[Any], some: Sequence[Settlement], now: int) -> None:
    pauses = [
        (settled.pause_account_s, settled.reason, settled.task.claimed_ns)
        for settled in some
        if settled.pause_account_s is not None
    ]
    if pauses:
        seconds, reason, _ = max(pauses)
        # Sixty calls refused in one moment are one strike.
        fresh = any(claimed > row.halted_ns for _, _, claimed in pauses)
        until = now + int(seconds * _NS)
        if not (fresh and row.strikes):
            # Else it was the trial that was refused, and what it kept the others for is over.
            until = max(row.paused_until_ns, until)
        values = {
            "paused_until_ns": until,
            "pause_reason": reason,
            "strikes": row.strikes + fresh if row.strikes else 1,
            "next_slot_ns": max(row.next_slot_ns, until),
            "halted_ns": now,
        }
        append(
            conn,
            EventType.ACCOUNT_PAUSED,
            {"account": row.name, "reason": reason, "milliseconds": int(seconds * 1000)},
        )
    else:
        trials = [settled for settled in some if settled.task.claimed_ns > row.halted_ns]
        if not trials:
            return
        # Not sent, or not answered: the next one may try at once.
        values = {"paused_until_ns": now}
        if any(map(_is_well, trials)):
            values = {"paused_until_ns": 0, "strikes": 0}
    conn.execute(update(account).where(account.c.name == row.name).values(**values))


# -- projects -------------------------------------------------------------------------------------


def _stop_project(conn: Connection, row: Row[Any], some: Sequence[Settlement], now: int) -> None:
    values: dict[str, Any] = {}
    refused = next((one.pause_project for one in some if one.pause_project is not None), None)
    if refused is not None and not row.paused:
        values |= {"paused": 1, "pause_reason": refused, "paused_at": wall_us(), "halted_ns": now}
        append(conn, EventType.PROJECT_PAUSED, {"project": row.name, "reason": refused})
    values |= _breaker(conn, row, some, now)
    if values:
        conn.execute(update(project).where(project.c.name == row.name).values(**values))


def _breaker(
    conn: Connection, row: Row[Any], some: Sequence[Settlement], now: int
) -> dict[str, Any]:
    """Count failures in a row; at the limit no call departs for a while, then one at a time."""
    broken = is_trial(row)
    failures, reason = row.failures, None
    heard = [one for one in some if not (broken and one.task.claimed_ns <= row.halted_ns)]
    for settled in heard:
        if settled.outage:
            failures += 1
            reason = settled.reason
        elif _is_well(settled):
            failures = 0
    if failures >= TRIPS and reason is not None:
        if not broken:
            append(conn, EventType.PROJECT_BROKEN, {"project": row.name, "reason": reason})
        return {
            # Those that were under way together are one failure of the breaker.
            "failures": row.failures + 1 if broken else TRIPS,
            "open_until_ns": now + int(outage_s(row.failures + 1 if broken else TRIPS) * _NS),
            "broken_at": row.broken_at or wall_us(),
            "break_reason": row.break_reason or reason,
            "halted_ns": now,
        }
    if broken and failures == 0:
        append(conn, EventType.PROJECT_MENDED, {"project": row.name})
        return {"failures": 0, "open_until_ns": 0, "broken_at": None, "break_reason": None}
    if broken:
        # The trial came to nothing that tells (it was not sent, or turned away for the rate).
        return {"open_until_ns": now} if heard else {}
    return {"failures": failures} if failures != row.failures else {}
