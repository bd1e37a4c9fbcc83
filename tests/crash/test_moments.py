"""Killed at a moment, a process leaves what a fresh one can go on with; on every combination."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.combinations import NAMES, Combination, another, combination
from tests.crash import counted
from tests.crash.deeds import (
    ACTS,
    TREE,
    copy,
    drop,
    heal,
    let_go,
    primary,
    purge,
    put,
    put_many,
    take_in,
)
from tests.crash.moments import Act, Watched
from tests.crash.points import room
from tests.crash.scenario import DAY, Clock
from tests.store.pictures import noise
from tests.store.surgery import content, lose

from calotype import Digest, Store

FULL = os.environ.get("CALOTYPE_CRASH") == "full"
QUICK_POINTS = 2


@dataclass
class Sweep:
    """One store, killed again and again in the midst of one act; the next one goes on with it."""

    watched: Watched
    pair: str
    folder: Path
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
        assert moments.killed is (ended == "killed") or not due
        self.points += moments.killed
        assert self.where.broken(late_writes=True, damaged=self.damaged(act)) == []
        with self.where.open() as store:
            act(store, self.number)  # what was stopped can be done again
            self.is_done(store, act)
        assert self.where.broken(late_writes=True) == []
        return len(moments.seen)

    def damaged(self, act: Act) -> list[str]:
        return [Digest.of(noise(900, f"lost {self.number}"))] if act is heal else []

    def prepare(self, store: Store, act: Act) -> None:
        number = self.number
        if act is heal:
            self.keep(store, noise(900, f"lost {number}"))
            lose(store, Digest.of(noise(900, f"lost {number}")))
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
        url, keys = another(kind, self.folder, f"place {self.number}")
        if kind == "database":  # the catalog's own is the only one
            url, keys = another("local", self.folder, f"place {self.number}")
        os.environ.update(keys)
        name = f"place-{self.number}"
        store.backends.add(name, self.watched.through(url), role="mirror")
        if act is not copy:
            store.backends.copy(name).result()

    def is_done(self, store: Store, act: Act) -> None:
        number = self.number
        if act in (copy, primary, drop):
            self.is_placed(store, act)
        elif act in (let_go, purge):
            for name in (f"gone {number} {each}" for each in range(3)):
                assert store.check([Digest.of(noise(300, name))]).popitem()[1] is None
        owners = {put: "kept", put_many: "many", take_in: "tree"}
        counts = {put: 1, put_many: 4, take_in: 3}
        if act in owners:
            found = list(store.references(owner=f"{owners[act]}/{number}"))
            assert len(found) == counts[act]
            self.kept |= {each.digest: content(store, each.digest) for each in found}

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
            for _ in range(3):
                clock.forward(2 * DAY)
                assert store.gc(now=True, force=True).failed == 0
            for each in store.backends.list()[1:]:  # which waited for a writer that was dead
                assert store.backends.drop(each.name).removed
            assert [each for each in store.fsck(read_data=True) if each.is_problem] == []
            assert {digest: content(store, digest) for digest in self.kept} == self.kept
            live = {str(r.key) for d in self.kept for r in store.explain(d).replicas if r.state == "live"}  # fmt: skip
        assert self.where.broken() == []
        assert set(self.where.objects().sizes) == live
        assert self.where.temporary() == []


QUICK = {
    "sqlite-local": copy,
    "sqlite-database": put,
    "sqlite-s3": let_go,
    "sqlite-supabase": put_many,
    "postgres-local": drop,
    "postgres-database": let_go,
    "postgres-s3": put,
    "postgres-supabase": take_in,
}
"""What is killed on each combination, at a few of its moments; in full everything at all of them."""

SOME = [(pair, act) for pair in NAMES for act in ACTS if FULL or QUICK[pair] is act]


def with_tree(where: Combination, folder: Path) -> Combination:
    """Three files lie there, which import takes."""
    for name in "abc":
        (folder / "tree" / name).mkdir(parents=True)
        (folder / "tree" / name / "file").write_bytes(noise(600, f"in tree {name}"))
    return replace(where, keys=(*where.keys, (TREE, str(folder / "tree"))))


@pytest.mark.parametrize(("pair", "act"), SOME)
def test_what_a_kill_leaves_can_be_gone_on_with(pair, act, record_property) -> None:
    with room() as folder, ExitStack() as stack:
        where = combination(*pair.split("-"), folder)
        watched = Watched(with_tree(where, folder), stack)
        sweep = Sweep(watched, pair, folder)
        moments = sweep.strike(act, 0)
        assert moments > 1
        step = 1 if FULL else max(1, moments // QUICK_POINTS)
        for due in range(1 + NAMES.index(pair) % step, moments + 1, step):
            sweep.strike(act, due)
        sweep.end()
        assert sweep.points > 0
        record_property(counted.PROPERTY, {"kill at a wire": sweep.points, "operations": 1})
