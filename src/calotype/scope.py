"""A scope: everything of the store that belongs to one user or tenant."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import BinaryIO, overload

from calotype.bulk import Bulk
from calotype.catalog import settings, totals
from calotype.catalog.joining import Joinable
from calotype.catalog.listing import Listing, Sort
from calotype.digest import Digest, digests_of
from calotype.errors import DigestMismatch, Misconfigured
from calotype.importing.own import require_no_database
from calotype.intake import IN_MEMORY
from calotype.model import (
    Asset,
    Discarded,
    OwnerSummary,
    Put,
    PutMany,
    Reference,
    Released,
    Restored,
    Usage,
    UsageDay,
)
from calotype.names import Owner, file_name, header, plain, role_name
from calotype.prefixes import resolve
from calotype.progress import Progress, Run
from calotype.putting import Arrival
from calotype.quantities import SECOND, Duration, duration, when
from calotype.reading import Reader
from calotype.rooms import Rooms
from calotype.staging import Content, Source, receive
from calotype.taking_uploads import TakesUploads
from calotype.wishes import Wish, json_object, named_after, wish

DAY = 24 * 3600 * SECOND


class Scope(TakesUploads):
    """Put, open, refer and let go inside one scope; nothing of another is ever seen.

    Safe to share among threads and to inherit across fork.
    """

    def __init__(self, rooms: Rooms, name: str) -> None:
        super().__init__(rooms, plain(name, "scope"))
        self._store: Scope | None = None

    @property
    def name(self) -> str:
        """The scope's name."""
        return self._name

    # -- bytes in ---------------------------------------------------------------------------

    def put(
        self,
        source: Source,
        owner: str | Owner | None = None,
        role: str | None = None,
        filename: str | None = None,
        metadata: Mapping[str, object] | None = None,
        hold: Duration | None = None,
        expect: str | None = None,
        images_only: bool = False,
    ) -> Put:
        """Keep a file's bytes once, and an asset of them in this scope.

        ``source`` is a path, bytes, a binary file or an iterator of bytes. Without ``owner`` and
        ``hold`` the asset is kept for itself; an ``owner`` (``kind/id``) keeps it by a reference
        in the slot ``role``, a ``hold`` (``"24h"``) until then. A known asset keeps the name it
        has, and ``metadata`` is merged into its own. ``expect`` refuses other bytes
        (``DigestMismatch``), ``images_only`` whatever is no image (``NotAnImage``,
        ``DecompressionBomb``). What is acknowledged survives power cuts; what raises has stored
        nothing. Harmless to repeat: a known file is answered ``duplicate``, a damaged one is
        mended.
        """
        require_no_database(self._rooms.catalog, self._rooms.mounts, source)
        content = receive(source, self._rooms.mounts.primary.backend, self._rooms.limits)
        try:
            wanted = Digest.parse(expect) if expect is not None else content.digest
            if wanted != content.digest:
                raise DigestMismatch(
                    f"The bytes hash to {content.digest}, not to {wanted}; nothing was stored.",
                    hint="Send the file again, or correct the digest.",
                )
            if images_only:
                content.require_image()
            asked = wish(
                content.digest,
                self._rooms.catalog.clock(),
                owner=owner,
                role=role,
                filename=named_after(source) if filename is None else filename,
                metadata=metadata,
                hold=hold,
            )
            done = self._putter().put([Arrival(content, asked)])[0].put()
        finally:
            content.discard()
        self._rooms.trend.note(self._name)
        return done

    def put_many(
        self,
        sources: Iterable[Source],
        owner: str | Owner | None = None,
        hold: Duration | None = None,
    ) -> Run[Progress, PutMany]:
        """Put many files: hashed on threads, kept in durable batches.

        Iterate the Run for its Progress, or call ``.result()``. A source that fails is listed in
        the result and never stops the others. ``Locked`` where the catalog as a whole is held for
        too long: then what was kept stays. Sources are taken up to 128 ahead of their reading: give
        files that stay open, or paths whose files stay as they are until the end. Memory stays
        bounded whatever the sizes.
        """
        one = isinstance(sources, str | bytes | bytearray | memoryview | os.PathLike)
        if one or hasattr(sources, "read") or not isinstance(sources, Iterable):
            raise Misconfigured("put_many wants several sources.", hint="Use put() for one.")
        rooms = self._rooms
        total = len(sources) if isinstance(sources, Sequence) else None
        wish(Digest.of(b""), 0, owner=owner, hold=hold)  # what makes no sense is refused at once

        def to_wish(source: Source, content: Content) -> Wish:
            return wish(
                content.digest,
                self._rooms.catalog.clock(),
                owner=owner,
                filename=named_after(source),
                hold=hold,
            )

        def received(source: Source) -> Content:
            require_no_database(rooms.catalog, rooms.mounts, source)
            backend = rooms.mounts.primary.backend
            return receive(source, backend, rooms.limits, in_memory=IN_MEMORY)

        bulk = Bulk(self._putter(), received, to_wish)
        steps = bulk.steps(sources, total)
        return Run(lambda: rooms.trend.after(steps, self._name), name="put_many")

    # -- bytes out --------------------------------------------------------------------------

    def open(self, digest: str, start: int | None = None, stop: int | None = None) -> BinaryIO:
        """The bytes of a visible asset, seekable; or those from ``start`` to before ``stop``.

        A full read is verified: wrong bytes raise ``Corrupt`` and never pass as right ones.
        """
        parsed, rooms, referrer = Digest.parse(digest), self._rooms, self._referrer()
        referrer.require_store(parsed)
        reader = Reader(rooms.catalog, rooms.mounts, referrer.seen)
        file = reader.open(parsed, start, stop)
        rooms.accesses.note(self._name, parsed)
        return file

    def url(self, digest: str, expires: Duration = 3600, *, disposition: str | None = None) -> str:
        """A URL for a visible asset that lives at least ``expires`` and keeps nothing alive.

        The same text within one multiple of ``expires``, so that caches keep it.
        """
        found = self.stat(digest)
        seconds = -(-duration(expires) // SECOND) * SECOND
        if disposition is not None:
            header(disposition, "disposition")
        url = self._rooms.signer().url(self._name, found.digest, seconds, disposition)
        self._rooms.accesses.note(self._name, found.digest)
        return url

    # -- what there is ----------------------------------------------------------------------

    def stat(self, digest: str) -> Asset:
        """The asset; ``NotFound`` where this scope has no visible one."""
        return self._referrer().asset(Digest.parse(digest))

    def resolve(self, prefix: str, *, trashed: bool = False) -> Digest:
        """The digest of this scope's asset that begins with 6 characters or more.

        ``NotFound`` for none, ``AmbiguousPrefix`` for several.
        """
        return resolve(
            self._rooms.catalog,
            prefix,
            self._name,
            where=f"scope {self._name!r}",
            hint="'calotype ls' lists what there is; --scope looks elsewhere.",
            shown=lambda digest: (
                trashed or not self._referrer().asset(digest, trashed=True).trashed
            ),
        )

    def check(self, digests: Iterable[str]) -> dict[Digest, Asset | None]:
        """For each digest this scope's asset (``trashed`` says if it is in the trash) or None.

        Reads only, counts as no access, and tells nothing of other scopes.
        """
        return self._referrer().check(digests_of(digests))

    def assets(
        self,
        owner: str | Owner | None = None,
        media_type: str | None = None,
        q: str | None = None,
        trashed: bool = False,
        after: str | None = None,
        sort: Sort = "recent",
    ) -> Listing[Asset]:
        """Visible assets, or with ``trashed`` those in the trash; iterate, or ``.page()``.

        ``media_type`` may end in ``/*``; ``q`` is part of a file name or the start of a digest;
        ``sort`` is recent, size, views or digest.
        """
        return self._rooms.lister(self._name).assets(
            owner=Owner.parse(owner) if owner is not None else None,
            media_type=media_type,
            q=q,
            trashed=trashed,
            sort=sort,
            after=after,
        )

    def owners(self, kind: str | None = None) -> Listing[OwnerSummary]:
        """Owners with live references, and what they come to."""
        return self._rooms.lister(self._name).owners(kind)

    def references(
        self, owner: str | Owner | None = None, digest: str | None = None
    ) -> Listing[Reference]:
        """Live references of an owner or to a digest."""
        return self._rooms.lister(self._name).references(
            owner=Owner.parse(owner) if owner is not None else None,
            digest=Digest.parse(digest) if digest is not None else None,
        )

    def usage(self) -> Usage:
        """What this scope has, its trash apart, and its quota."""
        catalog = self._rooms.catalog
        if not catalog.exists():
            return Usage(self._name, 0, 0, 0, 0, 0, None)
        with catalog.read() as connection:
            quota = settings.quota(connection, self._name)
            return totals.usage(connection, self._name, catalog.clock(), self._rooms.hosts, quota)

    def usage_days(self, days: int = 30) -> list[UsageDay]:
        """A row for each day on which something changed, the last ``days`` days, today among them.

        Today's is as things are, where the catalog can be written; one of another day is at most
        two hours older than its last change, or a day above 100,000 assets.
        """
        catalog = self._rooms.catalog
        if not catalog.exists():
            return []
        self._rooms.trend.bring_up_to_date(self._name)
        now = catalog.clock()
        since, until = when(max(now - max(days - 1, 0) * DAY, 0)), when(now)
        with catalog.read() as connection:
            return settings.usage_days(
                connection, self._name, f"{since:%Y-%m-%d}", f"{until:%Y-%m-%d}"
            )

    # -- who uses it ------------------------------------------------------------------------

    def attach(
        self,
        digest: str,
        owner: str | Owner,
        role: str | None = None,
        connection: Joinable | None = None,
    ) -> None:
        """Let ``owner`` refer to an asset of this scope; repeating changes nothing.

        With ``connection`` (an SQLAlchemy Session or Connection, or the driver's own; what is
        awaited belongs to ``AsyncStore``) it belongs to the caller's transaction. ``NotFound``
        where the asset is not there: put it again.
        """
        parsed = Digest.parse(digest)
        self._referrer().attach(parsed, Owner.parse(owner), role_name(role, parsed), connection)

    def release(
        self,
        owner: str | Owner,
        role: str | None = None,
        connection: Joinable | None = None,
    ) -> Released:
        """Let go of an owner's references, in one statement; harmless to repeat.

        On a disk too full for that it goes in parts; should there be no room even for those,
        ``Unavailable`` says how many are released, and gc makes room for the others.
        """
        slot = plain(role, "role") if role is not None else None
        released = self._referrer().release(Owner.parse(owner), slot, connection)
        if connection is None:
            self._rooms.trend.note(self._name)
        return released

    @overload
    def restore(self, digest: str, *, connection: Joinable | None = None) -> Restored: ...
    @overload
    def restore(
        self,
        *,
        owner: str | Owner,
        role: str | None = None,
        connection: Joinable | None = None,
    ) -> Restored: ...
    def restore(
        self,
        digest: str | None = None,
        *,
        owner: str | Owner | None = None,
        role: str | None = None,
        connection: Joinable | None = None,
    ) -> Restored:
        """Bring back an owner's newest released references, or keep a trashed asset for itself."""
        if (digest is None) == (owner is None):
            raise Misconfigured(
                "Restore a digest or an owner.", hint="Give one of digest and owner=."
            )
        if owner is not None:
            slot = plain(role, "role") if role is not None else None
            return self._referrer().restore_owner(Owner.parse(owner), slot, connection)
        assert digest is not None
        return self._referrer().restore_asset(Digest.parse(digest), connection)

    def update(
        self,
        digest: str,
        filename: str | None = None,
        metadata: Mapping[str, object] | None = None,
    ) -> Asset:
        """Change an asset's file name, or replace its metadata; None leaves either as it is."""
        parsed = Digest.parse(digest)
        self._referrer().update(parsed, file_name(filename), json_object(metadata))
        return self.stat(parsed)

    def renew(self, digest: str, hold: Duration) -> Asset:
        """Hold a visible asset for ``hold`` from now at least; the later instant counts."""
        parsed = Digest.parse(digest)
        self._referrer().renew(parsed, self._rooms.catalog.clock() + duration(hold))
        return self.stat(parsed)

    def keep(self, digest: str) -> Asset:
        """Keep a visible asset for itself from now on."""
        parsed = Digest.parse(digest)
        self._referrer().keep(parsed)
        return self.stat(parsed)

    def discard(self, digest: str) -> Discarded:
        """End the library entry or hold now; owners' references stay and keep the asset."""
        return self._referrer().discard(Digest.parse(digest))
