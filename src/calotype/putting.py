"""Put: bytes in, kept once, with an asset and perhaps a reference to them in the same commit.

One path serves one file and a thousand. *Probe* which digests are here and sound; *link* those in
one transaction; for the rest *intend* (rows first, so that no byte lies anywhere unannounced),
*publish* the bytes durably, and *settle* blob, replica, asset and reference in one durable
commit. A writer that was fenced off meanwhile goes round again with the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from calotype import giving_up, publishing
from calotype.backends import Backend
from calotype.belonging import marked
from calotype.catalog import Catalog, copies, holdings, replicas, settings, slots
from calotype.catalog.columns import Hosts
from calotype.catalog.copies import Copy
from calotype.catalog.intents import Intent, NotWritten, intend, withdraw
from calotype.catalog.reserve import Freeing
from calotype.copying import Copier
from calotype.digest import Digest
from calotype.errors import Blocked, CalotypeError, Locked, Unavailable
from calotype.heart import Heart
from calotype.ledger import Ledger, Line
from calotype.model import Blob, Status
from calotype.mounting import Mounts
from calotype.presence import require_there
from calotype.probing import probe
from calotype.staging import Content
from calotype.wishes import Wish

RECALLED = 24 << 20
"""Bytes that were let go and are had again, at a time."""

RESTART = 10.0
"""Seconds that a server may take to come back and say whether a commit went through."""

ROUNDS = 20
"""How often a put goes round again after gc or another writer came between; each is rare."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Received bytes and what is wanted of them.

    ``copy`` is the sound copy that was found; ``probed`` says that it was looked for.
    """

    content: Content
    wish: Wish
    copy: Copy | None = None
    probed: bool = False


@dataclass(frozen=True, slots=True)
class Putter:
    """What putting needs to know: where to, whose, and what time it is.

    ``forsaken`` are intents that were given up while the catalog could not be written.
    ``witness`` is told what became of arrivals, in the transaction that keeps them; what it raises
    undoes that. ``patience`` is how many seconds a lock is waited for, None for the catalog's own.
    """

    catalog: Catalog
    mounts: Mounts
    scope: str
    hosts: Hosts
    forsaken: list[Intent] = field(default_factory=list, compare=False)
    witness: Callable[[Connection, Sequence[Status]], None] | None = None
    patience: float | None = None

    @property
    def backend(self) -> Backend:
        """Where bytes are put now."""
        return self.mounts.primary.backend

    def put(self, arrivals: Sequence[Arrival], done: dict[int, Line] | None = None) -> list[Line]:
        """Keep every arrival and answer in their order; ``done`` tells how far an error let it.

        All or nothing for each transaction: an error (``QuotaExceeded``, ``Blocked``, a full
        disk) leaves no asset and no reference of the arrivals it concerns, and bytes that were
        already published are gc's to erase. Safe to repeat, and beside any number of others.
        """
        done = {} if done is None else done
        mended: set[str] = set()
        for tries in range(ROUNDS):
            rest = [each for each in enumerate(arrivals) if each[0] not in done]
            if not rest:
                return [done[number] for number in range(len(arrivals))]
            sound = self._known([arrival for _, arrival in rest], first=tries == 0)
            hits = [each for each in rest if each[1].content.digest in sound]
            misses = [each for each in rest if each[1].content.digest not in sound]
            with self._another_round():
                done.update(self._link(hits, sound, mended))
            for part in _recallable(misses):
                with self._another_round():
                    done.update(self._keep(part, mended))
        raise Locked(
            "The bytes were let go again each time they were kept.",
            hint="Run gc less eagerly than in a tight loop with grace 0, and try again.",
        )

    def _known(self, arrivals: Sequence[Arrival], *, first: bool) -> dict[str, Copy]:
        """The sound copies of the arrivals; at first those that they bring along."""
        if not first:
            return self.probe({arrival.content.digest for arrival in arrivals})
        brought = {str(a.content.digest): a.copy for a in arrivals if a.copy is not None}
        return self.probe({a.content.digest for a in arrivals if not a.probed}) | brought

    def probe(self, wanted: Collection[Digest]) -> dict[str, Copy]:
        """Of these digests the live copies that are trusted and there."""
        return probe(self.catalog, self.mounts, wanted)

    def _link(
        self, hits: Sequence[tuple[int, Arrival]], sound: Mapping[str, Copy], mended: set[str]
    ) -> dict[int, Line]:
        """TX1: assets and references for bytes that are here; what went meanwhile is left out."""
        if not hits:
            return {}
        digests = sorted({arrival.content.digest for _, arrival in hits})
        with self.catalog.write(rows=len(hits), patience=self.patience) as connection:
            copies.lock_blobs(connection, digests)
            tokens = [sound[digest].token for digest in digests]
            live = copies.still_sound(connection, tokens)
            good = [each for each in hits if sound[each[1].content.digest].token in live]
            blobs = {digest: copy.blob for digest, copy in sound.items()}
            return self._holdings(connection, good, blobs, mended)

    def _keep(self, misses: Sequence[tuple[int, Arrival]], mended: set[str]) -> dict[int, Line]:
        """Miss: intend, publish, settle. What was fenced off is left out."""
        if not misses:
            return {}
        unique: dict[str, Content] = {}
        for _, arrival in misses:
            unique.setdefault(arrival.content.digest, arrival.content)
        gone = [content for content in unique.values() if content.is_gone]
        for content in gone:
            content.recall()
        try:
            return self._publish(misses, unique, mended)
        finally:
            for content in gone:
                content.let_go()

    def _publish(
        self,
        misses: Sequence[tuple[int, Arrival]],
        unique: Mapping[str, Content],
        mended: set[str],
    ) -> dict[int, Line]:
        self.catalog.ensure()
        mount = self.mounts.primary
        require_there(self.catalog, mount)
        self.withdraw()
        upto = marked(self.catalog, mount)
        with self.catalog.write(
            durable=False, rows=len(misses), patience=self.patience
        ) as connection:
            intents = self._intend(connection, mount.name, unique, upto)
        try:
            items = [(intent.key, unique[intent.digest]) for intent in intents]
            publishing.keep(mount.backend, items, Heart(self.catalog, intents).beat)
            lines = self._settled(mount.name, misses, intents, unique, mended)
        except BaseException:
            self.forsaken.extend(intents)
            self.withdraw()
            raise
        self._mirror(intents)
        return lines

    def adopt(self, name: str, arrival: Arrival, intent: Intent) -> Line | None:
        """Keep bytes that lie at the key of an intent in backend ``name``, and were verified.

        None where another writer or gc came between: they can be put as any others.
        """
        lines: dict[int, Line] = {}
        content = arrival.content
        with self._another_round():
            lines = self._settled(name, [(0, arrival)], [intent], {content.digest: content}, set())
        if not lines:
            return None
        self._mirror([intent])
        return lines[0]

    def _mirror(self, intents: Sequence[Intent]) -> None:
        """Copy what was published to the mirrors; one that fails never fails a put."""
        for mount in self.mounts.mirrors:
            copier = Copier(self.catalog, self.mounts, mount)
            copier.at_once([intent.digest for intent in intents])

    def _settled(
        self,
        name: str,
        misses: Sequence[tuple[int, Arrival]],
        intents: Sequence[Intent],
        unique: Mapping[str, Content],
        mended: set[str],
    ) -> dict[int, Line]:
        """TX2 and its commit; one whose answer was lost with the server is asked after."""
        lines: dict[int, Line] = {}
        try:
            with self.catalog.write(rows=len(misses), patience=self.patience) as connection:
                lines = self._settle(connection, name, misses, intents, unique, mended)
        except Unavailable:
            if not lines or self.catalog.is_sqlite or not self._is_live(intents):
                raise
        return lines

    def _is_live(self, intents: Sequence[Intent]) -> bool:
        """True where a token is live: only the commit of its own writer makes it so."""
        tokens = [intent.token for intent in intents]
        end = time.monotonic() + RESTART
        while True:
            try:
                with self.catalog.read() as connection:
                    return bool(copies.still_sound(connection, tokens))
            except Unavailable:
                if time.monotonic() > end:
                    return False
                time.sleep(RESTART / 100)

    def _intend(
        self,
        connection: Connection,
        name: str,
        unique: Mapping[str, Content],
        upto: int | None,
    ) -> list[Intent]:
        """Rows for the bytes to come; what settling would refuse is refused before any byte."""
        settings.lock_digests(connection, unique)
        here = copies.live(connection, sorted(unique), name)
        there = {str(copy.blob.digest) for copy in here if not copy.suspect}
        digests = sorted(unique.keys() - there)  # what somebody was faster with is linked instead
        known = copies.blobs(connection, digests)
        refuse_blocked(copies.blocks(connection, digests))
        settings.require_room(
            connection, self.scope, {digest: unique[digest].size for digest in digests}
        )
        return intend(
            connection,
            name,
            [_wanted(unique[digest], known.get(digest)) for digest in digests],
            self.catalog.clock(),
            marked=upto,
        )

    def _settle(
        self,
        connection: Connection,
        name: str,
        misses: Sequence[tuple[int, Arrival]],
        intents: Sequence[Intent],
        unique: Mapping[str, Content],
        mended: set[str],
    ) -> dict[int, Line]:
        """TX2: what was published becomes live, and the assets and references stand on it."""
        now = self.catalog.clock()
        digests = sorted(unique)
        settings.lock_digests(connection, digests)
        copies.lock_blobs(connection, digests)
        tokens = [intent.token for intent in intents]
        there = copies.situation(connection, digests, name, tokens)
        refuse_blocked(there.blocked)
        trusted = {digest for digest, copy in there.copies.items() if not copy.suspect}
        ours = [i for i in intents if i.token in there.writing]
        winners = [i for i in ours if i.digest not in trusted and _fits(i, there.blobs)]
        broken = [there.copies[i.digest].token for i in winners if i.digest in there.copies]
        won = {intent.token for intent in winners}
        losers = [intent.token for intent in ours if intent.token not in won]
        replicas.doom(connection, [*losers, *broken, *there.ownerless], now)
        fresh = [_to_blob(unique[i.digest]) for i in winners if i.digest not in there.blobs]
        copies.insert_blobs(connection, fresh)
        replicas.set_live(connection, sorted(won), now)
        mended.update(intent.digest for intent in winners if intent.digest in there.blobs)
        standing = trusted.union(intent.digest for intent in winners)
        good = [each for each in misses if each[1].content.digest in standing]
        blobs = there.blobs | {str(blob.digest): blob for blob in fresh}
        return self._holdings(connection, good, blobs, mended)

    @contextmanager
    def _another_round(self) -> Iterator[None]:
        """Pass over what somebody else came in the way with: it goes round again.

        Their rows, their locks, or another backend that is the primary by now.
        """
        try:
            yield
        except IntegrityError:
            return
        except NotWritten:
            self.mounts.refresh()
        except Locked as error:
            if not error.gave_way:
                raise

    def withdraw(self, *, freeing: Freeing = Freeing.NOTHING) -> None:
        """Doom what was intended in vain, so that gc need not wait for its age; best effort.

        ``freeing`` takes the room that is kept back for a full disk, where all else is done.
        """
        if not self.forsaken:
            return
        tokens = [intent.token for intent in self.forsaken]
        with suppress(CalotypeError):
            with self.catalog.write(freeing=freeing) as connection:
                withdraw(connection, tokens, self.catalog.clock())
            self.forsaken.clear()

    def _holdings(
        self,
        connection: Connection,
        good: Sequence[tuple[int, Arrival]],
        blobs: Mapping[str, Blob],
        mended: set[str],
    ) -> dict[int, Line]:
        """Assets and references of ``good``, whose blobs are locked or written just now."""
        if not good:
            return {}
        now = self.catalog.clock()
        wishes = [arrival.wish for _, arrival in good]
        rows = holdings.assets(
            connection,
            self.scope,
            {wish.digest for wish in wishes},
            self.hosts,
            to_change=True,
        )
        ledger = Ledger(self.scope, now, rows, blobs, mended)
        answers = [ledger.enter(wish) for wish in wishes]
        new = list(ledger.new.values())
        sizes = {str(wish.digest): blobs[wish.digest].size for wish in new}
        settings.take_room(connection, self.scope, sizes)
        holdings.insert_assets(connection, self.scope, new, now)
        holdings.update_assets(connection, self.scope, ledger.changed)
        ledger.refer(slots.refer(connection, self.scope, wishes, now))
        if self.witness is not None:
            self.witness(connection, answers)
        giving_up.check()
        return {
            number: Line(ledger, wish.digest, status)
            for (number, _), wish, status in zip(good, wishes, answers, strict=True)
        }


def _recallable(
    misses: Sequence[tuple[int, Arrival]],
) -> Iterator[Sequence[tuple[int, Arrival]]]:
    """All of them, unless more was let go than may be had again at a time."""
    part: list[tuple[int, Arrival]] = []
    recalled = 0
    for each in misses:
        content = each[1].content
        recalled += content.size if content.is_gone else 0
        if part and recalled > RECALLED:
            yield part
            part, recalled = [], content.size
        part.append(each)
    yield part


def _wanted(content: Content, known: Blob | None) -> tuple[Digest, str, int]:
    extension = known.extension if known is not None else content.facts.extension
    return content.digest, extension, content.size


def _fits(intent: Intent, known: Mapping[str, Blob]) -> bool:
    """False where the blob that is there has another extension than the key."""
    there = known.get(intent.digest)
    return there is None or there.extension == intent.key.extension


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


def refuse_blocked(blocked: Mapping[str, str]) -> None:
    """Raise ``Blocked`` if there are any."""
    for digest, reason in blocked.items():
        raise Blocked(
            f"{digest} was purged and is blocked: {reason}.",
            hint="Nothing was stored. 'calotype unblock' takes it off the block-list.",
        )
