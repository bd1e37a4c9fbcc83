"""The trend of usage: a row a day for each scope, brought up to date every hour and when asked."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from typing import TypeVar

from calotype.catalog import Catalog, settings
from calotype.errors import CalotypeError
from calotype.quantities import Instant

S = TypeVar("S")
R = TypeVar("R")


class Trend:
    """Notes a scope's usage after it changed; gc notes every scope's."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._noted: dict[str, Instant] = {}

    def note(self, scope: str) -> None:
        """Write today's row unless it is younger than an hour; never makes the caller fail."""
        now = self._catalog.clock()
        if now - self._noted.get(scope, 0) >= settings.HOUR:
            self._note(scope, now, settings.HOUR)

    def after(self, steps: Generator[S, None, R], scope: str) -> Generator[S, None, R]:
        """The same steps, and today's row as they leave it: they may be a day's work."""
        try:
            return (yield from steps)
        finally:
            self._note(scope, self._catalog.clock(), 0)

    def bring_up_to_date(self, scope: str) -> None:
        """Write today's row, where the catalog can be written."""
        with suppress(CalotypeError):
            self._write(scope, self._catalog.clock(), None)

    def _note(self, scope: str, now: Instant, age: Instant) -> None:
        self._noted[scope] = now
        with suppress(CalotypeError):
            self._write(scope, now, age)

    def _write(self, scope: str, now: Instant, age: Instant | None) -> None:
        """Count what is there, unless that was done within ``age``."""
        if not self._catalog.exists():
            return
        due = age is None
        if age is not None:
            with self._catalog.read() as connection:
                due = settings.usage_due(connection, now, scope, age)
        if due:
            with self._catalog.write(durable=False, patience=0) as connection:
                settings.record_usage(connection, now, [scope])
