"""The promises of the protocol, looked up in a store's own rows and objects without its code.

``broken_invariants`` knows the tables and the layout by itself, and shares nothing with fsck: an
error in the one is not repeated in the other. ``broken_among`` is the same for rows and objects
that are somewhere else than in a folder.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

FOREVER = 2**63 - 1
"""``kept_until`` of an asset that is kept for itself."""

_KEY = re.compile(
    r"sha256/(?P<a>[0-9a-f]{2})/(?P<b>[0-9a-f]{2})/(?P<digest>(?P=a)(?P=b)[0-9a-f]{60})"
    r"(?:~(?P<token>[0-9a-f]{16}))?(?:\.(?P<extension>[a-z0-9]{1,8}))?"
)
_OURS = re.compile(r"(?:tmp|spare)/|calotype\.json$|erased/\d{20}$|blocked/[0-9a-f]{64}$")
"""Temporary files, notes of the store's own, and the room that it keeps for them."""

_STATES = ("writing", "live", "doomed", "erasing", "erased")


class Row(Protocol):
    """A row, by the names of its columns and by their numbers."""

    def __getitem__(self, at: Any, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Rows:
    """A catalog's rows, as its database answers; ``is_sqlite`` where that is SQLite."""

    select: Callable[[str], Iterable[Row]]
    is_sqlite: bool = True


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of one backend: their sizes by name, temporary files left out."""

    sizes: Mapping[str, int]
    read: Callable[[str], bytes]

    def without_notes(self) -> Objects:
        """Without what is the store's own beside them."""
        kept = {name: size for name, size in self.sizes.items() if not _OURS.match(name)}
        return Objects(kept, self.read)


@dataclass(frozen=True, slots=True)
class _Evidence:
    """``places`` are the backends by their names; one that is not there has no objects."""

    rows: Rows
    places: Mapping[str, Objects]
    damaged: frozenset[str]
    late_writes: bool

    def select(self, statement: str) -> Iterable[Row]:
        return self.rows.select(statement)

    def sizes(self, backend: str) -> Mapping[str, int]:
        return self.places[backend].sizes if backend in self.places else {}


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
    objects = objects_in(store_path / "blobs")
    if not catalog.exists():
        return [f"I7 {name} lies there without a catalog" for name in objects.sizes]
    try:
        with rows_in(catalog) as rows:
            places = {"main": objects}
            return broken_among(rows, places, damaged=damaged, late_writes=late_writes)
    except sqlite3.Error as error:
        return [f"the catalog cannot be read: {error}"]


def broken_among(
    rows: Rows,
    places: Mapping[str, Objects],
    *,
    damaged: Collection[str] = (),
    late_writes: bool = False,
) -> list[str]:
    """What does not hold among these rows and the objects of these backends; none is well.

    The objects must have been listed before the first row is read.
    """
    bytes_in = {name: each.without_notes() for name, each in places.items()}
    evidence = _Evidence(rows, bytes_in, frozenset(damaged), late_writes)
    return [sentence for check in _CHECKS for sentence in check(evidence)]


@contextmanager
def rows_in(file: Path) -> Iterator[Rows]:
    """One view of a catalog in an SQLite file."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN")
        yield Rows(connection.execute)


def objects_in(folder: Path) -> Objects:
    """The objects that lie in a folder."""
    return Objects(_objects(folder), lambda name: (folder / name).read_bytes())


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
    if not evidence.rows.is_sqlite:
        return
    for row in evidence.select("PRAGMA integrity_check"):
        if row[0] != "ok":
            yield f"the catalog is damaged: {row[0]}"


def _i1_blobs_have_their_bytes(evidence: _Evidence) -> Iterator[str]:
    live: dict[str, list[Row]] = {}
    for replica in evidence.select("SELECT * FROM calotype_replica WHERE state = 'live'"):
        live.setdefault(replica["digest"], []).append(replica)
    sizes = {
        row["digest"]: row["size"]
        for row in evidence.select("SELECT digest, size FROM calotype_blob")
    }
    for digest, size in sizes.items():
        if digest in evidence.damaged:
            continue
        if digest not in live:
            yield f"I1 blob {digest} has no live replica"
        for replica in live.get(digest, []):
            if replica["suspect_at"] is None:
                yield from _bytes_at(evidence, replica, size)
    for digest in live.keys() - sizes.keys():
        yield f"I1 replica {live[digest][0]['key']} is live without a blob"


def _bytes_at(evidence: _Evidence, replica: Row, size: int) -> Iterator[str]:
    key, backend = replica["key"], replica["backend"]
    there = evidence.sizes(backend)
    if key not in there:
        yield f"I1 {key} is live and not there"
    elif there[key] != size:
        yield f"I1 {key} has {there[key]} bytes instead of {size}"
    elif _hash(evidence.places[backend].read(key)) != replica["digest"]:
        yield f"I1 {key} does not hash to its name"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _i2_nothing_points_into_the_void(evidence: _Evidence) -> Iterator[str]:
    if evidence.rows.is_sqlite:
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
    erased = "SELECT backend, key FROM calotype_replica WHERE state = 'erased'"
    for row in evidence.select(erased):
        if row["key"] in evidence.sizes(row["backend"]) and not evidence.late_writes:
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
    rows = evidence.select("SELECT backend, key FROM calotype_replica")
    announced = {(row["backend"], row["key"]) for row in rows}
    lying = {(backend, name) for backend in evidence.places for name in evidence.sizes(backend)}
    for _, name in sorted(lying - announced):
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
        (row["backend"], row["digest"])
        for row in evidence.select("SELECT backend, key, digest FROM calotype_replica")
        if "~" not in row["key"]
    )
    for (_, digest), count in plain.items():
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
        "WITH ending AS (SELECT a.scope, a.digest, (SELECT MAX(end_at) FROM (SELECT a.kept_until"
        " AS end_at UNION ALL SELECT r.released_at FROM calotype_reference r WHERE"
        " r.scope = a.scope AND r.digest = a.digest) AS ends) AS at"
        " FROM calotype_asset a WHERE a.kept_until < "
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
