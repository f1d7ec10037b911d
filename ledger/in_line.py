"""What is in line, and until when the rest waits: the questions of a claim, each built once.

Claims ask them several times a second under their account's lock, so none is put together anew.
Constants stand in the SQL itself: SQLite plans a statement again whenever a value is bound that a
partial index depends on.
"""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    ScalarSelect,
    Select,
    Table,
    bindparam,
    literal_column,
    null,
    or_,
    select,
    update,
)

from ledger.checks import may_delete, request_columns
from ledger.claimed import CHUNK_COLUMNS, READBACK_COLUMNS
from ledger.schema import FOREVER_NS, account, chunk, project, readback, request
from ledger.states import Lane

__all__ = [
    "ACCOUNTS",
    "ACCOUNTS_IN_TURN",
    "DUE",
    "PROJECTS",
    "PROMOTE",
    "SOONEST",
    "is_waiting",
]

_PROMOTED_AT_ONCE: Final = 256
_DUE: Final[ColumnElement[Any]] = literal_column("'due'")
_ZERO: Final[ColumnElement[Any]] = literal_column("0")
_ONE: Final[ColumnElement[Any]] = literal_column("1")
_FOREVER: Final = literal_column(str(FOREVER_NS), BigInteger)


def _soonest(table: Table, after: str) -> ScalarSelect[Any]:
    # `> 0` as the index has it, and no min(): SQLite would walk through the whole table.
    due = table.c.due_ns
    return (
        select(due)
        .where(
            table.c.state == _DUE,
            due > _ZERO,
            due > bindparam(after, type_=BigInteger),
            due < _FOREVER,
        )
        .order_by(due)
        .limit(_ONE)
        .scalar_subquery()
    )


SOONEST: Final[Select[Any]] = select(
    _soonest(chunk, "chunks_after").label("chunk"),
    _soonest(readback, "reads_after").label("readback"),
)
"""When the next chunk and the next read-back are due, after these moments; NULL for never."""

PROMOTE: Final = (
    update(chunk)
    .where(
        chunk.c.id.in_(
            select(chunk.c.id)
            .where(
                chunk.c.state == _DUE,
                chunk.c.due_ns > _ZERO,
                chunk.c.due_ns <= bindparam("now", type_=BigInteger),
            )
            .order_by(chunk.c.due_ns)
            .limit(literal_column(str(_PROMOTED_AT_ONCE)))
            .with_for_update(key_share=True, skip_locked=True)
        )
    )
    .values(due_ns=_ZERO)
)
"""Puts chunks whose waiting time is over, at `now`, back in line."""

ACCOUNTS: Final = select(account)
"""All accounts, for SQLite, whose writer is alone."""

ACCOUNTS_IN_TURN: Final = (
    select(account).order_by(account.c.name.collate("C")).with_for_update(key_share=True)
)
"""The same for PostgreSQL: each is locked after the one before it, in Python's order of names."""


def _ready(table: Table, lane: Lane) -> list[ColumnElement[bool]]:
    found = [table.c.lane == literal_column(f"'{lane.value}'"), table.c.state == _DUE]
    return [*found, chunk.c.due_ns == _ZERO] if table is chunk else found


def _line(table: Table) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """Give the order of the line, which is the index's too."""
    return table.c.urgency, table.c.tag if table is chunk else table.c.due_ns


def _waiting(table: Table, lane: Lane) -> ColumnElement[bool]:
    # Not EXISTS, and in the index's order: else PostgreSQL walks through the table.
    first = (
        select(table.c.id)
        .where(
            table.c.account == project.c.account,
            table.c.project == project.c.name,
            *_ready(table, lane),
        )
        .order_by(*_line(table))
        .limit(_ONE)
    )
    return first.scalar_subquery().is_not(None)


def _label(table: Table, lane: Lane) -> str:
    return f"{table.name}_{lane.value}"


PROJECTS: Final = (
    select(
        project.c.name,
        project.c.account,
        project.c.failures,
        project.c.open_until_ns,
        *(
            _waiting(table, lane).label(_label(table, lane))
            for table in (chunk, readback)
            for lane in Lane
        ),
    )
    .where(project.c.account == bindparam("account"), project.c.paused == _ZERO)
    .order_by(project.c.name)
)
"""The projects of `account` that nobody paused, and whether anything of them stands in line."""


def is_waiting(row: Any, table: Table, lane: Lane) -> bool:  # noqa: ANN401 - a Row of `PROJECTS`
    """Say whether a project (a row of `PROJECTS`) has anything in this line."""
    return bool(getattr(row, _label(table, lane)))


def _runnable(query: Select[Any], table: Table, lane: Lane) -> Select[Any]:
    """Only of one project and lane, not of held requests, and lock what is taken."""
    return (
        query.where(
            table.c.account == bindparam("account"),
            table.c.project == bindparam("project"),
            *_ready(table, lane),
            request.c.held == _ZERO,
        )
        .order_by(*_line(table))
        .limit(bindparam("most"))
        .with_for_update(key_share=True, of=table, skip_locked=True)
    )


def _due_chunks(lane: Lane) -> Select[Any]:
    query = (
        select(
            chunk.c.id.label("chunk_id"),
            null().label("readback_id"),
            chunk.c.tag.label("place_in_line"),
            *(chunk.c[column] for column in CHUNK_COLUMNS),
            chunk.c.mac,
            *request_columns(),
        )
        .join(request, request.c.id == chunk.c.request_id)
        .where(may_delete(), request.c.finished_at.is_(None))
    )
    return _runnable(query, chunk, lane)


def _due_readbacks(lane: Lane) -> Select[Any]:
    query = (
        select(
            readback.c.chunk_id,
            readback.c.id.label("readback_id"),
            readback.c.due_ns.label("place_in_line"),
            *(readback.c[column] for column in READBACK_COLUMNS),
            readback.c.kind.label("readback_kind"),
            chunk.c.ids,
            chunk.c.sightings,
            chunk.c.no,
            chunk.c.parent,
            chunk.c.first,
            chunk.c.places,
            chunk.c.mac,
            *request_columns(),
            request.c.finished_at,
        )
        .outerjoin(chunk, chunk.c.id == readback.c.chunk_id)
        .join(request, request.c.id == readback.c.request_id)
        .where(
            readback.c.due_ns <= bindparam("now", type_=BigInteger),
            or_(request.c.finished_at.is_(None), request.c.second_look == "looking"),
        )
    )
    return _runnable(query, readback, lane)


DUE: Final = {(chunk, lane): _due_chunks(lane) for lane in Lane} | {
    (readback, lane): _due_readbacks(lane) for lane in Lane
}
"""The first `most` rows in line of a `project` of an `account`, by table and lane; locks them."""
