"""Bytes in a database, PostgreSQL or SQLite: as chunks in rows, streamed both ways.

A put of up to ``GROUP`` bytes is one transaction. A larger one commits a group at a time, under a
row without a name, and gets its name with the last: so nobody sees a part of it, memory stays
bounded and no transaction waits for a source. A reader has a transaction for each chunk and none
between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from calotype.backends import INSIDE, Key, Listed, Stand, chunks
from calotype.backends.chunk_reader import chunk_reader
from calotype.backends.chunks import CHUNK
from calotype.backends.memory import exactly
from calotype.backends.tables import Tables
from calotype.catalog.database import Database
from calotype.catalog.places import database_of
from calotype.errors import CalotypeError, Corrupt, Locked, NotFound, Unavailable
from calotype.quantities import SECOND, Instant, now

GROUP = 8 << 20
"""Bytes that are held in memory and committed together."""

PULSE = 60 * SECOND
"""An upload whose source is slow says so often that it goes on."""

PAGE = 1000
"""Objects that a scan asks for at a time."""

TOGETHER = 256
"""Objects that are put in one transaction at most."""

Item = tuple[Key, Callable[[], BinaryIO], int]
"""What is put: its key, what opens its bytes, and their number."""

TRIES = 20
"""How often a put goes round again when others put the same key at the same moment."""


class DatabaseBackend:
    """Objects in the tables ``calotype_object`` and ``calotype_chunk`` of a database.

    The first put makes them where they are not there. Safe to use from any number of threads and
    processes, and after a fork, as far as ``database`` is.
    """

    def __init__(self, database: Database, url: str = INSIDE) -> None:
        self._tables = Tables(database, url)

    @classmethod
    def at(cls, url: str) -> DatabaseBackend:
        """The one in a database of its own; ``Misconfigured`` where ``url`` names none."""
        database = database_of(None, url, None, memory=False)
        database.catalogued = False
        place = f"sqlite:///{database.path}" if database.path is not None else database.name
        return cls(database, place)

    @property
    def url(self) -> str:
        """``database:`` in the catalog's database, else the URL without a password."""
        return self._tables.url

    @property
    def file(self) -> Path | None:
        """The SQLite file that it is in."""
        return self._tables.database.path

    def put(self, key: Key, source: BinaryIO, size: int) -> None:
        """Store exactly ``size`` bytes; ``Unavailable`` if source or database falls short."""
        if not self._tables.are_there():
            self._tables.make()
        upload = _Upload(self._tables, str(key))
        try:
            for content in _in_chunks(exactly(source, size)):
                upload.add(content)
            replaced = upload.finish(size)
        except BaseException as error:
            upload.withdraw()
            if isinstance(error, IntegrityError):
                raise _refused(key, error) from error
            raise
        if replaced is not None:
            with suppress(CalotypeError):  # the object stands; gc clears the rest away
                _clear(self._tables, replaced)

    def put_all(self, items: Sequence[Item]) -> None:
        """Put each; those of one chunk go together, up to ``GROUP`` bytes in a transaction."""
        for group in _groups(items):
            if len(group) == 1 or not self._put_together(group):
                for key, opened, size in group:
                    with opened() as source:
                        self.put(key, source, size)

    def _put_together(self, group: Sequence[Item]) -> bool:
        """False, and nothing done, where another puts one of the same keys at this moment."""
        if not self._tables.are_there():
            self._tables.make()
        contents = {}
        for key, opened, size in group:
            with opened() as source:
                contents[str(key)] = b"".join(exactly(source, size))
        replaced: list[int] = []
        try:
            with self._tables.writing(sum(map(len, contents.values())), durable=True) as connection:
                replaced = chunks.put_all(connection, contents, now())
        except IntegrityError:
            return False
        with suppress(CalotypeError):  # the objects stand; gc clears the rest away
            for version in replaced:
                _clear(self._tables, version)
        return True

    def open(self, key: Key, start: int = 0, stop: int | None = None) -> BinaryIO:
        """The bytes from ``start`` to before ``stop``, seekable.

        It reads the object that it was opened for; ``NotFound`` once that was deleted or
        replaced. It holds no connection, and a chunk at most in memory.
        """
        number, first = divmod(start, CHUNK)
        length = CHUNK - first if stop is None else max(0, min(CHUNK - first, stop - start))
        found = None
        if self._tables.are_there():
            with self._tables.reading() as connection:
                found = chunks.begin(connection, str(key), number, first, length)
        if found is None:
            raise NotFound(f"No object {key} in {self.url}.")
        there, content = found
        end = there.size if stop is None else min(stop, there.size)
        return chunk_reader(
            self._tables, str(key), there, min(start, end), end, ahead=(number, content)
        )

    def size(self, key: Key) -> int | None:
        """The size in bytes of the object at ``key``, or None where there is none."""
        if not self._tables.are_there():
            return None
        with self._tables.reading() as connection:
            found = chunks.find(connection, str(key))
        return None if found is None else found.size

    def delete(self, key: Key) -> None:
        """Remove the object: its name at once, then its chunks, some in each transaction."""
        self._delete(str(key))

    def _delete(self, name: str) -> None:
        if not self._tables.are_there():
            return
        with self._tables.reading() as connection:
            if chunks.find(connection, name) is None:
                return
        with self._tables.clearing() as connection:
            version = chunks.unname(connection, name)
            done = version is None or chunks.clear(connection, version)
        if version is not None and not done:
            _clear(self._tables, version)

    def scan(self, prefix: str = "") -> Iterator[Listed]:
        """The objects whose names begin with ``prefix``, sorted by name, a page at a time."""
        after = ""
        while self._tables.are_there():
            with self._tables.reading() as connection:
                page = chunks.listed(connection, prefix, after, PAGE)
            for found in page:
                if not found.name.startswith(prefix):
                    return
                yield found
            if len(page) < PAGE:
                return
            after = page[-1].name

    def write_note(self, name: str, content: bytes, *, instead_of: bytes | None = None) -> bool:
        """Write a note durably, if what is there is ``instead_of``; False, and nothing, else."""
        if not self._tables.are_there():
            self._tables.make()
        with suppress(IntegrityError), self._tables.noting() as mine:
            there = chunks.find(mine, name)
            held = None if there is None else _whole(mine, there)
            if held == content:
                return True
            if held != instead_of:
                return False
            if chunks.unname(mine, name) != (None if there is None else there.version):
                raise IntegrityError("another was faster", None, Exception())
            version = chunks.add(mine, name, len(content), now())
            chunks.write(mine, version, 0, list(_in_chunks(iter([content]))))
            return True
        return self.read_note(name) == content

    def read_note(self, name: str) -> bytes | None:
        """The note of that name, or None."""
        if not self._tables.are_there():
            return None
        with self._tables.reading() as connection:
            there = chunks.find(connection, name)
            return None if there is None else _whole(connection, there)

    def delete_note(self, name: str) -> None:
        """Remove a note; nothing happens where there is none."""
        self._delete(name)

    def stand(self) -> Stand | None:
        """Where the database is."""
        return self._tables.database.stand() if self._tables.are_there() else None

    def vacant(self) -> bool:
        """True where the tables are not there: never used, or another database or schema."""
        return not self._tables.are_there()

    def close(self) -> None:
        """Close every connection; the next use opens again."""
        self._tables.database.close()

    def sweep(self, older_than: Instant) -> int:
        """Clear away what has no name and was not written to since ``older_than``; how many.

        That are uploads whose writer died, and what was not cleared to its end when it was
        deleted or replaced. A writer that comes back to one of them is refused.
        """
        swept = version = 0
        while self._tables.are_there():
            with self._tables.reading() as connection:
                found = chunks.abandoned(connection, older_than, version)
            if found is None:
                break
            version = found
            with suppress(Locked):  # another is clearing it away
                swept += _abandon(self._tables, version, older_than)
        return swept


class _Upload:
    """The writing of one object: a group in memory, the ones before under a row without a name."""

    def __init__(self, tables: Tables, name: str) -> None:
        self._tables = tables
        self._name = name
        self._group: list[bytes] = []
        self._version: int | None = None
        self._written = 0
        self._heard = now()

    def add(self, content: bytes) -> None:
        """The next chunk."""
        self._group.append(content)
        if sum(map(len, self._group)) >= GROUP:
            self._write_group()
        elif self._version is not None and now() - self._heard > PULSE:
            with self._writing(durable=False) as connection:
                self._go_on(connection)

    def finish(self, size: int) -> int | None:
        """Write the last group and give it its name, durably; the version that had it before."""
        for _ in range(TRIES):
            with suppress(IntegrityError), self._writing(durable=True) as connection:
                return self._finish(connection, size)
        raise Locked(
            f"Others put {self._name} at the same moment, again and again.", hint="Try again."
        )

    def _finish(self, connection: Connection, size: int) -> int | None:
        before = chunks.unname(connection, self._name)
        version = self._version
        if version is None:
            version = chunks.add(connection, self._name, size, now())
        elif not chunks.name_it(connection, version, self._name, size, now()):
            raise _taken_for_dead(self._name)
        chunks.write(connection, version, self._written, self._group)
        return before

    def withdraw(self) -> None:
        """Clear away what was written; what fails is for sweep."""
        if self._version is not None:
            with suppress(CalotypeError):
                _abandon(self._tables, self._version, now() + SECOND)

    def _write_group(self) -> None:
        with self._writing(durable=False) as connection:
            if self._version is None:
                version = chunks.add(connection, None, 0, now())
            else:
                version = self._version
                self._go_on(connection)
            chunks.write(connection, version, self._written, self._group)
        self._version = version
        self._written += len(self._group)
        self._heard = now()
        self._group.clear()

    def _go_on(self, connection: Connection) -> None:
        assert self._version is not None
        if not chunks.touch(connection, self._version, now()):
            raise _taken_for_dead(self._name)
        self._heard = now()

    def _writing(self, *, durable: bool) -> AbstractContextManager[Connection]:
        return self._tables.writing(sum(map(len, self._group)), durable=durable)


def _groups(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Those of one chunk in groups of a bounded size, the others each alone."""
    group: list[Item] = []
    held = 0
    for item in items:
        if item[2] > CHUNK:
            yield [item]
            continue
        if group and (held + item[2] > GROUP or len(group) == TOGETHER):
            yield group
            group, held = [], 0
        group.append(item)
        held += item[2]
    if group:
        yield group


def _whole(connection: Connection, there: chunks.Found) -> bytes:
    """The bytes of an object that is small enough to be held."""
    numbers = range(-(-there.size // CHUNK))
    return b"".join(chunks.read(connection, there.version, each, 0, CHUNK) for each in numbers)


def _refused(key: Key, error: IntegrityError) -> Corrupt:
    return Corrupt(
        f"The database refused the rows of {key}: {error.orig}.",
        hint="Run 'calotype doctor'; after a restore, look at the sequence of calotype_object.",
    )


def _taken_for_dead(name: str) -> Unavailable:
    return Unavailable(
        f"The upload of {name} stood still for so long that it was cleared away.",
        hint="Put it again.",
    )


def _in_chunks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes as chunks of ``CHUNK``, the last of what is left."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        while size >= CHUNK:
            whole = b"".join(held)
            yield whole[:CHUNK]
            held = [whole[CHUNK:]] if len(whole) > CHUNK else []
            size -= CHUNK
    if size:
        yield b"".join(held)


def _abandon(tables: Tables, version: int, before: Instant) -> bool:
    """Clear an upload away unless it went on since ``before``; True if so."""
    with tables.clearing() as connection:
        taken = chunks.abandon(connection, version, before)
    if taken:
        _clear(tables, version)
    return taken


def _clear(tables: Tables, version: int) -> None:
    """Remove the chunks of what has no name any more, a bounded transaction at a time."""
    done = False
    while not done:
        with tables.clearing() as connection:
            done = chunks.clear(connection, version)
