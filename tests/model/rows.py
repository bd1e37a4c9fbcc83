"""The catalog's rows of one digest, and what every transaction makes of them.

Keys are numbers: 0 is the plain key, the others are token keys, each handed out once. An asset is
a set of flags, one asset a scope. Candidate rows are told apart only by which collectors have read
them: bit ``m`` of ``looks`` says that there is at least one row which the collectors in the set
``m`` have read (``m`` again a set of bits), for nothing that may happen depends on how many.
"""

from __future__ import annotations

from typing import NamedTuple

from calotype.catalog.states import DOOMED, ERASED, ERASING, LIVE, WRITING

NO_ROW = "none"

HERE, KEPT, OWNED, LINKED, PAST = 1, 2, 4, 8, 16
"""An asset row is there, is kept for itself, has a putter's reference, has an attacher's, had one."""

KEEPING = KEPT | OWNED | LINKED

FRESH = 1
"""In ``looks``: a candidate that nobody has read."""

PLAIN = 0


class Catalog(NamedTuple):
    """The rows of one digest. ``suspect`` is a set of keys as bits; so are ``strays``, which were
    doomed because they had no row, and ``spent``: the keys that were ever doomed, which no code
    sees, only the invariants.
    """

    blob: bool
    states: tuple[str, ...]
    suspect: int
    strays: int
    assets: tuple[int, ...]
    looks: int
    spent: int


def empty(keys: int, scopes: int) -> Catalog:
    """No row at all."""
    return Catalog(False, (NO_ROW,) * keys, 0, 0, (0,) * scopes, 0, 0)


def changed(values: tuple, place: int, value: object) -> tuple:
    """The tuple with one value replaced."""
    return (*values[:place], value, *values[place + 1 :])


def live_keys(catalog: Catalog) -> list[int]:
    """Keys of live replicas; more than one only where a mutant is at work."""
    return [key for key, state in enumerate(catalog.states) if state == LIVE]


def trusted(catalog: Catalog) -> int | None:
    """The key of the blob's live replica, unless it is suspect."""
    for key in live_keys(catalog) if catalog.blob else ():
        if not catalog.suspect >> key & 1:
            return key
    return None


def intend(catalog: Catalog, key: int) -> Catalog:
    """Miss: a ``writing`` replica with a fresh token."""
    return catalog._replace(states=changed(catalog.states, key, WRITING))


def suspected(catalog: Catalog, key: int) -> Catalog:
    """Mark a live replica; rows in other states are left alone."""
    if catalog.states[key] != LIVE:
        return catalog
    return catalog._replace(suspect=catalog.suspect | 1 << key)


def cleared(catalog: Catalog, key: int) -> Catalog:
    """Take the mark off a live replica."""
    if catalog.states[key] != LIVE:
        return catalog
    return catalog._replace(suspect=catalog.suspect & ~(1 << key))


def doomed(catalog: Catalog, *keys: int) -> Catalog:
    """``writing`` and ``live`` to ``doomed``; rows in other states are left alone."""
    going = [key for key in keys if catalog.states[key] in (WRITING, LIVE)]
    if not going:
        return catalog
    states, bits = catalog.states, 0
    for key in going:
        states, bits = changed(states, key, DOOMED), bits | 1 << key
    return catalog._replace(
        states=states, suspect=catalog.suspect & ~bits, spent=catalog.spent | bits
    )


def published(catalog: Catalog, key: int) -> Catalog:
    """TX2, first half: the blob is there, ``key`` is live, any other live replica is doomed."""
    without = doomed(catalog, *(other for other in live_keys(catalog) if other != key))
    return without._replace(blob=True, states=changed(without.states, key, LIVE))


def linked(catalog: Catalog, scope: int, kind: int) -> Catalog:
    """Upsert asset and reference. An asset that only its owner keeps is a candidate when new."""
    before = catalog.assets[scope]
    new = not before & HERE and kind != KEPT
    return catalog._replace(
        assets=changed(catalog.assets, scope, before | HERE | kind),
        looks=catalog.looks | FRESH if new else catalog.looks,
    )


def let_go(catalog: Catalog, scope: int, kind: int) -> Catalog:
    """Release a reference, or discard what is kept for itself; a trigger appends a candidate."""
    past = 0 if kind == KEPT else PAST
    asset = catalog.assets[scope] & ~kind | past
    return catalog._replace(
        assets=changed(catalog.assets, scope, asset), looks=catalog.looks | FRESH
    )


def collected(catalog: Catalog) -> Catalog:
    """Delete released references, then assets that nothing keeps, each with a new candidate."""
    assets = tuple(asset & ~PAST if asset & KEEPING else 0 for asset in catalog.assets)
    gone = assets.count(0) > catalog.assets.count(0)
    return catalog._replace(assets=assets, looks=catalog.looks | FRESH if gone else catalog.looks)


def garbage(catalog: Catalog) -> bool:
    """A blob that no asset points at, which is when the database lets it be deleted."""
    return catalog.blob and not any(catalog.assets)


def forgotten(catalog: Catalog) -> Catalog:
    """Delete the blob row, then doom its replicas."""
    return doomed(catalog._replace(blob=False), *range(len(catalog.states)))


def erasing(catalog: Catalog, key: int) -> Catalog:
    """``doomed -> erasing``."""
    return catalog._replace(
        states=changed(catalog.states, key, ERASING), strays=catalog.strays & ~(1 << key)
    )


def may_be_the_last(catalog: Catalog, key: int) -> bool:
    """A stray of a blob that has no live copy, or a suspect one."""
    return catalog.blob and catalog.strays >> key & 1 == 1 and trusted(catalog) is None


def erased(catalog: Catalog, key: int) -> Catalog:
    """``erasing -> erased``; other states are left alone."""
    if catalog.states[key] != ERASING:
        return catalog
    return catalog._replace(states=changed(catalog.states, key, ERASED))


def pruned(catalog: Catalog, key: int) -> Catalog:
    """Forget a tombstone."""
    return catalog._replace(states=changed(catalog.states, key, NO_ROW))


def tombstone(catalog: Catalog, key: int) -> Catalog:
    """Give an object without a row a ``doomed`` one."""
    return catalog._replace(
        states=changed(catalog.states, key, DOOMED),
        strays=catalog.strays | 1 << key,
        spent=catalog.spent | 1 << key,
    )


def read_by(looks: int, collector: int) -> int:
    """A collector reads the ids of all candidates."""
    return _moved(looks, lambda readers: readers | 1 << collector)


def taken_off(looks: int, collector: int) -> int:
    """A collector deletes the ids that it read, and no others."""
    return sum(1 << readers for readers in _classes(looks) if not readers >> collector & 1)


def unread(looks: int) -> int:
    """No collector is left that has read anything."""
    return FRESH if looks else 0


def _moved(looks: int, move) -> int:
    moved = 0
    for readers in _classes(looks):
        moved |= 1 << move(readers)
    return moved


def _classes(looks: int) -> list[int]:
    return [readers for readers in range(looks.bit_length()) if looks >> readers & 1]
