"""What each role may do in a PostgreSQL ledger: the application only adds to the record.

Three roles: the owner makes the tables (`expunge db upgrade`); the application's, of producers,
bridges and workers; the sealer's, which gives places in the log and prunes. Who can change the
record can still be found out by `expunge audit verify`, the owner included; with these grants the
application cannot even try.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import ArgumentError

from ledger.errors import SettingsError
from ledger.schema import metadata

__all__ = ["ADDED_ONLY", "RECORD", "SEALED", "Role", "grant"]

# Of the record; both are written by whoever makes the change that an event is about.
ADDED_ONLY: Final = ("event", "event_body")
# What only the sealer writes, and nobody changes.
SEALED: Final = ("leaf", "subtree", "origin", "checkpoint", "pruning")
RECORD: Final = (*ADDED_ONLY, *SEALED)
_QUEUE: Final = "unsealed"
_REVISION: Final = "alembic_version"


@dataclass(frozen=True, kw_only=True, repr=False)
class Role:
    """A role of PostgreSQL.

    Attributes:
        name: Its name.
        password: With one, the role is made when it is missing; one that is there keeps its own.
    """

    name: str
    password: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Role":
        """Read a name, or a ledger's URL with user and password.

        Raises:
            SettingsError: It is a URL without a user.
        """
        if "://" not in text:
            return cls(name=text)
        try:
            url = make_url(text.strip())
        except ArgumentError:
            url = None
        if url is None or not url.username:
            msg = "A role's URL is no database URL with a user, as postgresql://user@host/name."
            raise SettingsError(msg)
        return cls(name=url.username, password=url.password)


def grant(conn: Connection, *, app_role: Role | None, sealer_role: Role | None) -> None:
    """Give the roles exactly what they need, and take away all else of ours.

    Args:
        conn: The owner's transaction, on PostgreSQL.
        app_role: Of producers, bridges and workers; None leaves it as it is.
        sealer_role: Of `expunge seal`; None leaves it as it is.

    Raises:
        SettingsError: A role does not exist, or can do anything anyway.
    """
    for role in (app_role, sealer_role):
        if role is not None:
            _check(conn, role)
    if app_role is not None:
        name = app_role.name
        _start(conn, name)
        work = [name for name in metadata.tables if name not in (*RECORD, _QUEUE)]
        _give(conn, name, "SELECT, INSERT, UPDATE, DELETE", *work)
        _give(conn, name, "SELECT, INSERT", *ADDED_ONLY, _QUEUE)
        _give(conn, name, "SELECT", *SEALED, _REVISION)
    if sealer_role is not None:
        name = sealer_role.name
        _start(conn, name)
        reads = ("account", "project", "clock", "request", "chunk", _REVISION)
        _give(conn, name, "SELECT", *RECORD, _QUEUE, *reads)
        _give(conn, name, "INSERT", *RECORD, _QUEUE)
        _give(conn, name, "DELETE", "event_body", _QUEUE)
        _give(conn, name, "SELECT, INSERT, UPDATE, DELETE", "lease", "heartbeat")
        # To stop all calls when the ledger turns out to be an older copy.
        stop = "UPDATE (paused, paused_at, stop_reason, halted_ns)"
        _give(conn, name, stop, "account")


def _check(conn: Connection, role: Role) -> None:
    query = text(
        "SELECT rolsuper, pg_has_role(rolname, current_user, 'MEMBER') AS owns"
        " FROM pg_roles WHERE rolname = :role"
    )
    found = conn.execute(query, {"role": role.name}).first()
    if found is None:
        if role.password is not None:
            making = text(
                "SELECT format('CREATE ROLE %I LOGIN PASSWORD %L', CAST(:name AS text),"
                " CAST(:password AS text))"
            )
            values = {"name": role.name, "password": role.password}
            statement = conn.execute(making, values).scalar_one()
            conn.exec_driver_sql(statement.replace("%", "%%"))
            return
        msg = (
            f"There is no role {role.name} in the database; make it first: "
            f"CREATE ROLE {_quoted(role.name)} LOGIN."
        )
        raise SettingsError(msg)
    if found.rolsuper or found.owns:
        msg = (
            f"Role {role.name} owns the ledger's tables or is a superuser, so nothing can be kept "
            "from it; name another one than that of EXPUNGE_LEDGER_ADMIN_URL."
        )
        raise SettingsError(msg)


def _start(conn: Connection, role: str) -> None:
    name = _quoted(role)
    conn.execute(text(f"GRANT USAGE ON SCHEMA public TO {name}"))
    conn.execute(text(f"REVOKE ALL ON {', '.join(metadata.tables)} FROM {name}"))
    conn.execute(text(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {name}"))


def _give(conn: Connection, role: str, rights: str, *tables: str) -> None:
    conn.execute(text(f"GRANT {rights} ON {', '.join(tables)} TO {_quoted(role)}"))


def _quoted(role: str) -> str:
    doubled = role.replace('"', '""')
    # A colon would begin a parameter.
    return f'"{doubled}"'.replace(":", "\\:")
