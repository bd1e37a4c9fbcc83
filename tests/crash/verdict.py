"""What a crash left behind, judged: by the rows and files, then by using the store."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.crash.scenario import DAY, Clock, Scenario
from tests.invariants import FOREVER, broken_invariants, objects_of, temporary_of

from calotype import Digest, Store
from calotype.catalog import reserve
from calotype.errors import CalotypeError, Corrupt
from calotype.model import Replica
from calotype.scope import Scope

SCOPES = ("default", "other")
_RANDOM = re.compile(
    r"(?<=~)[0-9a-f]{16}\b|\b[0-9a-f]{16}\b|(?<=tmp/)[0-9a-f]{32}\b|(?<=gc-)[0-9a-f]{8}\b"
    r"|(?<=catalog\.db\.)[0-9a-f]{12}\b"
)
_TABLES = (
    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    " AND name NOT IN ('calotype_signing_key', 'calotype_meta')"
)
_FILES = frozenset(
    (
        "catalog.db",
        "catalog.db-reserve",
        "catalog.db-wal",
        "catalog.db-shm",
        "catalog.db-checkpoint",
    )
)


@dataclass(frozen=True, slots=True)
class Holding:
    """An asset as its users see it; ``readable`` only where it is visible."""

    trashed: bool
    kept: str
    uses: tuple[str, ...]
    filename: str | None
    readable: bool


View = Mapping[tuple[str, str], Holding]
"""(scope, digest) -> what is there."""


def view(store: Store) -> View:
    """All that the users of a store can see of it, each byte read."""
    return {
        (name, digest): holding for name in SCOPES for digest, holding in _seen(store.scope(name))
    }


def _seen(scope: Scope) -> Iterator[tuple[str, Holding]]:
    uses: dict[str, list[str]] = {}
    for summary in scope.owners():
        for each in scope.references(owner=summary.owner):
            uses.setdefault(each.digest, []).append(f"{each.owner} as {each.role}")
    for asset in (*scope.assets(), *scope.assets(trashed=True)):
        kept = asset.kept if asset.kept in (None, "library") else "hold"
        yield (
            asset.digest,
            Holding(
                asset.trashed,
                str(kept),
                tuple(sorted(uses.get(asset.digest, []))),
                asset.filename,
                not asset.trashed and _reads(scope, asset.digest),
            ),
        )


def _reads(scope: Scope, digest: str) -> bool:
    try:
        with scope.open(digest) as file:
            return str(Digest.of(file.read())) == digest
    except Corrupt:
        return False


def between(
    found: View, before: View, after: View, *, whole: bool, holds: bool = False
) -> list[str]:
    """How ``found`` is neither ``before`` nor ``after`` (each by itself, unless ``whole``).

    ``holds``: bytes may be held, or wait in the trash, that nobody uses yet.
    """
    if whole:
        return [] if found in (before, after) else [f"half done: {_difference(found, after)}"]
    return [
        f"{name}: {found.get(name)}, neither {before.get(name)} nor {after.get(name)}"
        for name in found.keys() | before.keys() | after.keys()
        if found.get(name) not in (before.get(name), after.get(name))
        and not (holds and _waits(found.get(name), before.get(name)))
    ]


def _waits(found: Holding | None, before: Holding | None) -> bool:
    uses = before.uses if before is not None else ()
    if found is None or found.uses != uses:
        return False
    return found.trashed or (found.kept == "hold" and found.readable)


def _difference(found: View, wanted: View) -> str:
    names = [name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)]
    return "; ".join(f"{name}: {found.get(name)}, not {wanted.get(name)}" for name in names)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a scenario starts from and comes to, seen in runs that nothing disturbed."""

    before: View
    after: View


@dataclass(frozen=True, slots=True)
class End:
    """How the operation ended: ``acked``, to be done again if ``repeat``, by a power ``cut``."""

    acked: bool
    repeat: bool
    cut: bool = False


def judge(scenario: Scenario, path: Path, expected: Expected, end: End) -> list[str]:
    """Every way in which the store at ``path`` breaks a promise after a crash or failure.

    Uses the store up: reads everything, does the operation again if ``repeat``, collects all
    garbage, lets three days pass, and looks for what is left over. A power cut may leave bytes
    whose row was lost; they have to be gone a month after fsck has seen them.
    """
    settled = end.acked or end.repeat
    faults: list[str] = []
    clock = Clock(scenario.ahead)
    try:
        with Store(path, clock=clock) as store:
            found = view(store)
            faults += scenario.beside(store)
            faults += between(
                found,
                expected.before,
                expected.after,
                whole=scenario.whole,
                holds=scenario.holds,
            )
            if scenario.holds:  # which is over before the last of the collecting
                found = {
                    name: each
                    for name, each in found.items()
                    if each in (expected.before.get(name), expected.after.get(name))
                }
            if end.acked:
                faults += _same("acknowledged and lost", found, expected.after)
            if end.repeat:
                scenario.act(store)
                faults += _same("done again", view(store), expected.after)
            faults += _collected(store, clock, expected.after if settled else found)
            if end.cut:
                _clear_strays(store, clock)
            faults += scenario.beside(store)
            faults += _checked(store, scenario.spoiled(done=settled))
            faults += _left_over(store, path) + _reserve(path)
    except (CalotypeError, AssertionError) as error:
        faults.append(f"using it: {type(error).__name__}: {error}")
    left = broken_invariants(path, damaged=scenario.spoiled(done=settled))
    return faults + [f"at the end: {sentence}" for sentence in left]


def traits(path: Path) -> Hashable:
    """What a store at rest comes to, instants and random names left out.

    Two crashes that left the same traits left the same store: judging one of them is enough.
    """
    catalog = path / "catalog.db"
    names = sorted(_nameless(each.relative_to(path).as_posix()) for each in path.rglob("*"))
    if not catalog.exists():
        return tuple(names), ()
    with closing(sqlite3.connect(f"file:{catalog}?mode=ro", uri=True)) as connection:
        tables = [name for (name,) in connection.execute(_TABLES)]
        rows = [
            (table, *(_nameless(value) for value in row))
            for table in tables
            for row in connection.execute(f"SELECT * FROM {table}")
        ]
    return tuple(names), tuple(sorted(map(repr, rows)))


def _nameless(value: object) -> object:
    if isinstance(value, int) and 10**14 < value < FOREVER:
        return "instant"
    return _RANDOM.sub("random", value) if isinstance(value, str) else value


def _collected(store: Store, clock: Clock, wanted: View) -> list[str]:
    """Collect now, when unfinished writers are given up, and at the second delete."""
    faults = []
    for pause in (0, DAY // 24, DAY + DAY // 24, 2 * DAY):
        clock.forward(pause)
        report = store.gc(now=True)
        faults += [f"gc: {report}"] if report.failed or report.refused else []
    visible = {name: holding for name, holding in wanted.items() if not holding.trashed}
    return faults + _same("after gc", view(store), visible)


def _clear_strays(store: Store, clock: Clock) -> None:
    store.fsck(repair=True).result()
    clock.forward(31 * DAY)
    store.gc(now=True)
    clock.forward(2 * DAY)
    store.gc(now=True)


def _checked(store: Store, damaged: Collection[str]) -> list[str]:
    return [
        f"fsck: {found}"
        for found in store.fsck(read_data=True)
        if not (found.kind in ("corrupt", "missing") and found.digest in damaged)
    ]


def _same(what: str, found: View, wanted: View) -> list[str]:
    return [f"{what}: {_difference(found, wanted)}"] if found != wanted else []


def _accounted_for(replicas: Sequence[Replica]) -> list[str]:
    """Live keys, and where none of them is sound those that may be the last good bytes."""
    sound = any(each.state == "live" and not each.suspect for each in replicas)
    states = ("live",) if sound else ("live", "doomed")
    return [each.key for each in replicas if each.state in states]


def _left_over(store: Store, path: Path) -> list[str]:
    """Files that nothing accounts for once everything was collected; gc needs a catalog for it."""
    if not (path / "catalog.db").exists():
        return []
    used = {
        key
        for scope in SCOPES
        for asset in store.scope(scope).assets()
        for key in _accounted_for(store.explain(asset.digest).replicas)
    }
    beside = [each.name for each in path.glob("*") if each.is_file() and each.name not in _FILES]
    return [
        f"left over: {name}"
        for name in (
            *beside,
            *(f"tmp/{name}" for name in temporary_of(path)),
            *(name for name in objects_of(path) if name not in used),
        )
    ]


def _reserve(path: Path) -> list[str]:
    """The room for a full disk is kept back, or is not: an empty file only looks as if."""
    file = path / "catalog.db-reserve"
    if not file.exists() or file.stat().st_size >= reserve.SIZE:
        return []
    return [f"{file.name} keeps {file.stat().st_size} bytes back instead of {reserve.SIZE}"]
