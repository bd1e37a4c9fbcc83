"""Blocking: the block-list told to every backend, so that it outlives the catalog."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from calotype.backends import Backend, Notes
from calotype.backends.markers import (
    BLOCKED,
    blocked_digest,
    blocked_name,
    blocked_reason,
    blocked_to_bytes,
)
from calotype.belonging import look
from calotype.catalog import Catalog, settings
from calotype.catalog.backends import PRIMARY
from calotype.digest import Digest
from calotype.errors import CalotypeError, EraseLocked
from calotype.mounting import Mount, Mounts
from calotype.presence import require_there

logger = logging.getLogger("calotype.backends")

PAGE = 1000


def tell(catalog: Catalog, mounts: Mounts, digest: Digest, reason: str) -> None:
    """Note a blocked digest in every backend that is this catalog's.

    Raises where the primary cannot be told; what another one is not told, the next gc makes up for.
    """
    for mount in mounts.all:
        try:
            notes = _notes(catalog, mount)
            if notes is not None:
                write(notes, digest, reason)
        except CalotypeError as error:
            if mount.role == PRIMARY and not isinstance(error, EraseLocked):
                raise
            logger.warning("backend %s is not told of a block: %s", mount.name, error)


def make_up(catalog: Catalog, mount: Mount) -> None:
    """Note in a backend of this catalog what it was not told; what fails is for the next time."""
    backend, own = mount.backend, dict(everything(catalog))
    if not own or not isinstance(backend, Notes):
        return
    try:
        noted = {blocked_digest(found.name) for found in backend.scan(BLOCKED)}
        missing = own.keys() - noted
        for digest in sorted(missing):
            write(backend, digest, own[digest])
        for digest in sorted(missing - dict(everything(catalog)).keys() if missing else ()):
            backend.delete_note(blocked_name(digest))  # taken off the list meanwhile
    except CalotypeError as error:
        logger.warning("backend %s is not told of a block: %s", mount.name, error)


def take_back(catalog: Catalog, mounts: Mounts, digest: Digest) -> bool:
    """Remove its notes; True where there was one.

    Raises, and removes none, where one backend cannot be reached or may be another catalog's: a
    note that stays would have the file purged again by a recovery.
    """
    name = blocked_name(digest)
    found = [notes for mount in mounts.all if (notes := _notes(catalog, mount)) is not None]
    there = [notes for notes in found if notes.read_note(name) is not None]
    for notes in there:
        notes.delete_note(name)
    return bool(there)


def noted(backend: Backend) -> dict[str, str]:
    """The digests that a backend says are blocked, and why."""
    found: dict[str, str] = {}
    if isinstance(backend, Notes):
        for each in list(backend.scan(BLOCKED)):
            digest = blocked_digest(each.name)
            content = backend.read_note(each.name) if digest is not None else None
            if digest is not None and content is not None:
                found[str(digest)] = blocked_reason(each.name, content)
    return found


def write(notes: Notes, digest: str, reason: str) -> None:
    """Note one digest; another reason that is noted already gives way."""
    name, note = blocked_name(digest), blocked_to_bytes(reason)
    if not notes.write_note(name, note):
        notes.write_note(name, note, instead_of=notes.read_note(name))


def everything(catalog: Catalog) -> Iterator[tuple[str, str]]:
    """(digest, reason) of all that is blocked."""
    after = ""
    while True:
        with catalog.read() as connection:
            page = settings.blocked_ones(connection, after, PAGE)
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1][0]


def _notes(catalog: Catalog, mount: Mount) -> Notes | None:
    """Where a backend keeps its notes, if it does; raises unless it is this catalog's for sure."""
    backend = mount.backend
    if not isinstance(backend, Notes):
        return None
    require_there(catalog, mount)
    found = look(catalog, mount)
    if found.fault is not None:
        raise EraseLocked(
            f"Blocks cannot be noted or taken back in the backend {mount.name!r}: {found.why}.",
            hint=found.mends,
        )
    return backend
