"""Blocking: the block-list told to every backend, so that it outlives the catalog."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

from calotype.backends import Backend, Key, Notes
from calotype.backends.markers import BLOCKED, Block, blocked_digest, blocked_name
from calotype.belonging import Fault, batches, look
from calotype.catalog import Catalog, copies, settings
from calotype.catalog.backends import PRIMARY
from calotype.digest import Digest
from calotype.errors import CalotypeError, EraseLocked
from calotype.mounting import Mount, Mounts
from calotype.presence import require_there
from calotype.quantities import Instant

logger = logging.getLogger("calotype.backends")

PAGE = 1000

_OWN = (None, Fault.UNFINISHED)


def tell(catalog: Catalog, mounts: Mounts, digest: Digest, reason: str) -> None:
    """Note a blocked digest in every backend that is this catalog's.

    Raises where the primary cannot be told; what another one is not told, the next gc makes up for.
    """
    for mount in mounts.all:
        try:
            notes = _notes(catalog, mount)
            if notes is not None:
                write(notes, digest, Block(reason, catalog.clock()))
        except CalotypeError as error:
            if mount.role == PRIMARY and not isinstance(error, EraseLocked):
                raise
            logger.warning("backend %s is not told of a block: %s", mount.name, error)


def make_up(catalog: Catalog, mount: Mount) -> None:
    """Note in a backend of this catalog what it was not told; what fails is for the next time.

    ``EraseLocked`` where the catalog was put back meanwhile, or another one has taken over.
    """
    backend, own = mount.backend, everything(catalog)
    if not own or not isinstance(backend, Notes):
        return
    try:
        noted = {blocked_digest(found.name) for found in backend.scan(BLOCKED)}
        missing = own.keys() - noted
        if missing and (found := look(catalog, mount, batches(backend))).fault not in _OWN:
            raise found.error
        for digest in sorted(missing):
            write(backend, digest, own[digest])
        for digest in sorted(missing - everything(catalog).keys() if missing else ()):
            backend.delete_note(blocked_name(digest))  # taken off the list meanwhile
    except EraseLocked:
        raise
    except CalotypeError as error:
        logger.warning("backend %s is not told of a block: %s", mount.name, error)


def unblock(catalog: Catalog, mounts: Mounts, digest: Digest) -> bool:
    """Take it off the list and remove its notes; False where there was neither.

    It stays blocked where a note stays.
    """
    there = _take_back(catalog, mounts, digest)
    with catalog.write() as connection:
        before = settings.unblock(connection, digest)
    if before is None:
        return there
    try:  # gc may have told a backend once more meanwhile
        _take_back(catalog, mounts, digest)
    except BaseException:
        reason, at = before
        with catalog.write() as connection:
            settings.block(connection, digest, at, reason)
        raise
    return True


def _take_back(catalog: Catalog, mounts: Mounts, digest: Digest) -> bool:
    """Remove its notes; True where there was one.

    Raises, and removes none, where one backend cannot be reached or may be another catalog's: a
    note that stays would have the file purged again by a recovery.
    """
    name = blocked_name(digest)
    found = [notes for mount in mounts.all if (notes := _notes(catalog, mount)) is not None]
    there = [notes for notes in found if notes.read_note(name) is not None]
    for notes in there:
        notes.delete_note(name)
    return bool(there)


def noted(backend: Backend) -> dict[str, Block]:
    """The digests that a backend says are blocked."""
    found: dict[str, Block] = {}
    if isinstance(backend, Notes):
        for each in list(backend.scan(BLOCKED)):
            digest = blocked_digest(each.name)
            content = backend.read_note(each.name) if digest is not None else None
            if digest is not None and content is not None:
                found[str(digest)] = Block.of(each.name, content)
    return found


def write(notes: Notes, digest: str, block: Block) -> None:
    """Note one digest; what is noted of it already gives way."""
    name, note = blocked_name(digest), block.to_bytes()
    if not notes.write_note(name, note):
        notes.write_note(name, note, instead_of=notes.read_note(name))


def everything(catalog: Catalog) -> dict[str, Block]:
    """All that is blocked."""
    found: dict[str, Block] = {}
    after = ""
    while True:
        with catalog.read() as connection:
            page = settings.blocked_ones(connection, after, PAGE)
        found.update({digest: Block(reason, at) for digest, reason, at in page})
        if len(page) < PAGE:
            return found
        after = page[-1][0]


@dataclass(frozen=True, slots=True)
class BlockLists:
    """What a catalog has on its ``own`` list, and what each backend has ``noted``, by its name.

    ``lifted`` are digests that were taken off since: one backend does not note them, and has an
    object without a row that is later than all that is known of the block.
    """

    own: Mapping[str, Block]
    noted: Mapping[str, Mapping[str, Block]]
    lifted: Set[str] = frozenset()

    @classmethod
    def of(cls, catalog: Catalog, mounts: Sequence[Mount], *, whole: bool) -> BlockLists:
        """Those of these backends; nothing is lifted unless they are all that there are."""
        lists = cls(everything(catalog), {each.name: noted(each.backend) for each in mounts})
        if not whole:
            return lists
        lifted = {
            digest
            for digest, since in lists._latest().items()
            if any(lists._was_put_since(catalog, each, digest, since) for each in mounts)
        }
        return replace(lists, lifted=lifted)

    @property
    def blocked(self) -> Set[str]:
        """What may not come back."""
        return self._latest().keys() - self.lifted

    def foreign(self, name: str) -> dict[str, str]:
        """What a backend notes and the catalog does not know of, and why."""
        unknown = self.noted[name].keys() - self.own.keys() - self.lifted
        return {digest: self.noted[name][digest].reason for digest in unknown}

    def _latest(self) -> dict[str, Instant]:
        found: dict[str, Instant] = {}
        for each in (self.own, *self.noted.values()):
            for digest, block in each.items():
                found[digest] = max(block.at, found.get(digest, 0))
        return found

    def _was_put_since(self, catalog: Catalog, mount: Mount, digest: str, since: Instant) -> bool:
        if not isinstance(mount.backend, Notes) or digest in self.noted[mount.name]:
            return False
        begins = str(Key(Digest.known(digest)))
        later = [each.name for each in mount.backend.scan(begins) if each.modified > since]
        if not later:
            return False
        with catalog.read() as connection:
            rows = copies.between(connection, mount.name, begins, f"{begins}\x7f")
        return not {str(row.key) for row in rows}.issuperset(later)


def lift(mounts: Sequence[Mount], digest: str) -> None:
    """Remove the notes of one that was taken off the list; the catalog's row is the last to go."""
    for mount in mounts:
        if isinstance(mount.backend, Notes):
            mount.backend.delete_note(blocked_name(digest))


def _notes(catalog: Catalog, mount: Mount) -> Notes | None:
    """Where a backend keeps its notes, if it does; raises unless it is this catalog's for sure."""
    backend = mount.backend
    if not isinstance(backend, Notes):
        return None
    require_there(catalog, mount)
    found = look(catalog, mount)
    if found.fault is not None:
        raise EraseLocked(
            f"Blocks cannot be noted or taken back in the backend {mount.name!r}: {found.why}.",
            hint=found.mends,
        )
    return backend
