"""The matrix that `pytest tests/contract -k lies` prints: what was said, and what it came to."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

__all__ = ["lies_lines"]

_KEY: Final = "lies"
_COLUMNS: Final = (
    "ledger",
    "dialect",
    "behaviour",
    "what",
    "result",
    "certainty",
    "false absent",
    "false complete",
    "deletes",
    "lists",
    "reads",
    "seconds",
)


def lies_lines(reports: Sequence[Any]) -> Iterator[str]:
    """Give the lines of the table, none when no test told of a lie.

    Args:
        reports: pytest's reports of tests, those of other processes too.
    """
    rows = sorted(
        [str(each) for each in value]
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == _KEY
    )
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
    for row in (_COLUMNS, *rows):
        yield "  ".join(each.ljust(width) for each, width in zip(row, widths, strict=True)).rstrip()
    absent, complete = (sum(int(row[place]) for row in rows) for place in (6, 7))
    looks = sum(int(row[9]) + int(row[10]) for row in rows) / len(rows)
    yield (
        f"{len(rows)} behaviours: false absent {absent}, false complete {complete}; "
        f"{looks:.1f} looks for a request."
    )
