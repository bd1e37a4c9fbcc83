"""Purge: bytes that must go, whoever holds them, and must not come back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError

from calotype.catalog import Catalog, copies, garbage, replicas, settings
from calotype.catalog.columns import Hosts
from calotype.catalog.repeating import repeated
from calotype.catalog.reserve import Freeing
from calotype.digest import Digest
from calotype.errors import NotFound, StillReferenced


@dataclass(frozen=True, slots=True)
class Purger:
    """Removes one digest from every scope."""

    catalog: Catalog
    hosts: Hosts

    @repeated
    def purge(self, digest: Digest, *, block: bool, reason: str) -> int:
        """Remove references, assets and derivations of all scopes and doom the bytes.

        ``block`` refuses the digest from now on. ``StillReferenced``, and nothing changed, where
        an application's own column points at it. Returns how many assets there were.
        """
        if block:
            self.catalog.ensure()
        with self._refusing(digest), self.catalog.write(freeing=Freeing.BYTES) as connection:
            self.hosts.refuse_cascades(connection)
            settings.lock_digests(connection, [digest])
            known = copies.history(connection, digest)
            if not known and not block:
                raise NotFound(f"No bytes of {digest}.", hint="'calotype ls' lists what there is.")
            if columns := self.hosts.pointing_anywhere(connection, digest):
                raise StillReferenced(
                    f"{digest} is still referenced by {', '.join(map(str, columns))}; "
                    "nothing was changed.",
                    hint="Set those rows to NULL or delete them, then purge again.",
                )
            now = self.catalog.clock()
            replicas.doom_all(connection, [digest], now, admitted=True)
            replicas.hasten(connection, [digest], now)
            assets = garbage.uproot(connection, digest)
            if block:
                settings.block(connection, digest, now, reason)
        return assets

    @contextmanager
    def _refusing(self, digest: Digest) -> Iterator[None]:
        """The database refuses at once, or at the commit where the application's key says so."""
        try:
            yield
        except IntegrityError as error:
            raise StillReferenced(
                f"{digest} is still referenced by the application; nothing was changed.",
                hint="'calotype doctor' lists the columns that point at Calotype's tables.",
            ) from error

    def left(self, digest: Digest) -> int:
        """How many copies are let go of and not erased: put off after a failure, or strays."""
        with self.catalog.read() as connection:
            return copies.left(connection, digest)
