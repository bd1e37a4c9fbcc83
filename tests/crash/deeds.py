"""Deeds in whose midst a process is struck: each is known by a number, and can be done again."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.combinations import Combination, another
from tests.crash.moments import Act, Moments
from tests.crash.scenario import DAY, Clock
from tests.store.pictures import noise
from tests.store.surgery import content, keys, lose

from calotype import Digest, Store
from calotype.errors import Unavailable

TREE = "CALOTYPE_TEST_TREE"
"""This variable names the folder that is imported."""


def put(store: Store, number: int) -> None:
    store.put(noise(900, number), owner=f"kept/{number}")


def hit(store: Store, number: int) -> None:
    done = store.put(noise(900, f"known {number}"), owner=f"hit/{number}")
    assert done.status == "duplicate"


def heal(store: Store, number: int) -> None:
    store.put(noise(900, f"lost {number}"))


def put_many(store: Store, number: int) -> None:
    sources = [noise(500, f"{number} {each}") for each in range(4)]
    done = store.put_many([*sources, sources[0]], owner=f"many/{number}").result()
    assert not done.failures, done.failures


def take_in(store: Store, number: int) -> None:
    tree = Path(os.environ[TREE])
    done = store.import_tree(tree, owner=f"tree/{number}").result()
    assert not done.failures, done.failures


def let_go(store: Store, number: int) -> None:
    store.release(f"gone/{number}")
    report = store.gc(now=True, force=True)
    assert not report.refused, report
    if report.failed:
        raise Unavailable(f"{report.failed} keys could not be erased.", hint="Run gc again.")


def purge(store: Store, number: int) -> None:
    store.purge(Digest.of(noise(400, f"purged {number}")), block=False)


def copy(store: Store, number: int) -> None:
    done = store.backends.copy(f"place-{number}").result()
    assert not done.failed, done.failures


def primary(store: Store, number: int) -> None:
    store.backends.primary(f"place-{number}")


def drop(store: Store, number: int) -> None:
    name = f"place-{number}"
    if name in [each.name for each in store.backends.list()]:
        assert store.backends.drop(name).kept == 0


ACTS: tuple[Act, ...] = (put, hit, heal, put_many, take_in, let_go, purge, copy, primary, drop)


class Struck(Protocol):
    """What does a deed and is struck in the midst of it."""

    @property
    def where(self) -> Combination:
        """The store."""
        ...

    def run(self, act: Act, number: int, due: int) -> tuple[str, Moments]:
        """Do it, struck at the ``due``-th moment: ``acknowledged``, ``killed`` or why it failed."""
        ...

    def through(self, url: str) -> str:
        """The URL of another backend as it is reached from there."""
        ...


@dataclass
class Sweep:
    """One store, struck again and again in the midst of its deeds; the next one goes on with it.

    A ``cut`` is a crash of the catalog itself: what was intended just before may be unknown, and
    bytes are strays, until fsck has seen them and a month is over.
    """

    watched: Struck
    pair: str
    folder: Path
    cut: bool = False
    points: int = 0

    def __post_init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.number = 0
        with self.where.open() as store:
            for each in range(3):
                self.keep(store, noise(700, f"first {each}"))

    @property
    def where(self) -> Combination:
        return self.watched.where

    def keep(self, store: Store, data: bytes) -> None:
        self.kept[store.put(data).digest] = data

    def strike(self, act: Act, due: int) -> int:
        """Kill it there; how many moments it has, where it came to its end."""
        self.number += 1
        with self.where.open() as store:
            self.prepare(store, act)
        ended, moments = self.watched.run(act, self.number, due)
        assert ended in ("acknowledged", "killed"), (act.__name__, due, ended)
        assert moments.killed or ended == "acknowledged"
        self.points += moments.killed
        assert self.broken(damaged=self.damaged(act)) == []
        with self.where.open() as store:
            if ended == "acknowledged":
                self.is_kept(store, act)
            act(store, self.number)  # what was stopped can be done again
            self.is_kept(store, act)
            self.is_done(store, act)
        assert self.broken() == []
        return len(moments.seen)

    def broken(self, **how: Any) -> list[str]:
        found = self.where.broken(late_writes=True, **how)
        return [each for each in found if not (self.cut and each[:2] == "I7")]

    def damaged(self, act: Act) -> list[str]:
        return [Digest.of(noise(900, f"lost {self.number}"))] if act is heal else []

    def prepare(self, store: Store, act: Act) -> None:
        number = self.number
        if act is hit:
            self.keep(store, noise(900, f"known {number}"))
        elif act is heal:
            self.keep(store, noise(900, f"lost {number}"))
            lose(store, Digest.of(noise(900, f"lost {number}")))
            store.fsck().result()  # a service is trusted for a day, unless somebody noticed
        elif act is let_go:
            for each in range(3):
                store.put(noise(300, f"gone {number} {each}"), owner=f"gone/{number}")
            self.keep(store, noise(300, f"stays {number}"))
            store.put(noise(300, f"stays {number}"), owner=f"gone/{number}")
        elif act is purge:
            store.put(noise(400, f"purged {number}"), owner="purged/1")
        elif act in (copy, primary, drop):
            self.prepare_place(store, act)

    def prepare_place(self, store: Store, act: Act) -> None:
        """Another backend, as far as the act wants it; what was added before is dropped."""
        kind = self.pair.partition("-")[2]
        kind = "local" if kind == "database" else kind  # the catalog's own is the only one
        url, secrets = another(kind, self.folder, f"place {self.number}")
        os.environ.update(secrets)
        name = f"place-{self.number}"
        store.backends.add(name, self.watched.through(url), role="mirror")
        if act is not copy:
            store.backends.copy(name).result()

    def is_done(self, store: Store, act: Act) -> None:
        if act in (copy, primary, drop):
            self.is_placed(store, act)
        elif act in (let_go, purge):
            for name in (f"gone {self.number} {each}" for each in range(3)):
                assert store.check([Digest.of(noise(300, name))]).popitem()[1] is None

    def is_kept(self, store: Store, act: Act) -> None:
        """What the deed put is there, byte for byte."""
        owners = {put: ("kept", 1), hit: ("hit", 1), put_many: ("many", 4), take_in: ("tree", 3)}
        if act in owners:
            kind, count = owners[act]
            found = list(store.references(owner=f"{kind}/{self.number}"))
            assert len(found) == count
            self.kept |= {each.digest: content(store, each.digest) for each in found}
        elif act is heal:
            lost = noise(900, f"lost {self.number}")
            assert content(store, Digest.of(lost)) == lost

    def is_placed(self, store: Store, act: Act) -> None:
        name = f"place-{self.number}"
        found = {each.name: each for each in store.backends.list()}
        if act is drop:
            assert name not in found
            return
        assert found[name].lacking == 0
        if act is primary:
            assert found[name].role == "primary"
            store.backends.primary("main")
        assert store.backends.drop(name).kept == 0

    def end(self) -> None:
        """A fresh process recovers: nothing is lost, nothing is left over."""
        clock = Clock(0)
        with self.where.open(clock=clock) as store:
            if self.cut:
                store.fsck(repair=True).result()
                clock.forward(31 * DAY)
            for _ in range(3):
                clock.forward(2 * DAY)
                assert store.gc(now=True, force=True).failed == 0
            for each in store.backends.list()[1:]:  # which waited for a writer that was dead
                assert store.backends.drop(each.name).removed
            assert [each for each in store.fsck(read_data=True) if each.is_problem] == []
            assert {digest: content(store, digest) for digest in self.kept} == self.kept
            live = {str(key) for digest in self.kept for key in keys(store, digest)}
        assert self.where.broken() == []
        assert set(self.where.objects().sizes) == live
        assert self.where.temporary() == []
