"""Chains of re-applications: which request each goes back to, and which restore it was made for.

A re-application follows what it orders again, which may be one itself, and is of the same kind. (A
request that a second look brought about follows its purge too, is of ids, and no re-application.)
For which restore it was made its idempotency key says, of which a reference is kept.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from ledger.macs import Macs
from ledger.schema import request

__all__ = ["Chains", "restore_key"]

_Place = tuple[int, str]


def restore_key(root: str, restore: str) -> str:
    """Give the idempotency key that a chain is ordered again under, once for each restore.

    Args:
        root: Id of the request that the chain goes back to.
        restore: Which restore: the backup's moment, and how often it was restored when that is more
            than once.
    """
    return f"reapply/{root}/{restore}"


class Chains:
    """What the ledger knows of re-applications; one look through its requests."""

    def __init__(self, conn: Connection, macs: Macs, *, since: int, restore: str) -> None:
        """Read them.

        Args:
            conn: A transaction.
            macs: Made the references of the keys.
            since: The backup's moment, wall time.
            restore: As for `restore_key`.
        """
        self._macs = macs
        self._since = since
        self._restore = restore
        self._known: set[str] = set()
        self._before: dict[str, str] = {}
        self._latest: dict[str, _Place] = {}
        # Of this restore: the re-application of each chain, by the chain's root.
        self.made: dict[str, str] = {}
        # When the first of them was taken in; nothing younger can have been undone by the restore.
        self.first_made_at: int | None = None
        self.read(conn)

    def read(self, conn: Connection) -> None:
        """Read them anew; those that this process noted stay."""
        before = request.alias("before")
        rows: Sequence[Any] = conn.execute(
            select(
                request.c.id,
                request.c.kind,
                request.c.project,
                request.c.follows,
                request.c.idempotency_ref,
                request.c.created_at,
                *_of_end(request, ""),
                before.c.kind.label("kind_before"),
                *_of_end(before, "before_"),
            ).join(before, before.c.id == request.c.follows)
        ).all()
        self._known = {row.id for row in rows}
        same_kind = [row for row in rows if row.kind == row.kind_before]
        self._before = {row.id: row.follows for row in same_kind}
        self._latest = {}
        for row in same_kind:
            root = self.root(row.id)
            self._note_end(root, row.follows, row, "before_")
            self._note_end(root, row.id, row, "")
            if row.closing_mac is not None and self._is_made(row, root):
                self.made.setdefault(root, row.id)
                first = self.first_made_at
                self.first_made_at = row.created_at if first is None else min(first, row.created_at)

    def lack(self, rows: Iterable[Row[Any]]) -> bool:
        """Say whether some of these follow a request, and came after this was read."""
        return any(row.follows is not None and row.id not in self._known for row in rows)

    def root(self, request_id: str) -> str:
        """Give the id of the request that this one goes back to; its own when it is none."""
        seen = {request_id}
        while (before := self._before.get(request_id)) is not None and before not in seen:
            seen.add(before)  # somebody who writes to the database could make a ring
            request_id = before
        return request_id

    def is_latest(self, row: Row[Any]) -> bool:
        """Say whether none of the row's chain ended after it."""
        place = (row.finished_at, row.id)
        return self._latest.get(self.root(row.id), place) <= place

    def _is_made(self, row: Row[Any], root: str) -> bool:
        # An earlier release made the key of what it follows, which need not be the root.
        keys = {restore_key(one, self._restore) for one in (root, row.follows)}
        return row.idempotency_ref in {self._macs.idempotency(row.project, key) for key in keys}

    def _note_end(self, root: str, request_id: str, row: Row[Any], prefix: str) -> None:
        values = row._mapping  # noqa: SLF001 - SQLAlchemy's name
        ended = values[f"{prefix}finished_at"]
        sent = values[f"{prefix}cancelled"] < values[f"{prefix}unique_ids"]
        if ended is None or ended < self._since or not sent:
            return
        if values[f"{prefix}closing_mac"] is not None:
            place = (ended, request_id)
            self._latest[root] = max(self._latest.get(root, place), place)


def _of_end(table: Any, prefix: str) -> list[Any]:  # noqa: ANN401 - a table or an alias of it
    names = ("finished_at", "closing_mac", "cancelled", "unique_ids")
    return [table.c[name].label(f"{prefix}{name}") for name in names]
