"""Moving ids from one count of a request to another, added up per transaction."""

import functools
from collections import defaultdict
from collections.abc import Mapping
from itertools import groupby

from sqlalchemy import BigInteger, Connection, Update, bindparam, select, update

from ledger.engine import CAREFUL, MiscountError
from ledger.model import COUNT_NAMES
from ledger.schema import request
from ledger.tampering import note_tampered

__all__ = ["Tally"]


class Tally:
    """Changes to the counts of requests; `apply` writes each request's row once."""

    def __init__(self) -> None:
        """Start with no change."""
        self._changes: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))

    def move(self, request_id: str, n: int, *, out_of: str, into: str) -> None:
        """Count `n` ids under `into` instead of `out_of`; the sum stays the same."""
        if n and out_of != into:
            self._changes[request_id][out_of] -= n
            self._changes[request_id][into] += n

    def add(self, request_id: str, name: str, n: int = 1) -> None:
        """Add to a count that is no part of the sum: `attempts`, `retried`, `next_no`."""
        self._changes[request_id][name] += n

    def apply(self, conn: Connection) -> None:
        """Write the changes, in the order of request ids, so that no two writers deadlock.

        A count that would fall below zero is not what was ordered: somebody changed it, or what
        the work's rows say of themselves. Then as much is moved as there is, and that request
        stops; the others' changes are written all the same.

        Raises:
            MiscountError: There is such a count; `Database.write` runs the transaction once more,
                request by request.
        """
        changes = {
            request_id: {name: n for name, n in more.items() if n}
            for request_id, more in self._changes.items()
        }
        careful = conn.get_execution_options().get(CAREFUL, False)
        for shape, ids in groupby(sorted(changes), key=lambda one: _shape(changes[one])):
            if not shape:
                continue
            rows = [
                {"request_id": one} | {f"{name}_more": n for name, n in changes[one].items()}
                for one in ids
            ]
            for some in [[row] for row in rows] if careful else [rows]:
                if conn.execute(_adding(shape), some).rowcount == len(some):
                    continue
                if not careful:
                    raise MiscountError
                request_id = str(some[0]["request_id"])
                _move_what_there_is(conn, request_id, changes[request_id])
        self._changes.clear()


def _shape(changes: Mapping[str, int]) -> tuple[tuple[str, bool], ...]:
    """Give which counts change, and whether they fall."""
    return tuple((name, changes[name] < 0) for name in sorted(changes))


@functools.cache
def _adding(shape: tuple[tuple[str, bool], ...]) -> Update:
    """Make the statement that adds to these counts; what turns up in practice are a few."""
    sums = {
        name: request.c[name] + bindparam(f"{name}_more", type_=BigInteger) for name, _ in shape
    }
    enough = [sums[name] >= 0 for name, falls in shape if falls]
    return update(request).where(request.c.id == bindparam("request_id"), *enough).values(sums)


def _move_what_there_is(conn: Connection, request_id: str, changes: Mapping[str, int]) -> None:
    row = conn.execute(
        select(request).where(request.c.id == request_id).with_for_update(key_share=True)
    ).one()
    values = {name: getattr(row, name) + n for name, n in changes.items()}
    short = sum(-n for n in values.values() if n < 0)
    for name, n in changes.items():
        if n < 0:
            values[name] = max(0, values[name])
        elif name in COUNT_NAMES:
            values[name] -= min(n, short)
            short -= min(n, short)
    conn.execute(update(request).where(request.c.id == request_id).values(values))
    note_tampered(conn, request_id, {"fault": "counts"})
