"""Hands a file in: one request for a list of ids, one a user, or one a line of JSONL."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from ledger.errors import LedgerError, RequestError
from ledger.model import Receipt
from ledger.states import Kind, Lane
from producer.files.by_user import group_by_user
from producer.files.jsonl import RequestRow, read_requests
from producer.files.layout import Columns, Format
from producer.files.plain import read_plain
from producer.files.rejects import Reject, RejectLog
from producer.files.source import Source
from producer.files.table import TableRow, read_table
from producer.submit import Producer

__all__ = ["ImportReport", "Layout", "Terms", "import_file"]

_T = TypeVar("_T")
_Take = Callable[[Receipt], None]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How to read the file.

    Attributes:
        format: Plain lines, CSV, TSV or JSONL.
        columns: For CSV and TSV, which column holds what.
        delimiter: For CSV; None is the comma.
    """

    format: Format
    columns: Columns = field(default_factory=Columns)
    delimiter: str | None = None


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What holds for the whole file; a JSONL line may say otherwise for itself.

    Attributes are those of `Producer.delete_memories`. Under an idempotency key, the request of a
    plain or CSV file has that key; with a user column each user's has one derived from key and
    user; a JSONL line without a key of its own has `KEY:LINE`.
    """

    project: str = "default"
    user_id: str | None = None
    lane: Lane | None = None
    verify: str | None = None
    reason: str | None = None
    idempotency_key: str | None = None
    submitted_at: datetime | None = None
    due_at: datetime | None = None
    not_before: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What came of a file.

    Attributes:
        requests: Requests that are recorded, those known before included.
        known: Of these, how many had been handed in under the same idempotency key before.
        requested: Ids in them, repeats included; a purge counts one.
        unique: Ids after folding repeats; a purge counts one.
        rejected: Lines that were not taken.
    """

    requests: int
    known: int
    requested: int
    unique: int
    rejected: int


@dataclass
class _Tally:
    requests: int = 0
    known: int = 0
    requested: int = 0
    unique: int = 0


def import_file(
    producer: Producer,
    source: Source,
    *,
    layout: Layout,
    terms: Terms,
    rejects: RejectLog,
    on_receipt: _Take | None = None,
) -> ImportReport:
    """Hand in everything that the file orders; memory does not grow with the file.

    Lines that cannot be taken go to *rejects*, and the others are handed in. What is wrong with the
    file as a whole raises, and then nothing of it is carried out; only a JSONL import, where each
    line stands for itself, keeps the requests that came before a ledger that stopped answering.

    Args:
        producer: Open.
        source: The file.
        layout: How to read it.
        terms: What holds for all of it.
        rejects: Takes the lines that are not taken.
        on_receipt: Called for each request as soon as it is recorded.

    Raises:
        RequestError: The file, or the terms, cannot be accepted; or no line of it could be taken.
        ConflictError: The idempotency key is that of another file. (A JSONL line is a reject.)
        LedgerError: The ledger did not confirm; the message says how far it got.
    """
    tally = _Tally()

    def take(receipt: Receipt) -> None:
        tally.requests += 1
        tally.known += receipt.duplicate
        tally.requested += receipt.requested
        tally.unique += receipt.unique
        if on_receipt is not None:
            on_receipt(receipt)

    if layout.format is Format.JSONL:
        _import_requests(producer, source, terms=terms, rejects=rejects, take=take)
    else:
        _import_ids(producer, source, layout=layout, terms=terms, rejects=rejects, take=take)
    if tally.requests == 0:
        raise _nothing(source, rejects)
    return ImportReport(rejected=rejects.count, **asdict(tally))


def _import_ids(
    producer: Producer,
    source: Source,
    *,
    layout: Layout,
    terms: Terms,
    rejects: RejectLog,
    take: _Take,
) -> None:
    given = asdict(terms)
    if layout.format is Format.PLAIN:
        ids = _taken(read_plain(source), rejects)
        _import_one(producer, ids, given=given, take=take)
        return
    delimiter = layout.delimiter or ("\t" if layout.format is Format.TSV else ",")
    rows = _taken(read_table(source, columns=layout.columns, delimiter=delimiter), rejects)
    if layout.columns.user_id is None:
        _import_one(producer, (row.memory_id for row in rows), given=given, take=take)
    else:
        _import_by_user(producer, rows, given=given, take=take)


def _import_one(
    producer: Producer, ids: Iterable[str], *, given: dict[str, Any], take: _Take
) -> None:
    stream = iter(ids)
    first = next(stream, None)
    if first is not None:
        take(producer.delete_memories(_again(first, stream), **given))


def _import_by_user(
    producer: Producer, rows: Iterable[TableRow], *, given: dict[str, Any], take: _Take
) -> None:
    if given["user_id"] is not None:
        msg = "A column says whose each id is; leave out the user for the whole file."
        raise RequestError(msg)
    key = given["idempotency_key"]
    for user, ids in group_by_user(rows):
        own: dict[str, Any] = {"user_id": user}
        if key is not None:
            # By user and not by place: the same file with its lines in another order is the same.
            own["idempotency_key"] = f"{key}:{hashlib.sha256(user.encode()).hexdigest()[:32]}"
        take(producer.delete_memories(ids, **{**given, **own}))


def _import_requests(
    producer: Producer, source: Source, *, terms: Terms, rejects: RejectLog, take: _Take
) -> None:
    given = asdict(terms)
    if given.pop("user_id") is not None:
        msg = "In JSONL each line says whose its ids are; leave out the user for the whole file."
        raise RequestError(msg)
    if terms.project not in producer.settings.projects:
        names = ", ".join(sorted(producer.settings.projects))
        msg = f"There is no such project in the settings; known are: {names}."
        raise RequestError(msg)
    for row in _taken(read_requests(source), rejects):
        own = dict(row.terms)
        if terms.idempotency_key is not None and "idempotency_key" not in own:
            own["idempotency_key"] = f"{terms.idempotency_key}:{row.line}"
        try:
            take(_hand_in(producer, row, {**given, **own}))
        except RequestError as error:
            rejects.add(Reject(line=row.line, reason=str(error)))
        except LedgerError as error:
            msg = f"{error} The lines before line {row.line} of {source.name} are recorded"
            msg += (
                "; hand the file in again, the same key keeps them from being recorded twice."
                if terms.idempotency_key is not None
                else ", the others are not; hand those in again."
            )
            raise type(error)(msg) from None


def _hand_in(producer: Producer, row: RequestRow, terms: dict[str, Any]) -> Receipt:
    if row.kind is Kind.MEMORIES:
        return producer.delete_memories(row.memory_ids, user_id=row.subject, **terms)
    purge = producer.purge_user if row.kind is Kind.USER else producer.purge_agent
    return purge(row.subject or "", **terms)


def _taken(found: Iterable[_T | Reject], rejects: RejectLog) -> Iterator[_T]:
    for each in found:
        if isinstance(each, Reject):
            rejects.add(each)
        else:
            yield each


def _again(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _nothing(source: Source, rejects: RejectLog) -> RequestError:
    if rejects.count == 0:
        return RequestError(f"{source.name} holds nothing to delete; nothing was handed in.")
    first = rejects.first[0]
    return RequestError(
        f"None of the lines of {source.name} could be taken ({rejects.count:,} rejected); nothing "
        f"was handed in. Line {first.line}: {first.reason}"
    )
