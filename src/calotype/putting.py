"""Put: bytes in, kept once, with an asset and perhaps a reference to them in the same commit.

One path serves one file and a thousand. *Probe* which digests are here and sound; *link* those in
one transaction; for the rest *intend* (rows first, so that no byte lies anywhere unannounced),
*publish* the bytes durably, and *settle* blob, replica, asset and reference in one durable
commit. A writer that was fenced off meanwhile goes round again with the same bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, RowMapping
from sqlalchemy.exc import IntegrityError

from calotype import staging
from calotype.backends import Backend
from calotype.catalog import Catalog, copies, holdings, settings
from calotype.catalog.columns import Hosts
from calotype.catalog.copies import Copy, Intent
from calotype.catalog.holdings import Wish
from calotype.errors import Blocked, CalotypeError, Locked
from calotype.model import Asset, Blob, Put, Status
from calotype.quantities import Instant, when
from calotype.staging import Content

ROUNDS = 20
"""How often a put goes round again after gc or another writer came between; each is rare."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Received bytes and what is wanted of them."""

    content: Content
    wish: Wish


@dataclass(frozen=True, slots=True)
class Putter:
    """What putting needs to know: where to, whose, and what time it is."""

    catalog: Catalog
    backend: Backend
    name: str
    scope: str
    hosts: Hosts

    def put(self, arrivals: Sequence[Arrival]) -> list[Put]:
        """Keep every arrival and answer in their order.

        All or nothing for each transaction: an error (``QuotaExceeded``, ``Blocked``, a full
        disk) leaves no asset and no reference of the arrivals it concerns, and bytes that were
        already published are gc's to erase. Safe to repeat, and beside any number of others.
        """
        done: dict[int, Put] = {}
        mended: set[str] = set()
        for _ in range(ROUNDS):
            rest = [each for each in enumerate(arrivals) if each[0] not in done]
            if not rest:
                return [done[number] for number in range(len(arrivals))]
            sound = self._probe([arrival for _, arrival in rest])
            hits = [each for each in rest if each[1].content.digest in sound]
            misses = [each for each in rest if each[1].content.digest not in sound]
            done.update(self._link(hits, sound, mended))
            done.update(self._keep(misses, mended))
        raise Locked(
            "The bytes were let go again each time they were kept.",
            hint="Run gc less eagerly than in a tight loop with grace 0, and try again.",
        )

    def _probe(self, arrivals: Sequence[Arrival]) -> dict[str, Copy]:
        """The digests whose live replica is trusted and has its size; others become suspect."""
        digests = sorted({arrival.content.digest for arrival in arrivals})
        if not self.catalog.exists():
            return {}
        with self.catalog.read() as connection:
            found = copies.live(connection, digests, self.name)
        sound = {}
        for copy in found:
            if copy.suspect:
                continue
            if self.backend.size(copy.key) == copy.blob.size:
                sound[str(copy.blob.digest)] = copy
            else:
                with self.catalog.write() as connection:
                    copies.suspect(connection, copy.token, self.catalog.clock())
        return sound

    def _link(
        self, hits: Sequence[tuple[int, Arrival]], sound: Mapping[str, Copy], mended: set[str]
    ) -> dict[int, Put]:
        """TX1: assets and references for bytes that are here; what went meanwhile is left out."""
        if not hits:
            return {}
        try:
            with self.catalog.write() as connection:
                digests = sorted({arrival.content.digest for _, arrival in hits})
                there = copies.present(connection, digests)
                live = {
                    copy.token
                    for copy in copies.live(connection, digests, self.name)
                    if not copy.suspect and copy.blob.digest in there
                }
                good = [each for each in hits if sound[each[1].content.digest].token in live]
                blobs = {digest: copy.blob for digest, copy in sound.items()}
                return self._holdings(connection, good, blobs, mended)
        except IntegrityError:
            return {}

    def _keep(self, misses: Sequence[tuple[int, Arrival]], mended: set[str]) -> dict[int, Put]:
        """Miss: intend, publish, settle. What was fenced off is left out."""
        if not misses:
            return {}
        unique = {str(arrival.content.digest): arrival.content for _, arrival in misses}
        ordered = [unique[digest] for digest in sorted(unique)]
        self._refuse_early(misses)
        with self.catalog.write(durable=False) as connection:
            known = copies.blobs(connection, sorted(unique))
            intents = copies.intend(
                connection,
                self.name,
                [(each.digest, _extension(each, known), each.size) for each in ordered],
                self.catalog.clock(),
            )
        try:
            staging.keep(
                self.backend,
                [(intent.key, unique[intent.digest]) for intent in intents],
            )
            with self.catalog.write() as connection:
                return self._settle(connection, misses, intents, unique, mended)
        except BaseException:
            self._give_up(intents)
            raise

    def _refuse_early(self, misses: Sequence[tuple[int, Arrival]]) -> None:
        """Refuse before any byte is written what the settling transaction would refuse."""
        if not self.catalog.exists():
            return
        with self.catalog.read() as connection:
            _refuse_blocked(connection, [arrival.content.digest for _, arrival in misses])
            here = holdings.assets(
                connection,
                self.scope,
                {arrival.content.digest for _, arrival in misses},
                self.hosts.on_asset(connection),
            )
            new = {
                a.content.digest: a.content.size for _, a in misses if a.content.digest not in here
            }
            settings.require_room(connection, self.scope, sum(new.values()))

    def _settle(
        self,
        connection: Connection,
        misses: Sequence[tuple[int, Arrival]],
        intents: Sequence[Intent],
        unique: Mapping[str, Content],
        mended: set[str],
    ) -> dict[int, Put]:
        """TX2: what was published becomes live, and the assets and references stand on it."""
        now = self.catalog.clock()
        digests = sorted(unique)
        settings.lock_digests(connection, digests)
        _refuse_blocked(connection, digests)
        ours = copies.still_writing(connection, [intent.token for intent in intents])
        before = {copy.blob.digest: copy for copy in copies.live(connection, digests, self.name)}
        blobs = copies.blobs(connection, digests)
        winners = [i for i in intents if i.token in ours and not _taken(before.get(i.digest))]
        losers = [intent for intent in intents if intent not in winners]
        broken = [before[i.digest].token for i in winners if i.digest in before]
        copies.doom(connection, [*broken, *(intent.token for intent in losers)], now)
        fresh = [
            _to_blob(unique[intent.digest]) for intent in winners if intent.digest not in blobs
        ]
        copies.insert_blobs(connection, fresh)
        copies.set_live(connection, [intent.token for intent in winners], now)
        blobs |= {str(each.digest): each for each in fresh}
        mended.update(i.digest for i in winners if i.digest in before)
        standing = {i.digest for i in winners} | {d for d, c in before.items() if _taken(c)}
        good = [each for each in misses if each[1].content.digest in standing]
        return self._holdings(connection, good, blobs, mended)

    def _give_up(self, intents: Sequence[Intent]) -> None:
        """Doom what was intended, so that gc need not wait for its age; best effort."""
        try:
            with self.catalog.write() as connection:
                tokens = [intent.token for intent in intents]
                writing = copies.still_writing(connection, tokens)
                copies.doom(connection, sorted(writing), self.catalog.clock())
        except CalotypeError:
            return

    def _holdings(
        self,
        connection: Connection,
        good: Sequence[tuple[int, Arrival]],
        blobs: Mapping[str, Blob],
        mended: set[str],
    ) -> dict[int, Put]:
        """Assets and references of ``good``, whose blobs are locked or written just now."""
        if not good:
            return {}
        now = self.catalog.clock()
        wishes = [arrival.wish for _, arrival in good]
        rows = holdings.assets(
            connection,
            self.scope,
            {wish.digest for wish in wishes},
            self.hosts.on_asset(connection),
        )
        ledger = _Ledger(now, rows, blobs, mended)
        answers = [ledger.enter(self.scope, wish) for wish in wishes]
        new = list(ledger.new.values())
        settings.take_room(connection, self.scope, sum(blobs[wish.digest].size for wish in new))
        holdings.insert_assets(connection, self.scope, new, now)
        holdings.update_assets(connection, self.scope, ledger.changed)
        added = Counter(holdings.refer(connection, self.scope, wishes, now))
        return {
            number: Put(wish.digest, status, ledger.asset(wish.digest, added[wish.digest]))
            for (number, _), wish, status in zip(good, wishes, answers, strict=True)
        }


class _Ledger:
    """Works out, wish by wish, what becomes of the assets of one scope."""

    def __init__(
        self,
        now: Instant,
        rows: Mapping[str, RowMapping],
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
            trashed=False,
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
        after = replace(
            before,
            filename=filename,
            metadata=metadata,
            kept=holdings.kept(end, self._now),
            trashed=False,
        )
        self._assets[wish.digest] = after
        if (after.filename, after.metadata, end) == (
            before.filename,
            before.metadata,
            self._ends[wish.digest],
        ):
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
        return replace(found, references=found.references + added)


def _taken(copy: Copy | None) -> bool:
    return copy is not None and not copy.suspect


def _extension(content: Content, known: Mapping[str, Blob]) -> str:
    here = known.get(content.digest)
    return here.extension if here is not None else content.facts.extension


def _to_blob(content: Content) -> Blob:
    facts = content.facts
    return Blob(
        content.digest,
        content.size,
        facts.media_type,
        facts.extension,
        facts.width,
        facts.height,
    )


def _refuse_blocked(connection: Connection, digests: Sequence[str]) -> None:
    for digest, reason in copies.blocks(connection, digests).items():
        raise Blocked(
            f"{digest} was purged and is blocked: {reason}.",
            hint="Nothing was stored. An administrator can take it off the block-list.",
        )
