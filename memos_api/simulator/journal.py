"""The simulator's own record of what arrived: what a test compares the audit log with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CallRecord", "Journal"]


@dataclass(slots=True, kw_only=True)
class CallRecord:
    """One call to the API.

    Attributes:
        seq: Position in the journal, from 0.
        at_s: Arrival, seconds of the host's monotonic clock.
        endpoint: `delete`, `list`, `read`, `search`, `health` or `other`, in either dialect.
        project: The account name and number of the key; empty without a valid one.
        kind: What it named: `memories`, `user` or `agent`; of self-hosted ones also `cube` (a list
            without a user), `files` and `filter` (deletions).
        ids: The exact ids it named, memories or one user, agent or cube; empty when not kept.
        n_ids: How many ids it named.
        applied: Memories that this call deleted.
        status: HTTP status sent; 0 when the connection was reset, None while not answered.
        code: Body code sent; None without one.
        fault: The fault that hit it, or `rate`; empty when neither.
    """

    seq: int
    at_s: float
    endpoint: str
    project: str = ""
    kind: str = ""
    ids: tuple[str, ...] = ()
    n_ids: int = 0
    applied: int = 0
    status: int | None = None
    code: int | None = None
    fault: str = ""

    def to_row(self) -> list[object]:
        """Give the fields in order, for JSON."""
        return [getattr(self, name) for name in self.__slots__]

    @classmethod
    def from_row(cls, row: list[object]) -> CallRecord:
        """Turn a row of `to_row` back."""
        values = dict(zip(cls.__slots__, row, strict=True))
        values["ids"] = tuple(values["ids"])  # type: ignore[arg-type]  # a JSON list
        return cls(**values)  # type: ignore[arg-type]


class Journal:
    """Append-only, in memory and, when asked for, as lines of JSON in a file."""

    def __init__(self, path: Path | None, *, keep_ids: bool) -> None:
        """Open the file.

        Args:
            path: Lines of JSON are appended here when a call has been answered.
            keep_ids: Keep the exact ids of each call too.
        """
        self.keep_ids = keep_ids
        self.records: list[CallRecord] = []
        self._file: TextIO | None = None
        if path is not None:
            self._file = path.open("a", encoding="utf-8", buffering=1)

    def arrived(self, endpoint: str, at_s: float) -> CallRecord:
        """Note an arrival, in order of arrival; the rest is filled in as the call goes on."""
        record = CallRecord(seq=len(self.records), at_s=at_s, endpoint=endpoint)
        self.records.append(record)
        return record

    def answered(self, record: CallRecord) -> None:
        """Write the finished record to the file."""
        if self._file is not None:
            members = dict(zip(record.__slots__, record.to_row(), strict=True))
            self._file.write(json.dumps(members, ensure_ascii=False) + "\n")

    def clear(self) -> None:
        """Start anew in memory; the file keeps what it has."""
        self.records.clear()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
