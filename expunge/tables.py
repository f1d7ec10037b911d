"""Plain tables: the same on a terminal and in a pipe, never cut, never coloured."""

from collections.abc import Iterable, Sequence

__all__ = ["cell", "counted", "table"]


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


def counted(number: int, noun: str) -> str:
    """Give a number with what it counts, such as `1 request` or `2,000 requests`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def cell(value: object) -> str:
    """Give the text of a value in a table; nothing is a dash."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)
