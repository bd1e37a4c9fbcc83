"""The schedule: gc by itself in a long-lived process, one run an interval for the whole store."""

from __future__ import annotations

import logging
import threading
import weakref
from typing import Protocol

from calotype.catalog import Catalog, settings
from calotype.catalog.reserve import Freeing
from calotype.errors import CalotypeError, Misconfigured
from calotype.model import Report
from calotype.quantities import SECOND, Instant

LOG = logging.getLogger("calotype.gc")

FIRST_LOOK = 10 * SECOND
"""How long after the start a process looks first whether a run is due."""

LONGEST_SLEEP = 3600 * SECOND
"""A clock may jump meanwhile."""


class Collects(Protocol):
    """What gc can be asked of: a store."""

    def gc(self) -> Report:
        """Let go of what nothing keeps."""
        ...


class Schedule:
    """A thread that runs gc once ``every`` microseconds, until the store is closed or forgotten.

    Of all processes that share a catalog one takes each run. What fails is logged, and tried again
    an interval later. A forked child has no such thread.
    """

    def __init__(self, store: Collects, catalog: Catalog, every: int) -> None:
        if every < SECOND // 100:
            raise Misconfigured("gc_every is next to nothing.", hint="Write '24h', for example.")
        self._over = threading.Event()
        thread = threading.Thread(
            target=_run, args=(weakref.ref(store), catalog, every, self._over), daemon=True
        )
        thread.name = "calotype-gc"
        thread.start()
        self._thread = thread

    def stop(self) -> None:
        """Begin no further run, and wait for one that is under way."""
        self._over.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    @property
    def over(self) -> threading.Event:
        """Set once no further run begins."""
        return self._over


def _run(
    store_of: weakref.ref[Collects], catalog: Catalog, every: int, over: threading.Event
) -> None:
    wait = min(FIRST_LOOK, every)
    while not over.wait(wait / SECOND):
        store = store_of()
        if store is None:
            return
        wait = _look(store, catalog, every)
        del store


def _look(store: Collects, catalog: Catalog, every: int) -> int:
    """Run gc if it is due; microseconds until the next look."""
    try:
        wait = claim(catalog, every)
        if wait:
            return min(wait, LONGEST_SLEEP)
        report = store.gc()
        LOG.info("let go of %d blobs, erased %d", report.doomed, report.erased)
    except CalotypeError as error:
        LOG.warning("%s: %s %s", error.code, error, error.hint)
    except Exception:
        LOG.exception("gc failed")
    return min(every, LONGEST_SLEEP)


def claim(catalog: Catalog, every: int) -> Instant:
    """Take the next run, if it is due: 0, or the microseconds until then."""
    if not catalog.exists():
        return every
    with catalog.read() as connection:
        if wait := _until(settings.get_meta(connection, "gc_at"), catalog.clock(), every):
            return wait
    with catalog.write(durable=False, freeing=Freeing.BYTES) as connection:
        settings.lock(connection, "gc_at")
        now = catalog.clock()
        wait = _until(settings.get_meta(connection, "gc_at"), now, every)
        if not wait:
            settings.set_meta(connection, "gc_at", str(now))
        return wait


def _until(last: str | None, now: Instant, every: int) -> int:
    """A last run in the future is a clock's mistake, and over."""
    passed = now - int(last or 0)
    return every - passed if 0 <= passed < every else 0
