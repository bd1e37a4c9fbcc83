"""The store whose verbs are awaited."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from calotype.aio.plans import AsyncPlan
from calotype.aio.scope import AsyncScope
from calotype.aio.threads import Threads
from calotype.aio.verbs import Awaited, awaited, each, running
from calotype.backends import Backend
from calotype.backing import Backends
from calotype.quantities import Duration, Instant, Size
from calotype.quantities import now as clock_now
from calotype.staging import Limits
from calotype.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Engine

THREADS = 16
"""How many calls go on at a time; others wait for their turn."""


class AsyncBackends(Awaited[Backends]):
    """The backends of one store: the verbs of ``Backends``, awaited."""

    list = awaited(Backends.list)
    add = awaited(Backends.add)
    copy = running(Backends.copy)
    primary = awaited(Backends.primary)
    drop = awaited(Backends.drop)


class AsyncStore(AsyncScope):
    """A ``Store`` for asyncio: the same names and arguments, and its calls run on 16 threads.

    What a ``Store`` answers at once is awaited here. Lists and runs are async iterators, with
    ``await listing.page()`` and ``await run.result()``; ``open`` is for ``async with``. The event
    loop is never blocked. Safe to share among tasks and event loops; close it, or use it in an
    ``async with`` block.
    """

    _inner: Store

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
        store = Store(
            path,
            catalog=catalog,
            backend=backend,
            engine=engine,
            schema=schema,
            backends=backends,
            scope=scope,
            column_scope=column_scope,
            public_url=public_url,
            grace=grace,
            erase_delay=erase_delay,
            gc_every=gc_every,
            limits=limits,
            clock=clock,
        )
        super().__init__(store, Threads(THREADS))

    @classmethod
    def of(cls, store: Store) -> Self:
        """A store that there is, awaited."""
        made = cls.__new__(cls)
        Awaited.__init__(made, store, Threads(THREADS))
        return made

    @classmethod
    def memory(cls, **options: object) -> Self:
        """As ``Store.memory``."""
        return cls.of(Store.memory(**options))

    @classmethod
    def from_config(cls, where: str | Path | None = None) -> Self:
        """As ``Store.from_config``."""
        return cls.of(Store.from_config(where))

    def scope(self, name: str) -> AsyncScope:
        """The same store as another scope sees it, on the same threads."""
        return AsyncScope(self._inner.scope(name), self._threads)

    @property
    def backends(self) -> AsyncBackends:
        """Where the bytes are: ``list``, ``add``, ``copy``, ``primary``, ``drop``."""
        return AsyncBackends(self._inner.backends, self._threads)

    async def close(self) -> None:
        """As ``Store.close``; the threads end too. It can be used again."""
        try:
            await self._threads.surely(self._inner.close)
        finally:
            self._threads.close()

    aclose = close

    async def __aenter__(self) -> Self:
        """The store itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.close()

    # -- letting go -------------------------------------------------------------------------

    async def plan_gc(
        self,
        grace: Duration | None = None,
        erase_delay: Duration | None = None,
        digests: Iterable[str] | None = None,
        limit: int | None = None,
        max_bytes: Size | None = None,
        budget: Duration | None = None,
        full: bool = False,
        now: bool = False,
    ) -> AsyncPlan:
        """As ``Store.plan_gc``."""
        plan = await self._threads.run(
            self._inner.plan_gc, grace, erase_delay, digests, limit, max_bytes, budget, full, now
        )
        return AsyncPlan(plan, self._threads)

    async def plan(self, ident: str) -> AsyncPlan:
        """As ``Store.plan``."""
        return AsyncPlan(await self._threads.run(self._inner.plan, ident), self._threads)

    create = awaited(Store.create)
    gc = awaited(Store.gc)
    purge = awaited(Store.purge)
    unblock = awaited(Store.unblock)
    copy_catalog = running(Store.copy_catalog)

    # -- looking ----------------------------------------------------------------------------

    explain = awaited(Store.explain)
    fsck = running(Store.fsck)
    orphans = each(Store.orphans)
    resolve_anywhere = awaited(Store.resolve_anywhere)
    stats = awaited(Store.stats)
    set_quota = awaited(Store.set_quota)
    verify_url = awaited(Store.verify_url)
    rotate_url_key = awaited(Store.rotate_url_key)
