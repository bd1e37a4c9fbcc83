"""Probing: which digests are here and sound already, so that their bytes need not be sent again."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from functools import cache

from calotype.backends import Remote
from calotype.belonging import is_estranged
from calotype.catalog import Catalog, copies, replicas
from calotype.catalog.backends import PRIMARY
from calotype.catalog.copies import Copy
from calotype.digest import Digest
from calotype.errors import CalotypeError
from calotype.mounting import Mount, Mounts
from calotype.presence import require_there
from calotype.quantities import SECOND, Instant

PROBED = 24 * 3600 * SECOND
"""A copy on another machine that was read or written so lately is believed to be there.

Unless its marker speaks against it: what an older catalog believes may have been erased since.
"""


def probe(catalog: Catalog, mounts: Mounts, wanted: Collection[Digest]) -> dict[str, Copy]:
    """Of these digests the live copies that are trusted and have their size.

    Copies that are missing or have another size become suspect. Where the primary's own copy
    is damaged none will do: the bytes in hand mend it.
    """
    if not wanted or not catalog.exists():
        return {}
    digests = sorted(wanted)
    with catalog.read() as connection:
        found = copies.live_anywhere(connection, digests)
    sound: dict[str, Copy] = {}
    hurt: set[str] = set()
    for mount in mounts.all:
        here = [copy for copy in found if copy.backend == mount.name]
        believed_from = _believed_from(catalog, mount) if here else None
        for copy in here:
            digest = copy.blob.digest
            if digest in sound or digest in hurt:
                continue
            if _is_there(catalog, mount, copy, believed_from):
                sound[digest] = copy
            elif mount.role == PRIMARY:
                hurt.add(digest)
    return sound


def _believed_from(catalog: Catalog, mount: Mount) -> Instant | None:
    """From when on a copy that was read or written is believed to be there; None: never."""
    with suppress(CalotypeError):
        return catalog.clock() - PROBED if _is_remote(type(mount.backend)) else None
    return None


@cache
def _is_remote(kind: type) -> bool:
    return issubclass(kind, Remote)


def _is_there(catalog: Catalog, mount: Mount, copy: Copy, believed_from: Instant | None) -> bool:
    if copy.suspect:
        return False
    try:
        lately = believed_from is not None and (copy.verified_at or 0) > believed_from
        if lately and not is_estranged(catalog, mount):
            return True
        size = mount.backend.size(copy.key)
        if size != copy.blob.size:
            require_there(catalog, mount)
    except CalotypeError:
        if mount.role == PRIMARY:
            raise
        return False
    if size == copy.blob.size:
        return True
    with catalog.write() as connection:
        replicas.suspect(connection, copy.token, catalog.clock())
    return False
