"""What durability costs when it is done by hand: one row committed, one folder synced."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path


class Commits:
    """A small table in an SQLite file of its own, WAL with synchronous=FULL."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("CREATE TABLE row (name TEXT PRIMARY KEY, value INTEGER)")

    def one(self, name: str) -> None:
        """Commit one row durably."""
        self._connection.execute("INSERT INTO row VALUES (?, 1)", (name,))


def sync_folder(path: Path) -> None:
    """Make a directory's entries durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(handle)
    os.close(handle)
