"""JSON as a peer has to send it to be believed: UTF-8, one meaning, no NaN, bounded nesting."""

from __future__ import annotations

import json
from typing import NoReturn

__all__ = ["AmbiguousJsonError", "parse_strictly"]

JsonObject = dict[str, object]


class AmbiguousJsonError(ValueError):
    """The text is JSON of sorts, but two readers could take it for two different things."""


def _unique_members(pairs: list[tuple[str, object]]) -> JsonObject:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise AmbiguousJsonError("An object names a member twice.")
    return members


def _no_constant(_name: str) -> NoReturn:
    raise AmbiguousJsonError("NaN and Infinity are not JSON.")


def parse_strictly(body: bytes) -> object:
    """Parse *body* as one JSON value.

    Raises:
        AmbiguousJsonError: Not UTF-8, a repeated member, NaN or Infinity, or nested too deeply.
        ValueError: Not JSON at all (empty, cut off, plain text).
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise AmbiguousJsonError("The body is not UTF-8.") from None
    try:
        value: object = json.loads(
            text,
            object_pairs_hook=_unique_members,
            parse_constant=_no_constant,
        )
    except RecursionError:
        raise AmbiguousJsonError("The body is nested too deeply.") from None
    except AmbiguousJsonError:
        raise
    except ValueError:  # also an integer of more digits than Python converts
        raise ValueError("The body is not JSON.") from None  # the parser's error holds the document
    return value
