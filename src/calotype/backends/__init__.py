"""The port to where bytes live: what every backend promises, and the keys it is asked for.

A backend keeps objects under keys and promises all or nothing: an object is there whole or not
at all. It hashes nothing, verifies nothing and knows no catalog; that happens once, above it.
Driver exceptions never leave an adapter: it raises ``Unavailable`` (for now), or ``Corrupt``
where an object cannot be what it claims to be.

What a backend can do beyond this is a protocol of its own with one method, found by asking
``isinstance``: ``Stages``, ``Sweeps``, ``Locates``, ``Signs`` and the others below.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol, Self, runtime_checkable

from calotype.digest import Digest
from calotype.quantities import Instant

_NAME = re.compile(
    r"sha256/([0-9a-f]{2})/([0-9a-f]{2})/([0-9a-f]{64})(?:~([0-9a-f]{16}))?(?:\.([a-z0-9]{1,8}))?"
)


INSIDE = "database:"
"""The URL of the backend in the catalog's own database, which goes wherever the catalog goes."""


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """The name of one object: a pure function of digest, token and extension.

    ``token`` is 16 hex characters, or empty for the plain key that a digest uses once at most.
    """

    digest: Digest
    token: str = ""
    extension: str = ""

    def __str__(self) -> str:
        """``sha256/ab/cd/<digest>[~<token>][.<extension>]``."""
        token = f"~{self.token}" if self.token else ""
        extension = f".{self.extension}" if self.extension else ""
        return f"sha256/{self.digest[:2]}/{self.digest[2:4]}/{self.digest}{token}{extension}"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """The key that ``name`` spells, or None for any other object."""
        match = _NAME.fullmatch(name)
        if not match or match[1] != match[3][:2] or match[2] != match[3][2:4]:
            return None
        return cls(Digest(match[3]), match[4] or "", match[5] or "")


@dataclass(frozen=True, slots=True)
class Listed:
    """An object that a backend holds: its name as stored, its size, its time of change."""

    name: str
    size: int
    modified: Instant


@runtime_checkable
class Backend(Protocol):
    """Five methods. Safe to call from any number of threads and processes at once.

    ``url`` names the place, without secrets.
    """

    @property
    def url(self) -> str:
        """The place, as it is written in configuration, without secrets."""
        ...

    def put(self, key: Key, source: BinaryIO, size: int) -> None:
        """Store what ``source`` still holds, exactly ``size`` bytes, durably, under ``key``.

        ``source`` is read forward once and may return short reads. When it raises, ends early or
        goes on too long, nothing is stored, nothing that was stored is harmed, no temporary
        file stays, and its own error (or ``Unavailable``) comes out. Putting a key again
        replaces the object as a whole.
        """
        ...

    def open(self, key: Key, start: int = 0, stop: int | None = None) -> BinaryIO:
        """The object's bytes from ``start`` to before ``stop``; clipped to its size.

        Neither is negative. The caller closes it; it reads the object that it was opened for, or
        fails, but never parts of two. ``NotFound`` only when the backend answered that it is not
        there.
        """
        ...

    def size(self, key: Key) -> int | None:
        """The object's size in bytes, or None when the backend answered that it is not there."""
        ...

    def delete(self, key: Key) -> None:
        """Remove the object; nothing happens where there is none."""
        ...

    def scan(self, prefix: str = "") -> Iterator[Listed]:
        """Every object whose name begins with ``prefix``, sorted by name.

        Objects of other names than ours are listed too; temporary files are not.
        """
        ...


class Staged(Protocol):
    """A temporary file that a backend can publish by renaming it."""

    def write(self, chunk: bytes) -> None:
        """Append."""
        ...

    def open(self) -> BinaryIO:
        """A reader of what was written: from the beginning, at an offset of its own.

        Also after it was published. A reader outlives ``discard``, but none is opened then.
        """
        ...

    def discard(self) -> None:
        """Remove it unless it was published; release what it holds. Harmless to repeat."""
        ...


@runtime_checkable
class Stages(Protocol):
    """A backend on whose own file system bytes are staged, and published many at a time."""

    def stage(self) -> Staged:
        """A new temporary file."""
        ...

    def stage_all(self, contents: Sequence[bytes]) -> list[Staged]:
        """A temporary file for each content, written and at rest; or none, and an error."""
        ...

    def rest(self, files: Sequence[Staged]) -> None:
        """End the writing of all and hold next to nothing open: thousands may wait so.

        Resting, a file that was published is read where it lies, and is gone with its object.
        """
        ...

    def publish(self, items: Sequence[tuple[Key, Staged]]) -> None:
        """Make every staged file durable, then put each in place, then make that durable.

        A caller that sees this return may promise the bytes to others. When it raises, any
        part may be in place, and files that could not be made durable are discarded. Items may
        be published again under another key; no two keys ever share one file.
        """
        ...


@runtime_checkable
class Sweeps(Protocol):
    """A backend in which a killed writer may leave something that no scan lists."""

    def sweep(self, older_than: Instant) -> int:
        """Remove what was begun and not written to since ``older_than``; how many there were.

        What a living writer is at work on stays.
        """
        ...


@runtime_checkable
class Closes(Protocol):
    """A backend that keeps connections open."""

    def close(self) -> None:
        """Close every connection; the next use opens again."""
        ...


@runtime_checkable
class Vanishes(Protocol):
    """A backend whose place may be missing for a time, as a disk that is not mounted is."""

    def vacant(self) -> bool:
        """True where nothing can be seen that a put would have left: never used, or not there."""
        ...


@runtime_checkable
class Locates(Protocol):
    """A backend whose objects are files on this machine."""

    def path(self, key: Key) -> str:
        """The absolute path of the object."""
        ...


@runtime_checkable
class Remote(Protocol):
    """A backend that is a service elsewhere."""

    def reach(self) -> None:
        """Raise unless the service answers and the credentials may read and list.

        ``Denied``, ``Misconfigured`` or ``Unavailable``, each saying what to mend.
        """
        ...


@runtime_checkable
class Signs(Protocol):
    """A backend whose service hands objects to whoever has a signed URL."""

    def sign(self, key: Key, until: Instant, *, media_type: str, disposition: str) -> str:
        """A URL by which anybody reads the object until then.

        The same arguments inside one window give the same URL.
        """
        ...


@runtime_checkable
class Bounds(Protocol):
    """A backend whose signed URLs may not live for as long as anybody likes."""

    @property
    def longest_url(self) -> int:
        """For how many microseconds they may; what ends a second later is taken, too."""
        ...


@dataclass(frozen=True, slots=True)
class Admission:
    """A request that anybody may send, with these headers and the bytes that it was made for.

    The service takes it until ``until``. ``url`` is a secret: whoever has it may send.
    """

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str]
    until: Instant


@runtime_checkable
class Admits(Protocol):
    """A backend whose service takes objects from whoever was admitted, past this process."""

    def admit(self, key: Key, size: int, media_type: str, until: Instant) -> Admission:
        """A request by which anybody puts the key's ``size`` bytes until then.

        Whether the service takes others as well is a question for ``Vouches``.
        """
        ...


@runtime_checkable
class Vouches(Protocol):
    """A backend whose service hashes what it takes, and takes nothing else than was admitted."""

    def vouch(self, key: Key, size: int) -> bool:
        """True where it says that the object's bytes are ``size`` and hash to the key's digest.

        False where there is none, and where it cannot say.
        """
        ...


@runtime_checkable
class Gathers(Protocol):
    """A backend to which many small objects cost less together."""

    def put_all(self, items: Sequence[tuple[Key, Callable[[], BinaryIO], int]]) -> None:
        """Put each: its key, what opens its bytes, and their number; any part, if it raises."""
        ...


@runtime_checkable
class Deletes(Protocol):
    """A backend that removes many objects at once."""

    def delete_all(self, keys: Sequence[Key]) -> None:
        """Remove the objects, as one request where the service can.

        Nothing happens where there is none.
        """
        ...


@runtime_checkable
class Notes(Protocol):
    """A backend that keeps small notes beside its objects: to whom they belong, what was erased.

    A note has a name that no object has, and is never seen half written. ``scan`` lists it.
    """

    def write_note(self, name: str, content: bytes, *, instead_of: bytes | None = None) -> bool:
        """Write a note durably, if what is there is ``instead_of`` (None: if there is none).

        False, and nothing written, where another one is there; True also where it is this very
        one already. Of several at once one succeeds, as far as the service can tell them apart.
        """
        ...

    def read_note(self, name: str) -> bytes | None:
        """The note of that name, or None when the backend answered that it is not there."""
        ...

    def delete_note(self, name: str) -> None:
        """Remove a note; nothing happens where there is none."""
        ...


@runtime_checkable
class Stands(Protocol):
    """A backend that can be moved or copied as a whole, by whoever may do so with its catalog."""

    def stand(self) -> Stand | None:
        """Where it stands now; None where nothing is there yet, or that cannot be told."""
        ...


@dataclass(frozen=True, slots=True)
class Stand:
    """Where a catalog or a backend is: ``mark`` differs between any two places that there are.

    ``path`` names a file or folder of this machine; it is empty for what is none. What is moved as
    a whole within its disk keeps its mark, and so does a disk that is mounted elsewhere.
    """

    mark: str
    path: str = ""
