"""A file, or what comes through a pipe, as numbered lines of UTF-8."""

import codecs
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from ledger.errors import RequestError

__all__ = ["LONGEST_LINE", "Line", "Source", "open_source"]

LONGEST_LINE: Final = 1 << 20
_BLOCK: Final = 1 << 20
# A pipe cannot be read twice, so it is kept; from this size on in a file that has no name.
_KEPT_IN_MEMORY: Final = 8 << 20
_PROGRESS_BYTES: Final = 1 << 18
_UTF16_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One physical line.

    Attributes:
        number: From 1.
        text: With its line end as it stands in the file; None when the line is too long.
    """

    number: int
    text: str | None

    @property
    def content(self) -> str:
        r"""The text without its line end, which is `\n` or `\r\n`; nothing else is trimmed."""
        text = self.text or ""
        if text.endswith("\n"):
            text = text[:-1]
            text = text.removesuffix("\r")
        return text


class Source:
    """A file that was found to be UTF-8; lines can be read again and again."""

    def __init__(self, file: BinaryIO, *, name: str) -> None:
        """Check the whole file. *file* can seek and stands where the content begins.

        Raises:
            RequestError: It cannot be read to its end, or is not UTF-8.
        """
        self._file = file
        self.name = name
        self.size = self._check()
        self.on_progress: Callable[[int], None] = _ignore

    def lines(self, *, longest: int = LONGEST_LINE) -> Iterator[Line]:
        r"""Yield the lines from the first on; only `\n` ends a line.

        A byte order mark at the start is the file's, not the first id's, and is left out.

        Args:
            longest: Most bytes of a line; a longer one comes without its text, and is never held
                in memory as a whole.

        Raises:
            RequestError: The file cannot be read, or was changed after it had been checked.
        """
        number = position = reported = 0
        try:
            self._file.seek(0)
            while raw := self._file.readline(longest + 1):
                number += 1
                position += len(raw)
                if number == 1:
                    raw = raw.removeprefix(codecs.BOM_UTF8)
                if len(raw) > longest and not raw.endswith(b"\n"):
                    position += self._skip_line(longest)
                    yield Line(number=number, text=None)
                else:
                    yield Line(number=number, text=raw.decode())
                if position - reported >= _PROGRESS_BYTES:
                    reported = position
                    self.on_progress(position)
        except (OSError, UnicodeDecodeError) as error:
            raise self._unreadable(error) from None
        self.on_progress(position)

    def _skip_line(self, longest: int) -> int:
        skipped = 0
        while more := self._file.readline(longest):
            skipped += len(more)
            if more.endswith(b"\n"):
                break
        return skipped

    def _check(self) -> int:
        decoder = codecs.getincrementaldecoder("utf-8")()
        size, line = 0, 1
        block = b""
        try:
            while block := self._file.read(_BLOCK):
                if size == 0 and block.startswith(_UTF16_MARKS):
                    msg = f"{self.name} is UTF-16; save it as UTF-8 and hand it in again."
                    raise RequestError(msg)
                decoder.decode(block)
                size += len(block)
                line += block.count(b"\n")
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            line += error.object.count(b"\n", 0, error.start)
            msg = (
                f"{self.name} is not UTF-8 (line {line}); save it as UTF-8 and hand it in again. "
                "Nothing of it was handed in."
            )
            raise RequestError(msg) from None
        except OSError as error:
            raise self._unreadable(error) from None
        return size

    def _unreadable(self, error: OSError | UnicodeDecodeError) -> RequestError:
        what = error.strerror if isinstance(error, OSError) else "it changed while it was read"
        return RequestError(f"{self.name} cannot be read: {what}. Mend that and hand it in again.")


@contextmanager
def open_source(path: str, *, stdin: BinaryIO | None = None) -> Iterator[Source]:
    """Open a file by name, or what comes through standard input for `-`.

    Args:
        path: A file, or `-`.
        stdin: What `-` reads; None takes this process's standard input. It is read to its end
            before anything is handed in, into memory and beyond 8 MiB into a nameless temporary
            file that disappears with this process.

    Raises:
        RequestError: There is no such file, it cannot be read, or it is not UTF-8.
    """
    if path == "-":
        with tempfile.SpooledTemporaryFile(max_size=_KEPT_IN_MEMORY) as kept:
            name = "Standard input"
            try:
                pipe = stdin or sys.stdin.buffer
                while block := pipe.read(_BLOCK):
                    kept.write(block)
                kept.seek(0)
            except OSError as error:
                msg = f"{name} cannot be read: {error.strerror}. Mend that and hand it in again."
                raise RequestError(msg) from None
            yield Source(kept, name=name)  # type: ignore[arg-type]  # it has what is used of BinaryIO
        return
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - closed below, once it is known to be there
    except OSError as error:
        msg = (
            f"{Path(path).name} cannot be opened: {error.strerror}. Check the name and its rights."
        )
        raise RequestError(msg) from None
    with file:
        if not file.seekable():
            # A named pipe, or `<(command)`: read once, like standard input.
            with open_source("-", stdin=file) as source:
                source.name = Path(path).name
                yield source
        else:
            yield Source(file, name=Path(path).name)


def _ignore(_position: int) -> None:
    """Report to nobody."""
