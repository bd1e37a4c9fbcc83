"""A process that uses a store until it is killed.

It says of each operation when it begins and once it is acknowledged, so that whoever hears it
knows what must be there after the power was cut.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from tests.power.expectation import DATA, Change, data, tree_of

from calotype import Digest, Store
from calotype.backends import folders
from calotype.catalog import sqlite
from calotype.errors import Unavailable

MUTANTS = ("no file is synced", "no commit is synced")


class Worker:
    """Does one thing after another with a few owners and a few files."""

    def __init__(self, store: Store, tree: Path, dice: random.Random, said: Connection) -> None:
        self._store = store
        self._said = said
        self._tree = tree
        self._dice = dice
        self._verbs: list[Callable[[], None]] = [
            *[self._put] * 4,
            *[self._put_many] * 2,
            self._import,
            self._attach,
            *[self._release] * 2,
            self._restore,
            *[self._gc] * 2,
        ]

    def work(self) -> None:
        """One operation."""
        self._dice.choice(self._verbs)()

    @contextmanager
    def _told(self, change: Change | None) -> Iterator[None]:
        """Say what is begun, and once the block is through that it was acknowledged."""
        self._said.send(("begin", change, time.monotonic_ns()))
        yield
        self._said.send(("end", None, time.monotonic_ns()))

    def _owner(self, kind: str) -> str:
        return f"{kind}/{self._dice.randrange(6)}"

    def _put(self) -> None:
        number, owner = self._dice.randrange(DATA), self._owner("o")
        digest = Digest.of(data(number))
        with self._told(Change(owner, {"r": digest}, merge=True)):
            self._store.put(data(number), owner=owner, role="r")

    def _put_many(self) -> None:
        numbers = [self._dice.randrange(DATA) for _ in range(self._dice.randrange(2, 30))]
        owner = self._owner("b")
        digests = {Digest.of(data(n)): Digest.of(data(n)) for n in numbers}
        with self._told(Change(owner, {**digests}, merge=True)):
            done = self._store.put_many([data(n) for n in numbers], owner=owner).result()
            _require(done.failures)

    def _import(self) -> None:
        owner = self._owner("t")
        with self._told(Change(owner, tree_of(self._tree), merge=True)):
            _require(self._store.import_tree(self._tree, owner=owner).result().failures)

    def _attach(self) -> None:
        found = self._store.references(owner=self._owner("o")).page(limit=5).items
        if found:
            digest, owner = self._dice.choice(found).digest, self._owner("a")
            with self._told(Change(owner, {"r": digest}, merge=True)):
                self._store.attach(digest, owner, "r")

    def _release(self) -> None:
        owner = self._owner(self._dice.choice("obta"))
        with self._told(Change(owner, {}, merge=False)):
            self._store.release(owner)

    def _restore(self) -> None:
        """What was released a moment ago is back, gc permitting: put in the same breath."""
        owner, number = self._owner("o"), self._dice.randrange(DATA)
        digest = Digest.of(data(number))
        with self._told(Change(owner, {"r": digest}, merge=False)):
            self._store.release(owner)
            self._store.put(data(number), owner=owner, role="r")

    def _gc(self) -> None:
        with self._told(None):
            self._store.gc(now=True)


def _require(failures: object) -> None:
    if failures:
        raise Unavailable(f"{failures}")


def sabotage(mutant: str) -> None:
    """Break one promise on purpose: the cuts have to notice."""
    if mutant == "no file is synced":
        folders.sync = lambda _: None
        folders.sync_disk = lambda _: True
    elif mutant == "no commit is synced":
        sqlite.FULL = 0
        settings = sqlite._settings

        def lazy(*arguments):
            def set_up(connection, record):
                settings(*arguments)(connection, record)
                connection.execute("PRAGMA synchronous=OFF")

            return set_up

        sqlite._settings = lazy


def use(said: Connection, store: Path, tree: Path, seed: float, *mutant: str) -> None:
    """Use the store until the power is cut."""
    for each in mutant:
        sabotage(each)
    with Store(store, grace=0) as opened:
        worker = Worker(opened, tree, random.Random(seed), said)
        said.send(("ready", None, 0))
        while True:
            worker.work()
