"""The schema: bringing a ledger up to this release, and refusing one that is not.

Migrations only go forward and are never edited once released; their SQL stands in files, one per
database.
"""

import functools
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, select, text

from ledger.engine import Database
from ledger.errors import LedgerError, SchemaError, SettingsError
from ledger.grants import Role, grant
from ledger.host import file_of, require_local
from ledger.private import make_private_folder

__all__ = ["check_schema", "require_schema", "upgrade"]

_SCRIPTS: Final = Path(__file__).with_name("migrations")
_VERSION: Final = text("SELECT version_num FROM alembic_version")
_ONE_AT_A_TIME: Final = 0x657870756E6765  # a number of our own among the server's advisory locks


def upgrade(url: str, *, app_role: str | None = None, sealer_role: str | None = None) -> str:
    """Create or upgrade the tables.

    Args:
        url: The ledger's URL, with a role that may create tables.
        app_role: PostgreSQL role of producers and workers, which may only add to the record: its
            name, or its URL of the ledger, and then it is made when it is missing.
        sealer_role: PostgreSQL role of the sealer; as above.

    Returns:
        The revision in force afterwards.

    Raises:
        LedgerError: The database did not answer or refused, or is a file that hosts share.
        SettingsError: The URL is none, a role does not exist, or SQLite is to have roles.
    """
    database = Database(url)
    roles = {"app_role": app_role, "sealer_role": sealer_role}
    if database.is_sqlite and any(roles.values()):
        msg = "SQLite has no roles; leave --app-role and --sealer-role out, or use PostgreSQL."
        raise SettingsError(msg)
    if (file := file_of(database)) is not None:
        _make_private(file)
    try:
        require_local(database)
        # One transaction for all: a migration killed half-way leaves the ledger as it was.
        return database.write(
            lambda conn: _upgrade(conn, database.clock.source, roles), patient=True
        )
    finally:
        database.close()


def _make_private(path: Path) -> None:
    """Make the file, and the folders that are missing, for their owner alone: it holds names.

    SQLite gives the files beside it (`-wal`, `-shm`) the same mode.
    """
    with suppress(OSError):  # SQLite will say better what is wrong with the path
        make_private_folder(path.parent)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def check_schema(database: Database) -> None:
    """Refuse a ledger whose tables are missing or of another release.

    Raises:
        SchemaError: They are; the message says what to do.
        LedgerError: The database did not answer.
    """
    file = file_of(database)
    if file is not None and not file.exists():
        msg = (
            "There is no file where EXPUNGE_LEDGER_URL says; correct it, or run "
            "`expunge db upgrade` to make a new ledger there."
        )
        raise SchemaError(msg, found=None, needed=_known()[0])
    found = database.read(_revision)
    if found != _known()[0]:
        raise _mismatch(found)


def require_schema(conn: Connection) -> None:
    """Refuse to go on in a transaction on a ledger that was migrated meanwhile; costs one SELECT.

    Raises:
        SchemaError: As for `check_schema`.
    """
    found = conn.execute(_VERSION).scalar()
    if found != _known()[0]:
        raise _mismatch(found)


def _known() -> tuple[str | None, frozenset[str]]:
    """Give this release's revision, and all that it knows."""
    return _revisions_in(_SCRIPTS)


@functools.cache
def _revisions_in(folder: Path) -> tuple[str | None, frozenset[str]]:
    # Reading the scripts takes longer than a claim may.
    scripts = ScriptDirectory(str(folder))
    return scripts.get_current_head(), frozenset(one.revision for one in scripts.walk_revisions())


def _mismatch(found: str | None) -> SchemaError:
    head, known = _known()
    if found is None:
        msg = "The ledger has no tables yet; run `expunge db upgrade`."
    elif found in known:
        msg = (
            f"The ledger is at revision {found}, this release needs {head}; "
            "run `expunge db upgrade`."
        )
    else:
        msg = (
            f"The ledger is at revision {found}, which is newer than this release knows; "
            "upgrade this installation of Expunge."
        )
    return SchemaError(msg, found=found, needed=head)


def _revision(conn: Connection) -> str | None:
    return MigrationContext.configure(conn).get_current_revision()


def _upgrade(conn: Connection, clock_source: str, roles: dict[str, str | None]) -> str:
    if conn.dialect.name == "postgresql":
        # Several hosts of one release start at the same moment; SQLite has one writer anyway.
        conn.execute(select(func.pg_advisory_xact_lock(_ONE_AT_A_TIME)))
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = conn
    config.attributes["clock_source"] = clock_source
    command.upgrade(config, "head")
    revision = _revision(conn)
    if revision is None:
        msg = "The migrations ran but left no revision; restore the ledger from its copy."
        raise LedgerError(msg)
    if any(roles.values()):
        grant(
            conn,
            **{name: None if text is None else Role.parse(text) for name, text in roles.items()},
        )
    return revision
