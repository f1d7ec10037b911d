"""Parquet: columns of ids that are text, a few rows at a time.

Only the mapped columns are read, page by page. A column that is not text is refused: as a number,
`007` has become 7 already, and nobody can tell which id was meant.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from ledger.errors import RequestError
from ledger.ids import are_plain_ids
from ledger.states import Kind
from producer.files.layout import Columns
from producer.files.rejects import Reject
from producer.files.rows import PurgeRow, TableRow, row_of
from producer.files.source import Source
from producer.files.table import no_column

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet

__all__ = ["read_parquet"]

_ROWS_AT_ONCE: Final = 1_024
# Without it, a column is read a row group at once, which may be the whole file.
_BUFFER: Final = 1 << 18
_PROGRESS_ROWS: Final = 10 * _ROWS_AT_ONCE
# A lone surrogate, which no text that was decoded from UTF-8 can be.
_UNREADABLE: Final = "\udcff"


def read_parquet(
    source: Source, *, columns: Columns, kind: Kind = Kind.MEMORIES, together: bool = False
) -> Iterator[list[str] | TableRow | PurgeRow | Reject]:
    """Yield the rows, numbered from 1; the columns are checked at once, before the first row.

    Args:
        source: The file, opened as binary.
        columns: Names of the columns, exactly as in the file.
        kind: What a row orders.
        together: Where a row is an id and nothing else, many in a row may come as one list.

    Raises:
        RequestError: pyarrow is not installed, it is no whole Parquet file, or a mapped column is
            missing, there twice, or no text; or, after the last row, it was written since it was
            checked.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra, and takes its time
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError:
        msg = (
            "Parquet needs pyarrow, which is not installed: pip install 'expunge[parquet]'. "
            "Nothing was handed in."
        )
        raise RequestError(msg) from None
    if source.size == 0:
        msg = f"{source.name} is empty, and so no Parquet file; nothing was handed in."
        raise RequestError(msg)
    source.file.seek(0)
    try:
        # Its memory goes back at once; the default allocator keeps it for later.
        pa.set_memory_pool(pa.system_memory_pool())
        file = pq.ParquetFile(source.file, pre_buffer=False, buffer_size=_BUFFER)
        schema = file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise _broken(source, error) from None
    wanted = columns.wanted(kind)
    for field, column in wanted.items():
        _check_column(source, schema, column, field=field)
    together = together and kind is Kind.MEMORIES and len(wanted) == 1
    return _rows(source, file, wanted=list(wanted.values()), kind=kind, together=together)


def _rows(
    source: Source,
    file: "pyarrow.parquet.ParquetFile",
    *,
    wanted: Sequence[str],
    kind: Kind,
    together: bool,
) -> Iterator[list[str] | TableRow | PurgeRow | Reject]:
    import pyarrow as pa  # noqa: PLC0415

    rows = max(1, file.metadata.num_rows)
    number = reported = 0
    batches = file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=wanted, use_threads=False)
    while True:
        try:
            batch = next(batches, None)
            if batch is None:
                break
            texts = [_texts(batch.column(name)) for name in wanted]
        except (pa.ArrowException, OSError) as error:
            source.check_untouched()
            raise _broken(source, error) from None
        if together and are_plain_ids(texts[0]):
            number += len(texts[0])
            yield [text for text in texts[0] if text is not None]  # there is none, for the types
            texts = []
        for values in zip(*texts, strict=True):
            number += 1
            if _UNREADABLE in values:
                yield Reject(line=number, reason="The row holds text that is not UTF-8.")
            else:
                yield row_of(kind, number, values)
        if number - reported >= _PROGRESS_ROWS:
            reported = number
            source.on_progress(source.size * number // rows)
    source.check_untouched()
    source.on_progress(source.size)


def _texts(column: "pa.Array") -> list[str | None]:
    try:
        found: list[str | None] = column.to_pylist()
    except UnicodeDecodeError:
        # The format does not check its own texts; find out which of them it is.
        return [_text(each) for each in column]
    return found


def _text(scalar: "pa.Scalar") -> str | None:
    try:
        text: str | None = scalar.as_py()
    except UnicodeDecodeError:
        return _UNREADABLE
    return text


def _check_column(source: Source, schema: "pa.Schema", column: str, *, field: str) -> None:
    import pyarrow as pa  # noqa: PLC0415

    names = list(schema.names)
    found = [place for place, name in enumerate(names) if name == column]
    if not found:
        raise no_column(source, names, column, field=field)
    if len(found) > 1:
        msg = f"{source.name} has the column {column!r} {len(found)} times; rename all but one."
        raise RequestError(msg)
    if any(name.startswith(f"{column}.") or column.startswith(f"{name}.") for name in names):
        msg = (
            f"{source.name} has columns that cannot be told apart from {column!r}, because of a "
            "dot in a name; rename them and hand it in again. Nothing was handed in."
        )
        raise RequestError(msg)
    held = schema.field(found[0]).type
    text = held.value_type if pa.types.is_dictionary(held) else held
    if not (
        pa.types.is_string(text) or pa.types.is_large_string(text) or pa.types.is_string_view(text)
    ):
        msg = (
            f"The column {column!r} of {source.name} is {held}, not text; as a number, an id may "
            "have lost its leading zeros. Cast it to string where it comes from and hand it in "
            "again; nothing was handed in."
        )
        raise RequestError(msg)


def _broken(source: Source, error: Exception) -> RequestError:
    # Not its text, which may hold what stands in the file.
    return RequestError(
        f"{source.name} is no Parquet file that can be read to its end ({type(error).__name__}). "
        "Write it again and hand it in again; nothing of it will be carried out."
    )
