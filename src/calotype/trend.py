"""The trend of usage: a row a day for each scope, brought up to date at most once an hour."""

from __future__ import annotations

from calotype.catalog import Catalog, settings
from calotype.errors import CalotypeError
from calotype.quantities import Instant


class Trend:
    """Notes a scope's usage after it changed; gc notes every scope's."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._noted: dict[str, Instant] = {}

    def note(self, scope: str) -> None:
        """Write today's row unless it is younger than an hour; never makes the caller fail."""
        now = self._catalog.clock()
        if now - self._noted.get(scope, 0) < settings.HOUR:
            return
        self._noted[scope] = now
        try:
            self._write(scope, now)
        except CalotypeError:
            return

    def _write(self, scope: str, now: Instant) -> None:
        if not self._catalog.exists():
            return
        with self._catalog.read() as connection:
            due = settings.usage_due(connection, now, scope)
        if due:
            with self._catalog.write(durable=False, patience=0) as connection:
                settings.record_usage(connection, now, [scope])
