"""One catalog on two servers: a dump that another one loaded, a standby that was promoted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from tests import servers
from tests.store.test_markers import filled, kinds
from tests.store.worlds import erases

from calotype import Store
from calotype.errors import CalotypeError, EraseLocked, Unavailable

Made = Callable[..., servers.OwnServer]


@pytest.fixture
def server(tmp_path) -> Iterator[Made]:
    """Makes servers that end with the test."""
    running: list[servers.OwnServer] = []

    def make(name: str, follows: servers.OwnServer | None = None) -> servers.OwnServer:
        folder = tmp_path / name
        folder.mkdir()
        running.append(servers.OwnServer(folder, follows=follows))
        return running[-1]

    yield make
    for each in reversed(running):
        each.stop()


def opened(at: servers.OwnServer, tmp_path: Path, clock) -> Store:
    return Store(catalog=at.url, backend=f"file:{tmp_path}/bytes", clock=clock)


def test_a_dump_that_another_server_loaded_is_a_copy(server, tmp_path, clock):
    """By the same names, and with the same numbers: the servers differ in their own ids alone."""
    ours, theirs = server("ours"), server("theirs")
    with opened(ours, tmp_path, clock) as store:
        filled(store)
    theirs.load(ours.dump())
    assert of_the_database(ours) == of_the_database(theirs)
    with opened(theirs, tmp_path, clock) as staging, pytest.raises(EraseLocked, match="is a copy"):
        erases(staging)
    with opened(ours, tmp_path, clock) as store:
        assert erases(store) == 1
        assert kinds(store) == []


def test_a_standby_that_was_promoted_is_a_copy_until_it_adopts(server, tmp_path, clock):
    """It has the first server's id: it differs in its timeline alone."""
    ours = server("ours")
    with opened(ours, tmp_path, clock) as store:
        filled(store)
    second = server("second", follows=ours)
    assert system(ours) == system(second)
    second.promote()
    with opened(second, tmp_path, clock) as copied, pytest.raises(EraseLocked, match="is a copy"):
        erases(copied)
    with opened(ours, tmp_path, clock) as store:
        assert erases(store) == 1
    with opened(second, tmp_path, clock) as taken:
        taken.fsck(recover=True, adopt=True).result()
        assert erases(taken, "page/1") == 2  # that of page/0 is gone already
        assert kinds(taken) == []
    with opened(ours, tmp_path, clock) as store, pytest.raises(EraseLocked, match="taken it over"):
        erases(store, "page/2")


def test_a_standby_is_read_and_takes_nothing(server, tmp_path, clock):
    ours = server("ours")
    with opened(ours, tmp_path, clock) as store:
        filled(store)
        shown = store.stats()
    second = server("second", follows=ours)
    with opened(second, tmp_path, clock) as store:
        assert store.stats() == shown
        assert kinds(store) == ["locked"]
        before = sorted((tmp_path / "bytes").rglob("*"))
        for verb in (lambda: store.put(b"new", owner="page/9"), lambda: store.release("page/0")):
            with pytest.raises(Unavailable, match="read-only") as refused:
                verb()
            assert "standby" in refused.value.hint
        with pytest.raises(CalotypeError):
            store.gc(now=True)
        assert sorted((tmp_path / "bytes").rglob("*")) == before


def of_the_database(server: servers.OwnServer) -> tuple:
    return asked(server, "SELECT oid, datname FROM pg_database WHERE datname = current_database()")


def system(server: servers.OwnServer) -> tuple:
    return asked(server, "SELECT system_identifier FROM pg_control_system()")


def asked(server: servers.OwnServer, query: str) -> tuple:
    with psycopg.connect(server.url) as raw:
        row = raw.execute(query).fetchone()
    assert row is not None
    return row
