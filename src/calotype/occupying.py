"""Occupying: a place for bytes marked as this store's, and cleared of our notes when it is left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from calotype.backends import Backend, Notes, Stands
from calotype.backends.markers import BLOCKED, ERASED, MARKER, Marker, is_note
from calotype.belonging import given_to
from calotype.blocking import everything, write
from calotype.catalog import Catalog
from calotype.catalog.backends import Known
from calotype.errors import CalotypeError, Misconfigured


@contextmanager
def occupied(catalog: Catalog, backend: Backend, new: Known) -> Iterator[Known]:
    """Mark a place as this store's, and tell it the block-list; taken back if that is all.

    One that was this store's before goes on where it was, in another epoch.
    """
    if not isinstance(backend, Notes):
        yield new
        return
    content = backend.read_note(MARKER)
    before = Marker.of(content) if content is not None else None
    store = catalog.store_id or ""
    if before is not None and before.store != store:
        raise _anothers(backend)
    if before is not None:
        new = replace(new, epoch=before.epoch + 1, erase_seq=before.erase_seq)
    for digest, reason in everything(catalog):
        write(backend, digest, reason)
    stand = backend.stand() if isinstance(backend, Stands) else None
    marker = Marker(
        store,
        new.epoch,
        new.generation,
        new.erase_seq,
        stand,
        given_to=given_to(catalog),
    )
    if not backend.write_note(MARKER, marker.to_bytes(), instead_of=content):
        raise _anothers(backend)
    try:
        yield new
    except BaseException:
        with suppress(CalotypeError):
            clear(backend)
        raise


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
        f"{backend.url} is marked as another store's.",
        hint=f"Give an empty place. If nobody uses that store any more, remove {MARKER} there.",
    )
