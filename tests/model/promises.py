"""The protocol's invariants, each a predicate on a state of one digest in one store."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from calotype.catalog.states import DOOMED, ERASED, ERASING, LIVE, WRITING
from tests.model import disk, rows
from tests.model.explorer import Invariant
from tests.model.rows import HERE, KEEPING, LINKED, NO_ROW, PAST, Catalog
from tests.model.store import State, Terms

GOING = (DOOMED, ERASING, ERASED)
GONE = (ERASING, ERASED)


def blob_has_bytes(state: State) -> bool:
    """I1: a blob row has a live replica whose object is there and durable, or that is suspect."""
    catalog = state.versions[-1]
    if not catalog.blob:
        return True
    return any(
        catalog.suspect >> key & 1 or state.files[key] in (disk.DURABLE, disk.ROTTEN)
        for key in rows.live_keys(catalog)
    )


def one_live_replica(state: State) -> bool:
    """Of one blob: a live replica without a blob would never be erased."""
    catalog = state.versions[-1]
    live = len(rows.live_keys(catalog))
    return live <= 1 and (catalog.blob or not live)


def rows_point_at_rows(state: State) -> bool:
    """I2, I4: references have an asset, assets have the blob."""
    catalog = state.versions[-1]
    if any(asset and not asset & HERE for asset in catalog.assets):
        return False
    return catalog.blob or not any(catalog.assets)


def deletes_are_announced(state: State) -> bool:
    """I5: whoever is about to delete does so at a key that is durably ``erasing``."""
    deleting = [key for doing, key in state.collectors if doing in ("delete", "bytes")]
    deleting += [key for doing, key in state.putters if doing == "unlink"]
    return all(version.states[key] in GONE for key in deleting for version in state.versions)


def doomed_keys_stay_doomed(state: State) -> bool:
    """I6: no key that was ever doomed is written or live again."""
    catalog = state.versions[-1]
    return not catalog.spent or all(
        held in GOING for key, held in enumerate(catalog.states) if catalog.spent >> key & 1
    )


def links_are_sound(state: State) -> bool:
    """I8: nobody is linked to a replica that somebody knows to be bad."""
    return not state.linked_badly


@lru_cache(maxsize=None)
def nothing_leaks(catalog: Catalog) -> bool:
    """I17: were everybody killed now, gc alone would leave just what is kept, and one copy."""
    after = catalog
    while after.looks:
        after = rows.collected(after._replace(looks=0))
        if rows.garbage(after):
            after = rows.forgotten(after)
    kept = any(asset & KEEPING for asset in after.assets)
    tidy = all(asset & KEEPING and not asset & PAST for asset in after.assets if asset)
    return tidy and after.blob == kept and after.states.count(LIVE) == kept


def invariants(terms: Terms) -> Mapping[str, Invariant[State]]:
    """All of them, by name."""

    def promises_are_kept(state: State) -> bool:
        """I3: whoever was told yes still has it, and its bytes."""
        if not state.promised:
            return True
        catalog = state.versions[-1]
        wanted = [*terms.putters, (0, LINKED)]
        kept = all(
            catalog.assets[scope] & kind
            for bit, (scope, kind) in enumerate(wanted)
            if state.promised >> bit & 1
        )
        return kept and catalog.blob and blob_has_bytes(state)

    def objects_have_rows(state: State) -> bool:
        """I7: unless a power cut took the row, every object lies at a key with a row."""
        catalog = state.versions[-1]
        return state.cuts < terms.cuts or not any(
            file in disk.PRESENT and catalog.states[key] == NO_ROW
            for key, file in enumerate(state.files)
        )

    return {
        "I1 blob has bytes": blob_has_bytes,
        "I1 one live replica": one_live_replica,
        "I2 rows point at rows": rows_point_at_rows,
        "I3 promises are kept": promises_are_kept,
        "I5 deletes are announced": deletes_are_announced,
        "I6 doomed keys stay doomed": doomed_keys_stay_doomed,
        "I7 objects have rows": objects_have_rows,
        "I8 links are sound": links_are_sound,
        "I17 nothing leaks": lambda state: nothing_leaks(state.versions[-1]),
    }
