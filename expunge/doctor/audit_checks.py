"""The record and its log: can it be changed from here, is it sealed, and are its keys apart?"""

import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, func, select

from expunge.doctor.findings import Finding, failed, ok, warn
from expunge.doctor.ledger_facts import Beat
from expunge.tables import counted
from ledger.audit.guarding import Guard, look_at_guard
from ledger.audit.published import Published
from ledger.audit.state import require_published
from ledger.engine import Database
from ledger.errors import AuditError
from ledger.schema import checkpoint, unsealed

__all__ = ["check_audit_files", "check_guard", "check_keys_apart", "check_log", "check_sealer"]

_FRESH_S: Final = 30.0
_SEALER: Final = "sealer"
_MOST: Final = 100_000
_SEALED: Final = select(checkpoint.c.no).limit(1)


def check_log(database: Database, published: Published, beats: Iterable[Beat]) -> list[Finding]:
    """Look at the record as a whole.

    Raises:
        LedgerError: The ledger does not answer.
    """
    waiting = select(func.count()).select_from(select(unsealed.c.seq).limit(_MOST).subquery())

    def count(conn: Connection) -> int:
        return int(conn.execute(waiting).scalar_one())

    found = [
        check_guard(look_at_guard(database), sqlite=database.is_sqlite),
        check_sealer(beats, database.read(count)),
    ]
    try:
        require_published(database, published)
    except AuditError as error:
        found.append(failed("log", error))
    if database.read(lambda conn: conn.execute(_SEALED).first()) and not _is_published(published):
        found.append(
            warn(
                "log",
                f"The record is sealed, but no checkpoint of it is in {published.folder}: from "
                "here nobody would notice an older copy of the ledger in its place.",
                fix="Let EXPUNGE_AUDIT_DIR lead to the sealer's directory; to read it is enough.",
            )
        )
    return found


def _is_published(published: Published) -> bool:
    try:
        return published.checkpoint() is not None
    except AuditError:
        return False


def check_guard(guard: Guard, *, sqlite: bool) -> Finding:
    """Does the database keep this process from changing the record?"""
    if guard.missing:
        return warn(
            "record",
            f"The triggers that keep the record as it is are not all there: "
            f"{', '.join(guard.missing)}.",
            fix="Find out who dropped them, run `expunge audit verify`, and put back the schema.",
        )
    if guard.allowed:
        return warn(
            "record",
            "The database's role of EXPUNGE_LEDGER_URL may change the record "
            f"({guard.allowed[0]}), which only the triggers and the signed log notice.",
            fix="Give producers and workers a role of their own: expunge db upgrade --app-role "
            "ROLE --sealer-role ROLE, with EXPUNGE_LEDGER_ADMIN_URL as the owner.",
        )
    if sqlite:
        return ok("record", "Triggers keep the record as it is; who owns the file can drop them.")
    return ok("record", "This role may only add to the record.")


def check_sealer(beats: Iterable[Beat], waiting: int) -> Finding:
    """Does anybody seal what is recorded?

    Args:
        beats: Of all processes.
        waiting: Events that are not sealed yet.
    """
    alive = any(one.role == _SEALER and one.age_s < _FRESH_S for one in beats)
    if alive:
        return ok("sealer", f"A sealer runs; {counted(waiting, 'event')} to be sealed.")
    if waiting:
        return warn(
            "sealer",
            f"No sealer runs for {counted(waiting, 'event')} to be sealed: until then, nobody "
            "could tell a change.",
            fix="Start `expunge seal`, where the signing key is.",
        )
    return ok("sealer", "No sealer runs; nothing waits for one.")


def check_keys_apart(ledger_file: Path | None, keys: Path, audit: Path) -> list[Finding]:
    """Are keys and published checkpoint away from the ledger, in copies and restores too?

    Args:
        ledger_file: Of a SQLite ledger; None for PostgreSQL.
        keys: EXPUNGE_KEYS_DIR.
        audit: EXPUNGE_AUDIT_DIR.
    """
    if ledger_file is None:
        return []
    folder = ledger_file.parent.resolve()
    near = [
        name
        for name, path in (("the keys", keys), ("the published checkpoint", audit))
        if path.exists() and path.resolve().is_relative_to(folder)
    ]
    if not near:
        return [ok("keys apart", "Keys and published checkpoint are not beside the ledger.")]
    return [
        warn(
            "keys apart",
            f"Beside the ledger, in {folder}, are {' and '.join(near)}: a copy of the folder has "
            "them as well, and a restore of it turns them back together.",
            fix="Move them to another disk or backup, and set EXPUNGE_KEYS_DIR and "
            "EXPUNGE_AUDIT_DIR.",
        )
    ]


def check_audit_files(audit: Path) -> list[Finding]:
    """Can others change what was published?"""
    if not audit.is_dir():
        return []
    names = [
        path.name or str(path)
        for path in (audit, *sorted(audit.iterdir()))
        if path.stat().st_mode & (stat.S_IWOTH | stat.S_IWGRP)
    ]
    if not names:
        return [ok("audit files", "Only their owner can change what was published.")]
    return [
        warn(
            "audit files",
            f"Others can change {', '.join(names)} in {audit}: they could hide a rollback.",
            fix=f"chmod go-w {audit} {audit}/*",
        )
    ]
