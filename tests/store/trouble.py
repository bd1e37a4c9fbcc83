"""Stopping a store halfway: the process dies, or the disk fails once, at any step that matters."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from sqlalchemy import Engine, event

from calotype.backends import Backend
from calotype.backends.local import LocalBackend
from calotype.backends.staged import LocalStaged
from calotype.catalog import Catalog
from calotype.errors import Unavailable


class Crash(BaseException):
    """The process is gone."""


@dataclass
class Trouble:
    """Ends the process (``kill``) or fails once (``fault``) at the ``left``-th step that matters.

    Steps are statements that write, commits, and every touch of the disk below the blobs: before
    it and after it. A dead process does nothing any more, not even tidy up.
    """

    kind: str
    left: int
    struck: bool = False

    def step(self, *, disk: bool) -> None:
        if self.kind == "kill" and (self.struck or self.left == 0):
            self.struck = True
            raise Crash
        if self.kind == "fault" and disk and self.left == 0 and not self.struck:
            self.struck = True
            raise Unavailable("The disk failed.", hint="Try again.")
        self.left -= disk or self.kind == "kill"


class _Connection(sqlite3.Connection):
    trouble: Trouble

    def cursor(self, factory: Any = None) -> sqlite3.Cursor:
        return super().cursor(_Cursor)

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        return self.cursor().execute(sql, *parameters)

    def commit(self) -> None:
        self.trouble.step(disk=False)
        super().commit()
        self.trouble.step(disk=False)


class _Cursor(sqlite3.Cursor):
    connection: _Connection

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        self._step(sql)
        return super().execute(sql, *parameters)

    def executemany(self, sql: str, parameters: Any) -> sqlite3.Cursor:
        self._step(sql)
        return super().executemany(sql, parameters)

    def _step(self, sql: str) -> None:
        if not sql.lstrip().upper().startswith(("SELECT", "WITH", "PRAGMA", "BEGIN")):
            self.connection.trouble.step(disk=False)


@contextmanager
def troubled(trouble: Trouble) -> Iterator[None]:
    """Stores in folders that are opened inside meet ``trouble``."""
    place, delete, discard = LocalBackend._place, LocalBackend.delete, LocalStaged.discard

    def connect(_dialect: Any, _record: Any, arguments: Any, options: Any) -> _Connection:
        made = sqlite3.connect(*arguments, factory=_Connection, **options)
        made.trouble = trouble
        return made

    def stepping(real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> None:
            trouble.step(disk=True)
            real(*arguments, **options)
            trouble.step(disk=True)

        return call

    def discard_unless_dead(staged: LocalStaged) -> None:
        if trouble.kind == "kill" and trouble.struck:
            staged._file.close()
        else:
            discard(staged)

    event.listen(Engine, "do_connect", connect)
    try:
        with (
            mock.patch.object(LocalBackend, "_place", stepping(place)),
            mock.patch.object(LocalBackend, "delete", stepping(delete)),
            mock.patch.object(LocalStaged, "discard", discard_unless_dead),
        ):
            yield
    finally:
        event.remove(Engine, "do_connect", connect)


@contextmanager
def troubled_anywhere(trouble: Trouble, kind: type[Backend]) -> Iterator[None]:
    """Stores meet ``trouble`` at transactions that write and at backends of this kind."""
    write = Catalog.write

    @contextmanager
    def writing(catalog: Catalog, **how: Any) -> Iterator[Any]:
        trouble.step(disk=False)
        with write(catalog, **how) as connection:
            yield connection
            trouble.step(disk=False)
        trouble.step(disk=False)

    def stepping(real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            trouble.step(disk=True)
            answer = real(*arguments, **options)
            trouble.step(disk=True)
            return answer

        return call

    names = [name for name in ("_place", "put", "delete", "delete_all") if hasattr(kind, name)]
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(Catalog, "write", writing))
        for name in names:
            patched = mock.patch.object(kind, name, stepping(getattr(kind, name)))
            stack.enter_context(patched)
        yield


@contextmanager
def full_after(batches: int) -> Iterator[None]:
    """A disk that takes so many batches of files, and none after them."""
    taken = 0
    real = LocalBackend.publish

    def publish(self: LocalBackend, items: Any) -> None:
        nonlocal taken
        taken += 1
        if taken > batches:
            raise Unavailable("No space left on device.")
        real(self, items)

    with mock.patch.object(LocalBackend, "publish", publish):
        yield
