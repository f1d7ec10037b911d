"""Plain lines: one memory id a line."""

from collections.abc import Iterator

from ledger.errors import RequestError
from ledger.ids import check_memory_id
from producer.files.rejects import Reject
from producer.files.source import Source

__all__ = ["read_plain"]


def read_plain(source: Source) -> Iterator[str | Reject]:
    """Yield each line's id exactly as it stands there, or why it is not taken.

    Empty lines are passed over. Nothing is trimmed but the line end: an id may begin or end with a
    blank, and without it would be another one.
    """
    for line in source.lines():
        if line.text is None:
            yield Reject(line=line.number, reason="The line is too long for an id.")
        elif content := line.content:
            try:
                yield check_memory_id(content, where="The id")
            except RequestError as error:
                yield Reject(line=line.number, reason=str(error))
