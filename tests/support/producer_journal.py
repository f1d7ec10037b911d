"""What a test handed in, and which of it was acknowledged.

Written down outside the product before and after, so that nobody has to take the ledger's word.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ledger import Kind

__all__ = ["Ordered", "ProducerJournal"]


@dataclass(frozen=True, kw_only=True)
class Ordered:
    """One order: of these ids, or of everything of this subject.

    Attributes:
        request_id: What the receipt said; None when none came, so that it may or may not be taken.
    """

    kind: Kind
    ids: Sequence[str] = ()
    subject: str | None = None
    request_id: str | None = None


class ProducerJournal:
    """Lines of JSON in a file, each on disk before the next step is taken.

    Args:
        path: Appended to; made when it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+", encoding="utf-8")
        self._attempts = 0

    def attempt(self, kind: Kind, *, ids: Iterable[str] = (), subject: str | None = None) -> int:
        """Write that this is about to be handed in; gives the number to acknowledge."""
        self._attempts += 1
        number = self._attempts
        self._write({"try": number, "kind": kind.value, "ids": list(ids), "subject": subject})
        return number

    def acknowledge(self, number: int, request_id: str) -> None:
        """Write that the receipt came."""
        self._write({"ack": number, "request": request_id})

    def orders(self) -> list[Ordered]:
        """Read the file back: every attempt, with its acknowledgement if there is one."""
        self._file.seek(0)
        lines = [json.loads(line) for line in self._file]
        receipts = {line["ack"]: line["request"] for line in lines if "ack" in line}
        return [
            Ordered(
                kind=Kind(line["kind"]),
                ids=tuple(line["ids"]),
                subject=line["subject"],
                request_id=receipts.get(line["try"]),
            )
            for line in lines
            if "try" in line
        ]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, line: dict[str, object]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
