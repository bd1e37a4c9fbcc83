"""Threads: where a store's calls run while the event loop goes on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from threading import Event
from typing import ParamSpec, TypeVar

from calotype import giving_up

P = ParamSpec("P")
R = TypeVar("R")


class Threads:
    """At most so many threads, made when they are needed; a forked child makes its own.

    Safe to share among the tasks of any number of event loops.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._pool: ThreadPoolExecutor | None = None
        self._pid = os.getpid()

    async def run(self, work: Callable[P, R], *given: P.args, **named: P.kwargs) -> R:
        """What ``work`` returns, called on a thread with the context variables of this task.

        Cancelled, it waits until the thread has let go: a call that was not begun never is, and a
        put undoes itself unless it is being committed; other calls come to their end. Cancelled
        again, it goes on waiting.
        """
        given_up = Event()
        context = copy_context()
        context.run(giving_up.listen, given_up)
        call = self._made().submit(context.run, partial(work, *given, **named))
        try:
            return await asyncio.wrap_future(call)
        except asyncio.CancelledError:
            given_up.set()
            await _ended(call)
            raise

    async def surely(self, work: Callable[[], object]) -> None:
        """Call ``work`` on a thread, whoever cancels, and wait for its end; he is heard then."""
        call = self._made().submit(copy_context().run, work)
        await _ended(call)
        call.result()

    def close(self) -> None:
        """Let the threads end when they are idle; the next call has new ones."""
        pool, self._pool = self._pool, None
        if pool is not None and self._pid == os.getpid():
            pool.shutdown(wait=False)

    def _made(self) -> ThreadPoolExecutor:
        if self._pool is None or self._pid != os.getpid():
            self._pid = os.getpid()
            self._pool = ThreadPoolExecutor(self._most, thread_name_prefix="calotype")
        return self._pool


async def _ended(call: Future[R]) -> None:
    """Wait until the thread has let go, however often the task is cancelled meanwhile."""
    if call.done():
        return
    again: asyncio.CancelledError | None = None
    ending = asyncio.wrap_future(call)
    while not ending.done():
        try:
            await asyncio.wait([ending])
        except asyncio.CancelledError as error:  # as anyio does, each time the event loop turns
            again = error
    if not ending.cancelled():
        ending.exception()  # looked at, or asyncio complains that nobody did
    if again is not None:
        raise again
