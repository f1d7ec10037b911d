"""Plain lines: one memory id a line, or one user or agent to purge."""

from collections.abc import Iterator

from ledger.errors import RequestError
from ledger.ids import check_memory_id
from ledger.states import Kind
from producer.files.rejects import Reject
from producer.files.rows import PurgeRow, purge_of
from producer.files.source import Source

__all__ = ["read_plain", "read_plain_purges"]


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


def read_plain_purges(source: Source, kind: Kind) -> Iterator[PurgeRow | Reject]:
    """Yield each line's user or agent exactly as it stands there, or why it is not taken.

    Args:
        source: The file.
        kind: Users or agents.
    """
    for line in source.lines():
        if line.text is None:
            yield Reject(line=line.number, reason=f"The line is too long for a {kind.value}.")
        elif content := line.content:
            yield purge_of(kind, line.number, content)
