"""What a file looks like: its format, and for CSV which column holds what."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath
from typing import Final

from ledger.errors import RequestError
from producer.files.source import Source

__all__ = ["Columns", "Format", "guess_format", "parse_map"]

_BY_SUFFIX: Final = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "plain",
    ".ids": "plain",
}


class Format(StrEnum):
    """How a file is read."""

    PLAIN = "plain"
    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of the CSV columns, exactly as in the header line.

    Attributes:
        memory_id: The column with the ids.
        user_id: The column with the user whose id it is; None when there is none. It never makes
            a purge.
    """

    memory_id: str = "memory_id"
    user_id: str | None = None


def parse_map(pairs: Iterable[str]) -> Columns:
    """Read `memory_id=COLUMN` and `user_id=COLUMN`.

    Raises:
        RequestError: Something else is mapped, or one of them twice.
    """
    given: dict[str, str] = {}
    for pair in pairs:
        field, mark, column = pair.partition("=")
        if not mark or not column or field not in ("memory_id", "user_id") or field in given:
            msg = "A column mapping is memory_id=COLUMN or user_id=COLUMN, each at most once."
            raise RequestError(msg)
        given[field] = column
    return Columns(memory_id=given.get("memory_id", "memory_id"), user_id=given.get("user_id"))


def guess_format(path: str, source: Source) -> Format:
    """Tell the format by the file's suffix; without a known one it is taken for plain lines.

    Raises:
        RequestError: It would be plain lines, but its first line looks like JSON or CSV. Taking
            such a line for an id would order the deletion of something that nobody has, and
            report it as absent.
    """
    suffix = PurePath(path).suffix.lower()
    found = Format(_BY_SUFFIX.get(suffix, "plain"))
    if found is Format.PLAIN:
        first = next((line.content for line in source.lines() if line.content.strip()), "")
        if first.lstrip()[:1] in ("{", "[", '"') or any(mark in first for mark in ",;\t"):
            msg = (
                f"{source.name} does not look like one id a line; say what it is with "
                "`--format plain`, `csv`, `tsv` or `jsonl`. Nothing of it was handed in."
            )
            raise RequestError(msg)
    return found
