"""Moments of a process at work: each commit, each request to a service, each touch of a folder.

They are seen from outside, where there is a wire: before a COMMIT or a request is sent on, and
before its answer is. Where there is none, as in SQLite and in folders, the process itself tells,
and waits to be told to go on.
"""

from __future__ import annotations

import re
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any
from unittest import mock

from tests import proxy as network
from tests.combinations import Combination
from tests.proxy import Exchange, Proxy
from tests.races.crowd import PATIENCE, server
from tests.wire import Wire

from calotype import Store
from calotype.backends.local import LocalBackend
from calotype.catalog.embedded import Embedded
from calotype.errors import CalotypeError

Act = Callable[[Store, int], object]


class Moments:
    """Counts the moments of one process, and kills it at the ``due``-th; at none for 0."""

    def __init__(self, due: int) -> None:
        self.due = due
        self.seen: list[str] = []
        self.killed = False
        self.victim: BaseProcess | None = None
        self._gate = threading.Lock()

    def go_on(self, name: str) -> bool:
        """Note a moment; False once the process is dead."""
        with self._gate:
            self.seen.append(name)
            if len(self.seen) == self.due and self.victim is not None:
                self.killed = True
                self.victim.kill()
                self.victim.join(PATIENCE)
            return not self.killed


_SERVICE = re.compile(r"127\.0\.0\.1:[0-9]+")


class Watched:
    """A store's wires: its processes go through proxies, where their moments are counted."""

    def __init__(self, where: Combination, stack: ExitStack) -> None:
        self.moments = Moments(0)
        self._stack = stack
        self._proxies: dict[str, Proxy] = {}
        backend = self.through(where.backend)
        if where.is_sqlite:
            self.where = Combination(where.catalog, backend, where.keys)
            return
        wire = Wire(where.catalog)
        wire.watch = lambda when: self.moments.go_on(f"{when} COMMIT")
        stack.callback(wire.close)
        self.where = Combination(wire.url, backend, where.keys)

    def through(self, url: str) -> str:
        """The URL of a backend as it is reached by the proxy before its service."""
        found = _SERVICE.search(url)
        if found is None:
            return url
        if found[0] not in self._proxies:
            made = self._stack.enter_context(network.before(f"http://{found[0]}"))
            made.plan(self._exchange, times=10**9)
            self._proxies[found[0]] = made
        return url.replace(found[0], self._proxies[found[0]].endpoint.removeprefix("http://"))

    def _exchange(self, exchange: Exchange, forward: Callable[[], None]) -> None:
        if not self.moments.go_on(f"before {exchange.method}"):
            raise network.Hangup
        forward()
        if not self.moments.go_on(f"after {exchange.method}"):
            raise network.Hangup

    def run(self, act: Act, number: int, due: int) -> tuple[str, Moments]:
        """Do it in a process of its own, killed at its ``due``-th moment: what became of it."""
        self.moments = Moments(due)
        ours, theirs = server().Pipe()
        process = server().Process(target=perform, args=(self.where, act, number, theirs))
        process.start()
        self.moments.victim = process
        theirs.close()
        try:
            return self._heard(ours), self.moments
        finally:
            process.kill()
            process.join(PATIENCE)
            ours.close()
            self.moments = Moments(0)

    def _heard(self, pipe: Connection) -> str:
        while True:
            try:
                assert pipe.poll(PATIENCE), "the process hung"
                kind, text = pipe.recv()
                if kind != "moment":
                    return f"{kind} {text}".strip()
                if self.moments.go_on(text):
                    pipe.send("go on")
            except (EOFError, ConnectionError):
                return "killed"


def perform(where: Combination, act: Act, number: int, pipe: Connection) -> None:
    """The process: what it did or why not is its last word."""
    try:
        with _telling(where, pipe), where.open() as store:
            act(store, number)
            pipe.send(("acknowledged", ""))
    except CalotypeError as error:
        pipe.send(("failed", f"{error.code}: {error}"))
    except BaseException:
        pipe.send(("broken", traceback.format_exc()))


@contextmanager
def _telling(where: Combination, pipe: Connection) -> Iterator[None]:
    """Whatever no wire shows is told, before and after."""
    gate = threading.Lock()

    def tell(name: str) -> None:
        with gate:
            pipe.send(("moment", name))
            pipe.recv()

    def told(owner: type, name: str) -> Any:
        real = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            tell(f"before {name}")
            answer = real(*arguments, **options)
            tell(f"after {name}")
            return answer

        return mock.patch.object(owner, name, call)

    writing = Embedded.writing

    @contextmanager
    def committing(self: Embedded, **how: Any) -> Iterator[Any]:
        with writing(self, **how) as connection:
            yield connection
            tell("before commit")
        tell("after commit")

    with ExitStack() as stack:
        for name in ("_place", "delete"):
            stack.enter_context(told(LocalBackend, name))
        if where.is_sqlite:
            stack.enter_context(mock.patch.object(Embedded, "writing", committing))
        yield
