"""Before anything real is deleted: what it would be, and whether that is meant."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ledger.states import Kind
from producer.files import Format, Reject, guess_format, open_source
from producer.files.jsonl import read_requests
from producer.files.layout import Columns
from producer.files.plain import read_plain
from producer.files.table import read_table

__all__ = ["Counted", "ask", "count_orders"]


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What one file orders; `purges` empties whole users or agents."""

    name: str
    ids: int
    purges: int
    rejected: int


def count_orders(path: Path) -> Counted:
    """Count what a file orders, and hand nothing in.

    Raises:
        RequestError: The file cannot be taken.
    """
    ids = purges = rejected = 0
    with open_source(str(path)) as source:
        found = guess_format(path.name, source)
        if found is Format.JSONL:
            for row in read_requests(source):
                if isinstance(row, Reject):
                    rejected += 1
                elif row.kind is Kind.MEMORIES:
                    ids += len(row.memory_ids)
                else:
                    purges += 1
        else:
            delimiter = "\t" if found is Format.TSV else ","
            for each in (
                read_plain(source)
                if found is Format.PLAIN
                else read_table(source, columns=Columns(), delimiter=delimiter)
            ):
                if isinstance(each, Reject):
                    rejected += 1
                else:
                    ids += 1
    return Counted(name=path.name, ids=ids, purges=purges, rejected=rejected)


def ask(base_url: str, files: Sequence[Counted], *, yes: bool) -> bool:
    """Say what would be deleted where, and tell whether a person confirmed it.

    Without a terminal nobody can: then only *yes* confirms.
    """
    tell = sys.stderr.write
    tell(f"This deletes for real and for ever, at {urlsplit(base_url).netloc}:\n")
    for file in files:
        tell(f"  {file.name}: {file.ids:,} memories by id, {file.purges:,} whole users or agents")
        tell(f", {file.rejected:,} lines that cannot be taken\n" if file.rejected else "\n")
    tell("The record of it goes with the demo; `expunge import` keeps one.\n")
    if yes:
        return True
    if not sys.stdin.isatty():
        tell("There is no terminal to ask at; --yes confirms.\n")
        return False
    tell("Type yes to go on: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip() == "yes"
