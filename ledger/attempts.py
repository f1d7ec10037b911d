"""The record of calls: a row each before it departs, and what became of it afterwards.

Some hundred rows go together several times a second, so each is one statement of the driver's own:
on PostgreSQL one way there and back, where rows one by one are a statement each.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, bindparam, or_, update

from ledger.insert import insert_all
from ledger.schema import attempt

__all__ = ["close_attempts", "open_attempts"]

_OUTCOME: Final = ("outcome", "reason", "http_status", "code", "took_us", "stale")
_CLOSE: Final = update(attempt).where(
    attempt.c.claim == bindparam("of_claim"), attempt.c.place == bindparam("at_place")
)
# Not when the same was recorded before, and only the confirmation got lost.
_CLOSE_LATE: Final = _CLOSE.where(
    or_(attempt.c.outcome.is_(None), attempt.c.reason == "lease_lapsed")
)
_CLOSE_ALL: Final = (
    "UPDATE attempt SET outcome = told.outcome, reason = told.reason,"
    " http_status = told.http_status, code = told.code, took_us = told.took_us,"
    " stale = told.stale FROM unnest(%b::text[], %b::integer[], %b::text[], %b::text[],"
    " %b::integer[], %b::bigint[], %b::bigint[], %b::smallint[])"
    " AS told(claim, place, outcome, reason, http_status, code, took_us, stale)"
    " WHERE attempt.claim = told.claim AND attempt.place = told.place"
)


def open_attempts(conn: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Record calls that are about to be made.

    Args:
        conn: The claim's transaction.
        rows: At least one, all with the same columns.
    """
    insert_all(conn, attempt, rows)


def close_attempts(conn: Connection, rows: Sequence[Mapping[str, Any]], *, late: bool) -> None:
    """Record what became of calls.

    Args:
        conn: The record's transaction.
        rows: `of_claim` and `at_place`, and the columns of the outcome.
        late: Their leases are over: only those are touched that nothing else was recorded of.
    """
    if conn.dialect.name == "postgresql" and not late:
        names = ("of_claim", "at_place", *_OUTCOME)
        conn.exec_driver_sql(_CLOSE_ALL, tuple([row[name] for row in rows] for name in names))
    else:
        conn.execute(_CLOSE_LATE if late else _CLOSE, rows)
