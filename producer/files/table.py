"""CSV: a header line, and a column with memory ids, which are text and never read as numbers."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from ledger.errors import RequestError
from ledger.ids import check_memory_id, check_subject
from producer.files.layout import Columns
from producer.files.rejects import Reject
from producer.files.source import Source

__all__ = ["TableRow", "read_table"]


class Records(Protocol):
    """What `csv.reader` makes."""

    line_num: int

    def __next__(self) -> list[str]: ...
    def __iter__(self) -> "Records": ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """One id, and the user whose it is when a column tells."""

    line: int
    memory_id: str
    user_id: str | None


def read_table(
    source: Source, *, columns: Columns, delimiter: str = ","
) -> Iterator[TableRow | Reject]:
    """Yield the rows after the header line; quoting as in RFC 4180.

    The header is checked at once, before the first row is asked for. A row with another number of
    fields than the header is rejected: with a stray delimiter, the column beside would be taken.

    Args:
        source: The file.
        columns: Names of the columns, exactly as in the header.
        delimiter: One character.

    Raises:
        RequestError: No header line, a mapped column that is missing or there twice, or quotes so
            broken that nobody can tell where the next record begins.
    """
    if len(delimiter) != 1 or delimiter in '\r\n"':
        msg = "The delimiter is one character, and neither a quote nor a line end."
        raise RequestError(msg)
    records = csv.reader(_texts(source), delimiter=delimiter, strict=True)
    try:
        header = next(records, [])
    except csv.Error:
        raise _broken(source, 1) from None
    id_at = _find(source, header, columns.memory_id, field="memory_id")
    user_at = None
    if columns.user_id is not None:
        user_at = _find(source, header, columns.user_id, field="user_id")
    return _rows(source, records, width=len(header), id_at=id_at, user_at=user_at)


def _rows(
    source: Source,
    records: Records,
    *,
    width: int,
    id_at: int,
    user_at: int | None,
) -> Iterator[TableRow | Reject]:
    while True:
        line = records.line_num + 1
        try:
            fields = next(records, None)
        except csv.Error:
            # Over several lines, the rest of the file may be shifted by half a record.
            if records.line_num != line:
                raise _broken(source, line) from None
            yield Reject(line=line, reason="The quotes of this line are broken.")
            continue
        if fields is None:
            return
        if not fields:
            continue
        if len(fields) != width:
            reason = f"The line has {len(fields)} fields where the header has {width}."
            yield Reject(line=line, reason=reason)
            continue
        try:
            yield TableRow(
                line=line,
                memory_id=check_memory_id(fields[id_at], where="The id"),
                user_id=None
                if user_at is None
                else check_subject(fields[user_at], where="The user"),
            )
        except RequestError as error:
            yield Reject(line=line, reason=str(error))


def _texts(source: Source) -> Iterator[str]:
    for line in source.lines():
        if line.text is None:
            msg = (
                f"Line {line.number} of {source.name} is longer than 1 MiB; check format, "
                "delimiter and quotes."
            )
            raise RequestError(msg)
        yield line.text


def _find(source: Source, header: list[str], column: str, *, field: str) -> int:
    found = [place for place, name in enumerate(header) if name == column]
    if len(found) == 1:
        return found[0]
    if found:
        msg = f"{source.name} has the column {column!r} {len(found)} times; rename all but one."
        raise RequestError(msg)
    # The header is not quoted: of a file without one, it would be ids.
    near = [name for name in header if name.strip().casefold() == column.strip().casefold()]
    hint = f"It has {near[0]!r}; names are taken exactly. " if near else ""
    msg = (
        f"{source.name} has no column {column!r} in its header line of {len(header)} columns. "
        f"{hint}Say which it is with `--map {field}=COLUMN`, and `--delimiter` when it is not the "
        "usual one. Nothing was handed in."
    )
    raise RequestError(msg)


def _broken(source: Source, line: int) -> RequestError:
    return RequestError(
        f"{source.name} has a quote in the record of line {line} that is closed lines later, or "
        "never, so nobody can tell where the next record begins. Correct it and hand the "
        "file in again; nothing of it will be carried out."
    )
