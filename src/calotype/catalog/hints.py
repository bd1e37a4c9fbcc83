"""Hints for PostgreSQL's planner, which knows too little of tables that have just been filled."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class _Unindexed(FunctionElement[str]):
    type = Text()
    inherit_cache = True


@compiles(_Unindexed)
def _as_it_is(element: _Unindexed, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)


@compiles(_Unindexed, "postgresql")
def _appended(element: _Unindexed, compiler: SQLCompiler, **options: Any) -> str:
    return f"({compiler.process(element.clauses, **options)} || '')"


def unindexed(column: ColumnElement[str]) -> ColumnElement[str]:
    """A text column that no index is looked up by: a scope has millions of rows, a digest few."""
    return _Unindexed(column)
