"""CSV: a header line, and columns with ids, which are text and never read as numbers."""

import csv
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, Protocol

from ledger.errors import RequestError
from ledger.ids import are_plain_ids
from ledger.states import Kind
from producer.files.layout import Columns
from producer.files.rejects import Reject
from producer.files.rows import PurgeRow, TableRow, row_of
from producer.files.source import Source

__all__ = ["no_column", "read_table"]

_ROWS_AT_ONCE: Final = 1_024


class Records(Protocol):
    """What `csv.reader` makes."""

    line_num: int

    def __next__(self) -> list[str]: ...
    def __iter__(self) -> "Records": ...


def read_table(
    source: Source,
    *,
    columns: Columns,
    delimiter: str = ",",
    kind: Kind = Kind.MEMORIES,
    together: bool = False,
) -> Iterator[list[str] | TableRow | PurgeRow | Reject]:
    """Yield the rows after the header line; quoting as in RFC 4180.

    The header is checked at once, before the first row is asked for. A row with another number of
    fields than the header is rejected: with a stray delimiter, the column beside would be taken.

    Args:
        source: The file.
        columns: Names of the columns, exactly as in the header.
        delimiter: One character.
        kind: What a row orders.
        together: Where a row is an id and nothing else, many in a row may come as one list.

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
    places = [
        _find(source, header, column, field=field) for field, column in columns.wanted(kind).items()
    ]
    found = _records(source, records, width=len(header))
    if together and kind is Kind.MEMORIES and len(places) == 1:
        return _ids(found, places[0])
    return (each if isinstance(each, Reject) else _row(kind, each, places) for each in found)


def _row(
    kind: Kind, record: tuple[int, list[str]], places: Sequence[int]
) -> TableRow | PurgeRow | Reject:
    line, fields = record
    return row_of(kind, line, [fields[place] for place in places])


def _ids(
    found: Iterator[tuple[int, list[str]] | Reject], place: int
) -> Iterator[list[str] | TableRow | PurgeRow | Reject]:
    """Yield many ids as one list, and row by row where any of them may be none."""
    fault: RequestError | None = None
    while fault is None:
        some: list[tuple[int, list[str]] | Reject] = []
        try:
            some.extend(islice(found, _ROWS_AT_ONCE))
        except RequestError as error:
            # What came before it is in the list, and goes on as it would have one by one.
            fault = error
        ids = [each[1][place] for each in some if not isinstance(each, Reject)]
        if not some:
            break
        if len(ids) == len(some) and are_plain_ids(ids):
            yield ids
            continue
        for each in some:
            yield each if isinstance(each, Reject) else _row(Kind.MEMORIES, each, (place,))
    if fault is not None:
        raise fault


def _records(
    source: Source, records: Records, *, width: int
) -> Iterator[tuple[int, list[str]] | Reject]:
    """Yield the records, each with the number of its first line."""
    while True:
        line = records.line_num + 1
        try:
            fields = next(records, None)
        except csv.Error as error:
            # Over several lines, the rest of the file may be shifted by half a record.
            if records.line_num != line:
                raise _broken(source, line) from None
            reason = "The quotes of this line are broken."
            if "larger than field limit" in str(error):
                reason = "A field of this line is longer than 128 KiB."
            yield Reject(line=line, reason=reason)
            continue
        if fields is None:
            return
        if not fields:
            continue
        if len(fields) != width:
            reason = f"The line has {len(fields)} fields where the header has {width}."
            yield Reject(line=line, reason=reason)
            continue
        yield line, fields


def _texts(source: Source) -> Iterator[str]:
    for block in source.blocks():
        if block.text is None:
            msg = (
                f"Line {block.number} of {source.name} is longer than 1 MiB; check format, "
                "delimiter and quotes."
            )
            raise RequestError(msg)
        yield from block.texts()


def _find(source: Source, header: list[str], column: str, *, field: str) -> int:
    found = [place for place, name in enumerate(header) if name == column]
    if len(found) == 1:
        return found[0]
    if found:
        msg = f"{source.name} has the column {column!r} {len(found)} times; rename all but one."
        raise RequestError(msg)
    also = ", and `--delimiter` when it is not the usual one"
    raise no_column(source, header, column, field=field, also=also)


def no_column(
    source: Source, names: Sequence[str], column: str, *, field: str, also: str = ""
) -> RequestError:
    """Say that a column is not there, without telling those that are: they may be ids."""
    near = [name for name in names if name.strip().casefold() == column.strip().casefold()]
    hint = f"It has {near[0]!r}; names are taken exactly. " if near else ""
    return RequestError(
        f"{source.name} has no column {column!r} among its {len(names)} columns. {hint}Say which "
        f"it is with `--map {field}=COLUMN`{also}. Nothing was handed in."
    )


def _broken(source: Source, line: int) -> RequestError:
    return RequestError(
        f"{source.name} has a quote in the record of line {line} that is closed lines later, or "
        "never, so nobody can tell where the next record begins. Correct it and hand the "
        "file in again; nothing of it will be carried out."
    )
