"""``among(column, values)``: membership in a list of any length as one constant statement.

``IN`` with one parameter a value makes a new statement for every length; here the values travel
as one parameter (JSON on SQLite, an array on PostgreSQL), so the statement stays prepared.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Dialect, Text, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType, TypeDecorator, TypeEngine


class _Values(TypeDecorator[Sequence[str]]):
    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(ARRAY(Text()) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Sequence[str] | None, dialect: Dialect) -> Any:
        return list(value or ()) if dialect.name == "postgresql" else json.dumps(value or ())


class _Among(FunctionElement[bool]):
    # A Boolean here would be written "... = 1" on SQLite, which no index serves.
    type = NullType()  # type: ignore[assignment]
    inherit_cache = True


@compiles(_Among)
def _compile(element: _Among, compiler: SQLCompiler, **options: Any) -> str:
    column, values = element.clauses
    left = compiler.process(column, **options)
    right = compiler.process(values, **options)
    if compiler.dialect.name == "postgresql":
        return f"{left} = ANY (CAST({right} AS TEXT[]))"
    return f"{left} IN (SELECT value FROM json_each({right}))"


def among(column: ColumnElement[Any], values: Iterable[str]) -> ColumnElement[bool]:
    """True for rows whose ``column`` is one of ``values``; served by the column's index."""
    return _Among(column, bindparam(None, list(values), _Values(), unique=True))


def among_given(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """``among`` with values that are given as parameter ``name`` when the statement runs."""
    return _Among(column, bindparam(name, type_=_Values()))
