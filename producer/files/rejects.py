"""Lines that were not taken: their number and why, never what they hold."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TextIO

from ledger.errors import RequestError

__all__ = ["Reject", "RejectLog"]

_FIRST: Final = 5
_LONGEST: Final = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """One line, or record over several lines, that was not taken."""

    line: int
    reason: str


class RejectLog:
    """Counts rejects and writes them to a file of JSON lines with `line` and `reason`.

    The file is made with the first reject, so that a clean import leaves none behind.
    """

    def __init__(self, path: Path | None = None, *, replace: bool = False) -> None:
        """Write to *path*, or only count for None.

        Args:
            path: A new file.
            replace: An import that goes on finds the file of the one that broke off, and writes it
                anew. A file that holds anything else is never overwritten.

        Raises:
            RequestError: There is a file of this name already.
        """
        if path is not None and path.exists() and not (replace and _holds_rejects(path)):
            msg = f"{path.name} for the rejects exists already; name another file or move it away."
            raise RequestError(msg)
        self._replace = replace
        self._path = path
        self._file: TextIO | None = None
        self.count = 0
        self.first: list[Reject] = []

    def __enter__(self) -> Self:
        """Use as a context manager to close the file at the end."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def start_over(self) -> None:
        """Forget what was rejected so far: the file is read again from its start."""
        self.count = 0
        self.first = []
        if self._file is not None:
            self._file.seek(0)
            self._file.truncate()

    def add(self, reject: Reject) -> None:
        """Count one, and write it down.

        Raises:
            RequestError: The file cannot be written.
        """
        self.count += 1
        if len(self.first) < _FIRST:
            self.first.append(reject)
        if self._path is None:
            return
        try:
            if self._file is None:
                if self._replace:
                    self._path.unlink(missing_ok=True)
                # Line numbers of a file about persons are nobody else's business.
                handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                self._file = os.fdopen(handle, "w", encoding="utf-8")
            self._file.write(json.dumps({"line": reject.line, "reason": reject.reason}) + "\n")
        except OSError as error:
            msg = f"{self._path.name} for the rejects cannot be written: {error.strerror}."
            raise RequestError(msg) from None


def _holds_rejects(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            line = file.readline(_LONGEST)
        return not line or set(json.loads(line)) == {"line", "reason"}
    except (OSError, ValueError, TypeError):
        return False
