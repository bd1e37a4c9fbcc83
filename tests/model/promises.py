"""The protocol's invariants: predicates on the rows and objects of one digest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from tests.model import disk, rows
from tests.model.disk import Files
from tests.model.explorer import Invariant
from tests.model.rows import HERE, KEEPING, LINKED, NO_ROW, PAST, Catalog
from tests.model.store import State, Terms

from calotype.catalog.states import DOOMED, ERASED, ERASING, LIVE

GOING = (DOOMED, ERASING, ERASED, NO_ROW)
GONE = (ERASING, ERASED)


def has_bytes(catalog: Catalog, files: Files) -> bool:
    """I1: a blob row has a live replica whose object is there and durable, or that is suspect."""
    return not catalog.blob or any(
        catalog.suspect >> key & 1 or files[key] in (disk.DURABLE, disk.ROTTEN, disk.TAKEN)
        for key in rows.live_keys(catalog)
    )


def readable(catalog: Catalog, files: Files) -> bool:
    """I3: the blob is there and its object can be seen, unless the world damaged it."""
    return catalog.blob and any(
        catalog.suspect >> key & 1 or files[key] in (*disk.PRESENT, disk.TAKEN)
        for key in rows.live_keys(catalog)
    )


def one_live_replica(catalog: Catalog) -> bool:
    """The database refuses a second one, and with it the put that would set it live."""
    return len(rows.live_keys(catalog)) <= 1


def live_replicas_have_a_blob(catalog: Catalog) -> bool:
    """One without a blob would never be erased; only somebody's own SQL can bring that about."""
    return catalog.blob or not rows.live_keys(catalog)


def rows_point_at_rows(catalog: Catalog) -> bool:
    """I2, I4: references have an asset, assets have the blob."""
    assets = [asset for asset in catalog.assets if asset]
    return not assets or (catalog.blob and all(asset & HERE for asset in assets))


def doomed_keys_stay_doomed(catalog: Catalog) -> bool:
    """I6: no key that was ever doomed is written or live again."""
    return not catalog.spent or all(
        held in GOING for key, held in enumerate(catalog.states) if catalog.spent >> key & 1
    )


@cache
def nothing_leaks(catalog: Catalog) -> bool:
    """I17: were everybody killed now, gc alone would leave just what is kept, and one copy."""
    after = catalog if catalog.blob else rows.doomed(catalog, *rows.live_keys(catalog))
    while after.looks:
        after = rows.collected(after._replace(looks=0))
        if rows.garbage(after):
            after = rows.forgotten(after)
    kept = any(asset & KEEPING for asset in after.assets)
    tidy = all(asset & KEEPING and not asset & PAST for asset in after.assets if asset)
    return tidy and after.blob == kept and after.states.count(LIVE) == kept


def promises_are_kept(
    catalog: Catalog, files: Files, promised: int, wanted: Sequence[tuple[int, int]]
) -> bool:
    """I3: whoever was told yes, by the bits of ``promised``, still has it and its bytes."""
    return not promised or (
        readable(catalog, files)
        and all(
            catalog.assets[scope] & kind
            for bit, (scope, kind) in enumerate(wanted)
            if promised >> bit & 1
        )
    )


def objects_have_rows(catalog: Catalog, files: Files) -> bool:
    """I7: every object lies at a key that has or had a row, until a power cut takes that away."""
    return not any(
        file in disk.PRESENT and catalog.states[key] == NO_ROW and not catalog.spent >> key & 1
        for key, file in enumerate(files)
    )


def deletes_are_announced(state: State) -> bool:
    """I5: whoever is about to delete does so at a key that is durably ``erasing``."""
    deleting = [key for doing, key in state.collectors if doing in ("delete", "bytes")]
    deleting += [key for doing, key in state.putters if doing == "unlink"]
    return all(may_be_deleted(version, key) for key in deleting for version in state.versions)


def may_be_deleted(catalog: Catalog, key: int) -> bool:
    """The row says so, or is a tombstone that was forgotten."""
    held = catalog.states[key]
    return held in GONE or (held == NO_ROW and catalog.spent >> key & 1 == 1)


def known_damage_stays_known(state: State) -> bool:
    """I8: a replica that was found damaged is marked for as long as it is live."""
    catalog = state.versions[-1]
    return not state.known_bad or all(
        not state.known_bad >> key & 1 or catalog.suspect >> key & 1
        for key in rows.live_keys(catalog)
    )


def last_bytes_stay(state: State) -> bool:
    """Live bytes that were moved are there for as long as their blob has no other whole copy."""
    catalog = state.versions[-1]
    return (
        not (state.moved and catalog.blob)
        or state.files[state.moved] in disk.WHOLE
        or any(state.files[key] in disk.WHOLE for key in rows.live_keys(catalog))
    )


def invariants(terms: Terms) -> Mapping[str, Invariant[State]]:
    """All of them, by name."""
    wanted = (*terms.putters, (0, LINKED))
    return {
        "I1 blob has bytes": lambda state: has_bytes(state.versions[-1], state.files),
        "I1 one live replica": lambda state: one_live_replica(state.versions[-1]),
        "I1 live replicas have a blob": lambda state: (
            state.by_hand < terms.by_hand or live_replicas_have_a_blob(state.versions[-1])
        ),
        "I2 rows point at rows": lambda state: rows_point_at_rows(state.versions[-1]),
        "I3 promises are kept": lambda state: promises_are_kept(
            state.versions[-1], state.files, state.promised, wanted
        ),
        "I5 deletes are announced": deletes_are_announced,
        "I6 doomed keys stay doomed": lambda state: doomed_keys_stay_doomed(state.versions[-1]),
        "I7 objects have rows": lambda state: (
            state.cuts < terms.cuts
            or state.moves < terms.moves
            or objects_have_rows(state.versions[-1], state.files)
        ),
        "I8 the last bytes stay": last_bytes_stay,
        "I8 links are sound": lambda state: not state.linked_badly,
        "I8 what is known stays known": known_damage_stays_known,
        "fsck tells no tales": lambda state: not state.alarm,
        "I17 nothing leaks": lambda state: nothing_leaks(state.versions[-1]),
    }
