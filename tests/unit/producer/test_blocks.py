"""Lines cut from blocks are those that reading line by line gives, whatever is in the file."""

import codecs
import io
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.errors import RequestError
from ledger.ids import check_memory_id
from producer.files import Reject, Source, source
from producer.files.plain import read_plain, read_plain_blocks

PIECES = [
    b"\n", b"\r", b"\r\n", b" ", b"a", b"id-7", b"\x00", b"\x7f", codecs.BOM_UTF8, "é".encode(),
    "\u2028".encode(), "\x85".encode(), "😀".encode(), b"\\", b'"', b"x" * 90, b"y" * 257,
]  # fmt: skip
contents = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join),
    st.text(st.characters(codec="utf-8"), max_size=100).map(str.encode),
    st.binary(max_size=60),
)


def reference(raw, longest):
    """One line after the other, as text with its end; None when it is longer."""
    lines = raw.removeprefix(codecs.BOM_UTF8).split(b"\n")
    whole = [line + b"\n" for line in lines[:-1]] + [lines[-1]] * bool(lines[-1])
    return [None if len(each.removesuffix(b"\n")) > longest else each.decode() for each in whole]


def reference_plain(raw):
    found: list[str | Reject] = []
    for number, text in enumerate(reference(raw, 1 << 20), start=1):
        content = text.removesuffix("\n")
        content = content.removesuffix("\r") if text.endswith("\n") else content
        if not content:
            continue
        try:
            found.append(check_memory_id(content, where="The id"))
        except RequestError as error:
            found.append(Reject(line=number, reason=str(error)))
    return found


@given(raw=contents, at_once=st.integers(1, 70), longest=st.integers(1, 70))
@example(raw=codecs.BOM_UTF8 + b"abcd\nabcd", at_once=1, longest=3)
@example(raw=codecs.BOM_UTF8 + b"abc\nabc", at_once=2, longest=3)
@example(raw=b"a\nbcde\nf\n", at_once=70, longest=3)
def test_lines_are_those_of_reading_line_by_line(raw, at_once, longest):
    try:
        opened = Source(io.BytesIO(raw), name="orders")
    except RequestError:
        return
    with patch.object(source, "_LINES_BLOCK", at_once):
        lines = list(opened.lines(longest=longest))
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    assert [line.text for line in lines] == reference(raw, longest)


@given(raw=contents, at_once=st.integers(1, 300))
def test_plain_ids_are_those_of_reading_line_by_line(raw, at_once):
    try:
        opened = Source(io.BytesIO(raw), name="orders")
    except RequestError:
        return
    with patch.object(source, "_LINES_BLOCK", at_once):
        assert list(read_plain(opened)) == reference_plain(raw)


def test_one_bad_line_among_many_is_the_only_one_rejected():
    ids = [f"memory-{number:030d}" for number in range(30_000)]
    lines = [*ids[:20_000], "bad\x00", *ids[20_000:]]
    blocks = list(read_plain_blocks(Source(io.BytesIO("\n".join(lines).encode()), name="orders")))
    rejects = [each for each in blocks if isinstance(each, Reject)]
    assert [each.line for each in rejects] == [20_001]
    assert [each for block in blocks if isinstance(block, list) for each in block] == ids
    assert len(blocks) < 20


@pytest.mark.parametrize("at_once", [1, 7, 1 << 17])
def test_a_line_that_is_too_long_is_not_kept(at_once):
    raw = b"a\n" + b"x" * 300_000 + b"\nb\n"
    opened = Source(io.BytesIO(raw), name="orders")
    with patch.object(source, "_LINES_BLOCK", at_once):
        blocks = list(opened.blocks(longest=10))
    assert [line.text for block in blocks for line in block.lines()] == ["a\n", None, "b\n"]
