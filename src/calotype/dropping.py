"""Dropping: a backend let go of, each of its digests after another copy was read whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache

from sqlalchemy import Connection

from calotype.belonging import look
from calotype.catalog import Catalog, copies, settings
from calotype.catalog import backends as rows
from calotype.catalog.backends import PRIMARY, READ
from calotype.catalog.copies import Copy
from calotype.catalog.repeating import repeated
from calotype.catalog.reserve import Freeing
from calotype.digest import Digest
from calotype.errors import CalotypeError, EraseLocked, Misconfigured, NotFound, Unavailable
from calotype.gc.erasing import Eraser, Tally
from calotype.gc.terms import Allowance, Terms
from calotype.mounting import Mount, Mounts
from calotype.occupying import clear

PAGE = 200

OnePlace = Callable[[Mount], bool]


@dataclass(frozen=True, slots=True)
class Dropped:
    """What dropping a backend has come to, or would.

    ``let_go`` copies went, ``kept`` have no other copy that could be read whole, ``waiting`` are
    let go of and not erased yet. ``removed`` once nothing is left: the store has it no more.
    """

    let_go: int = 0
    let_go_bytes: int = 0
    kept: int = 0
    kept_bytes: int = 0
    waiting: int = 0
    removed: bool = False

    def counting(self, copy: Copy, *, went: bool) -> Dropped:
        """One copy more, that went or has to stay."""
        size = copy.blob.size
        if went:
            return replace(self, let_go=self.let_go + 1, let_go_bytes=self.let_go_bytes + size)
        return replace(self, kept=self.kept + 1, kept_bytes=self.kept_bytes + size)


class Dropper:
    """Lets go of backends. ``erase_delay``, in microseconds; None leaves it to each backend."""

    def __init__(self, catalog: Catalog, mounts: Mounts, erase_delay: int | None) -> None:
        self._catalog = catalog
        self._mounts = mounts
        self._erase_delay = erase_delay

    def plan(self, name: str, *, abandon: bool) -> Dropped:
        """What would become of each copy, if all others are as sound as the catalog says."""
        mount = self._mounts.named(name)
        with self._catalog.read() as connection:
            _require_role(connection, name, droppable=True)
            unfinished = rows.unfinished(connection, name)
        one_place = cache(_judge(mount, abandon=abandon))
        done = Dropped()
        for copy, others in self._copies(mount):
            done = done.counting(copy, went=any(self._elsewhere(copy, others, one_place)))
        return replace(done, waiting=max(unfinished - done.let_go - done.kept, 0))

    def drop(self, name: str, *, abandon: bool) -> Dropped:
        """Let go of what another backend has, erase it, and forget the backend once it is empty."""
        self._mounts.named(name)
        with self._catalog.write() as connection:
            settings.lock(connection, "backends")
            _require_role(connection, name, droppable=True)
            rows.set_role(connection, name, READ)
        self._mounts.refresh()
        mount = self._mounts.named(name)
        one_place = _judge(mount, abandon=abandon)
        done = Dropped()
        for copy, others in self._copies(mount):
            witness = self._read_elsewhere(self._elsewhere(copy, others, one_place))
            done = done.counting(copy, went=witness is not None and self._doom(copy, witness))
        if not abandon:
            self._erase(mount)
        return self._remove(mount, done, abandon=abandon)

    def _copies(self, mount: Mount) -> Iterator[tuple[Copy, Sequence[Copy]]]:
        """Each live copy in a backend, with the live copies of its page in any."""
        after = ""
        while True:
            with self._catalog.read() as connection:
                page = copies.live_from(connection, mount.name, after, PAGE)
                others = copies.live_anywhere(connection, [copy.blob.digest for copy in page])
            if not page:
                return
            after = page[-1].blob.digest
            for copy in page:
                yield copy, [each for each in others if each.blob.digest == copy.blob.digest]

    def _elsewhere(
        self, copy: Copy, others: Sequence[Copy], one_place: OnePlace
    ) -> Iterator[tuple[Copy, Mount]]:
        """Copies in other places that nobody found damaged."""
        for other in others:
            if other.backend == copy.backend or other.suspect:
                continue
            with suppress(NotFound):  # a backend that was dropped meanwhile
                there = self._mounts.named(other.backend)
                if other.key != copy.key or not one_place(there):
                    yield other, there

    def _read_elsewhere(self, elsewhere: Iterable[tuple[Copy, Mount]]) -> Copy | None:
        """Another copy of the same digest that was read whole just now."""
        for other, there in elsewhere:
            with suppress(CalotypeError), there.backend.open(other.key) as file:
                if Digest.of(file) == other.blob.digest:
                    return other
        return None

    @repeated
    def _doom(self, copy: Copy, witness: Copy) -> bool:
        with self._catalog.write(freeing=Freeing.BYTES) as connection:
            settings.lock_digests(connection, [copy.blob.digest])
            copies.lock_blobs(connection, [copy.blob.digest])
            settings.share(connection, "backends")
            _require_role(connection, copy.backend)
            if not copies.still_sound(connection, [witness.token]):
                return False
            rows.let_go(connection, [copy.token], self._catalog.clock())
            return True

    def _erase(self, mount: Mount) -> None:
        terms = Terms(self._catalog.clock(), self._erase_delay)
        eraser = Eraser(self._catalog, self._mounts, mount, terms, Allowance(terms))
        try:
            for _ in eraser.erase(Tally(), lambda: False):
                continue
        except EraseLocked as error:
            raise EraseLocked(
                str(error),
                hint="If the bytes there are another one's, to be left alone: "
                "'calotype backend drop --abandon'. If they are to be this one's: "
                "'calotype fsck --recover --adopt'.",
            ) from error
        except CalotypeError as error:
            raise Unavailable(
                f"What was let go of in the backend {mount.name!r} cannot be erased: {error}",
                hint="Drop it again once it can be reached. If it is gone for good: "
                "'calotype backend drop --abandon'.",
            ) from error

    def _remove(self, mount: Mount, done: Dropped, *, abandon: bool) -> Dropped:
        own = not abandon and look(self._catalog, mount).fault is None
        with self._catalog.write() as connection:
            settings.lock(connection, "backends")
            _require_role(connection, mount.name)
            if abandon:
                rows.forget(connection, mount.name)
            left = rows.unfinished(connection, mount.name)
            if not left:
                rows.remove(connection, mount.name)
        self._mounts.refresh()
        if own and not left:
            with suppress(CalotypeError):  # else the same store can have the place again
                clear(mount.backend)
        return replace(done, waiting=left - done.kept, removed=not left)


def _judge(mount: Mount, *, abandon: bool) -> OnePlace:
    """Tells whether a backend is another name of ``mount``'s place, or may be.

    What is erased from one is gone from the other then. Of a place that is abandoned nothing is
    erased: it need not answer.
    """

    def one_place(there: Mount) -> bool:
        try:
            return not abandon and there.is_place_of(mount)
        except CalotypeError:
            return True

    return one_place


def _require_role(connection: Connection, name: str, *, droppable: bool = False) -> None:
    """Raise unless the backend is one that may be dropped, or is being dropped."""
    role = {each.name: each.role for each in rows.known(connection)}.get(name)
    if role is None:
        raise gone_meanwhile(name)
    if role == PRIMARY:
        raise Misconfigured(
            f"The backend {name!r} is the primary: puts are acknowledged there.",
            hint="Make another one the primary first: 'calotype backend primary'.",
        )
    if role != READ and not droppable:
        raise Misconfigured(
            f"The backend {name!r} was given another role while it was dropped.",
            hint="'calotype backend list' shows which; drop it again if that is meant.",
        )


def gone_meanwhile(name: str) -> NotFound:
    """Of a backend that somebody dropped in the meantime."""
    return NotFound(
        f"The store has no backend {name!r} any more.", hint="'calotype backend list' shows them."
    )
