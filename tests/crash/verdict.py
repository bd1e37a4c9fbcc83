"""What a crash left behind, judged: by the rows and files, then by using the store."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from calotype import Digest, Store
from calotype.errors import CalotypeError, Corrupt
from calotype.scope import Scope
from tests.crash.scenario import DAY, Scenario, ahead
from tests.invariants import broken_invariants, objects_of, temporary_of

SCOPES = ("default", "other")
_FILES = frozenset(("catalog.db", "catalog.db-wal", "catalog.db-shm", "catalog.db-checkpoint"))


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


def between(found: View, before: View, after: View, *, whole: bool) -> list[str]:
    """How ``found`` is neither ``before`` nor ``after`` (each by itself, unless ``whole``)."""
    if whole:
        return [] if found in (before, after) else [f"half done: {_difference(found, after)}"]
    return [
        f"{name}: {found.get(name)}, neither {before.get(name)} nor {after.get(name)}"
        for name in found.keys() | before.keys() | after.keys()
        if found.get(name) not in (before.get(name), after.get(name))
    ]


def _difference(found: View, wanted: View) -> str:
    names = [name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)]
    return "; ".join(f"{name}: {found.get(name)}, not {wanted.get(name)}" for name in names)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a scenario starts from and comes to, seen in runs that nothing disturbed."""

    before: View
    after: View


def judge(
    scenario: Scenario, path: Path, expected: Expected, *, acked: bool, repeat: bool
) -> list[str]:
    """Every way in which the store at ``path`` breaks a promise after a crash or failure.

    Uses the store up: reads everything, does the operation again if ``repeat``, collects all
    garbage, lets two days pass, and looks for what is left over.
    """
    damaged = () if acked else scenario.damaged
    faults = _tagged("at once", broken_invariants(path, damaged=damaged))
    try:
        faults += _used(scenario, path, expected, acked=acked, repeat=repeat)
    except (CalotypeError, AssertionError) as error:
        faults.append(f"using it: {type(error).__name__}: {error}")
    damaged = () if acked or repeat else scenario.damaged
    faults += _tagged("at the end", broken_invariants(path, damaged=damaged))
    return faults + _left_over(path)


def _used(
    scenario: Scenario, path: Path, expected: Expected, *, acked: bool, repeat: bool
) -> list[str]:
    with scenario.store(path) as store:
        found = view(store)
        faults = between(found, expected.before, expected.after, whole=scenario.whole)
        if acked and found != expected.after:
            faults.append(f"acknowledged and lost: {_difference(found, expected.after)}")
        if repeat:
            scenario.act(store)
            again = view(store)
            if again != expected.after:
                faults.append(f"done again: {_difference(again, expected.after)}")
    settled = acked or repeat
    wanted = expected.after if settled else found
    visible = {name: holding for name, holding in wanted.items() if not holding.trashed}
    for by in (scenario.ahead, scenario.ahead + DAY + DAY // 24, scenario.ahead + 3 * DAY):
        faults += _collected(path, by, visible)
    return faults + _checked(path, () if settled else scenario.damaged)


def _collected(path: Path, by: int, visible: View) -> list[str]:
    with Store(path, clock=ahead(by)) as store:
        report = store.gc(now=True)
        left = view(store)
    faults = [f"gc: {report}"] if report.failed or report.refused else []
    if left != visible:
        faults.append(f"after gc: {_difference(left, visible)}")
    return faults


def _checked(path: Path, damaged: Collection[str]) -> list[str]:
    with Store(path) as store:
        return [
            f"fsck: {found}"
            for found in store.fsck(read_data=True)
            if not (found.kind in ("corrupt", "missing") and found.digest in damaged)
        ]


def _tagged(when: str, sentences: list[str]) -> list[str]:
    return [f"{when}: {sentence}" for sentence in sentences]


def _left_over(path: Path) -> list[str]:
    """Files that nothing accounts for once everything was collected."""
    faults = [f"left over: tmp/{name}" for name in temporary_of(path)]
    faults += [
        f"left over: {each.name}" for each in path.glob("*") if each.is_file() and each.name not in _FILES
    ]
    with Store(path) as store:
        used = {
            replica.key
            for scope in SCOPES
            for asset in store.scope(scope).assets()
            for replica in store.explain(asset.digest).replicas
            if replica.state == "live"
        }
    return faults + [f"left over: {name}" for name in objects_of(path) if name not in used]
