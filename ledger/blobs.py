"""Columns of bytes, which may have been changed by hand: SQLite stores any type in any column."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Dialect, LargeBinary

__all__ = ["Blob", "raw"]


def raw(value: bytes | memoryview | str | float) -> bytes:
    """Give the bytes of a column that may have been changed by hand."""
    if type(value) is bytes:
        return value
    return bytes(value) if isinstance(value, memoryview) else str(value).encode()


class Blob(LargeBinary):
    """Bytes; whatever else stands there is read as other bytes, which then match no hash or MAC."""

    def result_processor(
        self,
        dialect: Dialect,  # noqa: ARG002 - SQLAlchemy passes it
        coltype: object,  # noqa: ARG002 - as above
    ) -> Callable[[Any], bytes | None]:
        """Give what turns a stored value into bytes."""
        return lambda value: None if value is None else raw(value)
