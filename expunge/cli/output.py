"""What goes to stdout: a table for people, JSON for programs, ids for the next command.

The format never depends on where the output goes, and nothing is cut or coloured.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

__all__ = ["Output", "OutputOption", "show_many", "show_one", "table"]


class Output(StrEnum):
    """Formats of the output."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    ID = "id"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="How stdout looks; scripts take jsonl or id.")
]


def show_one(record: Mapping[str, Any], *, output: Output, shown: Mapping[str, Any]) -> None:
    """Print one record.

    Args:
        record: What JSON shows; has an `id`.
        output: The format.
        shown: What the table shows, a line each.
    """
    if output is Output.ID:
        typer.echo(record["id"])
    elif output is Output.JSONL:
        typer.echo(json.dumps(record))
    elif output is Output.JSON:
        typer.echo(json.dumps(record, indent=2))
    else:
        width = max(len(name) for name in shown)
        for name, value in shown.items():
            typer.echo(f"{name:<{width}}  {cell(value)}")


def show_many(
    records: Sequence[Mapping[str, Any]], *, output: Output, columns: Mapping[str, str]
) -> None:
    """Print records, one a row; `columns` maps headings to the records' (dotted) names."""
    if output is Output.ID:
        for record in records:
            typer.echo(record["id"])
    elif output is Output.JSONL:
        for record in records:
            typer.echo(json.dumps(record))
    elif output is Output.JSON:
        typer.echo(json.dumps(list(records), indent=2))
    else:
        rows = [[cell(_pick(record, name)) for name in columns.values()] for record in records]
        for line in table(list(columns), rows):
            typer.echo(line)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lay out rows in columns two blanks apart; columns of numbers are set to the right."""
    body = [list(row) for row in rows]
    widths = [
        max([len(heading), *(len(row[place]) for row in body)])
        for place, heading in enumerate(headings)
    ]
    numbers = [
        bool(body) and all(row[place].replace(",", "").isdigit() for row in body)
        for place in range(len(headings))
    ]
    return [
        "  ".join(
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(row, widths, numbers, strict=True)
        ).rstrip()
        for row in [list(headings), *body]
    ]


def cell(value: object) -> str:
    """Give the text of a value in a table; nothing is a dash."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)


def _pick(record: Mapping[str, Any], name: str) -> object:
    value: Any = record
    for part in name.split("."):
        value = value[part]
    found: object = value
    return found
