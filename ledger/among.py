"""`column IN (…)` with one bound value, for statements that run several times a second.

SQLAlchemy writes such a statement anew each time that it runs, which takes as long as carrying it
out. Here the list is one value: an array on PostgreSQL, JSON on SQLite.
"""

import json
from collections.abc import Sequence
from typing import Any, Self

from sqlalchemy import ARRAY, ColumnElement, Dialect, Text, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import Boolean, TypeDecorator, TypeEngine

__all__ = ["among"]


class _List(TypeDecorator[Sequence[Any]]):
    """A list of plain values of one type."""

    impl = Text
    cache_ok = True

    def __init__(self, of: TypeEngine[Any]) -> None:
        super().__init__()
        self.of = of

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(ARRAY(self.of))
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: Sequence[Any] | None, dialect: Dialect) -> Any:  # noqa: ANN401 - the driver's
        if value is None or dialect.name == "postgresql":
            return value
        return json.dumps(value)


class _Among(FunctionElement[bool]):
    inherit_cache = True
    name = "among"
    type = Boolean()

    def self_group(self, against: OperatorType | None = None) -> Self:  # noqa: ARG002 - as SQLAlchemy has it
        """Stand as it is: `… = 1` behind it would keep SQLite from its index."""
        return self


def among(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """Say that a column is one of the values that `name` is bound to when the statement runs.

    Args:
        column: Of integers or text.
        name: Of the parameter: a list, which may be empty.
    """
    return _Among(column, bindparam(name, type_=_List(column.type)))


@compiles(_Among, "sqlite")
def _in_sqlite(element: _Among, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608 - of our own statements


@compiles(_Among, "postgresql")
def _in_postgres(element: _Among, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} = ANY ({values})"
