"""Attach, release and restore: who uses which asset, in our transaction or the application's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from calotype.catalog import Catalog, garbage, holdings, reserve, slots
from calotype.catalog.columns import Hosts
from calotype.catalog.failures import disk_full
from calotype.catalog.joining import Joinable, joined
from calotype.catalog.prepared import Found
from calotype.catalog.repeating import repeated
from calotype.catalog.reserve import Freeing
from calotype.digest import Digest
from calotype.errors import NotFound, Unavailable
from calotype.model import Asset, Discarded, Kept, Released, Restored
from calotype.names import Owner
from calotype.quantities import FOREVER, Instant, human_duration, when
from calotype.wishes import Wish

PART = 256
"""How many roles are released at a time where the disk has no room for all."""


@dataclass(frozen=True, slots=True)
class Referrer:
    """What these verbs need to know: where, in which scope, and how long the trash keeps."""

    catalog: Catalog
    scope: str
    hosts: Hosts
    grace: int

    @repeated
    def attach(
        self, digest: Digest, owner: Owner, role: str | None, connection: Joinable | None
    ) -> None:
        """Let ``owner`` refer to an asset of this scope; the same again changes nothing.

        ``NotFound`` where the scope has no such asset (any more): put it again. With
        ``connection`` it stands or falls with the caller's transaction, which stays usable
        after an error. Never gives a scope an asset that it did not have.
        """
        self.require_store(digest)
        with self._transaction(connection, needs_keys=True) as joint:
            if not holdings.lock(joint, self.scope, digest):
                raise self._not_found(digest)
            try:
                wish = Wish(digest, None, owner, role)
                slots.refer(joint, self.scope, [wish], self.catalog.clock())
            except IntegrityError as error:
                raise self._not_found(digest) from error

    @repeated
    def release(self, owner: Owner, role: str | None, connection: Joinable | None) -> Released:
        """Let go of an owner's references, all or those of one role; harmless to repeat."""
        if not self.catalog.exists():
            return Released(0, ())
        try:
            with self._transaction(
                connection, needs_keys=False, freeing=Freeing.REFERENCES
            ) as joint:
                digests = slots.release(joint, self.scope, owner, role, self.catalog.clock())
        except Unavailable as error:
            if connection is not None or role is not None or not disk_full(error):
                raise
            digests = self._released_in_parts(owner)
        return Released(len(digests), tuple(sorted(set(digests))))

    def _released_in_parts(self, owner: Owner) -> list[Digest]:
        """Role by role in smaller transactions, for a disk that has no room for a large one.

        ``Unavailable`` says how many were released before there was none even for those.
        """
        digests: list[Digest] = []

        def release(roles: Sequence[str]) -> None:
            now = self.catalog.clock()
            with self.catalog.write(freeing=Freeing.REFERENCES) as ours:
                gone = [slots.release(ours, self.scope, owner, role, now) for role in roles]
            digests.extend(digest for each in gone for digest in each)

        with self.catalog.read() as connection:
            roles = slots.roles(connection, self.scope, owner)
        try:
            for first in range(0, len(roles), PART):
                reserve.in_parts(roles[first : first + PART], release)
        except Unavailable as error:
            if not digests:
                raise
            raise Unavailable(
                f"The disk that holds the catalog is full: of {len(roles)} references of {owner} "
                f"{len(digests)} were released.",
                hint="'calotype gc --now' makes room with what was; then release again.",
            ) from error
        return digests

    @repeated
    def restore_owner(
        self, owner: Owner, role: str | None, connection: Joinable | None
    ) -> Restored:
        """Bring back the newest released reference of each role that has no live one."""
        if connection is None and not self.catalog.exists():
            raise self._unknown(owner)
        with self._transaction(connection, needs_keys=True) as joint:
            back = slots.restorable(joint, self.scope, owner, role)
            if not self.catalog.is_sqlite:  # whose only writer lets nobody collect meanwhile
                back = [each for each in back if holdings.lock(joint, self.scope, each[1])]
            if not back and not slots.known_owner(joint, self.scope, owner):
                raise self._unknown(owner)
            wishes = [Wish(digest, None, owner, name) for name, digest in back]
            slots.refer(joint, self.scope, wishes, self.catalog.clock())
        return Restored(len(back), tuple(sorted({digest for _, digest in back})))

    @repeated
    def restore_asset(self, digest: Digest, connection: Joinable | None) -> Restored:
        """Keep a trashed asset for itself again; brings back no owner's reference."""
        self.require_store(digest)
        with self._transaction(connection, needs_keys=False) as joint:
            if holdings.to_asset(self._row(joint, digest), self.catalog.clock()).trashed:
                holdings.set_kept_until(joint, self.scope, digest, FOREVER)
        return Restored(0, (digest,))

    def keep(self, digest: Digest) -> None:
        """Keep a visible asset for itself from now on: in the library."""
        self._visible(digest)
        self._set_kept_until(digest, FOREVER, None)

    @repeated
    def renew(self, digest: Digest, until: Instant) -> None:
        """Hold a visible asset until ``until`` at least; the later of two holds counts."""
        self._visible(digest)
        with self.catalog.write() as connection:
            row = self._row(connection, digest, to_change=True)
            end = max(until, int(row["kept_until"]))
            holdings.set_kept_until(connection, self.scope, digest, end)

    @repeated
    def discard(self, digest: Digest) -> Discarded:
        """End the library entry or hold now; references stay, and keep it."""
        self.require_store(digest)
        with self.catalog.write(freeing=Freeing.REFERENCES) as connection:
            now = self.catalog.clock()
            row = self._row(connection, digest, to_change=True)
            if int(row["kept_until"]) > now:
                holdings.set_kept_until(connection, self.scope, digest, now)
            return Discarded(digest, tuple(self.kept_by(connection, digest)))

    @repeated
    def update(
        self, digest: Digest, filename: str | None, metadata: Mapping[str, object] | None
    ) -> None:
        """Change an asset's name, or replace its metadata; None leaves either as it is."""
        self._visible(digest)
        with self.catalog.write() as connection:
            holdings.describe(connection, self.scope, digest, filename, metadata)

    def require_store(self, digest: Digest) -> None:
        """``NotFound`` before the first put: asking makes no store."""
        if not self.catalog.exists():
            raise self._not_found(digest)

    def asset(self, digest: Digest, *, trashed: bool = False) -> Asset:
        """The asset; ``NotFound`` unless it is visible (or in the trash, where asked for)."""
        self.require_store(digest)
        with self.catalog.read() as connection:
            return self.seen(connection, digest, trashed=trashed)

    def seen(self, connection: Connection, digest: Digest, *, trashed: bool = False) -> Asset:
        """``asset``, as ``connection`` sees it."""
        found = holdings.to_asset(self._row(connection, digest), self.catalog.clock())
        if found.trashed and not trashed:
            raise self._not_found(digest)
        return found

    def check(self, digests: Iterable[Digest]) -> dict[Digest, Asset | None]:
        """For each digest the scope's asset, one in the trash too, or None."""
        answers: dict[Digest, Asset | None] = dict.fromkeys(digests)
        if answers and self.catalog.exists():
            with self.catalog.read() as connection:
                rows = holdings.assets(connection, self.scope, answers, self.hosts)
            now = self.catalog.clock()
            answers |= {d: holdings.to_asset(rows[d], now) for d in answers if d in rows}
        return answers

    def is_visible(self, digest: Digest) -> bool:
        """True where the scope has the asset, and not in the trash."""
        found = self.check([digest])[digest]
        return found is not None and not found.trashed

    def kept_by(self, connection: Connection, digest: Digest) -> list[Kept]:
        """Everything that keeps the asset of this scope, trash left out."""
        row = self._row(connection, digest)
        kept = holdings.kept(int(row["kept_until"]), self.catalog.clock())
        found = []
        if isinstance(kept, datetime):
            found.append(Kept("hold", "a hold", kept))
        elif kept is not None:
            found.append(Kept("library", "the library"))
        uses = slots.uses(connection, self.scope, digest)
        columns = self.hosts.keeping_asset(connection, self.scope, digest)
        uploads = garbage.in_flight(connection, self.scope, digest)
        return [
            *found,
            *[Kept("reference", _use(owner, role, digest)) for owner, role in uses],
            *[Kept("column", f"the application's column {column}") for column in columns],
            *[Kept("provider", f"an upload to {name} under way") for name in uploads],
        ]

    def trash_ends(self, connection: Connection, digest: Digest) -> datetime:
        """Until when the grace keeps an asset that nothing else keeps."""
        return when(garbage.ended(connection, self.scope, digest) + self.grace)

    def _visible(self, digest: Digest) -> None:
        self.asset(digest)

    def _row(self, connection: Connection, digest: Digest, *, to_change: bool = False) -> Found:
        rows = holdings.assets(connection, self.scope, [digest], self.hosts, to_change=to_change)
        if digest not in rows:
            raise self._not_found(digest)
        return rows[digest]

    @repeated
    def _set_kept_until(
        self, digest: Digest, instant: Instant, connection: Joinable | None
    ) -> None:
        with self._transaction(connection, needs_keys=False) as joint:
            if not holdings.set_kept_until(joint, self.scope, digest, instant):
                raise self._not_found(digest)

    @contextmanager
    def _transaction(
        self, connection: Joinable | None, *, needs_keys: bool, freeing: Freeing = Freeing.NOTHING
    ) -> Iterator[Connection]:
        if connection is None:
            with self.catalog.write(freeing=freeing) as ours:
                yield ours
        else:
            with joined(self.catalog, connection, needs_keys=needs_keys) as theirs:
                yield theirs

    def _unknown(self, owner: Owner) -> NotFound:
        return NotFound(
            f"Nothing is remembered of {owner} in scope {self.scope!r}.",
            hint="Its grace may be over: put and attach the files again.",
        )

    def _not_found(self, digest: Digest) -> NotFound:
        return NotFound(
            f"No asset {digest} in scope {self.scope!r}.",
            hint=f"Put the file. What was let go can be restored for {human_duration(self.grace)}.",
        )


def _use(owner: Owner, role: str, digest: Digest) -> str:
    return f"{owner} as {role}" if role != digest else str(owner)
