"""A folder that may only be read: reading works, writing is refused in words.

The disk is mounted so that nobody may write to it; or its permissions keep all but root from it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.crash.powers import unwritable, without_powers
from tests.crash.scenario import LIBRARY, furnish, noise
from tests.crash.visits import (
    reads,
    reads_everything,
    refused,
    visit_to_be_told,
    visit_to_make,
    visit_to_put,
    visit_to_read,
    visit_to_write,
)
from tests.mounts import needs_mounts, read_only
from tests.races.crowd import at_once

from calotype import Store
from calotype.errors import Unavailable

Visit = Callable[[Path], None]
"""What is done to a folder that may only be read."""

Closed = Callable[[Path, Visit], None]


def _mounted(place: Path, visit: Visit) -> None:
    with read_only(place, place.with_name("view")):
        visit(place.with_name("view"))


def _forbidden(place: Path, visit: Visit) -> None:
    with unwritable(place):
        at_once(without_powers, [(visit, place)])


@pytest.fixture(params=[pytest.param(_mounted, marks=needs_mounts), _forbidden])
def closed(request) -> Closed:
    """Either way of keeping writers out."""
    return request.param


@pytest.fixture
def place(tmp_path) -> Path:
    furnish(tmp_path / "store")
    return tmp_path / "store"


def test_a_store_at_rest_can_be_read_and_the_doctor_says_what_is_shut(place, closed) -> None:
    closed(place, visit_to_be_told)


def test_writing_is_refused_in_words(place, closed) -> None:
    closed(place, visit_to_write)
    visit_to_read(place)


def test_a_store_cannot_be_made_there(tmp_path, closed) -> None:
    (tmp_path / "empty").mkdir()
    closed(tmp_path / "empty", visit_to_make)
    assert not list((tmp_path / "empty").iterdir())


def _mounted_over(place: Path, visit: Visit) -> None:
    with read_only(place / "blobs", place / "blobs"):
        visit(place)


def _blobs_forbidden(place: Path, visit: Visit) -> None:
    with unwritable(place / "blobs"):
        at_once(without_powers, [(visit, place)])


@pytest.mark.parametrize(
    "closed", [pytest.param(_mounted_over, marks=needs_mounts), _blobs_forbidden]
)
def test_bytes_that_may_only_be_read_are_told_of_in_words(place, closed) -> None:
    closed(place, visit_to_put)
    visit_to_read(place)


@pytest.mark.parametrize("shut", ["", "catalog.db"])
def test_what_may_not_be_opened_at_all_is_told_of_in_words(place, shut) -> None:
    rights = (place / shut).stat().st_mode
    (place / shut).chmod(0o000)
    try:
        at_once(without_powers, [(visit_to_put, place)])
    finally:
        (place / shut).chmod(rights)
    visit_to_read(place)


@needs_mounts
def test_a_store_that_another_process_writes_to_can_be_read(place, tmp_path) -> None:
    with Store(place) as writer:
        writer.put(noise("open"), owner="scan/7")
        with read_only(place, tmp_path / "view"), Store(tmp_path / "view") as store:
            reads(store, noise("open"))
            reads(store, LIBRARY)


@needs_mounts
def test_a_reader_sees_what_is_put_later_through_another_way_in(place, tmp_path) -> None:
    with read_only(place, tmp_path / "view"), Store(tmp_path / "view") as store:
        reads_everything(store)
        before = store.stats().assets
        with Store(place) as writer:
            for number in range(50):
                writer.put(noise(f"later {number}"), owner=f"later/{number}")
        for number in range(50):
            reads(store, noise(f"later {number}"))
        assert store.stats().assets == before + 50


@needs_mounts
def test_what_was_refused_succeeds_when_it_may_be_written_again(place, tmp_path) -> None:
    """The same open store: nothing of the refusal stays in it."""
    with Store(tmp_path / "view") as store:
        with read_only(place, tmp_path / "view"), refused():
            store.put(noise("new"))
        (tmp_path / "view").rmdir()
        (tmp_path / "view").symlink_to(place)
        assert store.put(noise("new")).status == "created"


@needs_mounts
def test_what_was_read_beside_a_writer_is_not_believed(place) -> None:
    view = place.with_name("view")
    with read_only(place, view), Store(view) as reader:
        pages = reader.assets()
        with (
            pytest.raises(Unavailable, match="written to while it was read") as caught,
            reader._rooms.catalog.read(),
            Store(place) as writer,
        ):
            writer.put(b"new")
        assert "Try again" in caught.value.hint
        assert len(list(reader.assets())) == len(list(pages)) > 0
