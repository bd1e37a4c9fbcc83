"""Occupying: a place for bytes marked as this store's, and cleared of our notes when it is left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from calotype.backends import Backend, Notes, Stands
from calotype.backends.markers import BLOCKED, ERASED, MARKER, Marker, blocked_name, is_note
from calotype.belonging import given_to
from calotype.blocking import everything, write
from calotype.catalog import Catalog, backends, copies
from calotype.catalog.backends import Known
from calotype.errors import CalotypeError, Misconfigured, Unavailable
from calotype.mounting import Mount, Mounts


@contextmanager
def occupied(catalog: Catalog, mounts: Mounts, backend: Backend, new: Known) -> Iterator[Known]:
    """Mark a place as this store's, and tell it the block-list; taken back if that is all.

    One that was this store's before goes on where it was, in another epoch. ``Misconfigured``
    where another backend of the store is in that place, by whatever name of it.
    """
    if not isinstance(backend, Notes):
        yield new
        return
    content = backend.read_note(MARKER)
    before = Marker.of(content) if content is not None else None
    store, mine = catalog.store_id or "", given_to(catalog)
    if before is not None and (before.store != store or (mine and before.given_to != mine)):
        raise _anothers(backend)
    _require_nobodys(catalog, mounts, backend, content)
    if before is not None:
        new = replace(new, epoch=before.epoch + 1, erase_seq=before.erase_seq)
    stand = backend.stand() if isinstance(backend, Stands) else None
    marker = Marker(
        store,
        new.epoch,
        new.generation,
        new.erase_seq,
        stand,
        given_to=mine,
    )
    written = marker.to_bytes()
    if not backend.write_note(MARKER, written, instead_of=content):
        raise _anothers(backend)
    told: list[str] = []
    try:
        _require_nobodys(catalog, mounts, backend, written)  # of what had no marker until now
        _tell_blocks(catalog, backend, told)
        yield new
    except BaseException:
        with suppress(CalotypeError):
            _take_back(backend, written, content, told)
        raise


def _require_nobodys(
    catalog: Catalog, mounts: Mounts, backend: Backend, content: bytes | None
) -> None:
    """Raise where a backend of the store has the marker ``content``: it is in the same place.

    One that cannot be asked is elsewhere if it has bytes, for there are none in the new place.
    """
    marker = Marker.of(content) if content is not None else None
    with catalog.read() as connection:
        known = {each.name: each.generation for each in backends.known(connection)}
        used = {name for name in known if copies.any_expected(connection, name)}
    for mount in mounts.all:
        if marker is not None and known.get(mount.name) == marker.generation:
            raise _taken(backend, mount)
        try:
            theirs = mount.backend.read_note(MARKER) if isinstance(mount.backend, Notes) else None
        except CalotypeError as error:
            if mount.name in used:
                continue
            raise Unavailable(
                f"Whether {backend.url} is the place of the backend {mount.name!r} is not known: "
                f"that one cannot be asked. {error}",
                hint="Add it once that one can be reached, or is dropped.",
            ) from error
        if theirs is not None and theirs == content:
            raise _taken(backend, mount)


def _tell_blocks(catalog: Catalog, notes: Notes, told: list[str]) -> None:
    """Note what is blocked; ``told`` gets the names of notes that were not there."""
    for digest, block in everything(catalog).items():
        name = blocked_name(digest)
        if notes.read_note(name) is None:
            told.append(name)
        write(notes, digest, block)


def _take_back(notes: Notes, written: bytes, before: bytes | None, told: Sequence[str]) -> None:
    """Leave the notes as they were before, unless the place is another one's by now."""
    if notes.read_note(MARKER) != written:
        return
    for name in told:
        notes.delete_note(name)
    if before is None:
        notes.delete_note(MARKER)
    else:
        notes.write_note(MARKER, before, instead_of=written)


def clear(backend: Backend) -> None:
    """Remove every note of ours from a place that the store has no more, the marker last."""
    if isinstance(backend, Notes):
        for prefix in (ERASED, BLOCKED):
            for found in list(backend.scan(prefix)):
                if is_note(found.name):
                    backend.delete_note(found.name)
        backend.delete_note(MARKER)


def _anothers(backend: Backend) -> Misconfigured:
    return Misconfigured(
        f"{backend.url} is marked as another store's, or another copy's of this one.",
        hint=f"Give an empty place. If nobody uses that store any more, remove {MARKER} there.",
    )


def _taken(backend: Backend, mount: Mount) -> Misconfigured:
    return Misconfigured(
        f"{backend.url} is the place of the backend {mount.name!r} already.",
        hint="Give a place of its own: 'calotype backend list' shows which there are.",
    )
