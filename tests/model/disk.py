"""A directory on a local disk: what everybody sees in it, and what a power cut may leave of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from tests.model.rows import changed

ABSENT = "absent"
RENAMED = "renamed, not synced"
DURABLE = "durable"
UNLINKED = "unlinked, not synced"
ROTTEN = "damaged by the world"
TAKEN = "taken away by the world"

PRESENT = (RENAMED, DURABLE, ROTTEN)
WHOLE = (RENAMED, DURABLE)

_AFTER_A_CUT = {RENAMED: (ABSENT, DURABLE), UNLINKED: (ABSENT, DURABLE)}

Files = tuple[str, ...]
"""What is at each key."""


def empty(keys: int) -> Files:
    """Nothing at any key."""
    return (ABSENT,) * keys


def renamed(files: Files, key: int) -> Files:
    """A whole, synced file takes its place; over another one, one of both is there for ever."""
    return changed(files, key, DURABLE if files[key] == DURABLE else RENAMED)


def synced(files: Files, key: int) -> Files:
    """Only this key is made durable; others in the directory may come along or not."""
    return changed(files, key, {RENAMED: DURABLE, UNLINKED: ABSENT}.get(files[key], files[key]))


def unlinked(files: Files, key: int) -> Files:
    """The file goes; its directory is never synced for that."""
    return changed(files, key, UNLINKED if files[key] in (DURABLE, ROTTEN, UNLINKED) else ABSENT)


def damaged(files: Files, key: int) -> Files:
    """The world cuts a file short."""
    return changed(files, key, ROTTEN)


def moved(files: Files, key: int, to: int) -> Files:
    """The world takes a file away, and leaves it at another key."""
    return changed(changed(files, key, TAKEN), to, DURABLE)


def after_a_cut(files: Files) -> Iterator[Files]:
    """Everything that may be there after a power cut."""
    return product(*(_AFTER_A_CUT.get(file, (file,)) for file in files))
