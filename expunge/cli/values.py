"""Values from the command line, from `@file` and from `-`, so that no id need be in the history."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["ids_from", "memory_ids", "moment", "one_of", "one_value", "operator"]

_E = TypeVar("_E", bound=StrEnum)


def memory_ids(
    values: Sequence[str],
    *,
    advice: str = "Nothing was handed in; `expunge import` takes the other lines.",
) -> Iterator[str]:
    """Yield the ids given one by one, and those of files and of standard input, one a line.

    Args:
        values: As they were given.
        advice: What to do about a line that is no id.

    Raises:
        RequestError: A file cannot be read, or a line of it is no id; it is named by its number.
    """
    from ledger.errors import RequestError  # noqa: PLC0415
    from producer.files import Reject, open_source  # noqa: PLC0415
    from producer.files.plain import read_plain  # noqa: PLC0415

    if list(values).count("-") > 1:
        msg = "Standard input can be read only once; give `-` once."
        raise RequestError(msg)
    for value in values:
        if value != "-" and not value.startswith("@"):
            yield value
            continue
        with open_source(value.removeprefix("@")) as source:
            for found in read_plain(source):
                if isinstance(found, Reject):
                    msg = f"Line {found.line} of {source.name}: {found.reason} {advice}"
                    raise RequestError(msg)
                yield found


def ids_from(values: Sequence[str]) -> list[str]:
    """Give request ids, each once: those given one by one, those of files and of standard input.

    Raises:
        RequestError: A file cannot be read, or there is no id at all.
    """
    from ledger.errors import RequestError  # noqa: PLC0415
    from producer.files import open_source  # noqa: PLC0415

    if list(values).count("-") > 1:
        msg = "Standard input can be read only once; give `-` once."
        raise RequestError(msg)
    found: dict[str, None] = {}
    for value in values:
        if value != "-" and not value.startswith("@"):
            found[value] = None
            continue
        with open_source(value.removeprefix("@")) as source:
            for line in source.lines():
                if line.text is None:
                    msg = f"Line {line.number} of {source.name} is too long for a request's id."
                    raise RequestError(msg)
                # Ours have no blanks, so one at the end is the editor's.
                if content := line.content.strip():
                    found[content] = None
    if not found:
        msg = "There is no request id in what was given; nothing was done."
        raise RequestError(msg)
    return list(found)


def one_value(value: str, *, option: str) -> str:
    """Give the value itself, or the only line of a file or of standard input.

    Raises:
        RequestError: There is not exactly one line.
    """
    from ledger.errors import RequestError  # noqa: PLC0415
    from producer.files import open_source  # noqa: PLC0415

    if value != "-" and not value.startswith("@"):
        return value
    with open_source(value.removeprefix("@")) as source:
        lines = [line.content for line in source.lines() if line.content]
    if len(lines) != 1:
        msg = f"{source.name} for {option} has {len(lines)} lines that are not empty, not one."
        raise RequestError(msg)
    return lines[0]


def moment(value: str | None, *, option: str) -> "datetime | None":
    """Read a moment with time zone, or None for none.

    Raises:
        RequestError: It is no such moment.
    """
    from producer.files.jsonl import parse_time  # noqa: PLC0415

    return None if value is None else parse_time(value, where=option)


def one_of(kind: type[_E], value: str | None, *, option: str) -> _E | None:
    """Read one of a closed list of words, or None for none.

    Raises:
        RequestError: It is none of them.
    """
    from ledger.errors import RequestError  # noqa: PLC0415

    if value is None:
        return None
    if value not in list(kind):
        msg = f"{option} is none of {', '.join(kind)}."
        raise RequestError(msg)
    return kind(value)


def operator() -> str:
    """Name who runs the command, for the record; containers may run as a user without a name."""
    import getpass  # noqa: PLC0415
    import os  # noqa: PLC0415

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"
