"""Fsck: catalog and backend compared in both directions, and every promise looked at."""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import groupby

from calotype.backends import Backend, Key, Listed
from calotype.catalog import (
    Catalog,
    candidates,
    copies,
    garbage,
    health,
    listing,
    replicas,
    settings,
)
from calotype.catalog.columns import Hosts
from calotype.catalog.copies import Past
from calotype.catalog.states import ERASED, LIVE
from calotype.digest import CHUNK, Digest
from calotype.errors import CalotypeError, NotFound
from calotype.model import Check, Finding
from calotype.presence import require_there
from calotype.progress import Progress, Run
from calotype.quantities import SECOND, Instant

PAGE = 1000
_SHARD = re.compile(r"sha256/([0-9a-f]{2})/")

Findings = Iterator[Finding]


@dataclass(slots=True)
class _Seen:
    blobs: int = 0
    objects: int = 0
    read_bytes: int = 0
    complete: bool = True
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


@dataclass(frozen=True, slots=True)
class Fsck:
    """What fsck needs: rows, bytes, the application's columns."""

    catalog: Catalog
    backend: Backend
    name: str
    hosts: Hosts

    def run(
        self,
        *,
        read_data: bool = False,
        budget: int | None = None,
        repair: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> Run[Finding, Check]:
        """Look at everything and yield what is noticed; safe beside any other work.

        Damage is always marked, so that the next put of the file mends it. ``repair`` also
        mends what can be: lost triggers, leaks and drift; strays get a date to be erased.
        ``read_data`` re-reads bytes, the longest unread first, for ``budget`` microseconds at
        most; the next run goes on from there.
        """
        seen = _Seen(progress=progress)
        return Run(lambda: self._steps(seen, read_data, budget, repair), name="fsck")

    def _steps(
        self, seen: _Seen, read_data: bool, budget: int | None, repair: bool
    ) -> Generator[Finding, None, Check]:
        if self.catalog.exists():
            require_there(self.catalog, self.backend, self.name)
            parts: list[Callable[[], Findings]] = [
                lambda: self._database(seen, repair),
                lambda: self._objects(seen, repair),
                lambda: self._bare(),
                lambda: self._ownerless(repair),
                lambda: self._leaks(repair),
                lambda: self._drift(repair),
                lambda: self._orphans(),
            ]
            if read_data:
                parts.append(lambda: self._data(seen, budget))
            for part in parts:
                for finding in part():
                    seen.found[finding.kind] += 1
                    seen.problems += finding.is_problem
                    yield finding
                if not seen.complete:  # without its tables the rest cannot be looked at
                    break
        return Check(
            seen.blobs,
            seen.objects,
            seen.read_bytes,
            dict(seen.found),
            seen.problems,
            seen.complete,
        )

    def _finding(self, kind: str, note: str, **more: object) -> Finding:
        finding = Finding("broken", None, self.name, "", "", note)
        return replace(finding, kind=kind, **more)  # type: ignore[arg-type]

    def _database(self, seen: _Seen, repair: bool) -> Findings:
        """Damage of the file, broken foreign keys (I2), lost triggers, indexes and tables."""
        with self.catalog.read() as connection:
            notes = health.damages(connection)
            tables = health.lost_tables(connection)
            lost = [f"the index {name}" for name in health.lost_indexes(connection)]
            lost += [f"the trigger {name}" for name in health.lost_triggers(connection)]
        gone = [name for name in tables if not health.is_made_anew(name)]
        lost += [f"the table {name}" for name in tables if name not in gone]
        seen.complete = not (gone or (tables and not repair))
        for note in notes:
            yield self._finding("broken", note)
        doubled: list[str] = []
        if lost and repair and not gone:
            with self.catalog.write() as connection:
                doubled = health.mend_tables(connection)
                health.mend_triggers(connection)
        for what in lost:
            stays = gone or what.removeprefix("the index ") in doubled
            action = "mended" if repair and not stays else ""
            note = f"{what} is lost"
            note += ", and cannot be made: rows are there twice" if stays and not gone else ""
            yield self._finding("broken", note, action=action)
        for name in gone:
            note = f"the table {name} is lost, and what is kept with it: put back a copy"
            yield self._finding("broken", note)

    def _objects(self, seen: _Seen, repair: bool) -> Findings:
        """List first, then query: what is listed had its row before its bytes (I7)."""
        listed = groupby(self.backend.scan(), key=_shard)
        shards = iter(range(256))
        for shard, objects in listed:
            if shard is None:
                for thing in objects:
                    seen.objects += 1
                    yield self._finding("foreign", "not an object of ours", key=thing.name)
                continue
            yield from self._empty_shards(shards, shard, seen, repair)
            yield from self._shard(shard, list(objects), seen, repair)
        yield from self._empty_shards(shards, 256, seen, repair)

    def _empty_shards(
        self, shards: Iterator[int], upto: int, seen: _Seen, repair: bool
    ) -> Findings:
        for shard in shards:
            if shard == upto:
                return
            yield from self._shard(shard, [], seen, repair)

    def _shard(self, shard: int, objects: Sequence[Listed], seen: _Seen, repair: bool) -> Findings:
        with self.catalog.read() as connection:
            prefix = f"sha256/{shard:02x}"
            rows = copies.between(connection, self.name, f"{prefix}/", f"{prefix}0")
        seen.objects += len(objects)
        seen.tell()
        seen.blobs += len({row.digest for row in rows if row.state == LIVE})
        by_key = {str(row.key): row for row in rows}
        sizes = {thing.name: thing.size for thing in objects}
        for row in rows:  # marked first: a stray may be what is left of a blob
            if row.state == LIVE:
                yield from self._expected(row, sizes.get(str(row.key)))
        yield from self._unexpected(objects, by_key, repair)

    def _unexpected(
        self, objects: Sequence[Listed], rows: Mapping[str, Past], repair: bool
    ) -> Findings:
        strays: list[tuple[Key, int]] = []
        wanted = self._without_copy(objects, rows)
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
                action = "will be erased in 30 days" if repair else ""
                action += ", once there is a sound copy" if repair and last else ""
                yield self._finding("stray", note, digest=key.digest, key=str(key), action=action)
            elif row.state == ERASED:
                late.append(key)
                action = "the next gc erases it" if repair else ""
                note = "bytes written after they were erased"
                yield self._finding("stray", note, digest=key.digest, key=str(key), action=action)
        if repair and (strays or late):
            now = self.catalog.clock()
            with self.catalog.write() as connection:
                replicas.tombstone(connection, self.name, strays, now)
                replicas.sweep_again(connection, self.name, late, now)

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
            return set(copies.blobs(connection, sorted(strays - sound)))

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
            hint = "wanted: put the file again"
            yield self._finding(kind, note, digest=row.digest, key=str(row.key), action=hint)

    def _mended(self, row: Past, mark: Instant) -> bool:
        """True when a suspect copy reads whole after all; its mark is taken off."""
        try:
            if self._hash(row, _Seen()) != row.digest:
                return False
        except CalotypeError:
            return False
        with self.catalog.write() as connection:
            return replicas.clear(connection, row.token, mark, self.catalog.clock())

    def _bare(self) -> Findings:
        for digest in self._pages(lambda c, after: copies.bare(c, self.name, after, PAGE)):
            yield self._finding(
                "missing", "no copy at all", digest=Digest(digest), action="wanted: put it again"
            )

    def _ownerless(self, repair: bool) -> Findings:
        """Bytes whose blob was deleted while the trigger that lets them go was lost."""
        for digest in self._pages(lambda c, after: copies.ownerless(c, self.name, after, PAGE)):
            if repair:
                with self.catalog.write() as connection:
                    if not copies.blobs(connection, [digest]):
                        replicas.doom_all(connection, [digest], self.catalog.clock())
            action = "the next gc erases it" if repair else ""
            note = "bytes without a blob"
            yield self._finding("leak", note, digest=Digest(digest), action=action)

    def _leaks(self, repair: bool) -> Findings:
        """I17: what is not kept for good has a candidate, no later than its end."""
        now = self.catalog.clock()
        for digest in self._pages(
            lambda c, after: garbage.unwatched(c, self.hosts, now, after, PAGE)
        ):
            if repair:
                with self.catalog.write() as connection:
                    candidates.append(connection, [(digest, 0, 0)])
            action = "mended" if repair else ""
            note = "gc would never look at it"
            yield self._finding("leak", note, digest=Digest(digest), action=action)

    def _drift(self, repair: bool) -> Findings:
        """I12: what a quota counts is what there is."""
        with self.catalog.read() as connection:
            drifts = settings.drifts(connection)
        for scope, counted, _ in drifts:
            if repair:
                with self.catalog.write() as connection:
                    settings.lock(connection, "quota")
                    settings.set_used(connection, scope, settings.used_bytes(connection, scope))
            note = f"scope {scope!r} counts {counted} bytes wrongly"
            yield self._finding("drift", note, action="mended" if repair else "")

    def _orphans(self) -> Findings:
        now = self.catalog.clock()
        for digest in self._pages(
            lambda c, after: [b.digest for b in listing.orphans(c, now, self.hosts, PAGE, after)]
        ):
            yield self._finding("orphan", "nothing keeps it", digest=Digest(digest))

    def _pages(self, fetch: Callable[..., Sequence[str]]) -> Iterator[str]:
        after = ""
        while True:
            with self.catalog.read() as connection:
                page = fetch(connection, after)
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1]

    def _data(self, seen: _Seen, budget: int | None) -> Findings:
        """Re-read live bytes, the longest unread first; those that are suspect were read before."""
        started = self.catalog.clock()
        with suppress(CalotypeError), self.catalog.write(durable=False) as connection:
            replicas.doubt_the_future(connection, started)
        end = None if budget is None else time.monotonic() + budget / SECOND
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
                    seen.complete = False
                    self._verified(sound)
                    return
                yield from self._read(row, seen, sound)
            self._verified(sound)

    def _read(self, row: Past, seen: _Seen, sound: list[str]) -> Findings:
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

    def _hash(self, row: Past, seen: _Seen) -> str:
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
