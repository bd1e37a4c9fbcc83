"""Visits to a store that may only be read: functions that another process can find by their name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.crash.scenario import LIBRARY, SHARED, digest, noise

from calotype import Store, doctoring
from calotype.errors import Unavailable

WRITES: dict[str, Callable[[Store], object]] = {
    "put new": lambda store: store.put(noise("new")),
    "put known": lambda store: store.put(LIBRARY, owner="scan/9"),
    "attach": lambda store: store.attach(digest(LIBRARY), "scan/9"),
    "release": lambda store: store.release("scan/1"),
    "restore": lambda store: store.restore(owner="scan/2"),
    "discard": lambda store: store.discard(digest(LIBRARY)),
    "gc": lambda store: store.gc(now=True),
    "purge": lambda store: store.purge(digest(SHARED)),
}


_WORDS = re.compile(
    r"^The catalog \S+ cannot be (written|opened)\.|^The catalog.s folder failed: .*'/|^Cannot \w+ .*'/"
)
_WAYS_OUT = ("permission", "read-only", "may be read and written")


@contextmanager
def refused() -> Iterator[None]:
    """In words that name what may not be written, and who could let it."""
    with pytest.raises(Unavailable) as refusal:
        yield
    assert _WORDS.match(str(refusal.value))
    assert any(each in refusal.value.hint for each in _WAYS_OUT)


def reads_everything(store: Store) -> None:
    reads(store, LIBRARY)
    with store.open(digest(LIBRARY), 10, 20) as file:
        assert file.read() == LIBRARY[10:20]
    assert store.stat(digest(SHARED)).references == 1
    assert store.check([digest(LIBRARY), digest(noise("new"))])[digest(noise("new"))] is None
    assert len(list(store.assets())) == 5
    assert store.explain(digest(LIBRARY)).verdict == "kept"
    assert store.stats().blobs > 0
    assert store.fsck().result().problems == 0


def reads(store: Store, data: bytes) -> None:
    with store.open(digest(data)) as file:
        assert file.read() == data


def visit_to_read(place: Path) -> None:
    with Store(place) as store:
        reads_everything(store)


def visit_to_be_told(place: Path) -> None:
    """Everything can be read, and the doctor names what may not be written."""
    visit_to_read(place)
    with Store(place) as store:
        told = [each.note for each in doctoring.examine(store) if each.subject == "rights"]
    for each in (place / "catalog.db", place):
        assert told.count(f"{each} may not be written") == 1


def visit_to_write(place: Path) -> None:
    for write in WRITES.values():
        with Store(place) as store, refused():
            write(store)
        visit_to_read(place)


def visit_to_put(place: Path) -> None:
    with Store(place) as store, refused():
        store.put(noise("new"))


def visit_to_make(place: Path) -> None:
    with Store(place / "store") as store, refused():
        store.put(LIBRARY)
