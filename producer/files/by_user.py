"""Groups rows by user, however they are mixed, in bounded memory.

One request per user lets the read-back use that user's list. The rows go through a database that
SQLite keeps in a nameless temporary file: it sorts on disk, and the file vanishes with the process.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import groupby
from typing import Final

from ledger.errors import RequestError
from producer.files.rows import TableRow

__all__ = ["group_by_user"]

_CACHE_KIB: Final = 16_384


def group_by_user(rows: Iterable[TableRow]) -> Iterator[tuple[str, Iterator[str]]]:
    """Yield each user once, with that user's ids in the order of the file.

    All rows are read before the first user is yielded. The ids of a user have to be used up before
    the next user is asked for.

    Raises:
        RequestError: The temporary file cannot be written, as when the disk is full.
    """
    # The empty name is SQLite's word for a private temporary file.
    with closing(sqlite3.connect("", isolation_level=None)) as kept:
        try:
            kept.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            kept.execute("PRAGMA temp_store = FILE")
            kept.execute("PRAGMA journal_mode = OFF")
            kept.execute("CREATE TABLE row (user TEXT, line INTEGER, id TEXT)")
            kept.execute("BEGIN")
            kept.executemany(
                "INSERT INTO row VALUES (?, ?, ?)",
                ((row.user_id, row.line, row.memory_id) for row in rows),
            )
            kept.execute("COMMIT")
            found = kept.execute("SELECT user, id FROM row ORDER BY user, line")
            for user, group in groupby(found, key=lambda pair: str(pair[0])):
                yield user, (str(pair[1]) for pair in group)
        except sqlite3.Error:
            msg = (
                "The rows cannot be grouped by user: the directory for temporary files (TMPDIR) is "
                "full or cannot be written. Make room there and hand the file in again."
            )
            raise RequestError(msg) from None
