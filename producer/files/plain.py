"""Plain lines: one memory id a line, or one user or agent to purge."""

from collections.abc import Iterator

from ledger.errors import RequestError
from ledger.ids import are_plain_ids, check_memory_id
from ledger.states import Kind
from producer.files.blocks import Block
from producer.files.rejects import Reject
from producer.files.rows import PurgeRow, purge_of
from producer.files.source import Source

__all__ = ["read_plain", "read_plain_blocks", "read_plain_purges"]


def read_plain(source: Source) -> Iterator[str | Reject]:
    """Yield each line's id exactly as it stands there, or why it is not taken.

    Empty lines are passed over. Nothing is trimmed but the line end: an id may begin or end with a
    blank, and without it would be another one.
    """
    for found in read_plain_blocks(source):
        if isinstance(found, Reject):
            yield found
        else:
            yield from found


def read_plain_blocks(source: Source) -> Iterator[list[str] | Reject]:
    """Do as `read_plain` does, with many ids in a row as one list."""
    for block in source.blocks():
        ids = _plain(block.text or "")
        if ids:
            yield ids
        elif ids is None or block.text is None:
            yield from _one_by_one(block)


def _plain(text: str) -> list[str] | None:
    """Give the ids of whole lines, or None when any of them may be none."""
    ids = text.replace("\r\n", "\n").split("\n")
    if "" in ids:
        ids = list(filter(None, ids))
    return ids if are_plain_ids(ids) else None


def _one_by_one(block: Block) -> Iterator[list[str] | Reject]:
    ids: list[str] = []
    for line in block.lines():
        if line.text is None:
            reason = "The line is too long for an id."
        elif content := line.content:
            try:
                ids.append(check_memory_id(content, where="The id"))
                continue
            except RequestError as error:
                reason = str(error)
        else:
            continue
        if ids:
            yield ids
            ids = []
        yield Reject(line=line.number, reason=reason)
    if ids:
        yield ids


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
