"""The store: what an application holds. It wires the rooms together and names them."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from calotype.accesses import Accesses
from calotype.backends import Backend
from calotype.backing import Backends
from calotype.belonging import claim_all
from calotype.blocking import tell, unblock
from calotype.catalog import settings
from calotype.catalog.columns import Hosts
from calotype.digest import Digest, digests_of
from calotype.errors import Misconfigured
from calotype.gc.erasing import Tally as Erased
from calotype.gc.plans import Gc, Plan
from calotype.gc.terms import Terms
from calotype.inspecting import Inspects
from calotype.model import Grant, Report
from calotype.mounting import Mounts
from calotype.names import plain
from calotype.opening import catalog_in, database_at, open_backend, place_of, public
from calotype.presence import require_there
from calotype.progress import Progress, Run
from calotype.purging import Purger
from calotype.quantities import Duration, Instant, Size, duration, size
from calotype.quantities import now as clock_now
from calotype.rooms import Rooms
from calotype.schedule import Schedule
from calotype.scope import Scope
from calotype.staging import Limits
from calotype.trend import Trend

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from calotype.relocating import Relocated


class Store(Inspects, Scope):
    """A store and its own scope (``"default"`` unless told otherwise).

    ``Store("media")`` is ``media/catalog.db`` and ``media/blobs/``, made by the first put; before
    it, reading finds nothing. ``Store(catalog="sqlite:///app.db", backend="file:media")`` keeps
    its tables in an application's database (in PostgreSQL in ``schema``, which is made where it is
    missing); ``backend`` may also be a ``Backend`` of your own. ``backends`` are others by their
    names, for those that the catalog's URL is not enough to open; where ``backend`` is among them,
    a store that is made now knows it by that name.
    ``limits`` bound what a file may be, ``clock`` gives the present instant in microseconds.
    ``gc_every`` is for long-lived processes: a thread runs ``gc()`` that often, of all processes
    with this store one at a time, until it is closed; what it did or could not do is logged as
    ``calotype.gc``. Nothing is opened before it is needed; safe across threads, processes and
    fork. Close it, or use it in a ``with`` block, to write the last access counts.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        catalog: str | None = None,
        backend: str | Backend | None = None,
        engine: Engine | None = None,
        schema: str | None = None,
        backends: Mapping[str, str | Backend] | None = None,
        scope: str = "default",
        column_scope: str = "default",
        public_url: str | None = None,
        grace: Duration = "24h",
        erase_delay: Duration | None = None,
        gc_every: Duration | None = None,
        limits: Limits | None = None,
        clock: Callable[[], Instant] = clock_now,
    ) -> None:
        where = Path(path).absolute() if path is not None else None
        database = database_at(where, catalog, engine, schema)

        def opener(given: str | Backend) -> Backend:
            return open_backend(given, database)

        bytes_at = opener(place_of(where, backend))
        given = {
            name: bytes_at if each == backend else opener(each)
            for name, each in (backends or {}).items()
        }
        opened = catalog_in(
            database,
            bytes_at,
            given,
            backend is None,
            clock,
            settle=lambda catalog: claim_all(catalog, mounts),
        )
        mounts = Mounts(opened, bytes_at, given, opener)
        rooms = Rooms(
            opened,
            mounts,
            Hosts(plain(column_scope, "scope")),
            limits or Limits(),
            duration(grace),
            public(public_url),
            Accesses(opened),
            Trend(opened),
        )
        super().__init__(rooms, scope)
        self._erase_delay = duration(erase_delay) if erase_delay is not None else None
        self._schedule: Schedule | None = None
        if gc_every is not None:
            self._schedule = Schedule(self, opened, duration(gc_every))
        over = self._schedule.over if self._schedule is not None else None
        self._ending = weakref.finalize(self, _end, rooms, over)

    @classmethod
    def memory(cls, **options: object) -> Store:
        """A store that lives and dies with the process: for tests."""
        return cls(catalog="sqlite://", backend="memory:", **options)  # type: ignore[arg-type]

    @classmethod
    def from_config(cls, where: str | Path | None = None) -> Store:
        """The store that the environment and the nearest ``calotype.toml`` describe."""
        from calotype.config import load

        return load(where).store()

    def scope(self, name: str) -> Scope:
        """The same store as another scope sees it."""
        scope = Scope(self._rooms, name)
        scope._store = self  # or it would be closed under the scope
        return scope

    def create(self) -> None:
        """Make the store now, not by the first put: for tables that point at its own.

        Harmless to repeat, beside any number of others.
        """
        self._rooms.catalog.ensure()

    def close(self) -> None:
        """Write the last access counts and usage, end ``gc_every``, close every connection.

        It can be used again; only gc does not run by itself any more.
        """
        if self._schedule is not None:
            self._schedule.stop()
        self._rooms.accesses.flush()
        self._rooms.trend.settle()
        _close(self._rooms)

    def __enter__(self) -> Self:
        """The store itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    @property
    def backends(self) -> Backends:
        """Where the bytes are: ``list``, ``add``, ``copy``, ``primary``, ``drop``."""
        return Backends(self._rooms.catalog, self._rooms.mounts, self._erase_delay)

    # -- letting go -------------------------------------------------------------------------

    def plan_gc(
        self,
        grace: Duration | None = None,
        erase_delay: Duration | None = None,
        digests: Iterable[str] | None = None,
        limit: int | None = None,
        max_bytes: Size | None = None,
        budget: Duration | None = None,
        full: bool = False,
        now: bool = False,
    ) -> Plan:
        """What gc would let go of and erase; nothing is removed until ``plan.execute()``.

        What nothing has kept for ``grace`` is garbage; bytes are erased ``erase_delay`` after
        they were let go; both are the store's own unless given, and ``now`` makes both 0. No
        argument ever shortens a hold or a lease. ``full`` looks at every blob instead of the
        candidates. ``limit`` and ``max_bytes`` bound one run, ``budget`` its time; a file larger
        than ``max_bytes`` goes alone, or it would stand in the way for ever.
        """
        if limit is not None and limit < 0:
            raise Misconfigured(f"A limit below zero: {limit}.", hint="Give 0 or more.")
        catalog = self._rooms.catalog
        age = 0 if now else duration(grace) if grace is not None else self._rooms.grace
        delay = duration(erase_delay) if erase_delay is not None else self._erase_delay
        terms = Terms(
            cutoff=catalog.clock() - age,
            erase_delay=0 if now else delay,
            digests=_sorted(digests),
            limit=limit,
            max_bytes=size(max_bytes) if max_bytes is not None else None,
            budget=duration(budget) if budget is not None else None,
            full=full or self._full_look_due(),
        )
        return self._gc().plan(terms)

    def plan(self, ident: str) -> Plan:
        """A plan made before, looked at anew."""
        return self._gc().load(plain(ident, "plan"))

    def gc(
        self,
        grace: Duration | None = None,
        erase_delay: Duration | None = None,
        digests: Iterable[str] | None = None,
        limit: int | None = None,
        max_bytes: Size | None = None,
        budget: Duration | None = None,
        full: bool = False,
        now: bool = False,
        force: bool = False,
    ) -> Report:
        """``plan_gc`` and ``execute`` in one; ``GcLimit`` where too much would go."""
        return self.plan_gc(
            grace, erase_delay, digests, limit, max_bytes, budget, full, now
        ).execute(force=force)

    def purge(
        self, digest: str, block: bool = True, reason: str = "purged by an administrator"
    ) -> Report:
        """Remove a digest from every scope, erase its bytes, and refuse it from now on.

        ``StillReferenced``, and nothing changed, where an application's column points at it. The
        report's ``failed`` counts copies that are still to be erased by a later gc;
        ``EraseLocked``, once all else is done, where bytes may be another catalog's to erase.
        """
        parsed = Digest.parse(digest)
        purger = Purger(self._rooms.catalog, self._rooms.hosts)
        require_there(self._rooms.catalog, self._rooms.mounts.primary)
        why = plain(reason, "reason")
        assets = purger.purge(parsed, block=block, reason=why)
        if block:
            tell(self._rooms.catalog, self._rooms.mounts, parsed, why)
        erased = Erased()
        terms = Terms(self._rooms.catalog.clock(), 0, (parsed,))
        for _ in self._gc().erase(terms, erased, lambda: False):
            continue
        if erased.locked is not None:
            raise erased.locked
        return Report(
            "purge",
            assets=assets,
            erased=erased.erased,
            erased_bytes=erased.erased_bytes,
            failed=purger.left(parsed),
            items=tuple(erased.items),
        )

    def unblock(self, digest: str) -> bool:
        """Take a digest off the block-list; False where it was not on it.

        Raises, and changes nothing, where a backend cannot be told, or may be another catalog's.
        """
        catalog, parsed = self._rooms.catalog, Digest.parse(digest)
        if not catalog.exists():
            return False
        return unblock(catalog, self._rooms.mounts, parsed)

    def copy_catalog(
        self, url: str, schema: str | None = None, *, force: bool = False, dry_run: bool = False
    ) -> Run[Progress, Relocated]:
        """Move the catalog to another database, while the bytes stay; a Run of Progress.

        ``url`` is a catalog URL or a store's folder. The store may be used while rows are copied;
        in the end it is held still, all of them are compared, and from then on only the new
        catalog can be used. Stopped or killed, the same call goes on. An application's foreign
        keys to this one stay behind: refused unless ``force``. A ``dry_run`` changes nothing.
        """
        from calotype.relocating import Relocation, target_of

        self._rooms.accesses.flush()
        source, mounts, hosts = self._rooms.catalog, self._rooms.mounts, self._rooms.hosts
        work = Relocation(source, target_of(url, schema, source), mounts, hosts, force=force)
        return Run(work.plan if dry_run else work.steps, name="copy_catalog")

    def set_quota(self, scope: str, quota: Size | None) -> None:
        """Limit the bytes of a scope's assets (trash included), or lift the limit."""
        limit = size(quota) if quota is not None else None
        if limit is not None:
            self._rooms.catalog.ensure()
        elif not self._rooms.catalog.exists():
            return
        with self._rooms.catalog.write() as connection:
            settings.set_quota(connection, plain(scope, "scope"), limit)

    def verify_url(self, url: str) -> Grant:
        """What a URL (or token) made by ``url()`` allows; ``Denied``, ``UrlExpired``."""
        return self._rooms.signer().verify(url)

    def rotate_url_key(self) -> None:
        """Sign URLs with a new key; those of the key before stay valid, older ones do not."""
        self._rooms.signer().rotate()

    def _gc(self) -> Gc:
        rooms = self._rooms
        return Gc(rooms.catalog, rooms.mounts, rooms.hosts)

    def _full_look_due(self) -> bool:
        catalog = self._rooms.catalog
        if not catalog.exists():
            return False
        with catalog.read() as connection:
            return settings.get_meta(connection, "full_look") == "1"


def _sorted(digests: Iterable[str] | None) -> tuple[str, ...] | None:
    if digests is None:
        return None
    return tuple(sorted(set(digests_of(digests))))


def _end(rooms: Rooms, over: threading.Event | None) -> None:
    if over is not None:
        over.set()
    rooms.accesses.flush()
    _close(rooms)


def _close(rooms: Rooms) -> None:
    rooms.mounts.close()
    rooms.catalog.close()  # one in memory ends with the last list or plan that needs it
