"""The schema: bringing a ledger up to this release, and refusing one that is not.

Migrations only go forward and are never edited once released; their SQL stands in files, one per
database.
"""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, select

from ledger.engine import Database
from ledger.errors import LedgerError, SchemaError

__all__ = ["check_schema", "upgrade"]

_SCRIPTS: Final = Path(__file__).with_name("migrations")
_ONE_AT_A_TIME: Final = 0x657870756E6765  # a number of our own among the server's advisory locks


def upgrade(url: str) -> str:
    """Create or upgrade the tables.

    Args:
        url: The ledger's URL, with a role that may create tables.

    Returns:
        The revision in force afterwards.

    Raises:
        LedgerError: The database did not answer or refused.
        SettingsError: The URL is none.
    """
    database = Database(url)
    if database.is_sqlite and database.engine.url.database:
        Path(database.engine.url.database).parent.mkdir(parents=True, exist_ok=True)
    try:
        # One transaction for all: a migration killed half-way leaves the ledger as it was.
        return database.write(lambda conn: _upgrade(conn, database.clock.source))
    finally:
        database.close()


def check_schema(database: Database) -> None:
    """Refuse a ledger whose tables are missing or of another release.

    Raises:
        SchemaError: They are; the message says what to do.
        LedgerError: The database did not answer.
    """
    found = database.read(_revision)
    head = ScriptDirectory(str(_SCRIPTS)).get_current_head()
    if found == head:
        return
    if found is None:
        msg = "The ledger has no tables yet; run `expunge db upgrade`."
    elif found in {script.revision for script in ScriptDirectory(str(_SCRIPTS)).walk_revisions()}:
        msg = (
            f"The ledger is at revision {found}, this release needs {head}; "
            "run `expunge db upgrade`."
        )
    else:
        msg = (
            f"The ledger is at revision {found}, which is newer than this release knows; "
            "upgrade this installation of Expunge."
        )
    raise SchemaError(msg)


def _revision(conn: Connection) -> str | None:
    return MigrationContext.configure(conn).get_current_revision()


def _upgrade(conn: Connection, clock_source: str) -> str:
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
    return revision
