"""The trend of usage: a row a day for each scope, brought up to date every hour and when asked."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from typing import TypeVar

from sqlalchemy.exc import IntegrityError

from calotype.catalog import Catalog, settings
from calotype.errors import CalotypeError
from calotype.quantities import Instant

S = TypeVar("S")
R = TypeVar("R")


class Trend:
    """Notes a scope's usage after it changed; gc notes every scope's. Never fails its caller."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._noted: dict[str, Instant] = {}
        self._owed: set[str] = set()

    def note(self, scope: str) -> None:
        """Write today's row; it is owed where one was written within an hour, or could not be."""
        now = self._catalog.clock()
        if 0 <= now - self._noted.get(scope, 0) < settings.HOUR:
            self._owed.add(scope)
            return
        self._noted[scope] = now
        if not self._write(scope, now, settings.HOUR):
            self._owed.add(scope)

    def after(self, steps: Generator[S, None, R], scope: str) -> Generator[S, None, R]:
        """The same steps, then a note, or one owed: they may be a day's work."""
        self._owed.add(scope)
        try:
            return (yield from steps)
        finally:
            self.note(scope)

    def settle(self) -> None:
        """Write the rows that are owed."""
        while self._owed:
            self._write(self._owed.pop(), self._catalog.clock(), 0)

    def bring_up_to_date(self, scope: str) -> None:
        """Write today's row, whatever counting costs."""
        self._write(scope, self._catalog.clock(), None)

    def _write(self, scope: str, now: Instant, age: Instant | None) -> bool:
        """Count what is there, unless that was done within ``age``; True where it was written."""
        with suppress(CalotypeError, IntegrityError):
            if self._catalog.exists() and (age is None or self._is_due(scope, now, age)):
                with self._catalog.write(durable=False, patience=0) as connection:
                    settings.record_usage(connection, now, [scope])
                return True
        return False

    def _is_due(self, scope: str, now: Instant, age: Instant) -> bool:
        with self._catalog.read() as connection:
            return settings.usage_due(connection, now, scope, age)
