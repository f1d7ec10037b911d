"""From the rows of a file to requests: one for all ids, one a user or agent, or one a line."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

from ledger.errors import RequestError
from ledger.fold import Folder
from ledger.states import Kind
from producer.files.by_user import group_by_user
from producer.files.jsonl import RequestRow, read_requests
from producer.files.layout import Format, Layout
from producer.files.parquet import read_parquet
from producer.files.plain import read_plain_blocks, read_plain_purges
from producer.files.rejects import Reject, RejectLog
from producer.files.rows import PurgeRow, TableRow
from producer.files.source import Source
from producer.files.table import read_table
from producer.files.terms import Terms

__all__ = ["Asked", "Row", "accepted", "check_together", "read_orders", "read_rows"]

# Many ids one after the other may come as one list.
Row = list[str] | TableRow | PurgeRow | RequestRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request as the file orders it.

    Attributes:
        line: The line or row that orders it; None when many do.
        kind: What is ordered.
        subject: Whom a purge is about, or whose the ids are.
        ids: For memories; to be used up before the next request is asked for.
        terms: As `Terms.shared` gives them, with an idempotency key of its own.
    """

    line: int | None
    kind: Kind
    subject: str | None
    ids: Iterable[str]
    terms: Mapping[str, Any]


def check_together(layout: Layout, terms: Terms) -> None:
    """Refuse a layout and terms that contradict each other.

    Raises:
        RequestError: They do.
    """
    layout.check()
    if terms.include_later and layout.format is Format.JSONL:
        msg = "In JSONL each purge says include_later for itself; leave it out for the whole file."
        raise RequestError(msg)
    if terms.include_later and layout.orders is Kind.MEMORIES:
        msg = "include_later is for purges; a file of memory ids orders these and no later ones."
        raise RequestError(msg)
    if terms.user_id is None:
        return
    if layout.format is Format.JSONL:
        msg = "In JSONL each line says whose its ids are; leave out the user for the whole file."
        raise RequestError(msg)
    if layout.by_user:
        msg = "A column says whose each id is; leave out the user for the whole file."
        raise RequestError(msg)
    if layout.orders is not Kind.MEMORIES:
        msg = "A purge names its users or agents line by line; leave out the user."
        raise RequestError(msg)


def read_rows(source: Source, layout: Layout) -> Iterator[Row | Reject]:
    """Yield what the file holds, row by row; memory does not grow with it.

    Raises:
        RequestError: The file as a whole cannot be taken.
    """
    if layout.format is Format.JSONL:
        return read_requests(source)
    if layout.format is Format.PARQUET:
        return read_parquet(source, columns=layout.columns, kind=layout.orders, together=True)
    if layout.format is not Format.PLAIN:
        delimiter = layout.delimiter
        if delimiter is None:
            delimiter = "\t" if layout.format is Format.TSV else ","
        return read_table(
            source,
            columns=layout.columns,
            delimiter=delimiter,
            kind=layout.orders,
            together=True,
        )
    if layout.orders is Kind.MEMORIES:
        return read_plain_blocks(source)
    return read_plain_purges(source, layout.orders)


def accepted(rows: Iterable[Row | Reject], rejects: RejectLog) -> Iterator[Row]:
    """Pass on what can be taken, and write down the rest."""
    for each in rows:
        if isinstance(each, Reject):
            rejects.add(each)
        else:
            yield each


def read_orders(
    rows: Iterable[Row], *, layout: Layout, terms: Terms, on_repeat: Callable[[], None]
) -> Iterator[Asked]:
    """Yield the requests that the rows order, always in the same order for the same file.

    Args:
        rows: Without rejects.
        layout: Of the file.
        terms: What holds for all of it.
        on_repeat: Called for each purge that stood there before.
    """
    given = terms.shared()
    if layout.format is Format.JSONL:
        for line in cast("Iterable[RequestRow]", rows):
            yield _line(line, given)
    elif layout.orders is not Kind.MEMORIES:
        folder = Folder()
        for row in cast("Iterable[PurgeRow]", rows):
            if folder.is_new(row.subject):
                own = _own_key(given, row.subject, layout.orders)
                yield Asked(
                    line=row.line, kind=layout.orders, subject=row.subject, ids=(), terms=own
                )
            else:
                on_repeat()
    elif layout.by_user:
        for user, ids in group_by_user(cast("Iterable[TableRow]", rows)):
            own = _own_key(given, user, Kind.MEMORIES)
            yield Asked(line=None, kind=Kind.MEMORIES, subject=user, ids=ids, terms=own)
    else:
        stream = _ids(rows)
        first = next(stream, None)
        if first is not None:
            yield Asked(
                line=None,
                kind=Kind.MEMORIES,
                subject=terms.user_id,
                ids=chain((first,), stream),
                terms=given,
            )


def _line(row: RequestRow, given: Mapping[str, Any]) -> Asked:
    own = {**given, **row.terms}
    if given["idempotency_key"] is not None and "idempotency_key" not in row.terms:
        own["idempotency_key"] = f"{given['idempotency_key']}:{row.line}"
    return Asked(line=row.line, kind=row.kind, subject=row.subject, ids=row.memory_ids, terms=own)


def _own_key(given: Mapping[str, Any], subject: str, kind: Kind) -> Mapping[str, Any]:
    key = given["idempotency_key"]
    if key is None:
        return given
    # By name and not by place: the same file with its lines in another order is the same.
    digest = hashlib.sha256(subject.encode()).hexdigest()[:32]
    part = "" if kind is Kind.MEMORIES else f"{kind.value}:"
    return {**given, "idempotency_key": f"{key}:{part}{digest}"}


def _ids(rows: Iterable[Row]) -> Iterator[str]:
    some = cast("Iterable[list[str] | TableRow]", rows)
    return chain.from_iterable(
        each if isinstance(each, list) else (each.memory_id,) for each in some
    )
