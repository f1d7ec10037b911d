"""Moving ids from one count of a request to another, added up per transaction."""

from collections import defaultdict

from sqlalchemy import Connection, update

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
        for request_id in sorted(self._changes):
            changes = {name: n for name, n in self._changes[request_id].items() if n}
            if changes:
                conn.execute(
                    update(request)
                    .where(request.c.id == request_id)
                    .values({name: request.c[name] + n for name, n in changes.items()})
                )
        self._changes.clear()
