"""The ledger of a put: what becomes of a scope's assets, wish by wish."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from calotype.catalog import holdings
from calotype.catalog.prepared import Found
from calotype.digest import Digest
from calotype.model import Asset, Blob, Put, Status
from calotype.quantities import Instant, when
from calotype.wishes import Wish


@dataclass(slots=True)
class _Holding:
    """An asset as far as wishes change it."""

    end: Instant
    filename: str | None
    metadata: Mapping[str, object]
    trashed: bool


class Ledger:
    """Works out what becomes of one scope's assets; writes nothing itself.

    ``rows`` are the assets that are there, ``blobs`` those of every wish, ``mended`` the digests
    whose bytes were replaced. Afterwards ``new`` are the assets to insert and ``changed`` the
    columns to update.
    """

    def __init__(
        self,
        scope: str,
        now: Instant,
        rows: Mapping[str, Found],
        blobs: Mapping[str, Blob],
        mended: set[str],
    ) -> None:
        self._scope = scope
        self._now = now
        self._rows = rows
        self._mended = mended
        self._holdings: dict[str, _Holding] = {}
        self._referred: Counter[Digest] = Counter()
        self.blobs = blobs
        self.new: dict[str, Wish] = {}
        self.changed: dict[str, dict[str, object]] = {}

    def enter(self, wish: Wish) -> Status:
        """Note one wish and say what status its put has."""
        mended = wish.digest in self._mended
        self._mended.discard(wish.digest)  # who comes later finds sound bytes
        before = self._holding(wish.digest)
        if before is None:
            self._create(wish)
            return "created"
        status: Status = "healed" if mended else "duplicate"
        if restored := before.trashed and wish.digest not in self.new:
            status = "restored"
        self._merge(before, wish, restored=restored)
        return status

    def refer(self, digests: Iterable[Digest]) -> None:
        """Note the digests of references that are new."""
        self._referred.update(digests)

    def _holding(self, digest: Digest) -> _Holding | None:
        if (known := self._holdings.get(digest)) is None and (row := self._rows.get(digest)):
            known = self._holdings[digest] = _Holding(
                int(row["kept_until"]),
                row["filename"],
                holdings.metadata_of(row),
                holdings.trashed(row, self._now),
            )
        return known

    def _create(self, wish: Wish) -> None:
        end = self._now if wish.kept_until is None else wish.kept_until
        trashed = end <= self._now and wish.owner is None
        self._holdings[wish.digest] = _Holding(end, wish.filename, wish.metadata or {}, trashed)
        self.new[wish.digest] = wish

    def _merge(self, before: _Holding, wish: Wish, *, restored: bool) -> None:
        """The later end wins; a name that is there stays, unless the asset was in the trash."""
        end = max(before.end, wish.kept_until or 0)
        filename = (
            (wish.filename or before.filename) if restored else (before.filename or wish.filename)
        )
        metadata = {**before.metadata, **(wish.metadata or {})}
        same = (filename, end) == (before.filename, before.end)
        if wish.metadata:  # compared as text: to Python True is 1
            same &= json.dumps(metadata) == json.dumps(dict(before.metadata))
        before.trashed = before.trashed and end <= self._now and wish.owner is None
        if same:
            return
        before.end, before.filename, before.metadata = end, filename, metadata
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

    def asset(self, digest: Digest) -> Asset:
        """The asset as the transaction leaves it."""
        held = self._holdings[digest]
        row = self._rows.get(digest)
        before = holdings.to_asset(row, self._now) if row is not None else None
        return Asset(
            scope=self._scope,
            blob=self.blobs[digest],
            filename=held.filename,
            metadata=dict(held.metadata),
            kept=holdings.kept(held.end, self._now),
            trashed=held.trashed,
            references=(before.references if before else 0) + self._referred[digest],
            created_at=before.created_at if before else when(self._now),
            last_accessed=before.last_accessed if before else None,
            access_count=before.access_count if before else 0,
        )


class Line(NamedTuple):
    """A line of the ledger: what one wish came to."""

    ledger: Ledger
    digest: Digest
    status: Status

    @property
    def size(self) -> int:
        """Bytes of the blob."""
        return self.ledger.blobs[self.digest].size

    def put(self) -> Put:
        """The line spelled out; nothing that thousands need."""
        return Put(self.digest, self.status, self.ledger.asset(self.digest))
