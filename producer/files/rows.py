"""One row of a file as an order: a memory's id, or whom to purge; else a reject."""

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.errors import RequestError
from ledger.ids import check_memory_id, check_subject
from ledger.states import Kind
from producer.files.rejects import Reject

__all__ = ["PurgeRow", "TableRow", "purge_of", "row_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """One id, and the user whose it is when a column tells."""

    line: int
    memory_id: str
    user_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeRow:
    """The user or agent of whom everything is ordered to go."""

    line: int
    subject: str


def row_of(kind: Kind, line: int, values: Sequence[str | None]) -> TableRow | PurgeRow | Reject:
    """Check what stands in the columns of `Columns.wanted(kind)`, in this order."""
    if None in values:
        what = "id" if values[0] is None else "user"
        return Reject(line=line, reason=f"The {what} is missing (null).")
    if kind is not Kind.MEMORIES:
        return purge_of(kind, line, values[0])
    try:
        return TableRow(
            line=line,
            memory_id=check_memory_id(values[0], where="The id"),
            user_id=check_subject(values[1], where="The user") if len(values) > 1 else None,
        )
    except RequestError as error:
        return Reject(line=line, reason=str(error))


def purge_of(kind: Kind, line: int, subject: str | None) -> PurgeRow | Reject:
    """Check whom a line or row orders to purge."""
    try:
        return PurgeRow(line=line, subject=check_subject(subject, where=f"The {kind.value}"))
    except RequestError as error:
        return Reject(line=line, reason=str(error))
