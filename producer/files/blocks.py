"""Whole lines out of what is read, many at once: one decoding for thousands of ids."""

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Block", "Cutter", "Line"]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    r"""Whole lines, each with its line end as it stands in the file; or one that is too long.

    Attributes:
        number: Of the first line, from 1.
        text: One line or more, of which only the file's last may be without `\n`; None stands for
            one line that is too long.
    """

    number: int
    text: str | None

    def texts(self) -> Iterator[str]:
        """Yield the text of each line, with its end; of one that is too long, nothing."""
        # Of all line ends, only that one: others may be in an id.
        return io.StringIO(self.text, newline="\n")

    def lines(self) -> Iterator[Line]:
        """Yield the lines one by one."""
        if self.text is None:
            yield Line(number=self.number, text=None)
            return
        for number, text in enumerate(self.texts(), start=self.number):
            yield Line(number=number, text=text)


class Cutter:
    r"""Cuts what is read, piece by piece, behind the last `\n` of each piece."""

    def __init__(self, longest: int) -> None:
        """Begin at a file's start; `longest` is the most bytes of a line without its end."""
        self._longest = longest
        self._number = 1
        # The line that no piece has ended yet: what there is of it, and how much. Of one that is
        # too long already, only that it is.
        self._open: list[bytes] = []
        self._size = 0
        self._is_too_long = False

    def cut(self, raw: bytes) -> Iterator[Block]:
        """Yield the lines that end in the next piece, and those before that are known by now.

        Raises:
            UnicodeDecodeError: They are not UTF-8.
        """
        start, end = raw.find(b"\n") + 1, raw.rfind(b"\n") + 1
        if start == 0:
            self._keep(raw)
            return
        if self._is_too_long or self._number == 1:
            self._keep(raw[: start - 1])
            yield self._line(end="\n")
            whole = raw[start:end]
        else:
            whole = b"".join((*self._open, raw[:end]))
            self._open, self._size = [], 0
        yield from self._whole(whole)
        self._keep(raw[end:])

    def rest(self) -> Iterator[Block]:
        """Yield the last line, when nothing ends it.

        Raises:
            UnicodeDecodeError: It is not UTF-8.
        """
        if self._is_too_long or any(self._open):
            yield self._line(end="")

    def _keep(self, raw: bytes) -> None:
        """Take more of the open line."""
        if self._is_too_long or not raw:
            return
        self._open.append(raw)
        self._size += len(raw)
        mark = len(codecs.BOM_UTF8) if self._number == 1 else 0
        if self._size > self._longest + mark:
            self._is_too_long = True
            self._open = []

    def _line(self, *, end: str) -> Block:
        """Give the open line, and begin another one."""
        raw = b"".join(self._open)
        if self._number == 1:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        too_long = self._is_too_long or len(raw) > self._longest
        made = Block(number=self._number, text=None if too_long else raw.decode() + end)
        self._number += 1
        self._open, self._size, self._is_too_long = [], 0, False
        return made

    def _whole(self, raw: bytes) -> Iterator[Block]:
        """Yield whole lines, each of which ends."""
        if len(raw) > self._longest + 1:
            # One of them may be too long.
            for each in io.BytesIO(raw):
                self._keep(each[:-1])
                yield self._line(end="\n")
        elif raw:
            yield Block(number=self._number, text=raw.decode())
            self._number += raw.count(b"\n")
