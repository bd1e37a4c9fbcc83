"""Purge: bytes that must go, whoever holds them, and must not come back."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError

from calotype.catalog import Catalog, copies, garbage, replicas, settings
from calotype.catalog.columns import Hosts
from calotype.digest import Digest
from calotype.errors import NotFound, StillReferenced


@dataclass(frozen=True, slots=True)
class Purger:
    """Removes one digest from every scope."""

    catalog: Catalog
    hosts: Hosts

    def purge(self, digest: Digest, *, block: bool, reason: str) -> int:
        """Remove references, assets and derivations of all scopes and doom the bytes.

        ``block`` refuses the digest from now on. ``StillReferenced``, and nothing changed, where
        an application's own column points at it. Returns how many assets there were.
        """
        if block:
            self.catalog.ensure()
        with self.catalog.write(freeing=True) as connection:
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
            replicas.doom_all(connection, [digest], now)
            try:
                assets = garbage.uproot(connection, digest)
            except IntegrityError as error:
                raise StillReferenced(
                    f"{digest} is still referenced by the application; nothing was changed.",
                    hint="'calotype doctor' lists the columns that point at Calotype's tables.",
                ) from error
            if block:
                settings.block(connection, digest, now, reason)
        return assets
