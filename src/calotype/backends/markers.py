"""Markers: what a backend says of itself, whatever becomes of the catalog.

``calotype.json`` says to which store its objects belong, and how much that store had erased.
``erased/<seq>`` names the keys of one batch, written before the first of them was deleted;
``blocked/<digest>`` a digest that was purged and may not come back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self

from calotype.backends import Key, Stand
from calotype.digest import Digest
from calotype.errors import Corrupt
from calotype.quantities import FOREVER, Instant

MARKER = "calotype.json"
ERASED = "erased/"
BLOCKED = "blocked/"

FORMAT = 1
"""The number of this form; a marker of a later one is not understood."""


@dataclass(frozen=True, slots=True)
class Marker:
    """To whom a backend belongs, and how far its erasing has come.

    ``generation`` is a random id, renewed with the ``epoch``. ``stand`` is where the backend stood
    when that was noted. ``recovering`` while a recovery of it is not finished. ``given_to`` is the
    mark of a catalog that was a copy, and was given this place for its own.
    """

    store: str
    epoch: int
    generation: str
    erase_seq: int
    stand: Stand | None = None
    recovering: bool = False
    given_to: str = ""

    def to_bytes(self) -> bytes:
        """As it is kept."""
        return _written({"format": FORMAT, **asdict(self)})

    @classmethod
    def of(cls, content: bytes) -> Self | None:
        """As ``to_bytes`` wrote it; None for what is damaged, ``Corrupt`` for a later version's."""
        try:
            found = _read(MARKER, content)
            stand = found["stand"]
            return cls(
                str(found["store"]),
                _number(found["epoch"]),
                str(found["generation"]),
                _number(found["erase_seq"]),
                Stand(**stand) if isinstance(stand, dict) else None,
                found["recovering"] is True,
                str(found["given_to"]),
            )
        except (KeyError, TypeError, ValueError):
            return None


def erased_name(seq: int) -> str:
    """The name of the note of one batch; they sort by number."""
    return f"{ERASED}{seq:020}"


def erased_seq(name: str) -> int | None:
    """The number of the batch of which a name is the note."""
    number = name.removeprefix(ERASED)
    plain = name.startswith(ERASED) and len(number) == 20 and number.isascii()
    return int(number) if plain and number.isdecimal() else None


def erased_to_bytes(keys: Sequence[Key]) -> bytes:
    """The note of a batch."""
    return _written({"format": FORMAT, "keys": sorted(map(str, keys))})


def erased_keys(name: str, content: bytes) -> list[Key]:
    """The keys that a batch's note names; ``Corrupt`` for what is damaged."""
    try:
        keys = _read(name, content)["keys"]
        found = [Key.parse(str(each)) for each in keys] if isinstance(keys, list) else [None]
    except (KeyError, ValueError):
        found = [None]
    if not all(found):
        raise Corrupt(
            f"The note {name} is damaged: nobody knows which keys it named.",
            hint="Restore it from a copy. Or remove it, and run 'calotype fsck' again in a day.",
        )
    return [key for key in found if key is not None]


def blocked_name(digest: str) -> str:
    """The name of the note of a digest that may not come back."""
    return f"{BLOCKED}{digest}"


def blocked_digest(name: str) -> Digest | None:
    """The digest of which a name is the note."""
    digest = name.removeprefix(BLOCKED)
    fits = name.startswith(BLOCKED) and len(digest) == 64
    return Digest(digest) if fits and not set(digest) - set("0123456789abcdef") else None


@dataclass(frozen=True, slots=True)
class Block:
    """Why a digest may not come back, and since when."""

    reason: str
    at: Instant

    @classmethod
    def of(cls, name: str, content: bytes) -> Block:
        """What a note says; one that is damaged holds for ever."""
        try:
            found = _read(name, content)
            return cls(str(found.get("reason", "")), _number(found["at"]))
        except (ValueError, TypeError, KeyError):
            return cls("its note is damaged", FOREVER)

    def to_bytes(self) -> bytes:
        """The note."""
        return _written({"format": FORMAT, "reason": self.reason, "at": self.at})


def is_note(name: str) -> bool:
    """True for the name of a note of ours: neither an object nor foreign."""
    return name == MARKER or erased_seq(name) is not None or blocked_digest(name) is not None


def _number(found: object) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise TypeError(f"not a number: {found!r}")
    return found


def _written(facts: dict[str, object]) -> bytes:
    return (json.dumps(facts, indent=1, ensure_ascii=True) + "\n").encode()


def _read(name: str, content: bytes) -> dict[str, object]:
    """The note's facts; ``ValueError`` for what is none."""
    try:
        found = json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    match found:
        case {"format": int(number)} if number == FORMAT:
            return dict(found)
        case {"format": int()}:
            raise _later(name)
    raise ValueError("not a note")


def _later(name: str) -> Corrupt:
    return Corrupt(
        f"The note {name} is of a later version than this program's.",
        hint="Upgrade calotype: pip install -U calotype.",
    )
