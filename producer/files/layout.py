"""What a file looks like: its format, what a line of it orders, and which column holds what."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath
from typing import Final

from ledger.errors import RequestError
from ledger.states import Kind
from producer.files.source import Source

__all__ = ["TABLES", "Columns", "Format", "Layout", "format_by_suffix", "guess_format", "parse_map"]

_BY_SUFFIX: Final = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "plain",
    ".ids": "plain",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_FIELDS: Final = ("memory_id", "user_id", "agent_id")


class Format(StrEnum):
    """How a file is read."""

    PLAIN = "plain"
    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    PARQUET = "parquet"


TABLES: Final = frozenset({Format.CSV, Format.TSV, Format.PARQUET})


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of the columns, exactly as in the file; None where nothing was mapped.

    Attributes:
        memory_id: The column with the ids; None means `memory_id`.
        user_id: The column with the user. With memory ids it says whose each id is, and never makes
            a purge; for purges of users None means `user_id`.
        agent_id: The column with the agents to purge; None means `agent_id`.
    """

    memory_id: str | None = None
    user_id: str | None = None
    agent_id: str | None = None

    def wanted(self, kind: Kind) -> dict[str, str]:
        """Give the columns to read, by what they hold; the id or subject comes first."""
        if kind is Kind.USER:
            return {"user_id": self.user_id or "user_id"}
        if kind is Kind.AGENT:
            return {"agent_id": self.agent_id or "agent_id"}
        found = {"memory_id": self.memory_id or "memory_id"}
        if self.user_id is not None:
            found["user_id"] = self.user_id
        return found


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How to read the file.

    Attributes:
        format: Plain lines, CSV, TSV, JSONL or Parquet.
        kind: What a line or row orders: the deletion of a memory, or the purge of a user or agent.
            It is never inferred. None means memories; for JSONL each line says its own.
        columns: For CSV, TSV and Parquet, which column holds what.
        delimiter: For CSV; None is the comma.
    """

    format: Format
    kind: Kind | None = None
    columns: Columns = field(default_factory=Columns)
    delimiter: str | None = None

    @property
    def orders(self) -> Kind:
        """What a line or row orders."""
        return self.kind or Kind.MEMORIES

    @property
    def by_user(self) -> bool:
        """Whether a column says whose each memory id is."""
        return (
            self.format in TABLES
            and self.orders is Kind.MEMORIES
            and self.columns.user_id is not None
        )

    def check(self) -> None:
        """Refuse what contradicts itself; what is ignored in silence would be taken for done.

        Raises:
            RequestError: The kind, a column or the delimiter does not go with the rest.
        """
        if self.format is Format.JSONL and self.kind is not None:
            msg = "In JSONL each line says what it orders; leave out --kind."
            raise RequestError(msg)
        if self.format not in TABLES and self.columns != Columns():
            msg = f"--map names columns, and {self.format} has none; leave it out."
            raise RequestError(msg)
        if self.format not in (Format.CSV, Format.TSV) and self.delimiter is not None:
            msg = f"--delimiter is for CSV, not for {self.format}; leave it out."
            raise RequestError(msg)
        mapped = {name for name in _FIELDS if getattr(self.columns, name) is not None}
        odd = sorted(mapped - set(self.columns.wanted(self.orders)))
        if odd:
            msg = (
                f"--map {odd[0]} does not go with --kind {self.orders}: nobody can tell which of "
                "the two is meant. Nothing was handed in."
            )
            raise RequestError(msg)
        wanted = list(self.columns.wanted(self.orders).values())
        if len(set(wanted)) != len(wanted):
            msg = "--map names one column for two things; one of the two is wrong."
            raise RequestError(msg)


def parse_map(pairs: Iterable[str]) -> Columns:
    """Read `memory_id=COLUMN`, `user_id=COLUMN` and `agent_id=COLUMN`.

    Raises:
        RequestError: Something else is mapped, or one of them twice.
    """
    given: dict[str, str] = {}
    for pair in pairs:
        name, mark, column = pair.partition("=")
        if not mark or not column or name not in _FIELDS or name in given:
            msg = (
                "A column mapping is memory_id=COLUMN, user_id=COLUMN or agent_id=COLUMN, each at "
                "most once."
            )
            raise RequestError(msg)
        given[name] = column
    return Columns(**given)


def format_by_suffix(path: str) -> Format | None:
    """Tell the format by the file's suffix, or None when it has no known one."""
    found = _BY_SUFFIX.get(PurePath(path).suffix.lower())
    return None if found is None else Format(found)


def guess_format(path: str, source: Source) -> Format:
    """Tell the format by the file's suffix; without a known one it is taken for plain lines.

    Raises:
        RequestError: It would be plain lines, but its first line looks like JSON or CSV. Taking
            such a line for an id would order the deletion of something that nobody has, and
            report it as absent.
    """
    found = format_by_suffix(path) or Format.PLAIN
    if found is Format.PLAIN:
        first = next((line.content for line in source.lines() if line.content.strip()), "")
        if first.lstrip()[:1] in ("{", "[", '"') or any(mark in first for mark in ",;\t"):
            msg = (
                f"{source.name} does not look like one id a line; say what it is with "
                "`--format plain`, `csv`, `tsv` or `jsonl`. Nothing of it was handed in."
            )
            raise RequestError(msg)
    return found
