"""Waiting for the catalog: for as long as it makes sense, and told who is in the way."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest
from tests.store.pictures import picture

from calotype import accesses
from calotype.errors import Locked

HOLDER = """
import sqlite3, sys
raw = sqlite3.connect(sys.argv[1], isolation_level=None)
raw.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/locks is Linux's")
def test_a_writer_of_another_process_is_named(in_file):
    with in_file.open() as store:
        store.put(picture())
        store._rooms.catalog.database._patience = 0.3
        command = [sys.executable, "-c", HOLDER, str(in_file.database)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, **pipes) as holder:
            holder.stdout.readline()
            with pytest.raises(Locked, match=f"process {holder.pid} "):
                store.put(picture(1))
            holder.stdin.close()
        assert store.put(picture(1)).status == "created"
        assert os.getpid() != holder.pid


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
