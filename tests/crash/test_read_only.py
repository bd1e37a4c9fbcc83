"""A folder that may only be read: reading works, writing is refused in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.crash.mounts import needs_mounts, read_only
from tests.crash.scenario import LIBRARY, SHARED, digest, furnish, noise

from calotype import Store
from calotype.errors import Unavailable

pytestmark = needs_mounts

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


@pytest.fixture
def place(tmp_path) -> Path:
    furnish(tmp_path / "store")
    return tmp_path / "store"


def reads_everything(store: Store) -> None:
    with store.open(digest(LIBRARY)) as file:
        assert file.read() == LIBRARY
    with store.open(digest(LIBRARY), 10, 20) as file:
        assert file.read() == LIBRARY[10:20]
    assert store.stat(digest(SHARED)).references == 1
    assert store.check([digest(LIBRARY), digest(noise("new"))])[digest(noise("new"))] is None
    assert len(list(store.assets())) == 5
    assert store.explain(digest(LIBRARY)).verdict == "kept"
    assert store.stats().blobs > 0
    assert store.fsck(read_data=True).result().problems == 0


def test_a_store_at_rest_can_be_read(place, tmp_path) -> None:
    with read_only(place, tmp_path / "view"), Store(tmp_path / "view") as store:
        reads_everything(store)


def test_a_store_that_another_process_writes_to_can_be_read(place, tmp_path) -> None:
    with Store(place) as writer:
        writer.put(noise("open"), owner="scan/7")
        with read_only(place, tmp_path / "view"), Store(tmp_path / "view") as store:
            reads_everything_but_one(store)


def reads_everything_but_one(store: Store) -> None:
    with store.open(digest(noise("open"))) as file:
        assert file.read() == noise("open")
    with store.open(digest(LIBRARY)) as file:
        assert file.read() == LIBRARY


@pytest.mark.parametrize("write", WRITES)
def test_writing_is_refused_in_words(place, tmp_path, write) -> None:
    with (
        read_only(place, tmp_path / "view"),
        Store(tmp_path / "view") as store,
        pytest.raises(Unavailable) as refusal,
    ):
        WRITES[write](store)
    assert refusal.value.hint
    with Store(place) as store:
        reads_everything(store)


def test_a_store_cannot_be_made_there(tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    with (
        read_only(tmp_path / "empty", tmp_path / "view"),
        Store(tmp_path / "view" / "store") as store,
        pytest.raises(Unavailable) as refusal,
    ):
        store.put(LIBRARY)
    assert refusal.value.hint


def test_what_was_refused_succeeds_when_it_may_be_written_again(place, tmp_path) -> None:
    """The same open store: nothing of the refusal stays in it."""
    with Store(tmp_path / "view") as store:
        with read_only(place, tmp_path / "view"), pytest.raises(Unavailable):
            store.put(noise("new"))
        (tmp_path / "view").rmdir()
        (tmp_path / "view").symlink_to(place)
        assert store.put(noise("new")).status == "created"
