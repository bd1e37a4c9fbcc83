"""Mounting: the backends that a store has, each opened when it is first needed.

The catalog says which there are and what each is for: one is the *primary*, where puts are
acknowledged; *mirrors* get a copy of each put at once; others are only *read*.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from calotype.backends import Backend, Closes, Notes
from calotype.backends.markers import MARKER
from calotype.catalog import Catalog
from calotype.catalog.backends import MIRROR, PRIMARY, Known
from calotype.catalog.copies import Copy
from calotype.catalog.places import beside, from_beside, same
from calotype.errors import Misconfigured, NotFound

REST = 60.0
"""Seconds in which a mirror that failed gets no copies at once; ``backend copy`` brings them.

A put asks no earlier again for a marker that could not be read.
"""

LONGEST_TRY = 300.0
"""Seconds in which others pass by a mirror that failed, while one tries whether it works again."""


BELIEVED = 10.0
"""Seconds until a marker is looked at again: the catalog may be put back under whoever uses it."""


@dataclass(eq=False)
class Mount:
    """A backend by its name in the store, in its role.

    ``marked`` is how far its marker was seen to be: None before it was looked at, -1 where it is
    not this catalog's. That holds for ``BELIEVED`` seconds, and for as long as the catalog's own
    row does not go back. One that could not be read is not ``askable`` again for a while.
    """

    name: str
    role: str
    url: str
    _open: Callable[[], Backend] = field(repr=False)
    _gate: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _opened: Backend | None = field(default=None, repr=False)
    _rests_until: float = field(default=0.0, repr=False)
    _failed: bool = field(default=False, repr=False)
    marked: int | None = field(default=None, repr=False)
    _judged_by: Known | None = field(default=None, repr=False)
    _judged_until: float = field(default=0.0, repr=False)
    _unread_until: float = field(default=0.0, repr=False)

    @property
    def backend(self) -> Backend:
        """The backend; what its URL or its driver lacks is raised here."""
        opened = self._opened  # without the lock, where every file of an import asks
        if opened is None:
            with self._gate:
                if self._opened is None:
                    self._opened = self._open()
                opened = self._opened
        return opened

    def is_place_of(self, other: Mount) -> bool:
        """True where both have one marker: what is deleted in one is gone from the other."""
        one, two = self.backend, other.backend
        if not (isinstance(one, Notes) and isinstance(two, Notes)):
            return False
        marker = one.read_note(MARKER)
        return marker is not None and marker == two.read_note(MARKER)

    def close(self) -> None:
        """Let go of what it holds open, if it was opened."""
        opened = self._opened
        if opened is not None and isinstance(opened, Closes):
            opened.close()

    def may_try(self) -> bool:
        """False for a while after it failed, and then while one is at it again.

        Whoever may try says how it went: ``rest`` or ``works``.
        """
        if time.monotonic() < self._rests_until:
            return False
        if self._failed:
            self._rests_until = time.monotonic() + LONGEST_TRY
        return True

    def rest(self) -> None:
        """Leave it alone for a while."""
        self._failed = True
        self._rests_until = time.monotonic() + REST

    def works(self) -> None:
        """Leave it alone no longer, if it had failed."""
        self._failed = False
        self._rests_until = 0.0

    def judge(self, marked: int, by: Known | None) -> None:
        """Believe that for a while; ``by`` is the row that it was compared with."""
        self.marked = marked
        self._judged_by = by
        self._judged_until = time.monotonic() + BELIEVED

    def is_judged(self, by: Known | None) -> bool:
        """False where the marker is to be looked at, now that the catalog's row is ``by``."""
        if self.marked is None or time.monotonic() >= self._judged_until:
            return False
        return by is self._judged_by or (by is not None and by.erase_seq >= self.marked)

    def raise_mark(self, erase_seq: int) -> None:
        """Its marker has come so far."""
        self.marked = max(self.marked or 0, erase_seq)
        self._judged_by = None

    @property
    def askable(self) -> bool:
        """False for a while after its marker could not be read."""
        return time.monotonic() >= self._unread_until

    def leave_unread(self) -> None:
        """Do not ask for its marker for a while."""
        self._unread_until = time.monotonic() + REST


class Mounts:
    """The backends of one store as this process has them. Safe across threads.

    ``first`` is the one that the store was opened with, ``given`` are others by their names:
    for those whose URL in the catalog is not enough for ``opener``. ``opened_with`` is the one
    before there is a catalog.
    """

    def __init__(
        self,
        catalog: Catalog,
        first: Backend,
        given: Mapping[str, Backend],
        opener: Callable[[str | Backend], Backend],
    ) -> None:
        self._catalog = catalog
        self._opener = opener
        self._first = first
        self._given = dict(given)
        self._gate = threading.Lock()
        self._seen: tuple[Known, ...] = ()
        self.opened_with = Mount(catalog.backend_name, PRIMARY, first.url, lambda: first)
        self._all: tuple[Mount, ...] = (self.opened_with,)

    @property
    def all(self) -> tuple[Mount, ...]:
        """Every backend, in the order in which they are read: the primary first."""
        if not self._catalog.backends:  # nobody looked yet, or there is no catalog
            self._catalog.exists()
        known = self._catalog.backends
        if known is not self._seen:
            with self._gate:
                if known != self._seen:
                    self._all = tuple(self._again(each) for each in known)
                self._seen = known
        return self._all

    @property
    def primary(self) -> Mount:
        """Where puts are acknowledged."""
        return self.all[0]

    @property
    def mirrors(self) -> list[Mount]:
        """Where each put is copied to at once."""
        return [mount for mount in self.all if mount.role == MIRROR]

    @property
    def unknown(self) -> list[str]:
        """Names that were given and that the store has no backend of."""
        return sorted(self._given.keys() - {mount.name for mount in self.all})

    def named(self, name: str) -> Mount:
        """The backend of that name; ``NotFound`` where the store has none."""
        found = self._found(name)
        if found is None:
            self.refresh()
            found = self._found(name)
        if found is not None:
            return found
        raise NotFound(
            f"The store has no backend {name!r}.",
            hint=f"It has {', '.join(mount.name for mount in self.all)}.",
        )

    def best_first(self, found: Iterable[Copy]) -> list[Copy]:
        """Copies in the order in which they are read: trusted ones first, the primary's at that."""
        ranks = {mount.name: rank for rank, mount in enumerate(self.all)}
        last = len(ranks)  # of a backend that this process has not heard of yet
        return sorted(found, key=lambda copy: (copy.suspect, ranks.get(copy.backend, last)))

    def refresh(self) -> None:
        """Look again which there are: another process may have changed them."""
        self._catalog.look_at_backends()

    def open(self, given: str | Backend) -> Backend:
        """The backend of a URL, or the one given."""
        return self._opener(given)

    def close(self) -> None:
        """Let go of what the backends hold open; their next use opens it again."""
        for mount in self._all:
            mount.close()
        for backend in (self._first, *self._given.values()):
            if isinstance(backend, Closes):
                backend.close()

    def give(self, name: str, backend: Backend) -> None:
        """Use this one for the name from now on."""
        self._given[name] = backend

    def require_another_place(self, backend: Backend) -> None:
        """Refuse a folder that another backend has or lies about, and memory beside what lasts."""
        if backend.url == "memory:" and not self._catalog.memory:
            raise Misconfigured(
                "What is in memory ends with this process.", hint="Give a place that lasts."
            )
        here = _folder(backend.url)
        for mount in self.all:
            there = _folder(mount.url)
            if here and there and (same(here, there) or _nested(here, there)):
                raise Misconfigured(
                    f"{backend.url} is the place of the backend {mount.name!r}, or lies about it.",
                    hint="Give a folder of its own.",
                )

    def _found(self, name: str) -> Mount | None:
        return next((mount for mount in self.all if mount.name == name), None)

    def _again(self, known: Known) -> Mount:
        """The mount that there was, if it is the same place in the same role."""
        for mount in self._all:
            if (mount.name, mount.role, self._written(mount.url)) == (
                known.name,
                known.role,
                known.url,
            ):
                return mount
        self._require_same(known)
        url = from_beside(self._catalog.path, known.url)
        return Mount(known.name, known.role, url, lambda: self._opened(known, url))

    def _opened(self, known: Known, url: str) -> Backend:
        given = self._given.get(known.name)
        if given is not None:
            return given
        here = self._written(self._first.url) == known.url
        return self._first if here else self._opener(url)

    def _require_same(self, known: Known) -> None:
        """Refuse a backend that was given for a name and is not the one that the catalog means."""
        given = self._given.get(known.name)
        if given is not None and self._written(given.url) != known.url:
            raise Misconfigured(
                f"The backend {known.name!r} is {known.url} in the catalog, and {given.url} in the "
                "configuration; nothing was changed.",
                hint="Correct the configuration; 'calotype backend add' makes another backend.",
            )

    def _written(self, url: str) -> str:
        """As the catalog notes it."""
        return beside(self._catalog.path, url)


def _folder(url: str) -> Path | None:
    kind, _, folder = url.partition(":")
    return Path(folder) if kind == "file" else None


def _nested(one: Path, other: Path) -> bool:
    """True where one folder lies somewhere in the other."""
    first, second = (Path(os.path.realpath(each)) for each in (one, other))
    return first in second.parents or second in first.parents
