"""A scope whose verbs are awaited."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast, overload

from calotype.aio.files import AsyncFile, AsyncReadable, pieces_of, received
from calotype.aio.verbs import Awaited, awaited, listed, running
from calotype.catalog.borrowing import is_awaited
from calotype.errors import Misconfigured
from calotype.model import Put, Released, Restored
from calotype.names import Owner
from calotype.quantities import Duration
from calotype.scope import Scope
from calotype.staging import Gathering, Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session

R = TypeVar("R")

AsyncJoinable: TypeAlias = "AsyncSession | AsyncConnection | async_scoped_session[AsyncSession]"


class AsyncScope(Awaited[Scope]):
    """One scope of an ``AsyncStore``: the verbs of ``Scope``, awaited."""

    @property
    def name(self) -> str:
        """The scope's name."""
        return self._inner.name

    # -- bytes in ---------------------------------------------------------------------------

    async def put(
        self,
        source: Source | AsyncIterable[bytes] | AsyncReadable,
        owner: str | Owner | None = None,
        role: str | None = None,
        filename: str | None = None,
        metadata: Mapping[str, object] | None = None,
        hold: Duration | None = None,
        expect: str | None = None,
        images_only: bool = False,
    ) -> Put:
        """As ``Scope.put``; ``source`` may also be an async iterator, or have an async ``read``.

        Cancelled, it keeps nothing, unless it was being committed or copied to mirrors.
        """
        keep = partial(
            self._inner.put,
            owner=owner,
            role=role,
            filename=filename,
            metadata=metadata,
            hold=hold,
            expect=expect,
            images_only=images_only,
        )
        pieces = pieces_of(source)
        if pieces is None:
            return await self._threads.run(keep, cast("Source", source))
        content = await received(pieces, self._gathering, self._threads)
        try:
            return await self._threads.run(keep, content)
        finally:
            content.discard()

    def _gathering(self) -> Gathering:
        rooms = self._inner._rooms
        return Gathering(rooms.mounts.primary.backend, rooms.limits)

    put_many = running(Scope.put_many)
    import_tree = running(Scope.import_tree)
    import_table = running(Scope.import_table)
    direct_upload = awaited(Scope.direct_upload)
    complete = awaited(Scope.complete)

    # -- bytes out --------------------------------------------------------------------------

    def open(self, digest: str, start: int | None = None, stop: int | None = None) -> AsyncFile:
        """As ``Scope.open``: ``async with store.open(digest) as file``."""
        return AsyncFile(partial(self._inner.open, digest, start, stop), self._threads)

    url = awaited(Scope.url)

    # -- what there is ----------------------------------------------------------------------

    stat = awaited(Scope.stat)
    resolve = awaited(Scope.resolve)
    check = awaited(Scope.check)
    assets = listed(Scope.assets)
    owners = listed(Scope.owners)
    references = listed(Scope.references)
    usage = awaited(Scope.usage)
    usage_days = awaited(Scope.usage_days)

    # -- who uses it ------------------------------------------------------------------------

    async def attach(
        self,
        digest: str,
        owner: str | Owner,
        role: str | None = None,
        connection: AsyncJoinable | None = None,
    ) -> None:
        """As ``Scope.attach``; ``connection`` is SQLAlchemy's AsyncSession or AsyncConnection."""
        await self._joining(connection, partial(self._inner.attach, digest, owner, role))

    async def release(
        self,
        owner: str | Owner,
        role: str | None = None,
        connection: AsyncJoinable | None = None,
    ) -> Released:
        """As ``Scope.release``; ``connection`` is SQLAlchemy's AsyncSession or AsyncConnection."""
        return await self._joining(connection, partial(self._inner.release, owner, role))

    @overload
    async def restore(
        self, digest: str, *, connection: AsyncJoinable | None = None
    ) -> Restored: ...
    @overload
    async def restore(
        self,
        *,
        owner: str | Owner,
        role: str | None = None,
        connection: AsyncJoinable | None = None,
    ) -> Restored: ...
    async def restore(
        self,
        digest: str | None = None,
        *,
        owner: str | Owner | None = None,
        role: str | None = None,
        connection: AsyncJoinable | None = None,
    ) -> Restored:
        """As ``Scope.restore``; ``connection`` is SQLAlchemy's AsyncSession or AsyncConnection."""
        verb = partial(Scope.restore, self._inner, digest, owner=owner, role=role)
        return await self._joining(connection, verb)

    update = awaited(Scope.update)
    renew = awaited(Scope.renew)
    keep = awaited(Scope.keep)
    discard = awaited(Scope.discard)

    async def _joining(self, connection: AsyncJoinable | None, verb: Callable[..., R]) -> R:
        """The verb, in a transaction of the store's or in that of ``connection``.

        There its statements are awaited as the application's own are, on the same connection.
        """
        if connection is None:
            return await self._threads.run(verb)
        session = _awaited(connection)
        await self._threads.run(self._inner._rooms.catalog.require)
        return await session.run_sync(lambda inner: verb(connection=inner))


def _awaited(connection: AsyncJoinable) -> AsyncSession | AsyncConnection:
    """What runs statements; of a registry the session of whoever asks."""
    extension = sys.modules.get("sqlalchemy.ext.asyncio")
    given: Any = connection
    if extension is not None and isinstance(given, extension.async_scoped_session):
        given = given()
    if not (is_awaited(given) and hasattr(given, "run_sync")):
        raise Misconfigured(
            f"Cannot await a {type(given).__module__}.{type(given).__qualname__}.",
            hint="Pass an AsyncSession or AsyncConnection of SQLAlchemy; others belong to "
            "Store, on a thread.",
        )
    return cast("AsyncSession | AsyncConnection", given)
