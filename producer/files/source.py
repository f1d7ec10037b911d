"""A file, or what comes through a pipe: found to be what it should be before it is read."""

import codecs
import hashlib
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from ledger.errors import RequestError
from producer.files.blocks import Block, Cutter, Line

__all__ = ["LONGEST_LINE", "Block", "Line", "Source", "open_source"]

LONGEST_LINE: Final = 1 << 20
_BLOCK: Final = 1 << 20
# What is decoded and checked at once: some thousand ids, and little beside what folds them.
_LINES_BLOCK: Final = 1 << 17
# A pipe cannot be read twice, so it is kept; from this size on in a file that has no name.
_KEPT_IN_MEMORY: Final = 8 << 20
_PROGRESS_BYTES: Final = 1 << 18
_UTF16_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_PARQUET_MARK: Final = b"PAR1"
# First bytes of what is often handed in by mistake; no id and no header begins with any of them.
_MISTAKES: Final = (
    (b"\x1f\x8b", "is compressed with gzip; unpack it (`gunzip`) and hand that in"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd; unpack it (`unzstd`) and hand that in"),
    (b"\xfd7zXZ\x00", "is compressed with xz; unpack it (`unxz`) and hand that in"),
    (
        b"PK\x03\x04",
        "is a ZIP archive or a workbook; save what it holds as CSV in UTF-8 and hand that in",
    ),
    (b"PAR1\x15", "is a Parquet file; `expunge import --format parquet` reads it"),
)


class Source:
    """A file that was read once to its end; it can be read again and again.

    Attributes:
        name: The file's name without its folder.
        noun: What its rejects are numbered by, line or row.
        size: In bytes.
        digest: SHA-256 of the content, in hex.
        on_progress: Called with how many bytes were read, again and again.
    """

    def __init__(self, file: BinaryIO, *, name: str, binary: bool = False) -> None:
        """Check the whole file.

        Args:
            file: Can seek, and stands where the content begins.
            name: For messages.
            binary: It is Parquet; else it is text in UTF-8.

        Raises:
            RequestError: It cannot be read to its end, or is something else.
        """
        self.file = file
        self.name = name
        self.noun = "Row" if binary else "Line"
        self.on_progress: Callable[[int], None] = _ignore
        self.digest = ""
        self._other_content = False
        self._stamp = _stamp(file)
        self.size = self._check(binary=binary)

    def lines(self, *, longest: int = LONGEST_LINE) -> Iterator[Line]:
        """Yield the lines from the first on, as `blocks` does and with the same errors."""
        for block in self.blocks(longest=longest):
            yield from block.lines()

    def blocks(self, *, longest: int = LONGEST_LINE) -> Iterator[Block]:
        r"""Yield the lines from the first on, many at once; only `\n` ends a line.

        A byte order mark at the start is the file's, not the first id's, and is left out.

        Args:
            longest: Most bytes of a line, its end and the byte order mark not counted; a longer one
                comes without its text, and is never held in memory as a whole.

        Raises:
            RequestError: The file cannot be read; or, after the last line, it is not what had been
                checked.
        """
        cutter = Cutter(longest)
        content = hashlib.sha256()
        position = reported = 0
        try:
            self.file.seek(0)
            while raw := self.file.read(_LINES_BLOCK):
                position += len(raw)
                content.update(raw)
                yield from cutter.cut(raw)
                if position - reported >= _PROGRESS_BYTES:
                    reported = position
                    self.on_progress(position)
            yield from cutter.rest()
        except UnicodeDecodeError:
            raise self._changed() from None
        except OSError as error:
            raise self._unreadable(error) from None
        if content.hexdigest() != self.digest:
            raise self._changed()
        self.on_progress(position)

    @property
    def changed(self) -> bool:
        """Whether it was written since it was checked, as far as it was read or the system says.

        What came through a pipe is this process's own and never changes.
        """
        return self._other_content or _stamp(self.file) != self._stamp

    def check_untouched(self) -> None:
        """Find out whether it was written, where it is not read in its order and has no digest.

        Raises:
            RequestError: It was written since it was checked.
        """
        if self.changed:
            raise self._changed()

    def _check(self, *, binary: bool) -> int:
        decoder = codecs.getincrementaldecoder("utf-8")()
        content = hashlib.sha256()
        size, line = 0, 1
        try:
            while block := self.file.read(_BLOCK):
                if size == 0:
                    self._refuse_mistakes(block, binary=binary)
                size += len(block)
                content.update(block)
                if not binary:
                    decoder.decode(block)
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
        self.digest = content.hexdigest()
        return size

    def _refuse_mistakes(self, block: bytes, *, binary: bool) -> None:
        """Name what is plainly another kind of file, by its first bytes."""
        told = [words for mark, words in _MISTAKES if block.startswith(mark)]
        if block.startswith(_UTF16_MARKS):
            told = ["is UTF-16; save it as UTF-8 and hand it in again"]
        if binary and block.startswith(_PARQUET_MARK):
            return
        if binary and not told:
            told = ["is no Parquet file; say what it is with `--format`"]
        if told:
            msg = f"{self.name} {told[0]}. Nothing of it was handed in."
            raise RequestError(msg)

    def _unreadable(self, error: OSError) -> RequestError:
        return RequestError(
            f"{self.name} cannot be read: {error.strerror}. Mend that and hand it in again."
        )

    def _changed(self) -> RequestError:
        self._other_content = True
        return RequestError(
            f"{self.name} changed while it was read; hand it in again once nobody writes to it."
        )


@contextmanager
def open_source(
    path: str, *, stdin: BinaryIO | None = None, binary: bool = False
) -> Iterator[Source]:
    """Open a file by name, or what comes through standard input for `-`.

    Args:
        path: A file, or `-`.
        stdin: What `-` reads; None takes this process's standard input. It is read to its end
            before anything is handed in, into memory and beyond 8 MiB into a nameless temporary
            file that disappears with this process.
        binary: It is Parquet; else it is text in UTF-8.

    Raises:
        RequestError: There is no such file, it cannot be read, or it is not UTF-8 or Parquet.
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
            # It has all that is used of BinaryIO.
            yield Source(kept, name=name, binary=binary)  # type: ignore[arg-type]
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
            with open_source("-", stdin=file, binary=binary) as source:
                source.name = Path(path).name
                yield source
        else:
            yield Source(file, name=Path(path).name, binary=binary)


def _stamp(file: BinaryIO) -> tuple[int, int, int] | None:
    # Not of what this process keeps itself: a spooled file would go to disk when asked.
    if not isinstance(file, io.BufferedReader):
        return None
    found = os.fstat(file.fileno())
    return found.st_ino, found.st_size, found.st_mtime_ns


def _ignore(_position: int) -> None:
    """Report to nobody."""
