"""Do the rows of requests say what was recorded of them? Held against the events about each.

What people ask for (`expunge find`, `status`, `list`) is read from rows, which change all the time
and so are under no signature. Their events are: what was accepted, and how each generation ended.
Rows are looked up by their ids, some at a time, so neither memory nor time grows out of hand.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Connection, Row, select, text

from ledger.among import among
from ledger.audit.faults import Kind, Verdict
from ledger.clock import to_wall
from ledger.event_types import EventType
from ledger.model import COUNT_NAMES
from ledger.schema import event, event_body, request
from ledger.states import Result, state_of

__all__ = ["ABOUT", "RequestRows"]

# Events that rows are held against.
ABOUT: Final = frozenset({EventType.REQUEST_ACCEPTED.value, EventType.REQUEST_FINISHED.value})

_AT_ONCE: Final = 250
_MOST_SHOWN: Final = 100
# Earlier releases read the clock twice for a request's end: for its row and for its event.
_SAME_MOMENT_US: Final = 60_000_000

# Fields of events by the columns that say the same.
_SHARED: Final = {
    **{name: name for name in ("project", "kind", "lane", "reason", "principal", "requested")},
    "unique_ids": "unique",
    "key_epoch": "key_epoch",
}
_OF_ACCEPTED: Final = _SHARED | {"chunks": "chunks", "verify": "verify"}
_OF_FINISHED: Final = (
    _SHARED
    | {name: name for name in ("result", "certainty", "chunk_size", "drawn", "leftovers")}
    | {"verify_now": "verify"}
)
_MOMENTS: Final = {"created_at": "accepted_at", "submitted_at": "submitted_at", "due_at": "due_at"}
_ROWS: Final = select(
    *(
        request.c[name]
        for name in sorted(
            {"id", "state", "generation", "closing_mac", "subject_ref", "finished_at", "later"}
            | {"tampered", "include_later", "not_checked", "second_look"}
            | {*_OF_ACCEPTED, *_OF_FINISHED, *_MOMENTS, *COUNT_NAMES}
        )
    )
).where(among(request.c.id, "ids"))
_PLACES: Final = {column.name: place for place, column in enumerate(_ROWS.selected_columns)}


class _Shared:
    """Columns and the fields that say the same; nearly all do, so that is looked for first."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._stored = itemgetter(*(_PLACES[column] for column in names))
        self._said = itemgetter(*names.values())

    def odd(self, said: Mapping[str, Any], row: Row[Any]) -> list[str]:
        with suppress(KeyError):  # of an earlier version, which has fewer fields
            if self._stored(row) == self._said(said):
                return []
        return [
            column
            for column, name in self._names.items()
            if name in said and getattr(row, column) != said[name]
        ]


_ACCEPTED: Final = _Shared(_OF_ACCEPTED)
_FINISHED: Final = _Shared(_OF_FINISHED)
_COUNTS: Final = _Shared({name: name for name in COUNT_NAMES})
_TURN_TYPES: Final = (
    EventType.REQUEST_FINISHED.value,
    EventType.REQUEST_REDRIVEN.value,
    EventType.ORDER_TAMPERED.value,
)
_TURNS: Final = (
    select(event.c.request, event.c.type, event_body.c.payload)
    .outerjoin(event_body, event_body.c.event == event.c.id)
    .where(
        among(event.c.request, "ids"),
        event.c.type.in_(_TURN_TYPES),
    )
)
_DESTROYED: Final = (
    select(event_body.c.payload)
    .join(event, event.c.id == event_body.c.event)
    .where(event.c.type == EventType.KEY_EPOCH_DESTROYED)
)
# Those that were never accepted are in no event: streams that were given up.
_WITHOUT: Final = """
WITH odd AS (
    SELECT r.id FROM request r
    WHERE NOT (r.closing_mac IS NULL AND (r.state = 'receiving'
            OR (r.state = 'cancelled' AND r.result = 'cancelled' AND r.certainty IS NULL)))
        AND {condition}
        AND NOT EXISTS (SELECT 1 FROM event e WHERE e.request = r.id AND e.type = '{type}')
)
SELECT id, (SELECT count(*) FROM odd) FROM odd ORDER BY id LIMIT 100
"""
_NOT_ACCEPTED: Final = text(_WITHOUT.format(condition="true", type=EventType.REQUEST_ACCEPTED))
_NOT_FINISHED: Final = text(
    _WITHOUT.format(condition="r.finished_at IS NOT NULL", type=EventType.REQUEST_FINISHED)
)


class RequestRows:
    """Holds rows of requests against events that were found to be whole.

    Args:
        conn: A transaction that only reads.
        verdict: Is told of each row that is missing or says other than its events.
    """

    def __init__(self, conn: Connection, verdict: Verdict) -> None:
        """Compare nothing yet."""
        self._conn = conn
        self._verdict = verdict
        self._said: list[Mapping[str, Any]] = []
        # Requests without a reference that once had one: some ids and how many, by epoch.
        self._blank: dict[int, tuple[list[str], int]] = {}

    def note(self, said: Mapping[str, Any]) -> None:
        """Take an event of one of the types in `ABOUT`, which must match its schema."""
        if isinstance(said["request"], str):
            self._said.append(said)

    def note_pruned(self, request_id: str) -> None:
        """Take one whose body is gone: that there was such a request is all that is left of it."""
        self._said.append({"request": request_id, "type": None})

    @property
    def full(self) -> bool:
        """There is enough for one look at the rows."""
        return len(self._said) >= _AT_ONCE

    def compare(self) -> None:
        """Look up the rows of what was noted, and forget it."""
        if not self._said:
            return
        ids = list({said["request"] for said in self._said})
        rows = {row.id: row for row in self._conn.execute(_ROWS, {"ids": ids})}
        closer: dict[str, Row[Any]] = {}
        missing: set[str] = set()
        for said in self._said:
            row = rows.get(said["request"])
            if row is None:
                missing.add(said["request"])
            elif said["type"] is not None:
                self._verdict.compared += 1
                if self._agrees(row.id, self._odd(said, row)) and _has_gone_on(said, row):
                    closer[row.id] = row
        for request_id in sorted(missing):
            says = f"Request {request_id} was accepted, and its row is missing."
            self._verdict.add(Kind.REQUEST_MISSING, says)
        if closer:
            self._look_closer(closer)
        self._said.clear()

    def close(self) -> None:
        """Compare the rest, and look for rows that are in no event."""
        self.compare()
        for query, what in (
            (_NOT_ACCEPTED, "is there, and that it was accepted is not recorded"),
            (_NOT_FINISHED, "has ended by its row, and no end of it is recorded"),
        ):
            found = self._conn.execute(query).all()
            for request_id, _ in found:
                says = f"Request {request_id} {what}."
                self._verdict.add(Kind.REQUEST_DIFFERS, says)
            self._verdict.found += found[0][1] - len(found) if found else 0
        self._look_at_blank()

    def _odd(self, said: Mapping[str, Any], row: Row[Any]) -> list[str]:
        """Give the columns of a row that say other than an event."""
        if said["type"] == EventType.REQUEST_FINISHED:
            if type(row.generation) is not int or row.generation < said["generation"]:
                return ["generation"]
            return _of_finished(said, row) if row.generation == said["generation"] else []
        odd = _of_both(said, row, _ACCEPTED)
        if row.subject_ref is None and said["subject_ref"] is not None:
            ids, count = self._blank.setdefault(said.get("key_epoch", 0), ([], 0))
            self._blank[said.get("key_epoch", 0)] = ids, count + 1
            if len(ids) < _MOST_SHOWN:
                ids.append(row.id)
        elif row.subject_ref != said["subject_ref"]:
            odd.append("subject_ref")
        return odd

    def _agrees(self, request_id: str, columns: Iterable[str]) -> bool:
        """Tell of columns that say other; True when there is none."""
        if names := ", ".join(columns):
            says = f"The row of request {request_id} says other than was recorded of it ({names})."
            self._verdict.add(Kind.REQUEST_DIFFERS, says)
        return not names

    def _look_closer(self, rows: Mapping[str, Row[Any]]) -> None:
        """See whether rows that went on from the end at hand did so by recorded acts."""
        seen: dict[str, set[tuple[str, int | None]]] = {}
        for request_id, kind, payload in self._conn.execute(_TURNS, {"ids": list(rows)}):
            # Of one whose body was pruned nobody can say which generation it was about.
            generation = None if payload is None else _number(payload, "generation")
            seen.setdefault(request_id, set()).add((kind, generation))
        for request_id, row in rows.items():
            known = seen.get(request_id, set())
            now = {(kind, row.generation) for kind in _TURN_TYPES} | {
                (kind, None) for kind in _TURN_TYPES
            }
            kinds = {kind for kind, _ in known & now}
            odd = []
            if row.generation > 1 and EventType.REQUEST_REDRIVEN not in kinds:
                odd.append("generation")
            if row.finished_at is not None and EventType.REQUEST_FINISHED not in kinds:
                odd.append("finished_at")
            if row.tampered and EventType.ORDER_TAMPERED not in {kind for kind, _ in known}:
                odd.append("tampered")
            self._agrees(request_id, odd)

    def _look_at_blank(self) -> None:
        """References go with the key of their epoch, which is recorded, and never otherwise."""
        if not self._blank:
            return
        destroyed = {
            _number(payload, "epoch") for payload in self._conn.execute(_DESTROYED).scalars()
        }
        for epoch, (ids, count) in self._blank.items():
            if epoch in destroyed:
                continue
            for request_id in ids:
                self._verdict.add(
                    Kind.REQUEST_DIFFERS,
                    f"The row of request {request_id} has lost its reference (subject_ref), and "
                    f"that the key of epoch {epoch} was destroyed is not recorded; run `expunge "
                    "keys destroy-epoch` again if it was broken off.",
                )
            self._verdict.found += count - len(ids)


def _of_both(said: Mapping[str, Any], row: Row[Any], shared: _Shared) -> list[str]:
    """Give the columns that say other than an event; of fields that its version has."""
    odd = shared.odd(said, row)
    if "order_digest" in said:
        digest = None if row.closing_mac is None else row.closing_mac.hex()
        odd += ["closing_mac"] if digest != said["order_digest"] else []
    return odd


def _has_gone_on(said: Mapping[str, Any], row: Row[Any]) -> bool:
    """Say whether a row differs from its generation's end as only a later act can have it."""
    if said["type"] != EventType.REQUEST_FINISHED:
        return False
    return row.generation > said["generation"] or bool(
        row.tampered and said.get("tampered") is False
    )


def _of_finished(said: Mapping[str, Any], row: Row[Any]) -> list[str]:
    """Give the columns that say other than how their own generation ended."""
    odd = _of_both(said, row, _FINISHED)
    if row.state != state_of(Result(said["result"])):
        odd.append("state")
    odd += _COUNTS.odd(said["counts"], row)
    at, ended = _microseconds(said["at"]), row.finished_at
    if at is not None and (type(ended) is not int or abs(ended - at) > _SAME_MOMENT_US):
        odd.append("finished_at")
    if "tampered" not in said:
        return odd  # of an earlier release, and says no more
    odd += [name for name, of in _MOMENTS.items() if getattr(row, name) != _microseconds(said[of])]
    if said["tampered"] and not row.tampered:
        odd.append("tampered")
    if bool(row.include_later) != said["include_later"]:
        odd.append("include_later")
    if _list(row.not_checked) != said["not_checked"]:
        odd.append("not_checked")
    # A second look has counted anew.
    if row.second_look is None and row.later != said["later"]:
        odd.append("later")
    return odd


def _microseconds(moment: str | None) -> int | None:
    try:
        return None if moment is None else to_wall(datetime.fromisoformat(moment))
    except (TypeError, ValueError):
        return None  # no moment, or one without a zone


def _list(stored: object) -> object:
    try:
        return json.loads(stored) if stored else []  # type: ignore[arg-type]
    except (TypeError, ValueError, RecursionError):
        return None


def _number(payload: bytes, name: str) -> int | None:
    try:
        value = json.loads(payload)[name]
    except (TypeError, ValueError, KeyError, RecursionError):
        return None
    return value if type(value) is int else None
