"""What a store ought to hold, in plain dicts."""

from __future__ import annotations

import copy
import json
import sqlite3
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from tests.store.pictures import noise, picture

from calotype import Digest
from calotype.names import Owner
from calotype.quantities import FOREVER, Instant, duration

PICTURES = (picture(1), picture(2))
CONTENTS = (b"", b"some text\n", b"a", *PICTURES, noise(30, 8), noise(3_000, 7))
BYTES = {Digest.of(content): content for content in CONTENTS}
DIGESTS = tuple(BYTES)
GRACE = duration("24h")

Slot = tuple[str, str, str, str]
"""Scope, kind and id of the owner, role."""


class Refused(Exception):
    """What the store ought to answer with an error of this ``code``."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Asset:
    """One scope's asset."""

    kept_until: Instant
    filename: str | None
    metadata: dict[str, Any]
    created_at: Instant


@dataclass
class Use:
    """One reference, live or released."""

    slot: Slot
    digest: str
    created_at: Instant
    released_at: Instant | None = None


def slot(scope: str, owner: str, role: str | None, digest: str) -> Slot:
    who = Owner.parse(owner)
    return (scope, who.kind, who.id, role or digest)


@dataclass
class Model:
    """What the store ought to hold; each method does to it what the store's own ought to do."""

    assets: dict[tuple[str, str], Asset] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)
    quotas: dict[str, int] = field(default_factory=dict)
    blocked: set[str] = field(default_factory=set)
    damaged: set[str] = field(default_factory=set)

    def copy(self) -> Model:
        return copy.deepcopy(self)

    # -- what follows from it ---------------------------------------------------------------

    @property
    def blobs(self) -> set[str]:
        return {digest for _, digest in self.assets}

    def live(self, scope: str, digest: str | None = None) -> list[Use]:
        return [
            use
            for use in self.uses
            if use.slot[0] == scope and use.digest == (digest or use.digest)
            if use.released_at is None
        ]

    def of(self, scope: str, owner: str, role: str | None = None) -> list[Use]:
        """An owner's references, released ones too."""
        who = Owner.parse(owner)
        return [
            use
            for use in self.uses
            if use.slot[:3] == (scope, who.kind, who.id) and use.slot[3] == (role or use.slot[3])
        ]

    def visible(self, scope: str, digest: str, now: Instant) -> bool:
        asset = self.assets.get((scope, digest))
        return asset is not None and (asset.kept_until > now or bool(self.live(scope, digest)))

    def shown(self, scope: str, now: Instant, *, trashed: bool = False) -> set[str]:
        mine = {digest for where, digest in self.assets if where == scope}
        return {digest for digest in mine if self.visible(scope, digest, now) is not trashed}

    def kept(self, now: Instant) -> set[str]:
        """Digests that some scope sees."""
        return {digest for scope, digest in self.assets if self.visible(scope, digest, now)}

    def ended(self, scope: str, digest: str) -> Instant:
        """When the last keeper of an asset that nothing keeps ended."""
        releases = [
            use.released_at or 0
            for use in self.uses
            if (use.slot[0], use.digest) == (scope, digest)
        ]
        return max([self.assets[scope, digest].kept_until, *releases])

    def used(self, scope: str) -> int:
        return sum(len(BYTES[digest]) for where, digest in self.assets if where == scope)

    # -- verbs ------------------------------------------------------------------------------

    def put(
        self,
        scope: str,
        digest: str,
        now: Instant,
        *,
        owner: str | None = None,
        role: str | None = None,
        filename: str | None = None,
        metadata: dict[str, Any] | None = None,
        hold: str | None = None,
    ) -> str:
        self._admit(scope, digest)
        end = FOREVER if owner is None else None
        if hold is not None:
            end = now + duration(hold)
        status = self._status(scope, digest, now)
        self.damaged.discard(digest)
        before = self.assets.get((scope, digest))
        if before is None:
            self.assets[scope, digest] = Asset(end or now, filename, metadata or {}, now)
        else:
            before.kept_until = max(before.kept_until, end or 0)
            before.metadata |= metadata or {}
            names = (before.filename, filename)
            before.filename = next(filter(None, names[:: -1 if status == "restored" else 1]), None)
        if owner is not None:
            self._refer(slot(scope, owner, role, digest), digest, now)
        return status

    def _admit(self, scope: str, digest: str) -> None:
        if digest in self.blocked:
            raise Refused("blocked")
        size = len(BYTES[digest])
        if scope in self.quotas and (scope, digest) not in self.assets and size:
            if self.used(scope) + size > self.quotas[scope]:
                raise Refused("quota-exceeded")

    def _status(self, scope: str, digest: str, now: Instant) -> str:
        if (scope, digest) not in self.assets:
            return "created"
        if not self.visible(scope, digest, now):
            return "restored"
        return "healed" if digest in self.damaged else "duplicate"

    def _refer(self, at: Slot, digest: str, now: Instant) -> None:
        for use in self.uses:
            if use.slot == at and use.released_at is None:
                if use.digest == digest:
                    return
                use.released_at = now
        self.uses.append(Use(at, digest, now))

    def asset(self, scope: str, digest: str) -> Asset:
        if (scope, digest) not in self.assets:
            raise Refused("not-found")
        return self.assets[scope, digest]

    def seen(self, scope: str, digest: str, now: Instant) -> Asset:
        if not self.visible(scope, digest, now):
            raise Refused("not-found")
        return self.assets[scope, digest]

    def attach(self, scope: str, digest: str, owner: str, role: str | None, now: Instant) -> None:
        self.asset(scope, digest)
        self._refer(slot(scope, owner, role, digest), digest, now)

    def release(self, scope: str, owner: str, role: str | None, now: Instant) -> list[str]:
        found = [use for use in self.of(scope, owner, role) if use.released_at is None]
        for use in found:
            use.released_at = now
        return [use.digest for use in found]

    def restore(self, scope: str, owner: str, role: str | None, now: Instant) -> list[str]:
        if not self.of(scope, owner):
            raise Refused("not-found")
        mine = self.of(scope, owner, role)
        taken = {use.slot for use in mine if use.released_at is None}
        gone = [use for use in mine if use.slot not in taken]
        newest = {use.slot: use for use in sorted(gone, key=_released)}
        self.uses += [Use(at, use.digest, now) for at, use in newest.items()]
        return [use.digest for use in newest.values()]

    def garbage(self, cutoff: Instant, only: Collection[str] = DIGESTS) -> set[str]:
        """Blobs that no scope has kept since ``cutoff``."""
        kept = {digest for at, digest in self.assets if not self._over(at, digest, cutoff)}
        return self.blobs.intersection(only) - kept

    def _over(self, scope: str, digest: str, cutoff: Instant) -> bool:
        return not self.live(scope, digest) and self.ended(scope, digest) <= cutoff

    def collect(self, cutoff: Instant, digests: Collection[str]) -> tuple[int, int]:
        """Let go of what is over in each scope; how many references and assets went.

        With a reference go the older ones of its slot.
        """
        over = [at for at in self.assets if at[1] in digests and self._over(*at, cutoff)]
        for at in over:
            del self.assets[at]
        old = [
            use
            for use in self.uses
            if use.digest in digests and use.released_at is not None and use.released_at <= cutoff
        ]
        last = {use.slot: use.released_at for use in sorted(old, key=_released)}
        for use in self.uses:
            asset = self.assets.get((use.slot[0], use.digest))
            if asset and use not in old and (use.released_at or FOREVER) <= last.get(use.slot, -1):
                asset.kept_until = max(asset.kept_until, use.released_at or 0)
        self.uses = [
            use
            for use in self.uses
            if use.released_at is None or use.released_at > last.get(use.slot, -1)
        ]
        self.damaged &= self.blobs
        return len(old), len(over)

    def purge(self, digest: str, *, block: bool) -> int:
        gone = [at for at in self.assets if at[1] == digest]
        for at in gone:
            del self.assets[at]
        self.uses = [use for use in self.uses if use.digest != digest]
        self.damaged.discard(digest)
        if block:
            self.blocked.add(digest)
        return len(gone)

    # -- against the rows -------------------------------------------------------------------

    def rows(self, digest: str) -> Any:
        """Everything that is noted of a digest, comparable."""
        return (
            sorted((at[0], vars(a)) for at, a in self.assets.items() if at[1] == digest),
            Counter((u.slot, u.created_at, u.released_at) for u in self.uses if u.digest == digest),
            digest in self.blocked,
            digest in self.blobs,
        )


def _released(use: Use) -> Instant:
    return use.released_at or 0


def noted(rows: Any) -> Model:
    """What a catalog's rows say, read without the store's code: from a connection to either."""
    if isinstance(rows, sqlite3.Connection):
        tables = {row[0] for row in rows.execute("SELECT name FROM sqlite_master")}
        if "calotype_asset" not in tables:
            return Model()
    assets = rows.execute(
        "SELECT scope, digest, kept_until, filename, metadata, created_at FROM calotype_asset"
    )
    uses = rows.execute(
        "SELECT scope, owner_kind, owner_id, role, digest, created_at, released_at"
        " FROM calotype_reference ORDER BY id"
    )
    found = Model(
        {(row[0], row[1]): Asset(row[2], row[3], json.loads(row[4]), row[5]) for row in assets},
        [Use(tuple(row[:4]), *row[4:]) for row in uses],
        dict(rows.execute("SELECT scope, quota FROM calotype_scope")),
        {row[0] for row in rows.execute("SELECT digest FROM calotype_blocked")},
    )
    blobs = {row[0] for row in rows.execute("SELECT digest FROM calotype_blob")}
    assert blobs == found.blobs, "blobs without an asset"
    return found
