"""Explain: why a digest's bytes are kept, by whom, and until when."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from calotype.catalog import Catalog, candidates, copies, garbage, holdings
from calotype.catalog.columns import Hosts
from calotype.digest import Digest
from calotype.model import Blob, Explanation, Kept, Replica, ScopeKeeping, Verdict
from calotype.quantities import Instant, at, when
from calotype.references import Referrer


@dataclass(frozen=True, slots=True)
class Explainer:
    """Looks at one digest in the whole store."""

    catalog: Catalog
    hosts: Hosts
    grace: int

    def explain(self, digest: Digest) -> Explanation:
        """Everything the catalog knows about the digest, in one consistent view."""
        if not self.catalog.exists():
            return _unknown(digest)
        with self.catalog.read() as connection:
            blob = copies.blobs(connection, [digest]).get(digest)
            replicas = tuple(_replica(row) for row in copies.history(connection, digest))
            scopes = tuple(
                self._scope(connection, scope, digest)
                for scope in holdings.scopes_of(connection, digest)
            )
            beyond = tuple(self._beyond_scopes(connection, digest))
            blocked = copies.blocks(connection, [digest]).get(digest)
            look = candidates.next_look(connection, digest)
        if blob is None:
            return _without_blob(digest, replicas, blocked)
        now = self.catalog.clock()
        found = _verdict(digest, blob, scopes, beyond, replicas, blocked, when(now))
        look = look + self.grace if look is not None else None
        if found.verdict == "kept" or look is None or look <= max(now, _ended(found)):
            return found
        later = f" gc looks at it again at {when(look):%Y-%m-%d %H:%M:%S}Z, or now with --full."
        return replace(found, sentence=found.sentence + later)

    def _scope(self, connection: Connection, scope: str, digest: Digest) -> ScopeKeeping:
        referrer = Referrer(self.catalog, scope, self.hosts, self.grace)
        kept = tuple(referrer.kept_by(connection, digest))
        until = None if kept else referrer.trash_ends(connection, digest)
        return ScopeKeeping(scope, kept, until)

    def _beyond_scopes(self, connection: Connection, digest: Digest) -> list[Kept]:
        columns = self.hosts.keeping_blob(connection, digest)
        found = [Kept("column", f"the application's column {column}") for column in columns]
        for source, recipe in garbage.derived_from(connection, digest):
            found.append(Kept("derivation", f"it is {recipe} of {source}"))
        return found


def _ended(found: Explanation) -> Instant:
    return at(found.until) if found.until is not None else 0


def _replica(row: copies.Past) -> Replica:
    verified = when(row.verified_at) if row.verified_at is not None else None
    return Replica(row.backend, str(row.key), row.state, row.suspect_at is not None, verified)


def _unknown(digest: Digest) -> Explanation:
    return _without_blob(digest, (), None)


def _without_blob(
    digest: Digest, replicas: tuple[Replica, ...], blocked: str | None
) -> Explanation:
    states = {replica.state for replica in replicas}
    verdict: Verdict
    if states & {"doomed", "erasing"}:
        verdict, sentence = "doomed", "It was let go; its bytes wait to be erased."
    elif "writing" in states:
        verdict, sentence = "unknown", "It is being put: its bytes are not here yet."
    elif "erased" in states:
        verdict, sentence = "erased", "It was let go and its bytes are erased."
    else:
        verdict, sentence = "unknown", "No such bytes were ever here, or it is long forgotten."
    if blocked is not None:
        sentence += f" It is blocked: {blocked}."
    return Explanation(digest, verdict, None, (), (), replicas, None, blocked, sentence)


def _verdict(
    digest: Digest,
    blob: Blob,
    scopes: tuple[ScopeKeeping, ...],
    beyond: tuple[Kept, ...],
    replicas: tuple[Replica, ...],
    blocked: str | None,
    now: datetime,
) -> Explanation:
    keepers = tuple(dict.fromkeys([*(k for scope in scopes for k in scope.kept_by), *beyond]))
    trash = [scope.until for scope in scopes if scope.until is not None]
    until = max(trash) if trash and not keepers else None
    verdict: Verdict
    if keepers:
        ends = [item.until for item in keepers]
        until = max(end for end in ends if end) if all(ends) else None
        verdict, sentence = "kept", "Kept by " + _and([str(item) for item in keepers]) + "."
    elif until is not None and until > now:
        verdict = "trash"
        sentence = f"In the trash until {until:%Y-%m-%d %H:%M:%S}Z; then the next gc lets it go."
    else:
        verdict, sentence = "garbage", "Nothing keeps it: the next gc lets it go."
    return Explanation(digest, verdict, blob, scopes, keepers, replicas, until, blocked, sentence)


def _and(parts: list[str]) -> str:
    if len(parts) > 4:
        parts = [*parts[:3], f"{len(parts) - 3} more"]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
