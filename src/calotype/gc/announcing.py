"""Announcing: what is about to be erased, told to the backend itself before the first delete.

The note of the batch first, then the marker: who takes the backend over changes the marker first
and reads the notes then. So either he finds the note, or the marker is found to be another one
here, and nothing is deleted. Last comes a look whether the catalog still knows of the batch: one
that was put back before the marker was raised may have used a plain key since.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from calotype.backends import Notes
from calotype.backends.markers import (
    MARKER,
    Marker,
    erased_name,
    erased_to_bytes,
)
from calotype.belonging import TRIES, Fault, Standing, locked
from calotype.catalog import Catalog, backends
from calotype.catalog.replicas import Batch
from calotype.errors import CalotypeError, Unavailable
from calotype.mounting import Mount
from calotype.quantities import SECOND, Instant

KEPT = 7 * 24 * 3600 * SECOND
"""How long the note of a batch stays: past the second delete of its keys, and its failures."""

PRUNED = 200
"""Notes that are removed in one run, at most."""


CHANGED = "the catalog was put back or recovered meanwhile"


@dataclass(slots=True)
class Announcer:
    """Tells one backend, for as long as it is this catalog's as it was found to be."""

    catalog: Catalog
    mount: Mount
    standing: Standing
    _last: int = 0

    def require_same(self, batch: Batch) -> None:
        """Raise ``EraseLocked`` where the catalog is another by now than was looked at.

        One that was put back counts from where it was; nobody may take it for one that has come
        as far as the marker.
        """
        known = self.standing.known
        if batch.generation != known.generation or batch.seq <= max(known.erase_seq, self._last):
            raise locked(self.mount.name, CHANGED, "Run gc again.")

    def announce(self, batch: Batch) -> None:
        """Make note of a batch, durably; ``EraseLocked`` where another catalog has taken over."""
        self._last = batch.seq
        backend = self.mount.backend
        if not isinstance(backend, Notes) or not batch.keys:
            return
        note = erased_to_bytes(sorted(batch.keys))
        if not backend.write_note(erased_name(batch.seq), note):
            raise locked(self.mount.name, Fault.OLDER)
        for _ in range(TRIES):
            marker, content = self._own(backend)
            raised = replace(marker, erase_seq=max(marker.erase_seq, batch.seq))
            if raised == marker or backend.write_note(
                MARKER, raised.to_bytes(), instead_of=content
            ):
                self.mount.raise_mark(raised.erase_seq)
                self._require_here(batch)
                return
        raise Unavailable(
            f"Others raise the marker of {self.mount.url} at the same moment, again and again.",
            hint="Try again.",
        )

    def _require_here(self, batch: Batch) -> None:
        """The catalog may have been put back before the marker was raised, and not have seen it."""
        with self.catalog.read() as connection:
            known = backends.of_name(connection, self.mount.name)
        same = known is not None and known.generation == batch.generation
        if known is None or not same or known.erase_seq < batch.seq:
            raise locked(self.mount.name, CHANGED, "Run gc again.")

    def confirm(self) -> None:
        """Raise ``EraseLocked`` where another catalog has taken over by now."""
        if isinstance(self.mount.backend, Notes):
            self._own(self.mount.backend)

    def _own(self, backend: Notes) -> tuple[Marker, bytes]:
        content = backend.read_note(MARKER)
        marker = Marker.of(content) if content is not None else None
        if content is None or marker is None:
            raise locked(self.mount.name, Fault.LOST)
        known = self.standing.known
        ours = (self.standing.store, known.epoch, known.generation)
        if (marker.store, marker.epoch, marker.generation) != ours:
            raise locked(self.mount.name, Fault.TAKEN)
        if marker.recovering:
            raise locked(self.mount.name, Fault.UNFINISHED)
        return marker, content

    def prune(self, now: Instant) -> None:
        """Remove old notes, but never the last: it says how far erasing has come, too.

        What fails is for the next run.
        """
        backend = self.mount.backend
        if isinstance(backend, Notes):
            names = [each.name for each in self.standing.notes if each.modified < now - KEPT]
            last = max((each.name for each in self.standing.notes), default="")
            with suppress(CalotypeError):
                for name in names[:PRUNED]:
                    if name != last:
                        backend.delete_note(name)
