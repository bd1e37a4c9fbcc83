"""A store of one user's, and an administrator (root) who works on it now and then."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.invariants import broken_invariants

from calotype import Store, doctoring

NOBODY = 65534

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0, reason="it takes root to be two users"
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where another user makes a store, in a folder of theirs; what that needs is loaded."""
    use(tmp_path / "loads", 0)
    for each in (tmp_path, *tmp_path.parents):
        each.chmod(each.stat().st_mode | 0o011)
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, NOBODY, NOBODY)
    return theirs / "store"


def as_the_other(work: Callable[[], object]) -> bool:
    """True where it works for the other user, in a process of its own."""
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def use(place: Path, first: int) -> None:
    """Put some, let go of half, collect, compare, read."""
    with Store(place) as store:
        for number in range(first, first + 20):
            kept = store.put(f"file {number}".encode(), owner=f"file/{number}")
        for number in range(first, first + 10):
            assert store.release(f"file/{number}").references == 1
        assert store.gc(now=True, force=True).erased == 10
        assert store.fsck(read_data=True).result().problems == 0
        with store.open(kept.digest) as file:
            file.read()
        assert [each for each in doctoring.examine(store) if each.level == "fail"] == []


def not_theirs(place: Path) -> list[Path]:
    """Folders, and files that have to be written again, that are not the other user's."""
    return [
        each
        for each in place.rglob("*")
        if each.stat().st_uid != NOBODY and (each.is_dir() or each.stat().st_mode & 0o200)
    ]


def test_what_root_makes_in_a_store_shuts_nobody_out(place):
    assert as_the_other(lambda: use(place, 0))
    use(place, 100)
    assert not_theirs(place) == []
    assert as_the_other(lambda: use(place, 100))
    assert as_the_other(lambda: use(place, 200))
    assert broken_invariants(place) == []


def test_what_root_makes_anew_beside_the_catalog_is_its_owners(place):
    def put() -> None:
        with Store(place) as store:
            store.put(b"a file", owner="file/a")

    assert as_the_other(put)
    for each in place.glob("catalog.db-*"):
        each.unlink()
    use(place, 100)
    assert {each.name for each in place.glob("catalog.db-*")} >= {"catalog.db-reserve"}
    assert not_theirs(place) == []
    assert as_the_other(lambda: use(place, 100))


@pytest.mark.parametrize("name", ["catalog.db-reserve", "catalog.db-checkpoint"])
@pytest.mark.parametrize("there", [True, False], ids=["there", "not-there"])
def test_a_link_of_the_owners_gives_nothing_of_roots_away(place, tmp_path, name, there):
    secret = tmp_path / "secret"
    if there:
        secret.write_text("root's")
        secret.chmod(0o600)

    def lays_a_link() -> None:
        with Store(place) as store:
            store.put(b"a file", owner="file/a")
        (place / name).unlink(missing_ok=True)
        (place / name).symlink_to(secret)

    assert as_the_other(lays_a_link)
    use(place, 100)
    assert secret.exists() is there
    if there:
        assert (secret.read_text(), secret.stat().st_uid) == ("root's", 0)


def test_the_doctor_names_folders_that_are_anothers(place):
    def looks() -> None:
        with Store(place) as store:
            remarks = [each for each in doctoring.examine(store) if each.subject == "rights"]
        assert [(each.level, each.note) for each in remarks] == [
            ("fail", f"{place}/blobs/erased may not be written")
        ]
        assert remarks[0].cure == f"chown {place}/blobs/erased, or run as its owner"

    assert as_the_other(lambda: use(place, 0))
    os.chown(place / "blobs" / "erased", 0, 0)
    (place / "blobs" / "erased").chmod(0o755)
    assert as_the_other(looks)


def test_the_doctor_tells_of_a_folder_that_may_not_be_entered(place):
    def looks() -> None:
        with Store(place) as store:
            remarks = [each for each in doctoring.examine(store) if each.level == "fail"]
        assert ("rights", f"{place} may not be written") in [(e.subject, e.note) for e in remarks]

    assert as_the_other(lambda: use(place, 0))
    os.chown(place, 0, 0)
    assert as_the_other(looks)
