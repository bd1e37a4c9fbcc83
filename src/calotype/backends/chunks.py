"""Statements on objects whose bytes are rows: which there are, and the chunks they are made of.

An object is a row with a name; its chunks go by its version, a number that is never used again. A
row without a name is an upload that goes on, or what was removed and is to be cleared away: nobody
can open it, and whatever dies leaves nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Connection,
    Integer,
    Text,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    inspect,
    select,
    update,
)

from calotype.backends import Listed
from calotype.catalog.among import among_given
from calotype.catalog.prepared import Prepared, prepared_insert
from calotype.catalog.tables import chunk, meta, stored
from calotype.errors import Corrupt
from calotype.quantities import Instant

CHUNK = 1 << 20
"""Bytes of every chunk but the last; a part of what is stored, so it never changes."""

CLEARED = 32
"""Chunks that are removed in one transaction."""

_VERSION = bindparam("of", type_=BigInteger)
_NAME = bindparam("named", type_=Text)
_SIZE = bindparam("bytes_in_all", type_=BigInteger)
_NUMBER = bindparam("place", type_=BigInteger)
_MODIFIED = bindparam("at", type_=BigInteger)
_PART = func.substr(
    chunk.c.bytes, bindparam("begin", type_=Integer), bindparam("length", type_=Integer)
)
_UNNAMED = and_(stored.c.version == _VERSION, stored.c.name.is_(None))
_GOES_ON = and_(_UNNAMED, stored.c.modified > 0)
_ITS_CHUNK = and_(chunk.c.version == stored.c.version, chunk.c.number == _NUMBER)

_FIND = Prepared(select(stored.c.version, stored.c.size).where(stored.c.name == _NAME))
_BEGIN = Prepared(
    select(stored.c.version, stored.c.size, _PART)
    .select_from(stored.outerjoin(chunk, _ITS_CHUNK))
    .where(stored.c.name == _NAME),
    binary=True,
)
_READ = Prepared(
    select(_PART).where(chunk.c.version == _VERSION, chunk.c.number == _NUMBER), binary=True
)
_LIST = Prepared(
    select(stored.c.name, stored.c.size, stored.c.modified)
    .where(stored.c.name > bindparam("after", type_=Text), stored.c.name >= _NAME)
    .order_by(stored.c.name)
    .limit(bindparam("most", type_=Integer))
)
_ADD = Prepared(
    insert(stored).values(name=_NAME, size=_SIZE, modified=_MODIFIED).returning(stored.c.version)
)
_WRITE = Prepared(
    insert(chunk).values(
        version=_VERSION, number=_NUMBER, bytes=bindparam("content", type_=chunk.c.bytes.type)
    )
)
_TOUCH = Prepared(
    update(stored).where(_GOES_ON).values(modified=_MODIFIED).returning(stored.c.version)
)
_NAMED = Prepared(
    update(stored)
    .where(_GOES_ON)
    .values(name=_NAME, size=_SIZE, modified=_MODIFIED)
    .returning(stored.c.version)
)
_UNNAME = Prepared(
    update(stored)
    .where(stored.c.name == _NAME)
    .values(name=None, modified=0)
    .returning(stored.c.version)
)
_VERSIONS = Prepared(
    select(stored.c.name, stored.c.version).where(among_given(stored.c.name, "names"))
)
_ADD_ALL = prepared_insert(stored, "name", "size", "modified")
_UNNAME_ALL = Prepared(
    update(stored)
    .where(among_given(stored.c.name, "names"))
    .values(name=None, modified=0)
    .returning(stored.c.version)
)
_ABANDON = Prepared(
    update(stored)
    .where(_UNNAMED, stored.c.modified < _MODIFIED)
    .values(modified=0)
    .returning(stored.c.version)
)
_ABANDONED = Prepared(
    select(stored.c.version)
    .where(stored.c.name.is_(None), stored.c.modified < _MODIFIED, stored.c.version > _VERSION)
    .order_by(stored.c.version)
    .limit(1)
)
_CLEAR = Prepared(
    delete(chunk)
    .where(
        chunk.c.version == _VERSION,
        chunk.c.number.in_(
            select(chunk.c.number)
            .where(chunk.c.version == _VERSION)
            .order_by(chunk.c.number)
            .limit(CLEARED)
            .scalar_subquery()
        ),
    )
    .returning(chunk.c.number)
)
_DROP = Prepared(
    delete(stored)
    .where(_UNNAMED, stored.c.modified == 0, ~exists().where(chunk.c.version == stored.c.version))
    .returning(stored.c.version)
)


class Found(NamedTuple):
    """An object that is there: the version of its chunks, and its size in bytes."""

    version: int
    size: int


def are_there(connection: Connection) -> bool:
    """True where the tables are; ``Corrupt`` where a catalog is without them."""
    names = inspect(connection).get_table_names()
    if stored.name in names:
        return True
    if meta.name in names:
        raise Corrupt(
            f"The catalog has no table {stored.name}; nothing was changed.",
            hint="Run 'calotype upgrade'; if that does not help, restore a copy.",
        )
    return False


def free(connection: Connection) -> int:
    """Bytes of an SQLite file that were let go of: what is written next goes there."""
    pages, size = (
        int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
        for name in ("freelist_count", "page_size")
    )
    return pages * size


def make(connection: Connection) -> None:
    """Make the tables unless they are there."""
    stored.metadata.create_all(connection, tables=[stored, chunk])


def find(connection: Connection, name: str) -> Found | None:
    """The object of that name."""
    rows = _FIND.tuples(connection, named=name)
    return Found(*rows[0]) if rows else None


def begin(
    connection: Connection, name: str, number: int, first: int, length: int
) -> tuple[Found, bytes] | None:
    """The object of that name, and what ``read`` would give of its chunk ``number``."""
    rows = _BEGIN.tuples(connection, named=name, place=number, begin=first + 1, length=length)
    if not rows:
        return None
    version, size, content = rows[0]
    return Found(version, size), bytes(content or b"")


def read(connection: Connection, version: int, number: int, first: int, length: int) -> bytes:
    """``length`` bytes of a chunk from its byte ``first``; fewer where there are no more."""
    rows = _READ.tuples(connection, of=version, place=number, begin=first + 1, length=length)
    return bytes(rows[0][0]) if rows else b""


def listed(connection: Connection, prefix: str, after: str, most: int) -> list[Listed]:
    """The next objects behind the name ``after``, from ``prefix`` on, sorted by name."""
    rows = _LIST.tuples(connection, named=prefix, after=after, most=most)
    return [Listed(*row) for row in rows]


def add(connection: Connection, name: str | None, size: int, now: Instant) -> int:
    """A new row, and its version; ``IntegrityError`` where another has that name."""
    rows = _ADD.tuples(connection, named=name, bytes_in_all=size, at=now)
    return int(rows[0][0])


def write(connection: Connection, version: int, number: int, contents: Sequence[bytes]) -> None:
    """The chunks of a version from ``number`` on."""
    rows = [
        {"of": version, "place": number + more, "content": content}
        for more, content in enumerate(contents)
    ]
    _WRITE.many(connection, rows)


def put_all(connection: Connection, contents: Mapping[str, bytes], now: Instant) -> list[int]:
    """Objects of one chunk at most, by name; the versions that had the names before.

    ``IntegrityError`` where another gives one of the names at the same moment.
    """
    names = sorted(contents)
    replaced = _UNNAME_ALL.tuples(connection, names=names)
    rows = [{"name": name, "size": len(contents[name]), "modified": now} for name in names]
    _ADD_ALL.many(connection, rows)
    parts = [
        {"of": version, "place": 0, "content": contents[name]}
        for name, version in _VERSIONS.tuples(connection, names=names)
        if contents[name]
    ]
    _WRITE.many(connection, parts)
    return [version for (version,) in replaced]


def touch(connection: Connection, version: int, now: Instant) -> bool:
    """Say that an upload goes on; False where it was taken for dead meanwhile."""
    return bool(_TOUCH.tuples(connection, of=version, at=now))


def name_it(connection: Connection, version: int, name: str, size: int, now: Instant) -> bool:
    """Make an upload the object of that name; False where it was taken for dead meanwhile."""
    return bool(_NAMED.tuples(connection, of=version, named=name, bytes_in_all=size, at=now))


def unname(connection: Connection, name: str) -> int | None:
    """Take the name from the object that has it; its version, which is to be cleared away."""
    rows = _UNNAME.tuples(connection, named=name)
    return int(rows[0][0]) if rows else None


def abandon(connection: Connection, version: int, before: Instant) -> bool:
    """Have an upload cleared away unless it went on since ``before``; it cannot go on then."""
    return bool(_ABANDON.tuples(connection, of=version, at=before))


def abandoned(connection: Connection, before: Instant, after: int) -> int | None:
    """The next version behind ``after`` that is to be cleared away."""
    rows = _ABANDONED.tuples(connection, at=before, of=after)
    return int(rows[0][0]) if rows else None


def clear(connection: Connection, version: int) -> bool:
    """Remove some chunks of what has no name any more, then its row; True when all is gone."""
    if len(_CLEAR.tuples(connection, of=version)) == CLEARED:
        return False
    _DROP.tuples(connection, of=version)
    return True
