"""Access counts: gathered in memory and written in batches."""

from __future__ import annotations

import os
import threading
import time

from calotype.catalog import Catalog, holdings
from calotype.errors import CalotypeError
from calotype.quantities import Instant

EVERY = 60.0
"""Seconds between writes, while there is anything to write."""

AT_MOST = 1000
"""How many assets are remembered between writes."""


class Accesses:
    """Counts openings and URLs. A crash loses the last minute's counts, never more."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], tuple[int, Instant]] = {}
        self._written = time.monotonic()

    def _same_process(self) -> None:
        """A forked child leaves its parent's counts to the parent."""
        if self._pid != os.getpid():
            self._start()

    def note(self, scope: str, digest: str) -> None:
        """Count one access."""
        self._same_process()
        with self._lock:
            count, _ = self._seen.get((scope, digest), (0, 0))
            self._seen[scope, digest] = (count + 1, self._catalog.clock())
            waited = time.monotonic() - self._written
            due = waited > EVERY or (waited > 1 and len(self._seen) >= AT_MOST)
        if due:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered; counting never makes reading fail, nor wait for a writer."""
        self._same_process()
        with self._lock:
            seen, self._seen = self._seen, {}
            self._written = time.monotonic()
        if seen:
            try:
                if not self._catalog.exists():
                    return
                with self._catalog.write(durable=False, patience=0) as connection:
                    holdings.touch(connection, seen)
            except CalotypeError:
                self._keep_for_later(seen)

    def _keep_for_later(self, seen: dict[tuple[str, str], tuple[int, Instant]]) -> None:
        with self._lock:
            for place, (count, last) in seen.items():
                more, newer = self._seen.get(place, (0, last))
                if place in self._seen or len(self._seen) < AT_MOST:
                    self._seen[place] = (count + more, newer)
