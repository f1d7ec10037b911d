"""Epochs of the pseudonym keys: begun and destroyed by recorded acts.

A key turns user ids into references, and makes the salts of what certificates say. Once it is
destroyed nobody can tell any more whether somebody was erased under it; the log and certificates
still verify.
"""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, func, select, update

from ledger.acting import check_act
from ledger.checks import header_fields, header_holds
from ledger.clock import from_wall, wall_us
from ledger.engine import Database
from ledger.errors import ConflictError, KeysError, NotFoundError
from ledger.events import EventType, append
from ledger.fitting import require_own_keys
from ledger.in_force import last_epoch, learn_epoch
from ledger.keys import Keys, epoch_file, write_key
from ledger.macs import Macs
from ledger.schema import key_epoch, request
from ledger.upsert import insert_missing

__all__ = ["Epoch", "begin_epoch", "destroy_epoch", "destroyed_epochs", "list_epochs"]

_AT_ONCE: Final = 200
_BYTES: Final = 32


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch.

    Attributes:
        no: Its number.
        key: Its key is in EXPUNGE_KEYS_DIR.
        in_force: New requests are recorded under it.
        began_at: When; None of one that the keys came with.
        destroyed_at: When its key was destroyed; None while it was not.
    """

    no: int
    key: bool
    in_force: bool
    began_at: datetime | None
    destroyed_at: datetime | None


def list_epochs(database: Database, keys: Keys) -> list[Epoch]:
    """List all epochs that there ever were, the first one first.

    Raises:
        LedgerError: The database did not answer.
    """
    rows = database.read(
        lambda conn: {row.no: row for row in conn.execute(select(key_epoch)).all()}
    )
    numbers = sorted({*keys.subjects, *rows} or {0})
    last = numbers[-1]
    destroyed = last in rows and rows[last].destroyed_at is not None
    return [
        Epoch(
            no=no,
            key=no in keys.subjects or not no,
            in_force=no == last and not destroyed,
            began_at=_moment(rows, no, "began_at"),
            destroyed_at=_moment(rows, no, "destroyed_at"),
        )
        for no in numbers
    ]


def begin_epoch(database: Database, *, keys_dir: Path, principal: str, reason: str) -> int:
    """Make the next pseudonym key; who is started from here on uses it.

    Args:
        database: Where the ledger is.
        keys_dir: Directory of the keys.
        principal: Who begins it, for the record; at most 64 characters.
        reason: A short code for the record.

    Returns:
        The new epoch's number.

    Raises:
        RequestError: The reason is no short code.
        KeysError: The keys cannot be read or are another ledger's, or the directory cannot be
            written.
        LedgerError: The ledger did not confirm; the key is there then, and in force as soon as it
            is used.
    """
    check_act(principal=principal, reason=reason)
    no = _checked(database, keys_dir)[1] + 1
    try:
        write_key(keys_dir / epoch_file(no), secrets.token_hex(_BYTES))
    except OSError as error:
        msg = f"{epoch_file(no)} cannot be written to {keys_dir} ({error.strerror})."
        raise KeysError(msg) from None

    def work(conn: Connection) -> None:
        # Who opened the ledger meanwhile with the new key told it of that already.
        insert_missing(conn, key_epoch, no=no, began_at=0)
        conn.execute(update(key_epoch).where(key_epoch.c.no == no).values(began_at=wall_us()))
        payload = {"principal": principal, "reason": reason, "epoch": no}
        append(conn, EventType.KEY_EPOCH_BEGUN, payload)

    database.write(work)
    return no


def destroy_epoch(
    database: Database, *, keys_dir: Path, no: int, principal: str, reason: str
) -> int:
    """Destroy the key of a past epoch, and every reference that it made outside of the log.

    Run it again when it was broken off. Copies of the key elsewhere are the operator's to destroy.

    Args:
        database: Where the ledger is.
        keys_dir: Directory of the keys.
        no: The epoch.
        principal: Who destroys it, for the record; at most 64 characters.
        reason: A short code for the record.

    Returns:
        Of how many requests the references went.

    Raises:
        RequestError: The reason is no short code.
        NotFoundError: There is no such key.
        ConflictError: It is in force, or requests under it still have names.
        KeysError: The keys cannot be read or are another ledger's, or the file cannot be removed.
        LedgerError: The ledger did not confirm; running it again is safe.
    """
    check_act(principal=principal, reason=reason)
    keys, last = _checked(database, keys_dir)
    if no not in keys.subjects:
        msg = f"There is no key of epoch {no} in {keys_dir}; `expunge keys epochs` lists them."
        raise NotFoundError(msg)
    if no == last:
        msg = f"Epoch {no} is in force; begin the next one with `expunge keys new-epoch` first."
        raise ConflictError(msg)
    named = select(func.count()).where(request.c.key_epoch == no, request.c.scrubbed_at.is_(None))
    if left := database.read(lambda conn: conn.execute(named).scalar_one()):
        msg = (
            f"{left} requests of epoch {no} still have their names; they are scrubbed "
            "EXPUNGE_REDRIVE_DAYS after their end. Destroy the key after that."
        )
        raise ConflictError(msg)
    macs = Macs(keys)
    after, count = "", 0
    while some := database.write_bulk(lambda conn: _blank(conn, macs, no, after)):  # noqa: B023 - run at once
        after, count = some[-1], count + len(some)

    def record(conn: Connection) -> None:
        insert_missing(conn, key_epoch, no=no, began_at=0)
        known = conn.execute(select(key_epoch).where(key_epoch.c.no == no)).one()
        if known.destroyed_at is not None:
            return  # only the file was left
        conn.execute(update(key_epoch).where(key_epoch.c.no == no).values(destroyed_at=wall_us()))
        payload = {"principal": principal, "reason": reason, "epoch": no, "requests": count}
        append(conn, EventType.KEY_EPOCH_DESTROYED, payload)

    database.write(record)
    _destroy(keys_dir / epoch_file(no))
    return count


def destroyed_epochs(conn: Connection) -> list[int]:
    """Give the epochs whose keys were destroyed."""
    query = select(key_epoch.c.no).where(key_epoch.c.destroyed_at.is_not(None))
    return list(conn.execute(query.order_by(key_epoch.c.no)).scalars())


def _checked(database: Database, keys_dir: Path) -> tuple[Keys, int]:
    """Read the keys and make sure that they are the ledger's own; gives its newest epoch, too."""
    keys = Keys.load(keys_dir)
    macs = Macs(keys)
    require_own_keys(database, macs)
    learn_epoch(database, macs)
    row = database.read(last_epoch)
    return keys, macs.epoch if row is None else row.no


def _blank(conn: Connection, macs: Macs, no: int, after: str) -> list[str]:
    """Take the references out of some requests; gives their ids."""
    rows = conn.execute(
        select(request)
        .where(request.c.key_epoch == no, request.c.id > after)
        .order_by(request.c.id)
        .limit(_AT_ONCE)
        .with_for_update(key_share=True)
    ).all()
    for row in rows:
        bare = {**row._mapping, "idempotency_ref": None}  # noqa: SLF001 - SQLAlchemy's name
        values: dict[str, Any] = {"subject_ref": None, "idempotency_ref": None, "fingerprint": ""}
        if header_holds(macs, row):
            values["header_mac"] = macs.header(header_fields(bare))
        conn.execute(update(request).where(request.c.id == row.id).values(values))
    return [row.id for row in rows]


def _destroy(path: Path) -> None:
    try:
        with path.open("r+b") as file:
            file.write(b"0" * path.stat().st_size)
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
    except OSError as error:
        msg = f"{path.name} cannot be destroyed in {path.parent} ({error.strerror}); remove it."
        raise KeysError(msg) from None


def _moment(rows: Mapping[int, Any], no: int, name: str) -> datetime | None:
    value = getattr(rows[no], name) if no in rows else None
    return from_wall(value) if value else None
