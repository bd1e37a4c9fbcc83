"""Verbs of a store as coroutines, async lists and async runs: the same names and arguments.

Each takes a method of ``Store``, ``Scope`` or ``Backends`` and gives the one that is awaited; its
parameters are that method's own, for type checkers too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial, wraps
from itertools import islice
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from calotype.aio.threads import Threads
from calotype.catalog.listing import PAGE, Listing, Page
from calotype.progress import Run

P = ParamSpec("P")
R = TypeVar("R")
E = TypeVar("E")
T = TypeVar("T")

Coro = Coroutine[Any, Any, R]

_END = object()


class Awaited(Generic[T]):
    """Something of a store's whose verbs run on threads."""

    def __init__(self, inner: T, threads: Threads) -> None:
        self._inner = inner
        self._threads = threads


def awaited(verb: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], Coro[R]]:
    """A coroutine of a verb."""

    @wraps(verb)
    async def run(self: Awaited[Any], /, *given: P.args, **named: P.kwargs) -> R:
        return await self._threads.run(verb, self._inner, *given, **named)

    return run


def listed(
    verb: Callable[Concatenate[Any, P], Listing[T]],
) -> Callable[Concatenate[Any, P], AsyncListing[T]]:
    """An async list of a verb that lists."""

    @wraps(verb)
    def run(self: Awaited[Any], /, *given: P.args, **named: P.kwargs) -> AsyncListing[T]:
        return AsyncListing(verb(self._inner, *given, **named), self._threads)

    return run


def each(
    verb: Callable[Concatenate[Any, P], Iterator[T]],
) -> Callable[Concatenate[Any, P], AsyncIterator[T]]:
    """An async iterator of a verb that gives one after the other."""

    @wraps(verb)
    def run(self: Awaited[Any], /, *given: P.args, **named: P.kwargs) -> AsyncIterator[T]:
        return _drawn(verb(self._inner, *given, **named), self._threads)

    return run


def running(
    verb: Callable[Concatenate[Any, P], Run[E, R]],
) -> Callable[Concatenate[Any, P], AsyncRun[E, R]]:
    """An async run of a verb that takes long."""

    @wraps(verb)
    def run(self: Awaited[Any], /, *given: P.args, **named: P.kwargs) -> AsyncRun[E, R]:
        return AsyncRun(partial(verb, self._inner, *given, **named))

    return run


async def _drawn(items: Iterator[T], threads: Threads) -> AsyncIterator[T]:
    while some := await threads.run(_some, items):
        for item in some:
            yield item


def _some(items: Iterator[T]) -> list[T]:
    return list(islice(items, PAGE))


class AsyncListing(Generic[T]):
    """A list that is read page by page: ``async for`` gives everything, ``page`` one page."""

    def __init__(self, listing: Listing[T], threads: Threads) -> None:
        self._listing = listing
        self._threads = threads

    def __aiter__(self) -> AsyncIterator[T]:
        """Every item; what changes meanwhile may or may not be seen."""
        return _drawn(iter(self._listing), self._threads)

    async def page(self, limit: int = 100, after: str | None = None) -> Page[T]:
        """At most ``limit`` items (and 10,000) that come after the page that gave ``after``."""
        return await self._threads.run(self._listing.page, limit, after)


class AsyncRun(Generic[E, R]):
    """Work that goes on while it is iterated, on a thread of its own.

    ``async for`` gives its events (``Progress`` or ``Finding``), ``await run.result()`` runs it to
    its end. It begins, and says what is wrong with its arguments, when it is first awaited. Left
    early or cancelled it stops where it stands: what was done stays done.
    """

    def __init__(self, begin: Callable[[], Run[E, R]]) -> None:
        self._begin = begin
        self._run: Run[E, R] | None = None
        self._thread = Threads(1)

    async def __aiter__(self) -> AsyncIterator[E]:
        """The events of the work, each once."""
        steps = await self._thread.run(self._stepping)
        try:
            while (event := await self._thread.run(next, steps, _END)) is not _END:
                yield event  # type: ignore[misc]
        except BaseException:
            await self.close()
            raise
        self._thread.close()

    async def result(self) -> R:
        """Run to the end and return the outcome; harmless to repeat.

        ``RuntimeError`` when the work was left early or failed before.
        """
        async for _ in self:
            continue
        return self._begun().result()

    async def close(self) -> None:
        """Stop the work where it stands."""
        try:
            if self._run is not None:
                await self._thread.surely(self._run.close)
        finally:
            self._thread.close()

    def _begun(self) -> Run[E, R]:
        if self._run is None:
            self._run = self._begin()
        return self._run

    def _stepping(self) -> Iterator[E]:
        return iter(self._begun())
