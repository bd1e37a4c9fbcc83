"""One side of fsck: a backend and its rows, compared in both directions."""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import groupby

from calotype.backends import Backend, Key, Listed
from calotype.backends.markers import is_note
from calotype.belonging import claim, look
from calotype.catalog import Catalog, copies, replicas
from calotype.catalog.backends import PRIMARY
from calotype.catalog.copies import Past
from calotype.catalog.states import ERASED, LIVE
from calotype.copying import Copier
from calotype.digest import CHUNK, Digest
from calotype.errors import CalotypeError, NotFound
from calotype.model import Finding
from calotype.mounting import Mount, Mounts
from calotype.progress import Progress
from calotype.quantities import Instant

PAGE = 1000
_SHARD = re.compile(r"sha256/([0-9a-f]{2})/")

Findings = Iterator[Finding]


@dataclass(slots=True)
class Seen:
    """What was looked at and found so far; ``locked`` are backends where nothing is erased.

    ``over`` says that no more can be looked at: there is no catalog.
    """

    blobs: int = 0
    objects: int = 0
    read_bytes: int = 0
    complete: bool = True
    stopped: bool = False
    unreadable: bool = False
    locked: set[str] = field(default_factory=set)
    over: bool = False
    found: Counter[str] = field(default_factory=Counter)
    problems: int = 0
    progress: Callable[[Progress], None] | None = None
    told: float = field(default_factory=time.monotonic)

    def tell(self) -> None:
        """Say how far it is, about once a second."""
        now = time.monotonic()
        if self.progress is not None and now - self.told >= 1:
            self.told = now
            self.progress(Progress(None, self.objects, failed=self.problems, bytes=self.read_bytes))


def finding(backend: str, kind: str, note: str, **more: object) -> Finding:
    """One thing that was noticed in a backend, or with none in the catalog itself."""
    made = Finding("broken", None, backend, "", "", note)
    return replace(made, kind=kind, **more)  # type: ignore[arg-type]


def pages(catalog: Catalog, fetch: Callable[..., Sequence[str]]) -> Iterator[str]:
    """Everything that ``fetch(connection, after)`` finds, page by page."""
    after = ""
    while True:
        with catalog.read() as connection:
            page = fetch(connection, after)
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1]


@dataclass(frozen=True, slots=True)
class Side:
    """One backend of the store; ``repair`` mends what another one has sound."""

    catalog: Catalog
    mounts: Mounts
    mount: Mount
    repair: bool

    @property
    def name(self) -> str:
        """The backend's name."""
        return self.mount.name

    @property
    def backend(self) -> Backend:
        """The backend."""
        return self.mount.backend

    def _finding(self, kind: str, note: str, **more: object) -> Finding:
        return finding(self.name, kind, note, **more)

    def belongs(self, seen: Seen) -> Findings:
        """Whether the bytes are this catalog's to erase; until that is known they are not."""
        seen.locked.add(self.name)
        if self.repair:
            found = claim(self.catalog, self.mounts, self.mount)
        else:
            found = look(self.catalog, self.mount)
        if found.fault is None:
            seen.locked.discard(self.name)
        else:
            yield self._finding("locked", f"nothing is erased here: {found.why}. {found.mends}")

    def objects(self, seen: Seen) -> Findings:
        """List first, then query: what is listed had its row before its bytes (I7)."""
        listed = groupby(self.backend.scan(), key=_shard)
        done = 0
        for shard, objects in listed:
            if shard is None:
                for thing in objects:
                    if is_note(thing.name):
                        continue
                    seen.objects += 1
                    yield self._finding("foreign", "not an object of ours", key=thing.name)
                continue
            yield from self._bare_shards(done, shard, seen)
            yield from self._shard(shard, list(objects), seen)
            done = shard + 1
        yield from self._bare_shards(done, 256, seen)

    def _bare_shards(self, first: int, end: int, seen: Seen) -> Findings:
        """Those from ``first`` to before ``end`` that have rows; nothing was listed in them."""
        while first < end:
            with self.catalog.read() as connection:
                key = copies.next_key(connection, self.name, f"sha256/{first:02x}/")
            shard = end if key is None else int(key.digest[:2], 16)
            if shard >= end:
                return
            yield from self._shard(shard, [], seen)
            first = shard + 1

    def _shard(self, shard: int, objects: Sequence[Listed], seen: Seen) -> Findings:
        with self.catalog.read() as connection:
            prefix = f"sha256/{shard:02x}"
            rows = copies.between(connection, self.name, f"{prefix}/", f"{prefix}0")
        seen.objects += len(objects)
        seen.tell()
        if self.mount.role == PRIMARY:
            seen.blobs += len({row.digest for row in rows if row.state == LIVE})
        by_key = {str(row.key): row for row in rows}
        sizes = {thing.name: thing.size for thing in objects}
        for row in rows:  # marked first: a stray may be what is left of a blob
            if row.state == LIVE:
                yield from self._expected(row, sizes.get(str(row.key)))
        yield from self._unexpected(objects, by_key, locked=self.name in seen.locked)

    def _unexpected(
        self, objects: Sequence[Listed], rows: Mapping[str, Past], *, locked: bool
    ) -> Findings:
        repair = self.repair and not locked
        strays: list[tuple[Key, int]] = []
        wanted = self._without_copy(objects, rows)
        blocked = self._blocked(objects, rows)
        late: list[Key] = []
        for thing in objects:
            key = Key.parse(thing.name)
            row = rows.get(thing.name)
            if key is None:
                yield self._finding("foreign", "not an object of ours", key=thing.name)
            elif row is None:
                strays.append((key, thing.size))
                last = key.digest in wanted
                note = "bytes without a row"
                note += ", and its blob has no sound copy: put this file again" if last else ""
                action = "where an older catalog was put back, --recover keeps it"
                if str(key.digest) in blocked:
                    then = (
                        "--recover sees whether it still is"
                        if locked
                        else "--repair has it erased in 30 days"
                    )
                    action = f"it is blocked: {then}"
                if repair:
                    action = "will be erased in 30 days"
                    action += ", once there is a sound copy" if last else ""
                yield self._finding("stray", note, digest=key.digest, key=str(key), action=action)
            elif row.state == ERASED and self._is_there(key):
                late.append(key)
                action = "the next gc erases it" if repair else ""
                note = "bytes written after they were erased"
                yield self._finding("stray", note, digest=key.digest, key=str(key), action=action)
        if repair and (strays or late):
            now = self.catalog.clock()
            with self.catalog.write() as connection:
                replicas.tombstone(connection, self.name, strays, now)
                replicas.sweep_again(connection, self.name, late, now)

    def _is_there(self, key: Key) -> bool:
        """False for what gc has erased since it was listed."""
        with suppress(CalotypeError):
            return self.backend.size(key) is not None
        return True

    def _blocked(self, objects: Sequence[Listed], rows: Mapping[str, Past]) -> Mapping[str, str]:
        """Which of those without a row are of blocked digests."""
        keys = [key for each in objects if each.name not in rows and (key := Key.parse(each.name))]
        if not keys:
            return {}
        with self.catalog.read() as connection:
            return copies.blocks(connection, sorted({str(key.digest) for key in keys}))

    def _without_copy(self, objects: Sequence[Listed], rows: Mapping[str, Past]) -> set[str]:
        """Digests of strays whose blob has no sound copy: such bytes may be all that is left."""
        sizes = {thing.name: thing.size for thing in objects}
        strays = {key.digest for name in sizes if name not in rows and (key := Key.parse(name))}
        sound = {
            row.digest
            for name, row in rows.items()
            if row.state == LIVE and row.suspect_at is None and sizes.get(name) == row.size
        }
        if not strays - sound:
            return set()
        with self.catalog.read() as connection:
            wanted = set(copies.blobs(connection, sorted(strays - sound)))
            others = copies.live_anywhere(connection, sorted(wanted))
        return wanted - {
            str(copy.blob.digest)
            for copy in others
            if copy.backend != self.name and not copy.suspect
        }

    def _expected(self, row: Past, listed_size: int | None) -> Findings:
        if listed_size == row.size and row.suspect_at is None:
            return
        try:
            size = self.backend.size(row.key)
        except CalotypeError as error:
            yield self._finding("broken", f"cannot look: {error}", digest=row.digest)
            return
        if size is None:
            yield from self._damaged("missing", "its bytes are not there", row)
        elif size != row.size:
            note = f"it has {size} bytes instead of {row.size}"
            yield from self._damaged("corrupt", note, row)
        elif row.suspect_at is not None and not self._mended(row, row.suspect_at):
            yield from self._damaged("corrupt", "its bytes do not hash to its name", row)

    def _damaged(self, kind: str, note: str, row: Past) -> Findings:
        """Mark it, if it is still live; with no other copy the digest is wanted.

        Where nothing can be written it is told all the same.
        """
        with self.catalog.read() as connection:
            live = {copy.token for copy in copies.live(connection, [row.digest], self.name)}
        if row.token in live:
            with suppress(CalotypeError), self.catalog.write() as connection:
                replicas.suspect(connection, row.token, self.catalog.clock())
            action = self._cure(row)
            yield self._finding(kind, note, digest=row.digest, key=str(row.key), action=action)

    def _cure(self, row: Past) -> str:
        """Copy it from another backend, where one has it and that is asked for; what is left."""
        with self.catalog.read() as connection:
            live = copies.live_anywhere(connection, [row.digest])
        sound = [copy.backend for copy in live if copy.backend != self.name and not copy.suspect]
        if not sound:
            return "wanted: put the file again"
        if not self.repair:
            return f"backend {sound[0]} has it: --repair copies it"
        copier = Copier(self.catalog, self.mounts, self.mount)
        try:
            (outcome,) = copier.copy([row.digest], verify=True)
        except CalotypeError as error:
            return f"backend {sound[0]} has it: {error}"
        if outcome.error is not None:
            return f"backend {sound[0]} has it: {outcome.error}"
        return f"mended from backend {sound[0]}"

    def _mended(self, row: Past, mark: Instant) -> bool:
        """True when a suspect copy reads whole after all; its mark is taken off."""
        try:
            if self._hash(row, Seen()) != row.digest:
                return False
        except CalotypeError:
            return False
        with self.catalog.write() as connection:
            return replicas.clear(connection, row.token, mark, self.catalog.clock())

    def ownerless(self) -> Findings:
        """Bytes whose blob was deleted while the trigger that lets them go was lost."""
        for digest in pages(
            self.catalog, lambda c, after: copies.ownerless(c, self.name, after, PAGE)
        ):
            if self.repair:
                with self.catalog.write() as connection:
                    if not copies.blobs(connection, [digest]):
                        now = self.catalog.clock()
                        replicas.doom_all(connection, [digest], now, admitted=False)
            action = "the next gc erases it" if self.repair else ""
            note = "bytes without a blob"
            yield self._finding("leak", note, digest=Digest(digest), action=action)

    def data(self, seen: Seen, end: float | None) -> Findings:
        """Re-read live bytes, the longest unread first; those that are suspect were read before."""
        started = self.catalog.clock()
        with suppress(CalotypeError), self.catalog.write(durable=False) as connection:
            replicas.doubt_the_future(connection, started)
        place = (-1, "")
        while True:
            with self.catalog.read() as connection:
                rows = copies.longest_unverified(connection, self.name, started, place, 100)
            if not rows:
                return
            place = (rows[-1].verified_at or 0, str(rows[-1].key))
            sound: list[str] = []
            for row in rows:
                if end is not None and time.monotonic() >= end:
                    seen.complete, seen.stopped = False, True
                    self._verified(sound)
                    return
                yield from self._read(row, seen, sound)
            self._verified(sound)

    def _read(self, row: Past, seen: Seen, sound: list[str]) -> Findings:
        try:
            digest = self._hash(row, seen)
        except NotFound:
            yield from self._damaged("missing", "its bytes are not there", row)
            return
        except CalotypeError as error:
            note = f"cannot read: {error}"
            yield self._finding("broken", note, digest=row.digest, key=str(row.key))
            return
        if digest == row.digest:
            sound.append(row.token)
        else:
            yield from self._damaged("corrupt", "its bytes do not hash to its name", row)

    def _verified(self, tokens: Sequence[str]) -> None:
        if tokens:
            with suppress(CalotypeError), self.catalog.write(durable=False) as connection:
                replicas.verified(connection, tokens, self.catalog.clock())

    def _hash(self, row: Past, seen: Seen) -> str:
        sha = hashlib.sha256()
        with self.backend.open(row.key) as file:
            while chunk := file.read(CHUNK):
                sha.update(chunk)
                seen.read_bytes += len(chunk)
                seen.tell()
        return sha.hexdigest()


def _shard(thing: Listed) -> int | None:
    match = _SHARD.match(thing.name)
    return int(match[1], 16) if match else None
