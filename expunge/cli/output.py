"""What goes to stdout: a table for people, JSON for programs, ids for the next command.

The format never depends on where the output goes, and nothing is cut or coloured.
"""

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from expunge.tables import cell, table

__all__ = ["Output", "OutputOption", "show_many", "show_one"]


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


def _pick(record: Mapping[str, Any], name: str) -> object:
    value: Any = record
    for part in name.split("."):
        value = value[part]
    found: object = value
    return found
