"""Recovering: a catalog and bytes that are not of one age made one again, and erasing unlocked.

The marker is taken over first, and says that this is not finished; then the backend's notes are
read, so whatever another catalog deletes from then on was named to this one before. Bytes without a
row are read whole, and kept; what a late delete may still hit is copied to a key of its own.
Harmless to repeat: after a kill the next one goes on, and nothing is erased until one has ended.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from sqlalchemy import Connection

from calotype import blocking
from calotype.backends import Backend, Key, Notes, Stands
from calotype.backends.markers import (
    MARKER,
    Marker,
    erased_keys,
    erased_seq,
)
from calotype.belonging import (
    TRIES,
    Fault,
    Standing,
    batches,
    claim,
    come_home,
    given_to,
    locked,
    look,
)
from calotype.blocking import BlockLists
from calotype.catalog import Catalog, backends, copies, homes, listing, schema, settings
from calotype.catalog.columns import Hosts
from calotype.catalog.failures import translated
from calotype.digest import Digest
from calotype.errors import CalotypeError, Misconfigured, NoStore, StillReferenced, Unavailable
from calotype.fsck.sides import PAGE, Findings, Seen, finding
from calotype.model import Finding
from calotype.mounting import Mount, Mounts
from calotype.presence import require_there
from calotype.purging import Purger
from calotype.quantities import FOREVER
from calotype.readopting import SCOPE, Readopter, keep, shards

TO_ADOPT = frozenset({Fault.COPY, Fault.TAKEN})
"""What only ``adopt`` goes over."""

ADOPTING = "adopting"
"""The key in ``meta`` while a recovery is not finished that goes over from another catalog."""

REBUILDING = "rebuilding"
"""The key in ``meta`` of a catalog that is being built from bytes."""

LOST = "built from the bytes alone: file names, owners and scopes are lost, holds and trash too"


@dataclass(frozen=True, slots=True)
class Recovery:
    """One recovery of a store; ``adopt`` takes bytes over from another copy of the catalog.

    A ``dry_run`` changes nothing, and says what would be kept.
    """

    catalog: Catalog
    mounts: Mounts
    hosts: Hosts
    adopt: bool = False
    dry_run: bool = False

    def recover(self, seen: Seen) -> Findings:
        """Compare each backend with the catalog, keep what has no row, and unlock.

        One that cannot be reached stays locked; so does one that another catalog may be using,
        unless that is to be taken over. What is still locked, fsck says.
        """
        self.catalog.require()
        self.mounts.refresh()
        begun: list[tuple[Mount, Standing]] = []
        for mount in self.mounts.all:
            try:
                require_there(self.catalog, mount)
                found = look(self.catalog, mount, batches(mount.backend))
                if self._may(found):
                    self._begin(found)
                    begun.append((mount, found))
            except CalotypeError as error:
                yield _unreachable(mount, error, seen)
        taken: dict[Mount, Fault | None] = {}
        for mount, found in begun:  # one that is a copy has begun an epoch in every backend
            try:
                self._take(mount, found)
                taken[mount] = found.fault
            except CalotypeError as error:
                yield _unreachable(mount, error, seen)
        if taken:
            yield from self._kept(taken, seen)

    def _kept(self, taken: Mapping[Mount, Fault | None], seen: Seen) -> Findings:
        """Keep what may be wanted in those that were taken over, and unlock them."""
        whole: list[Mount] = []
        try:
            everywhere = len(taken) == len(self.mounts.all)
            blocks = BlockLists.of(self.catalog, list(taken), whole=everywhere)
            for mount in taken:
                whole += yield from self._compared(mount, taken, blocks, seen)
            yield from self._held()
        except CalotypeError as error:
            yield _unreachable(self.mounts.primary, error, seen)
        else:
            yield from self._finished(whole, seen)

    def rebuild(self, seen: Seen) -> Findings:
        """Make a catalog that was lost from the primary's bytes alone, every one of them read.

        ``Misconfigured`` where there is a catalog, unless an earlier rebuilding of it was killed;
        ``NoStore`` where there are no bytes.
        """
        mount = self.mounts.opened_with
        if next(iter(mount.backend.scan("sha256/")), None) is None:
            hint = "Give the place of the store that was lost."
            raise NoStore(f"There are no bytes in {mount.url}.", hint=hint)
        if self.dry_run:
            self._require_none()
            seen.over = True
            blocks = BlockLists({}, {mount.name: blocking.noted(mount.backend)})
            yield from self._readopted(mount, {mount: None}, blocks, seen)
            return
        self._make(mount)
        come_home(self.catalog)  # a dump that is made meanwhile is a copy already
        yield from Recovery(self.catalog, self.mounts, self.hosts, adopt=True).recover(seen)
        yield finding(mount.name, "adopted", LOST)

    # -- taking over ------------------------------------------------------------------------

    def _may(self, found: Standing) -> bool:
        if found.fault in (Fault.OTHER, Fault.NOWHERE):
            return False
        return self.adopt or found.fault not in TO_ADOPT

    def _take(self, mount: Mount, found: Standing) -> None:
        """Have the marker say as well that an epoch was begun, and is not finished."""
        backend = mount.backend
        if self.dry_run or not isinstance(backend, Notes):
            return
        for _ in range(TRIES if found.fault is None else 1):  # our own gc may write it as well
            now = look(self.catalog, mount, batches(backend))
            if now.fault not in (None, Fault.UNFINISHED, Fault.LOST):
                raise locked(mount.name, now.why, now.mends)
            if now.marker is None and found.fault is None and now.fault is None:  # never erased
                claim(self.catalog, self.mounts, mount)
                continue
            if found.fault is not None and now.content != found.content:
                break
            marker = self._unfinished(mount, now)
            if backend.write_note(MARKER, marker.to_bytes(), instead_of=now.content):
                return
        raise Unavailable(
            f"Another catalog writes the marker of {mount.url} at this moment.",
            hint="Let only one of them be used, then run this again.",
        )

    def _unfinished(self, mount: Mount, now: Standing) -> Marker:
        """The marker of a recovery that was begun."""
        known, erased = now.known, max(now.known.erase_seq, now.erased)
        with self.catalog.write() as connection:
            backends.raise_erase_seq(connection, mount.name, erased)
        return Marker(
            now.store,
            known.epoch,
            known.generation,
            erased,
            mount.backend.stand() if isinstance(mount.backend, Stands) else None,
            recovering=True,
            given_to=given_to(self.catalog),
        )

    def _begin(self, found: Standing) -> None:
        """Begin another epoch in the catalog, where need be.

        One that is a copy begins one in every backend, for none of them was its own, and is at
        home here.
        """
        if self.dry_run or found.fault in (None, Fault.UNFINISHED):
            return
        here = self.catalog.database.stand()
        with self.catalog.write() as connection:
            settings.lock(connection, "backends")
            settings.set_meta(connection, "generation", secrets.token_hex(8))
            if found.fault in TO_ADOPT:
                settings.set_meta(connection, ADOPTING, "1")
            for known in backends.known(connection):
                if known.name == found.name and found.marker is not None:
                    epoch = max(known.epoch, found.marker.epoch) + 1
                    erased = max(known.erase_seq, found.erased)
                    backends.begin_epoch(connection, known, epoch, erased)
                elif found.fault is Fault.COPY or known.name == found.name:
                    backends.begin_epoch(connection, known, known.epoch + 1, known.erase_seq)
            if found.fault is Fault.COPY or not homes.is_away(homes.home(connection), here):
                homes.settle(connection, here)

    # -- what is there ----------------------------------------------------------------------

    def _compared(
        self, mount: Mount, taken: Mapping[Mount, Fault | None], blocks: BlockLists, seen: Seen
    ) -> Generator[Finding, None, list[Mount]]:
        """Keep what the catalog has no row of; the backend itself if that came to an end."""
        whole = True
        try:
            yield from self._purged(mount, blocks.foreign(mount.name))
            for each in self._readopted(mount, taken, blocks, seen):
                whole = whole and each.kind != "unreachable"
                yield each
            if whole and not self.dry_run:  # else a note may go against what is to be kept yet
                blocking.make_up(self.catalog, mount)
        except CalotypeError as error:
            yield _unreachable(mount, error, seen)
            return []
        return [mount] if whole else []

    def _readopted(
        self, mount: Mount, taken: Mapping[Mount, Fault | None], blocks: BlockLists, seen: Seen
    ) -> Findings:
        backend = mount.backend
        readopter = Readopter(
            self.catalog,
            mount,
            late={str(key) for key in _erased_keys(backend)},
            blocked=blocks.blocked,
            lifted=blocks.lifted,
            lift=partial(blocking.lift, list(taken)),
            passing=self._takes_over(taken[mount]),
            dry_run=self.dry_run,
        )
        there = not seen.over
        for shard, objects in shards(backend.scan("sha256/")):
            rows = {}
            if there:
                with self.catalog.read() as connection:
                    found = copies.between(connection, mount.name, shard, f"{shard[:-1]}0")
                rows = {str(row.key): row for row in found}
            yield from readopter.readopt(objects, rows, seen)

    def _takes_over(self, fault: Fault | None) -> bool:
        """True where another catalog may have wanted what this one had let go of."""
        if fault is Fault.UNFINISHED:
            with self.catalog.read() as connection:
                return settings.get_meta(connection, ADOPTING) is not None
        return fault in TO_ADOPT

    def _purged(self, mount: Mount, digests: Mapping[str, str]) -> Findings:
        """Let go of what another catalog purged, and block it here as well."""
        for digest, reason in sorted(digests.items()):
            gone = Digest.known(digest)
            note = f"another copy of this catalog has purged it: {reason}"
            with self.catalog.read() as connection:
                kept = bool(copies.blobs(connection, [digest]))
            try:
                if not self.dry_run:
                    Purger(self.catalog, self.hosts).purge(gone, block=True, reason=reason)
            except StillReferenced as error:
                note = f"it was purged, and cannot be let go of here: {error}"
                yield finding(mount.name, "broken", note, digest=gone)
            else:
                if kept:
                    action = "would be let go of" if self.dry_run else "let go of"
                    yield finding(mount.name, "adopted", note, digest=gone, action=action)

    def _held(self) -> Findings:
        """Keep what this catalog would let go of: somebody may have wanted it since."""
        after = ""
        while True:
            with self.catalog.read() as connection:
                found = listing.orphans(connection, FOREVER - 1, self.hosts, PAGE, after)
            passing = [str(blob.digest) for blob in found]
            whole = [digest for digest in passing if self._has_bytes(digest)]
            kept = set(whole) if self.dry_run else keep(self.catalog, whole)
            for digest in sorted(kept):
                action = "would be kept" if self.dry_run else f"kept in scope {SCOPE}"
                told = {"digest": Digest.known(digest), "action": action}
                yield finding("", "adopted", "bytes that this catalog would let go of", **told)
            if len(passing) < PAGE:
                return
            after = passing[-1]

    def _has_bytes(self, digest: str) -> bool:
        """False for what was let go of and erased since; True also where that cannot be told."""
        with self.catalog.read() as connection:
            found = copies.live_anywhere(connection, [digest])
        for copy in found:
            try:
                backend = self.mounts.named(copy.backend).backend
                if backend.size(copy.key) == copy.blob.size:
                    return True
            except CalotypeError:
                return True
        return False

    def _finished(self, mounts: Sequence[Mount], seen: Seen) -> Findings:
        """Say of each that it is at an end; a rebuilding is where all of them are."""
        done = 0
        for mount in mounts:
            try:
                self._finish(mount)
                done += 1
            except CalotypeError as error:
                yield _unreachable(mount, error, seen)
        if done == len(self.mounts.all) and not self.dry_run:
            with self.catalog.write() as connection:
                settings.forget_meta(connection, REBUILDING)
                settings.forget_meta(connection, ADOPTING)

    def _finish(self, mount: Mount) -> None:
        """Say that it is at an end, if the marker is still this catalog's."""
        backend = mount.backend
        if self.dry_run or not isinstance(backend, Notes):
            return
        found = look(self.catalog, mount)
        if found.marker is None or not found.marker.recovering:
            return
        known, marker = found.known, found.marker
        if (marker.epoch, marker.generation) == (known.epoch, known.generation):
            whole = replace(marker, recovering=False)
            backend.write_note(MARKER, whole.to_bytes(), instead_of=found.content)

    # -- rebuilding -------------------------------------------------------------------------

    def _make(self, mount: Mount) -> None:
        """An empty catalog of the store that the marker names, unless it was begun before."""
        self._require_none()
        content = mount.backend.read_note(MARKER) if isinstance(mount.backend, Notes) else None
        marker = Marker.of(content) if content is not None else None

        def fill(connection: Connection) -> None:
            if schema.number(connection) is not None:
                return
            schema.create(connection, self.catalog.first_backend, self.catalog.clock())
            settings.set_meta(connection, REBUILDING, "1")
            if marker is not None:
                settings.set_meta(connection, "store_id", marker.store)
            for known in backends.known(connection):
                epoch = marker.epoch if marker is not None else 1
                backends.begin_epoch(connection, known, epoch + 1, 0)

        with translated():
            self.catalog.database.create(fill)

    def _require_none(self) -> None:
        """Raise where there is a catalog that was not begun by a rebuilding."""
        path = self.catalog.path
        wal = path.with_name(f"{path.name}-wal") if path is not None else None
        if path is not None and not path.exists() and wal is not None and wal.exists():
            raise Misconfigured(
                f"{wal} is there, the log of a catalog that is not; nothing was changed.",
                hint="Move the catalog back to it: nothing is lost then. Else move it elsewhere.",
            )
        if self.catalog.database.identity() is None:
            return
        with self.catalog.database.reading() as connection:
            whole = schema.number(connection) is not None
            if not whole or settings.get_meta(connection, REBUILDING) is not None:
                return
        raise Misconfigured(
            f"There is a catalog: {self.catalog.name}; nothing was changed.",
            hint="To compare it with the bytes: 'calotype fsck --recover'.",
        )


def _unreachable(mount: Mount, error: CalotypeError, seen: Seen) -> Finding:
    seen.complete = False
    return finding(mount.name, "unreachable", str(error), action=error.hint)


def _erased_keys(backend: Backend) -> Iterator[Key]:
    """The keys of every batch of which there is a note."""
    if isinstance(backend, Notes):
        for found in batches(backend):
            if erased_seq(found.name) is not None:
                content = backend.read_note(found.name)
                yield from erased_keys(found.name, content) if content is not None else ()
