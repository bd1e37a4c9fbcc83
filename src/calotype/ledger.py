"""The ledger of a put: what becomes of a scope's assets, wish by wish."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import replace

from calotype.catalog import holdings
from calotype.catalog.prepared import Found
from calotype.model import Asset, Blob, Status
from calotype.quantities import Instant, when
from calotype.wishes import Wish


class Ledger:
    """Works out what becomes of one scope's assets; writes nothing itself.

    ``rows`` are the assets that are there, ``blobs`` those of every wish, ``mended`` the digests
    whose bytes were replaced. Afterwards ``new`` are the assets to insert and ``changed`` the
    columns to update.
    """

    def __init__(
        self,
        now: Instant,
        rows: Mapping[str, Found],
        blobs: Mapping[str, Blob],
        mended: Container[str],
    ) -> None:
        self._now = now
        self._blobs = blobs
        self._mended = mended
        self._assets = {digest: holdings.to_asset(row, now) for digest, row in rows.items()}
        self._ends = {digest: int(row["kept_until"]) for digest, row in rows.items()}
        self.new: dict[str, Wish] = {}
        self.changed: dict[str, dict[str, object]] = {}

    def enter(self, scope: str, wish: Wish) -> Status:
        """Note one wish and say what status its put has."""
        before = self._assets.get(wish.digest)
        if before is None:
            self._assets[wish.digest] = self._created(scope, wish)
            return "created"
        status: Status = "restored" if before.trashed else "duplicate"
        if status == "duplicate" and wish.digest in self._mended:
            status = "healed"
        self._merge(before, wish, restored=before.trashed)
        return status

    def _created(self, scope: str, wish: Wish) -> Asset:
        end = self._now if wish.kept_until is None else wish.kept_until
        self.new[wish.digest] = wish
        self._ends[wish.digest] = end
        return Asset(
            scope=scope,
            blob=self._blobs[wish.digest],
            filename=wish.filename,
            metadata=dict(wish.metadata or {}),
            kept=holdings.kept(end, self._now),
            trashed=end <= self._now and wish.owner is None,
            references=0,
            created_at=when(self._now),
            last_accessed=None,
            access_count=0,
        )

    def _merge(self, before: Asset, wish: Wish, *, restored: bool) -> None:
        """The later end wins; a name that is there stays, unless the asset was in the trash."""
        end = max(self._ends[wish.digest], wish.kept_until or 0)
        filename = (
            (wish.filename or before.filename) if restored else (before.filename or wish.filename)
        )
        metadata = {**before.metadata, **(wish.metadata or {})}
        same = (filename, end) == (before.filename, self._ends[wish.digest])
        if wish.metadata:  # compared as text: to Python True is 1
            same &= json.dumps(metadata) == json.dumps(dict(before.metadata))
        if same and not restored:
            return
        self._assets[wish.digest] = replace(
            before,
            filename=filename,
            metadata=metadata,
            kept=holdings.kept(end, self._now),
            trashed=restored and end <= self._now and wish.owner is None,
        )
        if same:
            return
        self._ends[wish.digest] = end
        if (pending := self.new.get(wish.digest)) is not None:
            self.new[wish.digest] = replace(
                pending, kept_until=end, filename=filename, metadata=metadata
            )
        else:
            self.changed[wish.digest] = {
                "kept_until": end,
                "filename": filename,
                "metadata": json.dumps(metadata),
            }

    def asset(self, digest: str, added: int) -> Asset:
        """The asset as the transaction leaves it, with ``added`` references more."""
        found = self._assets[digest]
        return replace(found, references=found.references + added) if added else found
