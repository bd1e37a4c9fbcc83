"""Operations that break a promise on purpose: the crash points have to notice each of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from unittest import mock

from tests.crash.scenario import LIBRARY, NEW, SCENARIOS, Scenario, digest, furnish

from calotype import Store
from calotype.catalog import sqlite
from calotype.catalog.embedded import Embedded
from calotype.errors import CalotypeError
from calotype.gc.erasing import Eraser


def _bytes_unsynced(store: Store) -> object:
    with mock.patch("calotype.backends.folders.sync"):
        return SCENARIOS["put-new"].act(store)


def _rows_unsynced(store: Store) -> object:
    with _hasty():
        return store.attach(digest(LIBRARY), "scan/9")


@contextmanager
def _hasty() -> Iterator[None]:
    """Every commit as if it were of those that may be lost."""
    writing = Embedded._writing

    def hastily(self: Embedded, engine: object, special: object = None, *rest: object) -> object:
        return writing(self, engine, [sqlite.HASTY], *rest)

    with mock.patch.object(Embedded, "_writing", hastily):
        yield


def _bytes_before_rows(store: Store) -> object:
    """An object at a key that no row announces."""
    place = _folder(store) / "blobs" / "sha256" / digest(NEW)[:2] / digest(NEW)[2:4]
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{digest(NEW)}.png").write_bytes(NEW)
    (place / f"{digest(NEW)}.png").unlink()
    return SCENARIOS["put-new"].act(store)


def _folder(store: Store) -> Path:
    catalog = store._rooms.catalog.path
    assert catalog is not None
    return catalog.parent


def _in_two_steps(store: Store) -> object:
    """An asset without the name that was asked for, for a moment."""
    done = store.put(NEW, owner="scan/9", role="original")
    store.update(done.digest, filename="new.png")
    return done.status


def _says_so_before(store: Store) -> object:
    """Success whatever happens."""
    try:
        return SCENARIOS["put-new"].act(store)
    except CalotypeError:
        return "created"


def _foreign_error(store: Store) -> object:
    try:
        return SCENARIOS["release"].act(store)
    except CalotypeError as error:
        raise RuntimeError("not one of ours") from error


def _deletes_first(store: Store) -> object:
    """Bytes gone while the rows still promise them."""
    erase = Eraser._erase

    def early(self: Eraser, *given: object) -> None:
        with _hasty():
            erase(self, *given)

    with mock.patch.object(Eraser, "_erase", early):
        return SCENARIOS["gc"].act(store)


def _leaves_rubbish(store: Store) -> object:
    """A temporary file under a name that nobody sweeps."""
    rubbish = _folder(store) / "rubbish"
    rubbish.write_bytes(b"rubbish")
    done = SCENARIOS["attach"].act(store)
    rubbish.unlink()
    return done


def _forgets_the_trash(store: Store) -> object:
    """A release that gc is never told of."""
    done = SCENARIOS["release"].act(store)
    with closing(sqlite3.connect(_folder(store) / "catalog.db")) as connection, connection:
        connection.execute("DELETE FROM calotype_candidate")
    return done


MUTANTS: dict[str, Scenario] = {
    each.name: each
    for each in (
        Scenario("bytes-unsynced", _bytes_unsynced, furnish),
        Scenario("rows-unsynced", _rows_unsynced, furnish),
        Scenario("bytes-before-rows", _bytes_before_rows, furnish),
        Scenario("in-two-steps", _in_two_steps, furnish),
        Scenario("says-so-before", _says_so_before, furnish),
        Scenario("foreign-error", _foreign_error, furnish),
        Scenario("deletes-first", _deletes_first, SCENARIOS["gc"].prepare, whole=False, lazy=True),
        Scenario("leaves-rubbish", _leaves_rubbish, furnish),
        Scenario("forgets-the-trash", _forgets_the_trash, furnish),
    )
}
