"""How the log stands: its origin, its leaves, its last checkpoint, and whether all of that fits."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, select

from ledger.audit.notes import Checkpoint, PublicKey, open_checkpoint
from ledger.audit.published import Published
from ledger.audit.stored import StoredTree, count_leaves
from ledger.engine import Database
from ledger.errors import AuditError, RolledBackError
from ledger.schema import checkpoint, origin

__all__ = [
    "NEW_ORIGIN",
    "LogState",
    "is_recorded",
    "opened_note",
    "read_state",
    "require_current",
    "require_published",
]

_LATELY = 20
NEW_ORIGIN = (
    "If an older copy of the ledger was restored on purpose, open a new origin with `expunge audit "
    'new-origin`, then look for what is missing (docs/operations.md, "After a restore")'
)


@dataclass(frozen=True, kw_only=True)
class LogState:
    """What the ledger holds of the log.

    Attributes:
        origin: The log's name; None when nothing was sealed yet.
        opened_size: Leaves that were there when it got this name.
        leaves: Leaves now.
        number: Of the last checkpoint, counted over all origins; 0 without one.
        last: The note of this origin's last checkpoint, None without one.
        last_size: Its size; 0 without one.
    """

    origin: str | None
    opened_size: int
    leaves: int
    number: int
    last: str | None
    last_size: int


def read_state(conn: Connection) -> LogState:
    """Read how the log stands."""
    name = conn.execute(select(origin).order_by(origin.c.no.desc()).limit(1)).first()
    last = conn.execute(select(checkpoint).order_by(checkpoint.c.no.desc()).limit(1)).first()
    own = last is not None and name is not None and last.origin == name.name
    return LogState(
        origin=None if name is None else str(name.name),
        opened_size=0 if name is None else int(name.size),
        leaves=count_leaves(conn),
        number=0 if last is None else int(last.no),
        last=last.note if last is not None and own else None,
        last_size=last.size if last is not None and own else 0,
    )


def opened_note(note: str, keys: Iterable[PublicKey], *, whose: str) -> Checkpoint:
    """Open a checkpoint that must be right.

    Args:
        note: The note.
        keys: Those that are trusted.
        whose: For the message: which checkpoint it is.

    Raises:
        AuditError: It is not.
    """
    try:
        return open_checkpoint(note, keys)
    except ValueError as error:
        msg = (
            f"{whose} cannot be trusted: {error} Somebody changed it, or it belongs to another "
            "ledger; compare with its copies before anything else is signed."
        )
        raise AuditError(msg) from None


def require_current(conn: Connection, state: LogState, published: Checkpoint) -> None:
    """Make sure that the ledger goes on from a checkpoint that was published.

    Raises:
        RolledBackError: It has fewer leaves, or is of another origin.
        AuditError: Its leaves give another root.
    """
    if state.origin != published.origin:
        msg = (
            f"The last published checkpoint is of log {published.origin}, and the ledger's log is "
            f"{state.origin or 'not opened yet'}: this is another ledger, or an older copy. "
            f"{NEW_ORIGIN}; else point EXPUNGE_AUDIT_DIR and EXPUNGE_LEDGER_URL at the same one."
        )
        raise RolledBackError(msg)
    if state.leaves < published.size:
        msg = (
            f"The ledger is older than what was published: it has {state.leaves} sealed events, "
            f"and the last checkpoint says {published.size}. What came after is missing, calls "
            f"that were made included, so nothing is sealed and nothing is sent. {NEW_ORIGIN}; "
            "else put back the newest copy."
        )
        raise RolledBackError(msg)
    if StoredTree(conn).root(0, published.size) != published.root:
        msg = (
            f"The ledger's first {published.size} sealed events do not give the root that was "
            "signed over them: somebody changed the log, or it was sealed twice. Nothing more is "
            "signed; `expunge audit verify` names the first bad index."
        )
        raise AuditError(msg)


def is_recorded(conn: Connection, note: str) -> bool:
    """Say whether the ledger has a checkpoint that was published; the sealer notes it last."""
    last = select(checkpoint.c.note).order_by(checkpoint.c.no.desc()).limit(_LATELY)
    return note in conn.execute(last).scalars().all()


def require_published(database: Database, published: Published) -> None:
    """Refuse to work on a ledger that is older than its last published checkpoint.

    For the start of whoever makes calls. Without the file, as on another host than the sealer's,
    nothing can be said and nothing is.

    Args:
        database: Where the ledger is.
        published: The directory of EXPUNGE_AUDIT_DIR.

    Raises:
        RolledBackError: It is older, or another ledger.
        LedgerError: The database did not answer.
    """
    try:
        note = published.checkpoint()
        keys = published.keys()
        checkpoint = None if note is None else open_checkpoint(note, keys)
    except (AuditError, ValueError):
        return  # not for us to judge: the sealer says what is wrong with the files
    if checkpoint is None:
        return

    def ask(conn: Connection) -> None:
        state = read_state(conn)
        if state.origin != checkpoint.origin or state.leaves < checkpoint.size:
            require_current(conn, state, checkpoint)

    database.read(ask)
