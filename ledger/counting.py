"""Moving ids from one count of a request to another, added up per transaction."""

import functools
from collections import defaultdict
from itertools import groupby

from sqlalchemy import BigInteger, Connection, Update, bindparam, update

from ledger.schema import request

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
        """Write the changes, in the order of request ids, so that no two writers deadlock."""
        changes = {
            request_id: {name: n for name, n in more.items() if n}
            for request_id, more in self._changes.items()
        }
        for names, ids in groupby(sorted(changes), key=lambda one: tuple(sorted(changes[one]))):
            if names:
                rows = [
                    {"request_id": one} | {f"{name}_more": changes[one][name] for name in names}
                    for one in ids
                ]
                conn.execute(_adding(names), rows)
        self._changes.clear()


@functools.cache
def _adding(names: tuple[str, ...]) -> Update:
    """Make the statement that adds to these columns; what turns up in practice are a few."""
    return (
        update(request)
        .where(request.c.id == bindparam("request_id"))
        .values(
            {name: request.c[name] + bindparam(f"{name}_more", type_=BigInteger) for name in names}
        )
    )
