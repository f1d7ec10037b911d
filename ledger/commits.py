"""Did it commit? Settles a COMMIT whose answer never came (PostgreSQL).

Before its COMMIT a writing transaction learns its number, and asks afterwards, on a new connection,
what became of it. A number alone can lie: one that was given out shortly before the server crashed
is given out again, and the other transaction's end would be taken for ours. So what inserts rows
names one of them as its witness: only our own transaction can have made it.
See `docs/adr/0011-lost-commit-answers.md`.
"""

import random
import time
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Column, Connection, select, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError

__all__ = ["STEP", "Fate", "Step", "leave_number", "leave_witness", "settle"]

T = TypeVar("T")
# Name of the connection's option that holds the `Step`.
STEP: Final = "expunge_step"
_OWN_NUMBER: Final = text("SELECT pg_current_xact_id_if_assigned()::text")
_FATE: Final = text("SELECT pg_xact_status(CAST(:number AS xid8))")
# invalid_parameter_value: no such number was given out, so it was lost in a crash.
_NEVER_GIVEN: Final = "22023"
_LONGEST_PAUSE_S: Final = 0.5

Witness = Mapping[Column[Any], Any]


class Fate(Enum):
    """What became of a transaction."""

    COMMITTED = auto()
    ABORTED = auto()
    UNKNOWN = auto()


class Step(Generic[T]):
    """One try of a transaction, and what it takes to find out what became of it.

    Attributes:
        connected: A connection was there: what broke afterwards broke a transaction.
        committing: All was done, and COMMIT was sent.
        result: What the work gave, once `committing`.
        number: The transaction's, None when it wrote nothing.
        witness: A row that it inserted, by columns.
    """

    def __init__(self) -> None:
        """Start with nothing done."""
        self.connected = False
        self.committing = False
        self.result: T
        self.number: str | None = None
        self.witness: Witness | None = None

    def seal(self, conn: Connection, result: T, *, numbered: bool) -> None:
        """Keep what is needed afterwards; the next thing is the COMMIT.

        Args:
            conn: The transaction.
            result: What its work gave.
            numbered: Ask for its number, unless it is known: one way to PostgreSQL and back.
        """
        if numbered and self.number is None:
            self.number = conn.execute(_OWN_NUMBER).scalar()
        self.result = result
        self.committing = True


def leave_witness(conn: Connection, row: Witness) -> None:
    """Name a row that this transaction inserts, should anybody have to ask whether it committed.

    Args:
        conn: The transaction.
        row: Values that together no other row has or ever had, by column.
    """
    step = conn.get_execution_options().get(STEP)
    if isinstance(step, Step) and step.witness is None:
        step.witness = row


def leave_number(conn: Connection, number: str) -> None:
    """Tell the number of this transaction, when a statement of it has shown it anyway.

    Args:
        conn: The transaction.
        number: What `pg_current_xact_id()` gives, as text.
    """
    step = conn.get_execution_options().get(STEP)
    if isinstance(step, Step):
        step.number = number


def settle(
    engine: Engine,
    step: Step[Any],
    *,
    patience_s: float,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Fate:
    """Find out what became of a transaction; waits while it is still under way.

    Args:
        engine: Of the ledger's database.
        step: The transaction, sealed.
        patience_s: How long to try while the database is away or has not made up its mind. Each
            try may take as long as connecting does.
        monotonic: Seconds of a monotonic clock.
        sleep: Waits so many seconds.
    """
    if step.number is None:
        # It wrote nothing, so nothing can be half there.
        return Fate.COMMITTED
    end = monotonic() + patience_s
    pause_s = 0.02
    while True:
        try:
            fate = _ask(engine, step)
        except DBAPIError:
            fate = Fate.UNKNOWN
        if fate is not Fate.UNKNOWN or monotonic() >= end:
            return fate
        sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 - spreads the questions only
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _ask(engine: Engine, step: Step[Any]) -> Fate:
    with engine.connect() as conn:
        try:
            status = conn.execute(_FATE, {"number": step.number}).scalar()
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == _NEVER_GIVEN:
                return Fate.ABORTED
            raise
        if status == "aborted":
            return Fate.ABORTED
        if status != "committed":
            return Fate.UNKNOWN  # still under way
        if step.witness is None:
            return Fate.COMMITTED
        row = step.witness
        here = select(1).where(*(column == value for column, value in row.items()))
        return Fate.ABORTED if conn.execute(here).first() is None else Fate.COMMITTED
