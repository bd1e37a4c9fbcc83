"""Waiting for the catalog: for as long as it makes sense, and told who is in the way."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager

import pytest
from sqlalchemy import QueuePool, create_engine
from tests.store.pictures import picture

from calotype import Store, accesses
from calotype.errors import Locked

HOLDER = """
import sqlite3, sys
raw = sqlite3.connect(sys.argv[1], isolation_level=None)
raw.execute(f"BEGIN {sys.argv[2]}")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_by_another(database, how):
    command = [sys.executable, "-c", HOLDER, str(database), how]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as holder:
        holder.stdout.readline()
        yield holder
        holder.stdin.close()


@contextmanager
def refused_by(holder):
    """The block is refused as a whole, and says by whom and for how long it waited."""
    started = time.monotonic()
    with pytest.raises(Locked) as refused:
        yield
    waited = time.monotonic() - started
    said = re.search(rf"process {holder.pid} for (\d+) s", str(refused.value))
    assert said is not None
    assert 1 <= int(said[1]) <= waited + 0.5
    assert refused.value.whole


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/locks is Linux's")
def test_a_writer_of_another_process_is_named(in_file):
    with in_file.open() as store:
        store.put(picture())
        store._rooms.catalog.database._patience = 0.7
        with held_by_another(in_file.database, "IMMEDIATE") as holder:
            for verb in (
                lambda: store.put(picture(1)),
                lambda: store.put_many([picture(1), picture(2)]).result(),
            ):
                with refused_by(holder):
                    verb()
        assert store.put(picture(1)).status == "created"
        assert os.getpid() != holder.pid


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/locks is Linux's")
def test_a_writer_that_lets_nobody_read_is_named(shared, tmp_path):
    with closing(sqlite3.connect(shared.database)) as raw:
        assert raw.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
    engine = create_engine(f"sqlite:///{shared.database}", connect_args={"timeout": 0.7})
    with Store(engine=engine, backend=f"file:{tmp_path}/media") as store:
        digest = store.put(picture()).digest
        with held_by_another(shared.database, "EXCLUSIVE") as holder:
            for verb in (
                lambda: store.stat(digest),
                lambda: store.put(picture(1)),
                lambda: store.put_many([picture(1), picture(2)]).result(),
            ):
                with refused_by(holder):
                    verb()
        assert store.put_many([picture(1), picture(2)]).result().created == 2
    engine.dispose()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/locks is Linux's")
def test_a_writer_of_this_process_that_lets_nobody_read_is_named(shared):
    engine = create_engine(f"sqlite:///{shared.database}", connect_args={"timeout": 0.2})
    with Store(engine=engine, backend=f"file:{shared.blobs}") as store:
        store.put(picture())
        with closing(sqlite3.connect(shared.database, isolation_level=None)) as other:
            other.execute("PRAGMA journal_mode=DELETE")
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(Locked, match="another connection of this process"):
                store.stats()
            other.execute("ROLLBACK")
        assert store.stats().blobs == 1
    engine.dispose()


def test_many_files_end_where_another_thread_holds_the_catalog(folder):
    with folder.open() as store:
        store.put(picture())
        database = store._rooms.catalog.database
        database._patience = 0.1
        with database._gate, pytest.raises(Locked, match="another thread"):
            store.put_many([picture(1), picture(2)]).result()
        assert store.put_many([picture(1), picture(2)]).result().created == 2


def test_many_files_end_where_every_connection_of_a_pool_is_in_use(shared):
    url = f"sqlite:///{shared.database}"
    engine = create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.1)
    with Store(engine=engine, backend=f"file:{shared.blobs}") as store:
        store.put(picture())
        with engine.connect(), pytest.raises(Locked, match="pool is in use"):
            store.put_many([picture(1), picture(2)]).result()
        assert store.put_many([picture(1), picture(2)]).result().created == 2
    engine.dispose()


def test_many_files_end_where_the_file_of_their_bytes_is_held(folder, tmp_path):
    beside = tmp_path / "bytes.db"
    with Store(folder.root / "store", backend=f"sqlite:///{beside}") as store:
        store.put(picture())
        store._rooms.mounts.primary.backend._tables.database._patience = 0.1
        with closing(sqlite3.connect(beside, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Locked, match="bytes.db"):
                store.put_many([picture(1), picture(2)]).result()
            other.execute("ROLLBACK")
        assert store.put_many([picture(1), picture(2)]).result().created == 2


def test_reading_never_waits_for_a_writer(in_file, monkeypatch):
    """Not even to count: what was counted is written later."""
    with in_file.open() as store:
        digest = store.put(picture()).digest
        monkeypatch.setattr(accesses, "EVERY", 0)
        with closing(sqlite3.connect(in_file.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            started = time.monotonic()
            for _ in range(5):
                store.open(digest).close()
            assert time.monotonic() - started < 1
            other.execute("ROLLBACK")
        store.open(digest).close()
        assert store.stat(digest).access_count == 6


def test_one_checkpointer_at_a_time_is_let_at_the_log(folder, monkeypatch):
    """SQLite with the WAL-reset bug corrupts a log that two move into the file at once."""
    from calotype.catalog import log
    from calotype.catalog.locks import only_one

    with folder.open() as store:
        store.put(picture())
        monkeypatch.setattr(log, "CHECKPOINT_BYTES", 0)
        wal = folder.database.with_name(f"{folder.database.name}-wal")
        connected = store._rooms.catalog.engine.connect
        with only_one(folder.database.with_name(f"{folder.database.name}-checkpoint")) as mine:
            assert mine
            before = wal.stat().st_size
            assert not log.checkpoint(connected, folder.database, threshold=0)
            assert wal.stat().st_size == before > 0
        assert log.checkpoint(connected, folder.database, threshold=0)
        assert wal.stat().st_size == 0


def test_no_connection_of_ours_checkpoints_by_itself(in_file):
    with in_file.open() as store:
        store.put(picture())
        with store._rooms.catalog.read() as connection:
            pages = connection.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar()
        assert (pages == 0) == store._rooms.catalog.own
