"""Tables for people, JSON for plots: what every figure prints and keeps."""

import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).parent / "results"

Row = Mapping[str, Any]
Table = dict[str, Any]


def say(line: str) -> None:
    """Tell on standard error what goes on."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def table(title: str, rows: Sequence[Row], columns: Mapping[str, str]) -> Table:
    """Print rows of one shape under a title, and give the table.

    Args:
        title: What it shows.
        rows: One mapping each; what is missing is left empty.
        columns: Key of a row to what stands over the column, with its unit.
    """
    cells = [[_cell(row.get(key)) for key in columns] for row in rows]
    heads = list(columns.values())
    widths = [max(len(line[place]) for line in (heads, *cells)) for place in range(len(columns))]
    numeric = [any(isinstance(row.get(key), (int, float)) for row in rows) for key in columns]

    def line(parts: Sequence[str]) -> str:
        set_out = [
            part.rjust(width) if right else part.ljust(width)
            for part, width, right in zip(parts, widths, numeric, strict=True)
        ]
        return "  ".join(set_out).rstrip()

    print(f"\n{title}\n")
    print(line(heads))
    print(line(["-" * width for width in widths]))
    for parts in cells:
        print(line(parts))
    sys.stdout.flush()
    return {"title": title, "heads": heads, "numeric": numeric, "cells": cells}


def keep(figure: str, found: Mapping[str, Any], *tables: Table) -> None:
    """Write what a figure found to `bench/results/FIGURE.json`, with the machine and the moment.

    Args:
        figure: Its name.
        found: The figures.
        tables: As they were printed, for `bench.publish`.
    """
    RESULTS.mkdir(exist_ok=True)
    machine = {
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }
    text = json.dumps({"machine": machine, **found, "tables": tables}, indent=1)
    (RESULTS / f"{figure}.json").write_text(text + "\n")


def kept(figure: str) -> dict[str, Any] | None:
    """Read what a figure found last; None when it was never measured."""
    path = RESULTS / f"{figure}.json"
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        size = abs(value)
        digits = 0 if size >= 100 else 1 if size >= 10 else 3 if size < 1 else 2  # noqa: PLR2004
        return f"{value:,.{digits}f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)
