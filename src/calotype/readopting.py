"""Re-adopting: bytes that the catalog never had for its own, read whole and kept again.

They have no row, or one that was never live: of a put that an older catalog saw under way, or of a
stray that was to be erased. What has a row is copied to a key of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from calotype import media
from calotype.backends import Key, Listed
from calotype.catalog import Catalog, copies, holdings, replicas, settings
from calotype.catalog.backends import ROLES
from calotype.catalog.copies import Past
from calotype.catalog.intents import Intent, intend, withdraw
from calotype.catalog.repeating import repeated
from calotype.catalog.states import DOOMED, ERASING, LIVE, WRITING
from calotype.copying import checked
from calotype.digest import Digest
from calotype.errors import CalotypeError, Corrupt, NotFound, Unavailable
from calotype.fsck.sides import Findings, Seen, finding
from calotype.heart import Heart, beating
from calotype.model import Blob
from calotype.mounting import Mount
from calotype.quantities import FOREVER, Instant
from calotype.wishes import Wish

SCOPE = "default"
"""Whose the bytes are of which nobody knows any more whose they were."""

TOGETHER = 100
"""Objects that one transaction keeps."""

THREADS = 8
"""Objects that are read at a time."""

_ERASED = ", at a key that was erased"


@dataclass(frozen=True, slots=True)
class Candidate:
    """An object that is to be kept, and what reading it came to.

    ``note`` says what it is, ``forgotten`` that there is no row of it. ``late`` says that this or
    another catalog may still delete it there; ``instead_of`` is the token of the live replica that
    is at such a key, this one or another. ``blob`` is what was read, ``intent`` where it was copied
    to.
    """

    key: Key
    size: int
    note: str
    late: bool = False
    forgotten: bool = False
    instead_of: str = ""
    blob: Blob | None = None
    intent: Intent | None = None
    error: CalotypeError | None = None


@dataclass(frozen=True, slots=True)
class Readopter:
    """Looks through the objects of one backend.

    ``late`` are names of keys that another catalog may still delete. ``blocked`` digests are never
    kept; ``lifted`` ones were taken off the list since, of which ``lift`` removes every note.
    ``passing`` keeps what this catalog had let go of as well, and not purged, where another one may
    have wanted it.
    A ``dry_run`` reads, and changes nothing.
    """

    catalog: Catalog
    mount: Mount
    late: Set[str]
    blocked: Set[str]
    lifted: Set[str]
    lift: Callable[[str], None]
    passing: bool
    dry_run: bool

    def readopt(self, objects: Sequence[Listed], rows: Mapping[str, Past], seen: Seen) -> Findings:
        """Keep those of ``objects`` that have no row or never had a live one, read whole before.

        A digest is kept once: what has a sound copy at a key that nobody else deletes needs no
        other, but was put again since, and so is kept for good. What could be read, or kept,
        another time is found ``unreachable``.
        """
        sizes = {thing.name: thing.size for thing in objects}
        sound = {str(row.digest) for row in rows.values() if self._is_sound(row, sizes)}
        wanted = self._candidates(objects, rows, sound)
        yield from self._wanted_since(objects, rows, sound)
        self._doubt_lost({each.key.digest for each in wanted}, rows.values(), sizes)
        with ThreadPoolExecutor(THREADS) as pool:
            for first in range(0, len(wanted), TOGETHER):
                part = [
                    each
                    for each in wanted[first : first + TOGETHER]
                    if str(each.key.digest) not in sound
                ]
                for each in pool.map(self._read, part):
                    seen.read_bytes += each.size
                    seen.tell()
                    yield from self._one(each, sound, seen)

    def _is_sound(self, row: Past, sizes: Mapping[str, int]) -> bool:
        name = str(row.key)
        whole = row.state == LIVE and row.suspect_at is None and sizes.get(name) == row.size
        return whole and name not in self.late

    def _wanted_since(
        self, objects: Sequence[Listed], rows: Mapping[str, Past], sound: Set[str]
    ) -> Findings:
        """Keep blobs that have another object without a row: somebody has put them again."""
        keys = [key for each in objects if each.name not in rows and (key := Key.parse(each.name))]
        again = sorted({str(key.digest) for key in keys} & sound - self.blocked)
        for digest in again if self.dry_run or not again else sorted(keep(self.catalog, again)):
            told = {"digest": Digest.known(digest), "action": self._action}
            yield finding(self.mount.name, "adopted", "put again since, at another key", **told)

    @property
    def _action(self) -> str:
        return "would be kept" if self.dry_run else f"kept in scope {SCOPE}"

    def _doubt_lost(
        self, digests: Set[Digest], rows: Iterable[Past], sizes: Mapping[str, int]
    ) -> None:
        """Mark live replicas of these whose bytes are gone: another object has them by now."""
        lost = [
            row.token
            for row in rows
            if row.state == LIVE
            and row.digest in digests
            and row.size != sizes.get(str(row.key))
            and row.size != self.mount.backend.size(row.key)
        ]
        if lost and not self.dry_run:
            with self.catalog.write() as connection:
                for token in lost:
                    replicas.suspect(connection, token, self.catalog.clock())

    def _candidates(
        self, objects: Sequence[Listed], rows: Mapping[str, Past], sound: Set[str]
    ) -> list[Candidate]:
        """Those that nobody else deletes first: they need not be copied."""
        found = []
        doubtful = {
            row.digest: row.token
            for row in rows.values()
            if row.state == LIVE and str(row.key) in self.late
        }
        for thing in objects:
            key, row = Key.parse(thing.name), rows.get(thing.name)
            late = thing.name in self.late
            if key is None or key.digest in sound or key.digest in self.blocked:
                continue
            if row is None:
                note = f"bytes without a row{_ERASED if late else ''}"
                other = doubtful.get(key.digest, "")
                found.append(
                    Candidate(key, thing.size, note, late, forgotten=True, instead_of=other)
                )
            elif row.state == LIVE and late:
                note = f"bytes that were let go{_ERASED}"
                found.append(Candidate(key, thing.size, note, late, instead_of=row.token))
            elif row.state in (DOOMED, ERASING) and row.doomed_at is None:
                continue  # it was purged
            elif self.passing and row.state in (DOOMED, ERASING):
                note = "bytes that were let go, which another copy may have wanted"
                found.append(Candidate(key, thing.size, note, late=True, forgotten=True))
            elif row.state != LIVE and row.verified_at is None:
                note = "bytes of a put" if row.state == WRITING else "bytes without a live row"
                found.append(Candidate(key, thing.size, note, late=True))
        return sorted(found, key=lambda each: each.late)

    def _read(self, candidate: Candidate) -> Candidate:
        """The same, with what it is: every byte was read."""
        key = candidate.key
        try:
            with self.mount.backend.open(key) as file:
                if Digest.of(file) != key.digest:
                    raise Corrupt(
                        f"{key.digest} is damaged: its bytes do not hash to its name.",
                        hint="Put the same file again: that mends it.",
                    )
                size = file.seek(0, 2)
                facts = media.read(file, size)
        except CalotypeError as error:
            return replace(candidate, error=error)
        shape = (facts.width, facts.height)
        blob = Blob(key.digest, size, facts.media_type, key.extension, *shape)
        return replace(candidate, blob=blob)

    def _one(self, candidate: Candidate, sound: set[str], seen: Seen) -> Findings:
        digest, name = candidate.key.digest, str(candidate.key)
        error = candidate.error
        action = self._action if self.dry_run else ""
        if error is None and not self.dry_run and str(digest) not in sound:
            try:
                action = self._keep(candidate)
            except CalotypeError as failure:
                error = failure
        if isinstance(error, NotFound):
            return
        if error is not None:
            self._doubt(candidate)
            damaged = isinstance(error, Corrupt)
            seen.complete = seen.complete and damaged
            kind = "stray" if damaged else "unreachable"
            then = "" if damaged else error.hint
            told = {"digest": digest, "key": name, "action": then}
            yield finding(self.mount.name, kind, f"not kept: {error}", **told)
        elif action and str(digest) not in sound:
            sound.add(str(digest))
            told = {"digest": digest, "key": name, "action": action}
            yield finding(self.mount.name, "adopted", candidate.note, **told)

    def _also_wanted(self, connection: Connection, candidate: Candidate) -> str:
        """Keep one that somebody has put meanwhile: what was forgotten was wanted as well."""
        if not candidate.forgotten:
            return ""
        _hold(connection, [str(candidate.key.digest)], self.catalog.clock())
        return self._action

    def _doubt(self, candidate: Candidate) -> None:
        """Mark a live replica that was read and is not whole."""
        own = candidate.instead_of if not candidate.forgotten else ""
        if own and isinstance(candidate.error, Corrupt) and not self.dry_run:
            with suppress(CalotypeError), self.catalog.write() as connection:
                replicas.suspect(connection, own, self.catalog.clock())

    def _keep(self, candidate: Candidate) -> str:
        """Have it live; what was done, or nothing where somebody else was faster."""
        if candidate.late:
            candidate = self._copied(candidate)
        if str(candidate.key.digest) in self.lifted:
            self.lift(str(candidate.key.digest))
        try:
            return self._settle(candidate)
        except IntegrityError:  # a row at that key, or a live copy, by now
            return ""

    def _copied(self, candidate: Candidate) -> Candidate:
        """Copy it to a key of its own."""
        intent = self._intend(candidate)
        heart, backend = Heart(self.catalog, [intent]), self.mount.backend
        try:
            with backend.open(candidate.key) as file:
                whole = checked(file, candidate.key.digest, lambda _: None)
                backend.put(intent.key, beating(whole, heart.beat), candidate.size)
        except BaseException:
            with suppress(CalotypeError), self.catalog.write() as connection:
                withdraw(connection, [intent.token], self.catalog.clock())
            raise
        return replace(candidate, intent=intent)

    @repeated
    def _intend(self, candidate: Candidate) -> Intent:
        key = candidate.key
        with self.catalog.write(durable=False) as connection:
            settings.lock_digests(connection, [key.digest])
            wanted = [(key.digest, key.extension, candidate.size)]
            return intend(connection, self.mount.name, wanted, self.catalog.clock(), ROLES)[0]

    @repeated
    def _settle(self, candidate: Candidate) -> str:
        """A live replica, a blob, and for one that was not known an asset that is kept for good."""
        blob, intent, now = candidate.blob, candidate.intent, self.catalog.clock()
        assert blob is not None
        digest, tokens = str(blob.digest), [intent.token] if intent is not None else []
        with self.catalog.write() as connection:
            settings.lock_digests(connection, [digest])
            copies.lock_blobs(connection, [digest])
            there = copies.situation(connection, [digest], self.mount.name, tokens)
            here = there.copies.get(digest)
            others = here is not None and not here.suspect and here.token != candidate.instead_of
            refused = digest in there.blocked and digest not in self.lifted
            if refused or others:
                replicas.doom(connection, tokens, now)
                return self._also_wanted(connection, candidate) if not refused else ""
            if not there.writing.issuperset(tokens):
                raise Unavailable(
                    f"The copy of {digest} was taken for one that nobody writes any more.",
                    hint="Run this again.",
                )
            if digest in there.blocked:
                settings.unblock(connection, blob.digest)
            before = [here.token] if here is not None else []
            replicas.doom(connection, [*before, *there.ownerless], now)
            if digest not in there.blobs:
                copies.insert_blobs(connection, [blob])
            if intent is not None and (candidate.forgotten or not candidate.instead_of):
                left = [(candidate.key, candidate.size)]
                replicas.tombstone(connection, self.mount.name, left, now)
            if intent is None:
                tokens = [replicas.announce(connection, self.mount.name, candidate.key, blob.size)]
            replicas.set_live(connection, tokens, now)
            if digest in there.blobs and not candidate.forgotten:
                return "its blob has it again"
            _hold(connection, [digest], now)
            return f"{self._action}{', and no longer blocked' if digest in there.blocked else ''}"


@repeated
def keep(catalog: Catalog, digests: Sequence[str]) -> set[str]:
    """Have blobs kept for good in scope ``default``; those that are there."""
    with catalog.write() as connection:
        settings.lock_digests(connection, digests)
        copies.lock_blobs(connection, digests)
        there = sorted(copies.blobs(connection, digests))
        _hold(connection, there, catalog.clock())
    return set(there)


def _hold(connection: Connection, digests: Sequence[str], now: Instant) -> None:
    for digest in digests:
        if not holdings.set_kept_until(connection, SCOPE, digest, FOREVER):
            wish = Wish(Digest.known(digest), FOREVER)
            holdings.insert_assets(connection, SCOPE, [wish], now)
    settings.count_again(connection, SCOPE)


def shards(objects: Iterator[Listed]) -> Iterator[tuple[str, list[Listed]]]:
    """Sorted objects, those of 1/256 of the digests at a time, with what their names begin with."""
    part: list[Listed] = []
    for thing in objects:
        if part and part[0].name[:_SHARD] != thing.name[:_SHARD]:
            yield part[0].name[:_SHARD], part
            part = []
        part.append(thing)
    if part:
        yield part[0].name[:_SHARD], part


_SHARD = len("sha256/ab/")
