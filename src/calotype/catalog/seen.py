"""Statements on what imports have seen: which file had which bytes, and whether they are kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, and_, bindparam, delete, select

from calotype.catalog.among import among_given
from calotype.catalog.copies import IS_LIVE
from calotype.catalog.prepared import Prepared, prepared_insert
from calotype.catalog.tables import asset, import_seen, reference, replica
from calotype.digest import Digest
from calotype.quantities import FOREVER

Stamped = tuple[int, int, int]
"""A file's size, the instant of its last change in nanoseconds, and its inode."""

_BETWEEN = Prepared(
    select(
        import_seen.c.path,
        import_seen.c.size,
        import_seen.c.modified,
        import_seen.c.inode,
        import_seen.c.digest,
    )
    .where(import_seen.c.path > bindparam("after"), import_seen.c.path < bindparam("before"))
    .order_by(import_seen.c.path)
)


def between(
    connection: Connection, after: bytes, before: bytes
) -> dict[bytes, tuple[Stamped, Digest]]:
    """What was seen of the paths after one and before another."""
    rows = _BETWEEN.tuples(connection, after=after, before=before)
    return {
        bytes(path): ((size, modified, inode), Digest.known(digest))
        for path, size, modified, inode, digest in rows
    }


_NOTE = prepared_insert(
    import_seen,
    "path",
    "size",
    "modified",
    "inode",
    "digest",
    then="ON CONFLICT (path) DO UPDATE SET size = excluded.size, modified = excluded.modified, "
    "inode = excluded.inode, digest = excluded.digest",
)


def note(connection: Connection, files: Iterable[tuple[bytes, Stamped, Digest]]) -> None:
    """Remember files as they were when they were read."""
    _NOTE.many(
        connection,
        [
            {
                "path": path,
                "size": size,
                "modified": modified,
                "inode": inode,
                "digest": digest,
            }
            for path, (size, modified, inode), digest in sorted({f[0]: f for f in files}.values())
        ],
    )


_FORGET = Prepared(delete(import_seen).where(import_seen.c.path == bindparam("gone")))


def forget(connection: Connection, paths: Sequence[bytes]) -> None:
    """Remember these no longer."""
    _FORGET.many(connection, [{"gone": path} for path in paths])


_SOUND = and_(IS_LIVE, replica.c.suspect_at.is_(None))

_REFERRED = Prepared(
    select(reference.c.role, reference.c.digest)
    .join_from(reference, replica, and_(replica.c.digest == reference.c.digest, _SOUND))
    .where(
        reference.c.scope == bindparam("scope_name"),
        reference.c.owner_kind == bindparam("kind"),
        reference.c.owner_id == bindparam("ident"),
        among_given(reference.c.role, "roles"),
        reference.c.released_at.is_(None),
    )
)


def referred(
    connection: Connection,
    scope: str,
    owner: tuple[str, str],
    roles: Sequence[str],
) -> dict[str, str]:
    """What an owner has in some roles, where its bytes are trusted: role -> digest."""
    rows = _REFERRED.tuples(
        connection,
        scope_name=scope,
        kind=owner[0],
        ident=owner[1],
        roles=roles,
    )
    return dict(rows)


_KEPT = Prepared(
    select(asset.c.digest)
    .join_from(asset, replica, and_(replica.c.digest == asset.c.digest, _SOUND))
    .where(
        asset.c.scope == bindparam("scope_name"),
        among_given(asset.c.digest, "digests"),
        asset.c.kept_until == FOREVER,
    )
)


def kept(connection: Connection, scope: str, digests: Sequence[Digest]) -> set[str]:
    """Those of ``digests`` that the scope keeps for themselves, in trusted bytes."""
    rows = _KEPT.tuples(connection, scope_name=scope, digests=digests)
    return {digest for (digest,) in rows}


_HAD = Prepared(
    select(asset.c.digest).where(
        asset.c.scope == bindparam("scope_name"), among_given(asset.c.digest, "digests")
    )
)


def had(connection: Connection, scope: str, digests: Sequence[Digest]) -> set[str]:
    """Those of ``digests`` that are assets of the scope, in the trash too."""
    return {digest for (digest,) in _HAD.tuples(connection, scope_name=scope, digests=digests)}
