"""Tables whose digests are foreign keys to the store: the rows keep the files, nothing else need."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from tests.store.legacy import TO_ASSET, TO_BLOB, Application, moved, pointing
from tests.store.pictures import picture
from tests.store.places import Clock

from calotype import Digest, Scope, Store
from calotype.importing import rows as application


def there(scope: Scope) -> list[int]:
    """Which of the two pictures the scope has."""
    found = {asset.digest for asset in scope.assets()}
    return [number for number in (1, 2) if Digest.of(picture(number)) in found]


def deleted(store: Store, app: Application, number: int, clock: Clock) -> None:
    """A row is deleted, long after holds are over, and its bytes are let go if nobody has them."""
    clock.advance(days=3)
    app.tell("DELETE FROM images WHERE id = ?", number)
    store.gc(now=True, full=True)


@pytest.fixture(params=["default", "ana"])
def spoken_for(request: pytest.FixtureRequest) -> str:
    """The name of the scope that columns speak for."""
    return request.param


@pytest.fixture
def store(shared, spoken_for) -> Iterator[Store]:
    with shared.open(column_scope=spoken_for) as opened:
        opened.create()
        yield opened


@pytest.fixture
def column(store, spoken_for) -> Scope:
    return store.scope(spoken_for)


def test_in_the_column_scope_the_rows_alone_keep_their_files(shared, store, column, clock):
    app = pointing(shared, TO_BLOB)
    done = moved(column, app, owner=None, role=None, remove_sources=True)
    assert (done.created, done.removed, done.failures) == (2, 2, ())
    assert {each.kept - each.created_at for each in column.assets()} == {timedelta(hours=24)}
    deleted(store, app, 2, clock)
    assert there(column) == [1]


def test_in_another_scope_files_are_kept_for_themselves(shared, store, clock):
    bob = store.scope("bob")
    app = pointing(shared, TO_BLOB)
    done = moved(bob, app, owner=None, role=None, remove_sources=True)
    assert (done.created, done.removed, done.failures) == (2, 2, ())
    deleted(store, app, 2, clock)
    assert there(bob) == [1, 2]


def test_a_key_to_scope_and_digest_keeps_files_of_its_own_scope(shared, store, clock):
    app = pointing(shared, TO_ASSET)
    ana = store.scope("ana")
    done = moved(ana, app, owner=None, role=None)
    assert [(f.source, f.code) for f in done.failures] == [("images[id=2]", "misconfigured")]
    clock.advance(days=3)
    store.gc(now=True, full=True)
    assert 1 in there(ana)
    deleted(store, app, 1, clock)
    assert 1 not in there(ana)


def test_a_foreign_key_that_fails_is_worth_another_import(
    shared, store, column, clock, monkeypatch
):
    real = application.Rows.write
    app = pointing(shared, TO_BLOB)

    def late(self, digests):
        clock.advance(hours=25)
        store.gc(now=True, full=True)
        return real(self, digests)

    with monkeypatch.context() as patched:
        patched.setattr(application.Rows, "write", late)
        done = moved(column, app, owner=None, role=None)
    assert {failure.hint.split(":")[0] for failure in done.failures} == {"Import again"}
    assert moved(column, app, owner=None, role=None).failures == ()
