"""What a process is at when it is killed: each deed is known by a number, and can be done again."""

from __future__ import annotations

import os
from pathlib import Path

from tests.crash.moments import Act
from tests.store.pictures import noise

from calotype import Digest, Store

TREE = "CALOTYPE_TEST_TREE"
"""This variable names the folder that is imported."""


def put(store: Store, number: int) -> None:
    store.put(noise(900, number), owner=f"kept/{number}")


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
    assert (report.failed, report.refused) == (0, 0), report


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


ACTS: tuple[Act, ...] = (put, heal, put_many, take_in, let_go, purge, copy, primary, drop)
