"""The promises of the protocol, looked up in a store's own file and folder without its code.

``broken_invariants`` knows the tables and the layout by itself, and shares nothing with fsck: an
error in the one is not repeated in the other.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

FOREVER = 2**63 - 1
"""``kept_until`` of an asset that is kept for itself."""

_KEY = re.compile(
    r"sha256/(?P<a>[0-9a-f]{2})/(?P<b>[0-9a-f]{2})/(?P<digest>(?P=a)(?P=b)[0-9a-f]{60})"
    r"(?:~(?P<token>[0-9a-f]{16}))?(?:\.(?P<extension>[a-z0-9]{1,8}))?"
)
_OURS = re.compile(r"(?:tmp|spare)/|calotype\.json$|erased/\d{20}$|blocked/[0-9a-f]{64}$")
"""Temporary files, notes of the store's own, and the room that it keeps for them."""

_STATES = ("writing", "live", "doomed", "erasing", "erased")


@dataclass(frozen=True, slots=True)
class _Evidence:
    """``objects`` are the files below the blobs folder, by name; what is ``_OURS`` is left out."""

    rows: sqlite3.Connection
    blobs: Path
    objects: Mapping[str, int]
    damaged: frozenset[str]
    late_writes: bool

    def select(self, statement: str) -> Iterator[sqlite3.Row]:
        yield from self.rows.execute(statement)


def broken_invariants(
    store_path: Path, *, damaged: Collection[str] = (), late_writes: bool = False
) -> list[str]:
    """What does not hold in the store at ``store_path``, one sentence each; none is well.

    Changes nothing and may run beside anything, but is meant for a store at rest: it reads the
    folder and then the rows. ``damaged`` are digests whose bytes a test itself spoiled;
    ``late_writes`` allows bytes at erased keys, which a writer that was fenced off may leave
    until the second delete, a day later.
    """
    catalog = store_path / "catalog.db"
    blobs = store_path / "blobs"
    objects = _objects(blobs)
    if not catalog.exists():
        return [f"I7 {name} lies there without a catalog" for name in objects]
    with closing(sqlite3.connect(f"file:{catalog}?mode=ro", uri=True)) as rows:
        rows.row_factory = sqlite3.Row
        evidence = _Evidence(rows, blobs, objects, frozenset(damaged), late_writes)
        try:
            rows.execute("BEGIN")
            return [sentence for check in _CHECKS for sentence in check(evidence)]
        except sqlite3.Error as error:
            return [f"the catalog cannot be read: {error}"]


def objects_of(store_path: Path) -> list[str]:
    """The names of every object of the store, temporary files left out."""
    return sorted(_objects(store_path / "blobs"))


def temporary_of(store_path: Path) -> list[str]:
    """The names of the temporary files below the store's blobs."""
    return sorted(path.name for path in (store_path / "blobs" / "tmp").glob("*"))


def _objects(blobs: Path) -> dict[str, int]:
    found = {
        path.relative_to(blobs).as_posix(): path.stat().st_size
        for path in blobs.rglob("*")
        if path.is_file()
    }
    return {name: size for name, size in found.items() if not _OURS.match(name)}


def _is_whole(evidence: _Evidence) -> Iterator[str]:
    for row in evidence.select("PRAGMA integrity_check"):
        if row[0] != "ok":
            yield f"the catalog is damaged: {row[0]}"


def _i1_blobs_have_their_bytes(evidence: _Evidence) -> Iterator[str]:
    live = {
        row["digest"]: row
        for row in evidence.select("SELECT * FROM calotype_replica WHERE state = 'live'")
    }
    for blob in evidence.select("SELECT digest, size FROM calotype_blob"):
        digest = blob["digest"]
        if digest in evidence.damaged:
            continue
        if (replica := live.get(digest)) is None:
            yield f"I1 blob {digest} has no live replica"
        elif replica["suspect_at"] is None:
            yield from _bytes_at(evidence, replica["key"], digest, blob["size"])
    known = {row[0] for row in evidence.select("SELECT digest FROM calotype_blob")}
    for digest in live.keys() - known:
        yield f"I1 replica {live[digest]['key']} is live without a blob"


def _bytes_at(evidence: _Evidence, key: str, digest: str, size: int) -> Iterator[str]:
    if key not in evidence.objects:
        yield f"I1 {key} is live and not there"
    elif evidence.objects[key] != size:
        yield f"I1 {key} has {evidence.objects[key]} bytes instead of {size}"
    elif hashlib.sha256((evidence.blobs / key).read_bytes()).hexdigest() != digest:
        yield f"I1 {key} does not hash to its name"


def _i2_nothing_points_into_the_void(evidence: _Evidence) -> Iterator[str]:
    for row in evidence.select("PRAGMA foreign_key_check"):
        yield f"I2 a row of {row[0]} points at no row of {row[2]}"
    for row in evidence.select(
        "SELECT r.id, r.digest FROM calotype_reference r LEFT JOIN calotype_asset a"
        " ON a.scope = r.scope AND a.digest = r.digest LEFT JOIN calotype_blob b"
        " ON b.digest = r.digest WHERE a.digest IS NULL OR b.digest IS NULL"
    ):
        yield f"I2 reference {row['id']} has no asset or no blob {row['digest']}"
    for row in evidence.select(
        "SELECT scope, digest FROM calotype_asset"
        " WHERE digest NOT IN (SELECT digest FROM calotype_blob)"
    ):
        yield f"I2 asset {row['digest']} of scope {row['scope']!r} has no blob"


def _i5_erased_keys_are_empty(evidence: _Evidence) -> Iterator[str]:
    for row in evidence.select("SELECT key FROM calotype_replica WHERE state = 'erased'"):
        if row["key"] in evidence.objects and not evidence.late_writes:
            yield f"I5 {row['key']} is erased and still there"


def _i6_states_are_known_and_looked_after(evidence: _Evidence) -> Iterator[str]:
    for row in evidence.select("SELECT key, state, due_at FROM calotype_replica"):
        if row["state"] not in _STATES:
            yield f"I6 {row['key']} is in no state of ours: {row['state']}"
        elif row["state"] in ("writing", "doomed", "erasing") and row["due_at"] is None:
            yield f"I6 {row['key']} is {row['state']} and gc would never look at it"
    for column in ("token", "backend || ' ' || key"):
        for row in evidence.select(
            f"SELECT {column}, COUNT(*) FROM calotype_replica GROUP BY 1 HAVING COUNT(*) > 1"
        ):
            yield f"I6 {row[0]} is used by {row[1]} replicas"


def _i7_every_object_was_announced(evidence: _Evidence) -> Iterator[str]:
    announced = {row[0] for row in evidence.select("SELECT key FROM calotype_replica")}
    for name in sorted(evidence.objects.keys() - announced):
        yield f"I7 {name} has no row"


def _i10_keys_are_functions(evidence: _Evidence) -> Iterator[str]:
    for row in evidence.select(
        "SELECT r.key, r.digest, r.token, b.extension FROM calotype_replica r"
        " LEFT JOIN calotype_blob b ON b.digest = r.digest AND r.state IN ('writing', 'live')"
    ):
        found = _KEY.fullmatch(row["key"])
        if found is None or found["digest"] != row["digest"]:
            yield f"I10 {row['key']} is no key of {row['digest']}"
        elif found["token"] not in (None, row["token"]):
            yield f"I10 {row['key']} carries another token than {row['token']}"
        elif row["extension"] is not None and (found["extension"] or "") != row["extension"]:
            yield f"I10 {row['key']} does not end in .{row['extension']}"
    plain = Counter(
        row["digest"]
        for row in evidence.select("SELECT key, digest FROM calotype_replica")
        if "~" not in row["key"]
    )
    for digest, count in plain.items():
        if count > 1:
            yield f"I10 {digest} has {count} plain keys"


def _i12_usage_is_what_there_is(evidence: _Evidence) -> Iterator[str]:
    for row in evidence.select(
        "SELECT s.scope, s.used, COALESCE((SELECT SUM(b.size) FROM calotype_asset a"
        " JOIN calotype_blob b ON b.digest = a.digest WHERE a.scope = s.scope), 0) AS real"
        " FROM calotype_scope s"
    ):
        if row["used"] != row["real"]:
            yield f"I12 scope {row['scope']!r} counts {row['used']} bytes, has {row['real']}"


def _i13_ready_derivations_have_their_output(evidence: _Evidence) -> Iterator[str]:
    for row in evidence.select(
        "SELECT recipe, input_digest FROM calotype_derivation WHERE state = 'ready' AND"
        " (output_inline IS NULL) = (output_digest IS NULL)"
    ):
        yield f"I13 {row['recipe']} of {row['input_digest']} is ready without one output"


def _i17_gc_will_look(evidence: _Evidence) -> Iterator[str]:
    for row in evidence.select(
        "WITH ending AS (SELECT a.scope, a.digest, MAX(a.kept_until, COALESCE((SELECT"
        " MAX(r.released_at) FROM calotype_reference r WHERE r.scope = a.scope"
        " AND r.digest = a.digest), 0)) AS at FROM calotype_asset a WHERE a.kept_until < "
        f"{FOREVER} AND NOT EXISTS (SELECT 1 FROM calotype_reference r WHERE r.scope = a.scope"
        " AND r.digest = a.digest AND r.released_at IS NULL) AND NOT EXISTS (SELECT 1 FROM"
        " calotype_provider_upload u WHERE u.scope = a.scope AND u.digest = a.digest"
        " AND u.state IN ('planned', 'sending', 'unknown')))"
        " SELECT * FROM ending e WHERE NOT EXISTS (SELECT 1 FROM calotype_candidate c"
        " WHERE c.digest = e.digest AND c.look_at <= e.at)"
    ):
        yield f"I17 asset {row['digest']} of scope {row['scope']!r} ends and gc will not look"
    for row in evidence.select(
        "SELECT digest FROM calotype_blob WHERE digest NOT IN (SELECT digest FROM calotype_asset)"
        " AND digest NOT IN (SELECT digest FROM calotype_candidate) AND digest NOT IN"
        " (SELECT output_digest FROM calotype_derivation WHERE output_digest IS NOT NULL)"
    ):
        yield f"I17 blob {row['digest']} has no asset and gc will not look"


def _blocked_digests_are_gone(evidence: _Evidence) -> Iterator[str]:
    for row in evidence.select(
        "SELECT digest FROM calotype_blocked WHERE digest IN (SELECT digest FROM calotype_blob)"
    ):
        yield f"blocked digest {row['digest']} has a blob"


_CHECKS: tuple[Callable[[_Evidence], Iterator[str]], ...] = (
    _is_whole,
    _i1_blobs_have_their_bytes,
    _i2_nothing_points_into_the_void,
    _i5_erased_keys_are_empty,
    _i6_states_are_known_and_looked_after,
    _i7_every_object_was_announced,
    _i10_keys_are_functions,
    _i12_usage_is_what_there_is,
    _i13_ready_derivations_have_their_output,
    _i17_gc_will_look,
    _blocked_digests_are_gone,
)
