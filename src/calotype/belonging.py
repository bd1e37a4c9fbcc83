"""Belonging: whether a backend's bytes are this catalog's, so that it may erase any of them.

The backend's marker and the catalog's row agree, or one of them is older, or another's. And the
catalog is where it was: a copy that was dumped, cloned or restored elsewhere is another one. Only
one in a folder that really holds its bytes too, as before, was copied or moved together with them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from calotype.backends import INSIDE, Backend, Listed, Notes, Stand, Stands
from calotype.backends.folders import is_same_mount
from calotype.backends.markers import ERASED, MARKER, Marker, erased_seq
from calotype.catalog import Catalog, backends, homes, settings
from calotype.catalog.backends import Known
from calotype.catalog.failures import disk_failed
from calotype.catalog.reserve import Freeing
from calotype.errors import CalotypeError, EraseLocked, Unavailable
from calotype.mounting import Mount, Mounts
from calotype.presence import require_there

logger = logging.getLogger("calotype.backends")

TRIES = 20
"""How often a marker is written anew that another has changed meanwhile."""


class Fault(StrEnum):
    """Why nothing may be erased."""

    OTHER = "it belongs to another store"
    COPY = "this catalog is a copy, and the other one may be in use"
    TAKEN = "another copy of this catalog has taken it over, or a recovery that it is older than"
    OLDER = "this catalog is older than the bytes: more was erased than it knows of"
    LOST = "its marker calotype.json is gone or damaged"
    UNFINISHED = "a recovery of it is not finished"
    NOWHERE = "PostgreSQL does not say which server it is, so this catalog may be a copy"


_UNTOLD = "PostgreSQL did not say where this catalog began, so it may be a copy"

BEHIND = frozenset(Fault) - {Fault.OTHER}
"""Where files may have been kept since that this catalog knows nothing of."""

_RECOVER = "Run 'calotype fsck --recover': it compares both, and unlocks."
_ADOPT = (
    "If this catalog is to have these bytes from now on: 'calotype fsck --recover --adopt'; the "
    "other one can erase nothing then. If not, give this one a backend of its own: 'calotype "
    "backend add', copy, primary, then drop --abandon this one."
)
_MENDS = {
    Fault.OTHER: (
        "Give this store a backend of its own, or open the other store's catalog. If nobody uses "
        f"that store any more: remove {MARKER} there, then run 'calotype fsck --recover'."
    ),
    Fault.COPY: _ADOPT,
    Fault.TAKEN: _ADOPT,
    Fault.OLDER: _RECOVER,
    Fault.LOST: _RECOVER,
    Fault.UNFINISHED: _RECOVER,
    Fault.NOWHERE: (
        "Have a superuser GRANT EXECUTE ON FUNCTION pg_control_system() to the catalog's user."
    ),
}


@dataclass(frozen=True, slots=True)
class Standing:
    """How a backend and the catalog stand to each other; without a ``fault`` they belong together.

    ``content`` is the marker as it was read. ``home`` is where the catalog was noted to be, and
    ``here`` where it is. ``along`` says that it is another place's, and the bytes are as well;
    ``given`` that it is, and was given these for its own.
    """

    name: str
    url: str
    store: str
    known: Known
    marker: Marker | None = None
    content: bytes | None = None
    fault: Fault | None = None
    along: bool = False
    given: bool = False
    home: Stand | None = None
    here: Stand | None = None
    notes: tuple[Listed, ...] = ()

    @property
    def why(self) -> str:
        """What is wrong, and where the other catalog is, if that is known."""
        if self.fault is Fault.COPY and homes.is_untold(self.home):
            return _UNTOLD
        at = self.home.path if self.fault is Fault.COPY and self.home is not None else ""
        if not at or (self.here is not None and self.here.path == at):
            return str(self.fault)
        return f"{self.fault} ({at}{'' if _is_there(at) else ', where none is now'})"

    @property
    def mends(self) -> str:
        """What mends it."""
        return _MENDS[self.fault] if self.fault is not None else ""

    @property
    def erased(self) -> int:
        """How many batches were erased, as far as the backend knows."""
        told = [erased_seq(each.name) or 0 for each in self.notes]
        return max([self.marker.erase_seq if self.marker is not None else 0, *told])

    @property
    def error(self) -> EraseLocked:
        """What is told to whoever would erase."""
        return locked(self.name, self.why, self.mends)

    def require(self) -> None:
        """Raise ``EraseLocked`` unless they belong together."""
        if self.fault is not None:
            raise self.error


def locked(name: str, why: str, mends: str = _RECOVER) -> EraseLocked:
    """The error for whoever would erase in a backend."""
    return EraseLocked(
        f"Erasing is locked in the backend {name!r}: {why}; nothing was erased there.", hint=mends
    )


def look(catalog: Catalog, mount: Mount, notes: Sequence[Listed] = ()) -> Standing:
    """How they stand now; changes nothing. Errors of the backend come out."""
    backend = mount.backend
    content = backend.read_note(MARKER) if isinstance(backend, Notes) else None
    marker = Marker.of(content) if content is not None else None
    with catalog.read() as connection:  # after the marker, which is never ahead of its catalog
        known = backends.of_name(connection, mount.name)
        store = settings.get_meta(connection, "store_id") or ""
        home = homes.home(connection)
    if known is None:
        raise locked(mount.name, "the store has it no more", "'calotype backend list' shows which.")
    here = catalog.database.stand()
    found = Standing(
        mount.name,
        mount.url,
        store,
        known,
        marker,
        content,
        home=home,
        here=here,
        notes=tuple(notes),
    )
    away = homes.is_away(home, here)
    given = away and _is_given(marker, home, here)
    along = away and not given and _came_along(mount, marker, home, here)
    fault = _of_marker(found) if isinstance(backend, Notes) else None
    if here is None and mount.url != INSIDE:
        fault = Fault.NOWHERE
    elif fault is not Fault.OTHER and away and not (given or along):
        fault = Fault.COPY  # of whatever age it is: the bytes are the other one's
    return replace(found, fault=fault, along=along, given=given)


def claim(catalog: Catalog, mounts: Mounts, mount: Mount) -> Standing:
    """The same, once what is missing was written where nothing speaks against it.

    That are the marker of a backend in which nothing was erased, the catalog's home, and a new
    place of both.
    """
    backend = mount.backend
    for _ in range(TRIES):
        noted = isinstance(backend, Notes)
        found = look(catalog, mount, batches(backend))
        if found.fault is not None:
            return found
        wanted = _marker(mount, found)
        if _settle(catalog, mounts, found, marked=not noted or wanted == found.marker):
            continue
        if not isinstance(backend, Notes) or wanted == found.marker:
            mount.judge(found.erased, found.known)
            return found
        backend.write_note(MARKER, wanted.to_bytes(), instead_of=found.content)
    raise Unavailable(
        f"Others write the marker of {mount.url} at the same moment, again and again.",
        hint="Try again.",
    )


def batches(backend: Backend) -> list[Listed]:
    """The notes of what was erased there; to be asked for before the catalog is read."""
    return list(backend.scan(ERASED)) if isinstance(backend, Notes) else []


def behind(catalog: Catalog, mounts: Mounts, faults: Set[Fault] = BEHIND) -> Standing | None:
    """A backend that says that files may have been kept since that the catalog forgot.

    Or the first with one of the ``faults``. Raises where the primary cannot be asked.
    """
    for mount in mounts.all:
        try:
            found = look(catalog, mount, batches(mount.backend))
        except CalotypeError:
            if mount.role == backends.PRIMARY:
                raise
        else:
            if found.fault in faults:
                return found
    return None


def given_to(catalog: Catalog) -> str:
    """The mark of a catalog that is a copy: what it is given now is no other one's."""
    with catalog.read() as connection:
        home = homes.home(connection)
    here = catalog.database.stand()
    return here.mark if here is not None and homes.is_away(home, here) else ""


def claim_all(catalog: Catalog, mounts: Mounts) -> None:
    """Claim every backend for a catalog that is at home nowhere yet, or is to leave for elsewhere.

    What fails is made up for by the next gc or a later put; at home it is nevertheless, for a dump
    of it may be used by then.
    """
    unmarked = False
    for mount in mounts.all:
        try:
            require_there(catalog, mount)  # nothing is written beneath a disk that is not mounted
            claim(catalog, mounts, mount)
        except CalotypeError as error:
            if disk_failed(error):  # nothing more may be acknowledged then
                raise
            logger.warning("no marker in backend %s yet: %s", mount.name, error)
            unmarked = unmarked or isinstance(mount.backend, Stands)
    come_home(catalog, unmarked=unmarked)


def come_home(catalog: Catalog, *, unmarked: bool = False) -> None:
    """Note where the catalog is, if it is at home nowhere yet; and whether a marker is missing.

    A copy of a catalog that could not tell where it is may be opened where that can be told: it is
    known as one by what is noted then.
    """
    here = catalog.database.stand()
    with catalog.write(freeing=Freeing.BYTES) as connection:
        settings.lock(connection, "backends")
        if homes.home(connection) is None:
            homes.settle(connection, here)
        homes.note_unmarked(connection, unmarked)


def marked(catalog: Catalog, mount: Mount) -> int | None:
    """How far the backend's marker is known to be, where it is this catalog's; None where not.

    Asked of the backend now and then, and at once where the catalog's own row has gone back; the
    row is heeded in between.
    """
    known = next((each for each in catalog.backends if each.name == mount.name), None)
    if not mount.is_judged(known):
        if not mount.askable:
            return None
        try:
            found = look(catalog, mount)
        except CalotypeError:
            mount.leave_unread()
            return None
        mount.judge(found.erased if found.fault is None else -1, known)
    if mount.marked is None or mount.marked < 0:
        return None
    mount.marked = max(mount.marked, known.erase_seq if known is not None else 0)
    return mount.marked


def is_estranged(catalog: Catalog, mount: Mount) -> bool:
    """True where the backend was seen not to be this catalog's; asked as ``marked`` does."""
    marked(catalog, mount)
    return mount.marked is not None and mount.marked < 0


def _of_marker(found: Standing) -> Fault | None:
    """What the marker says against it."""
    marker, known = found.marker, found.known
    if marker is None:
        erased = known.erase_seq if known.generation else 0
        return Fault.LOST if erased or found.erased or found.content is not None else None
    if marker.store != found.store:
        return Fault.OTHER
    if marker.epoch > known.epoch:
        return Fault.TAKEN
    if marker.epoch < known.epoch:
        return Fault.UNFINISHED
    if not known.generation:
        return Fault.OLDER
    if marker.generation != known.generation:
        return Fault.TAKEN
    if marker.recovering:
        return Fault.UNFINISHED
    return Fault.OLDER if found.erased > known.erase_seq else None


def _marker(mount: Mount, found: Standing) -> Marker:
    """The marker as it ought to be."""
    known = found.known
    marker = found.marker or Marker(found.store, known.epoch, known.generation, known.erase_seq)
    stand = mount.backend.stand() if isinstance(mount.backend, Stands) else None
    return marker if found.along else replace(marker, stand=stand)


def _settle(catalog: Catalog, mounts: Mounts, found: Standing, *, marked: bool) -> bool:
    """Note what was not known before there were markers, or is another place for all by now.

    True where that changed something. Numbers of batches from before begin again. The home comes
    after the marker: what was killed between can be moved, for its marker does not say from where.
    """
    moved = (found.along or found.given) and all(_is_own(catalog, each) for each in mounts.all)
    here, home = catalog.database.stand(), found.home
    renamed = home is not None and here is not None and home != here and home.mark == here.mark
    settled = moved or renamed or (marked and home is None and here is not None)
    if found.known.generation and not settled:
        return False
    with catalog.write(freeing=Freeing.BYTES) as connection:
        settings.lock(connection, "backends")
        known = backends.of_name(connection, found.name)
        if known is not None and not known.generation:
            backends.begin_epoch(connection, known, known.epoch, 0)
        if settled and homes.home(connection) == home:
            homes.settle(connection, here)
    return True


def _is_own(catalog: Catalog, mount: Mount) -> bool:
    """True where the bytes are those of a catalog that is not at home here yet."""
    try:
        found = look(catalog, mount)
    except CalotypeError:
        return False
    return (found.along or found.given) and found.fault is None


def _came_along(
    mount: Mount, marker: Marker | None, home: Stand | None, here: Stand | None
) -> bool:
    """True where the bytes were copied or moved with the catalog: it may do what it likes there.

    They really lie in the catalog's folder, in the place that both have noted; no link leads to
    them and nothing is mounted between. And they are other bytes than were noted: a copy. Or both
    are where they were, or nothing is left of either there: put back in place, or moved.
    """
    if mount.url == INSIDE:
        return True
    if marker is None or marker.stand is None or not isinstance(mount.backend, Stands):
        return False
    before, now = marker.stand, mount.backend.stand()
    if now is None or home is None or here is None:
        return False
    inner = _inner(here, now)
    if inner is None or not _are_called(*inner, home, before):
        return False
    if not is_same_mount(here.path, now.path):
        return False
    if now.mark != before.mark or (now.path, here.path) == (before.path, home.path):
        return True
    return now.path != before.path and not (_is_there(before.path) or _is_there(home.path))


def _inner(catalog: Stand, objects: Stand) -> tuple[str, tuple[str, ...]] | None:
    """The catalog's name, and the way from its folder to the bytes; None where they are not in it.

    The way is empty where they are beside it in that folder itself.
    """
    if not catalog.path or not objects.path:
        return None
    file, root = Path(catalog.path), Path(objects.path)
    inside = root.is_relative_to(file.parent)
    return (file.name, root.relative_to(file.parent).parts) if inside else None


def _are_called(name: str, way: tuple[str, ...], catalog: Stand, objects: Stand) -> bool:
    """True where both were noted by these names: not always from one place, if one was killed."""
    file, root = Path(catalog.path), Path(objects.path)
    if not way:  # no name tells, so it has to be one place
        return file.name == name and root == file.parent
    return file.name == name and root.parts[-len(way) :] == way


def _is_there(path: str) -> bool:
    """True also where that cannot be told."""
    try:
        return Path(path).exists()
    except OSError:
        return True


def _is_given(marker: Marker | None, home: Stand | None, here: Stand | None) -> bool:
    """True where a copy was given this place for its own, and has stayed where it was then."""
    given = here is not None and marker is not None and marker.given_to == here.mark
    return given and not homes.is_left(home)
