"""Was somebody erased? From a name to the requests that were about it, by its references.

Who asks needs the pseudonym keys, and each look is recorded, without the names.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from ledger.acting import check_principal
from ledger.clock import from_wall
from ledger.engine import Database
from ledger.epochs import destroyed_epochs
from ledger.errors import KeysError, RequestError
from ledger.events import EventType, append
from ledger.fitting import are_own_keys
from ledger.ids import check_subject
from ledger.in_force import last_epoch
from ledger.macs import Macs
from ledger.schema import project, request
from ledger.states import Kind, Result

__all__ = ["Answer", "Known", "Looked", "find_subjects"]

_AT_ONCE: Final = 500
_MOST_PARAMETERS: Final = 10_000
_COMPLETE: Final = (Result.COMPLETE, Result.COMPLETE_WITH_ALREADY_ABSENT)


class Answer(StrEnum):
    """What the ledger knows of a name in one request, or that it knows none.

    `named`: a batch of memories was deleted for it, which need not have been all of them.
    """

    ERASED = "erased"
    NAMED = "named"
    UNDER_WAY = "under_way"
    NOT_DONE = "not_done"
    NOT_KNOWN = "not_known"


@dataclass(frozen=True, kw_only=True)
class Known:
    """One answer; never the name.

    Attributes:
        line: Which name: its number in what was asked, from 1.
        request: The request's id, and what became of it; None when nothing is known.
    """

    line: int
    answer: Answer
    request: str | None = None
    project: str | None = None
    kind: str | None = None
    result: str | None = None
    certainty: str | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Looked:
    """All answers, and under which epochs nothing can be told any more."""

    known: list[Known]
    untold: list[int]


def find_subjects(
    database: Database,
    macs: Macs,
    subjects: Iterable[str],
    *,
    principal: str,
    projects: Sequence[str] | None = None,
    agents: bool = False,
    since: datetime | None = None,
) -> Looked:
    """Say for each name which requests were about it.

    Args:
        database: Where the ledger is.
        macs: Has the pseudonym keys.
        subjects: User ids, or agent ids; an empty one is passed over, and keeps its number.
        principal: Who asks, for the record; at most 64 characters.
        projects: Where; None is everywhere.
        agents: They are agent ids.
        since: Only requests that ended since then, or have not ended.

    Raises:
        RequestError: A name is none, or a project is not known; named by its line.
        KeysError: The keys are another ledger's.
        LedgerError: The ledger did not confirm that it recorded the look; nothing is shown then.
    """
    check_principal(principal)
    if database.read(lambda conn: are_own_keys(conn, macs)) is False:
        msg = (
            "The keys in EXPUNGE_KEYS_DIR are not those of this ledger: under others nobody would "
            "be known. Take its own keys; nothing was looked up."
        )
        raise KeysError(msg)
    names = database.read(lambda conn: conn.execute(select(project.c.name)).scalars().all())
    wanted = list(names if projects is None else projects)
    if odd := set(wanted) - set(names):
        msg = (
            f"{len(odd)} of the projects are not in this ledger; `expunge config show` lists them."
        )
        raise RequestError(msg)
    kind = Kind.AGENT if agents else Kind.USER
    found: list[Known] = []
    source = iter(enumerate(subjects, start=1))
    step = max(1, min(_AT_ONCE, _MOST_PARAMETERS // max(1, len(wanted) * len(macs.epochs))))
    asked = 0
    while some := list(islice(source, step)):
        some = [(line, one) for line, one in some if one]
        asked += len(some)
        refs: dict[str, list[int]] = {}
        for line, one in some:
            check_subject(one, where=f"Line {line}")
            for epoch in macs.epochs:
                for name in wanted:
                    refs.setdefault(macs.subject(epoch, name, kind, one), []).append(line)
        rows = database.read(lambda conn: _requests(conn, list(refs)))  # noqa: B023 - run at once
        found += _answers(rows, refs, [line for line, _ in some], since)
    untold = database.read(lambda conn: _untold(conn, macs))
    payload = {
        "principal": principal,
        "asked": asked,
        "known": len({one.line for one in found if one.request is not None}),
        "projects": len(wanted),
    }
    database.write(lambda conn: append(conn, EventType.SUBJECTS_LOOKED_UP, payload))
    return Looked(known=found, untold=untold)


def _untold(conn: Connection, macs: Macs) -> list[int]:
    """Give the epochs whose key was destroyed, or is not here."""
    last = last_epoch(conn)
    newest = max(macs.epoch, 0 if last is None else last.no)
    lacking = (no for no in range(1, newest + 1) if no not in macs.epochs)
    return sorted({*destroyed_epochs(conn), *lacking})


def _requests(conn: Connection, refs: Sequence[str]) -> Sequence[Row[Any]]:
    query = select(request).where(request.c.subject_ref.in_(refs))
    return conn.execute(query.order_by(request.c.created_at, request.c.id)).all()


def _answers(
    rows: Sequence[Row[Any]],
    refs: dict[str, list[int]],
    lines: Sequence[int],
    since: datetime | None,
) -> list[Known]:
    by_line: dict[int, list[Known]] = {line: [] for line in lines}
    for row in rows:
        ended_at = None if row.finished_at is None else from_wall(row.finished_at)
        if since is not None and ended_at is not None and ended_at < since:
            continue
        for line in refs[row.subject_ref]:
            by_line[line].append(
                Known(
                    line=line,
                    answer=_answer(row),
                    request=row.id,
                    project=row.project,
                    kind=row.kind,
                    result=row.result,
                    certainty=row.certainty,
                    ended_at=ended_at,
                )
            )
    return [
        one
        for line in lines
        for one in by_line[line] or [Known(line=line, answer=Answer.NOT_KNOWN)]
    ]


def _answer(row: Row[Any]) -> Answer:
    if row.finished_at is None:
        return Answer.UNDER_WAY
    if row.result not in _COMPLETE or row.tampered:
        return Answer.NOT_DONE
    return Answer.NAMED if row.kind == Kind.MEMORIES else Answer.ERASED
