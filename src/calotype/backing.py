"""The backends of a store: another one added, filled, made the primary, or dropped.

Bytes move while the store is in use. A backend is let go of only when each of its digests was
read whole from another one just before.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence, Set
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from secrets import token_hex

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from calotype.backends import INSIDE, Backend, Closes, Notes, Remote
from calotype.backends.markers import MARKER, Marker
from calotype.catalog import Catalog, settings, totals
from calotype.catalog import backends as rows
from calotype.catalog.backends import MIRROR, PRIMARY, READ, Coverage, Known
from calotype.catalog.places import beside
from calotype.copying import Copier, Outcome, Pace
from calotype.digest import Digest
from calotype.dropping import Dropped, Dropper, gone_meanwhile
from calotype.errors import Misconfigured, Unavailable
from calotype.figures import BackendState
from calotype.mounting import Mount, Mounts
from calotype.occupying import occupied
from calotype.presence import holds_bytes, require_there
from calotype.progress import Progress, Run
from calotype.quantities import Size

PAGE = 200
THREADS = 8
SLICE = PAGE // THREADS

NOW_AND_THEN = 0.5
"""Seconds between two words on how far a copy is."""

SHOWN = 100
"""How many failures a result lists one by one."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class CopyFailure:
    """A digest that could not be copied, and why."""

    digest: Digest
    code: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy did; ``there`` came from somebody else meanwhile, ``gone`` was let go."""

    copied: int = 0
    bytes: int = 0
    there: int = 0
    gone: int = 0
    failed: int = 0
    failures: tuple[CopyFailure, ...] = ()


class Backends:
    """The backends of one store.

    ``erase_delay``, in microseconds, is how long bytes stay that were let go of; None leaves it
    to each backend.
    """

    def __init__(self, catalog: Catalog, mounts: Mounts, erase_delay: int | None = None) -> None:
        self._catalog = catalog
        self._mounts = mounts
        self._erase_delay = erase_delay

    def list(self) -> list[BackendState]:
        """Every backend, the primary first."""
        if not self._catalog.exists():
            mount = self._mounts.primary
            return [BackendState(mount.name, mount.url, mount.role, 0, 0, 0, 0, 0, 0.0)]
        self._mounts.refresh()
        with self._catalog.read() as connection:
            return states(connection, self._mounts, *totals.weigh_blobs(connection))

    def add(self, name: str, url: str | Backend, role: str = MIRROR) -> BackendState:
        """Have the bytes in another place as well; ``copy`` brings what is there already.

        ``role`` is ``"mirror"`` (each put is copied to it at once) or ``"read"``. The place must
        answer, and hold no objects. ``Misconfigured`` for a name or a place that the store has.
        """
        if not _NAME.fullmatch(name):
            raise Misconfigured(
                f"No name of a backend: {name!r}.", hint="Use small letters, digits, - and _."
            )
        if role not in (MIRROR, READ):
            raise Misconfigured(
                f"A backend is added as mirror or read, not as {role!r}.",
                hint="Afterwards 'calotype backend primary' makes it the primary.",
            )
        backend = self._mounts.open(url)
        with ExitStack() as refused:
            if isinstance(backend, Closes) and backend is not url and backend.url != INSIDE:
                refused.callback(backend.close)
            self._catalog.ensure()
            _require_unused(backend, self._catalog.store_id)
            self._mounts.refresh()
            self._mounts.require_another_place(backend)
            seen = {mount.name for mount in self._mounts.all}
            new = Known(name, beside(self._catalog.path, backend.url), role, 1, 0, token_hex(8))
            with occupied(self._catalog, self._mounts, backend, new) as known:
                self._insert(known, seen)
            refused.pop_all()
        self._mounts.give(name, backend)
        self._mounts.refresh()
        return next(each for each in self.list() if each.name == name)

    def copy(
        self, name: str, verify: bool = True, *, rate: Size | None = None, dry_run: bool = False
    ) -> Run[Progress, Copied]:
        """Copy to a backend all that it lacks, while the store is in use.

        Each copy is hashed on its way and, unless told otherwise, read back. Stop it at any time:
        the next one goes on. ``rate`` is the most bytes a second. A ``dry_run`` reads and copies
        nothing: ``copied`` and ``bytes`` are what the catalog knows to be missing there.
        """
        mount = self._mounts.named(name)
        if mount.role == READ:
            raise Misconfigured(
                f"The backend {name!r} is only read.",
                hint="Copy to one that is a mirror or the primary.",
            )
        pace = Pace.of(rate)
        if dry_run:
            return Run(lambda: self._plan_copy(mount), name="copy")
        return Run(lambda: self._copy_steps(mount, verify, pace), name="copy")

    def primary(self, name: str) -> None:
        """Acknowledge puts in this backend from now on; the one before becomes a mirror."""
        mount = self._mounts.named(name)
        require_there(self._catalog, mount)
        if isinstance(mount.backend, Remote):
            mount.backend.reach()
        with self._catalog.write() as connection:
            settings.lock(connection, "backends")
            known = {each.name: each for each in rows.known(connection)}
            if name not in known:
                raise gone_meanwhile(name)
            for each in known.values():
                if each.role == PRIMARY and each.name != name:
                    rows.set_role(connection, each.name, MIRROR)
            rows.set_role(connection, name, PRIMARY)
        self._mounts.refresh()

    def drop(self, name: str, *, abandon: bool = False, dry_run: bool = False) -> Dropped:
        """Let go of a backend, of each digest only after another copy was read whole.

        What has no other sound copy stays, and so does the backend. Harmless to repeat: it is
        gone for the store once all of its bytes are erased, which ``erase_delay`` puts off.
        ``abandon`` forgets what was let go of without erasing it: for a place that is gone for
        good. ``dry_run`` reads and changes nothing: it tells what the catalog knows.
        """
        dropper = Dropper(self._catalog, self._mounts, self._erase_delay)
        return (dropper.plan if dry_run else dropper.drop)(name, abandon=abandon)

    def _insert(self, new: Known, seen: Set[str]) -> None:
        """Note it, if it was told apart from all others: nobody has added one since."""
        try:
            with self._catalog.write() as connection:
                settings.lock(connection, "backends")
                known = rows.known(connection)
                if any(each.url == new.url for each in known):
                    hint = "'calotype backend list' shows it."
                    raise Misconfigured(f"The store has {new.url} already.", hint=hint)
                if any(each.name not in seen for each in known):
                    raise Unavailable(
                        "Another backend was added at the same moment.", hint="Try again."
                    )
                rows.add(connection, new)
        except IntegrityError as error:
            raise Misconfigured(
                f"The store has a backend {new.name!r} already.", hint="Choose another name."
            ) from error

    def _plan_copy(self, mount: Mount) -> Generator[Progress, None, Copied]:
        with self._catalog.read() as connection:
            count, size = rows.count_lacking(connection, mount.name)
        yield Progress(count, 0)
        return Copied(count, size)

    def _copy_steps(
        self, mount: Mount, verify: bool, pace: Pace
    ) -> Generator[Progress, None, Copied]:
        copier = Copier(self._catalog, self._mounts, mount)
        with self._catalog.read() as connection:
            total, _ = rows.count_lacking(connection, mount.name)
        done, count, after = Copied(), 0, ""
        outcomes: deque[Outcome] = deque()
        threads = 1 if pace.rate is not None else THREADS

        def copied(digests: Sequence[str]) -> None:
            wanted = [Digest.known(digest) for digest in digests]
            for outcome in copier.copy(wanted, verify=verify, pace=pace):
                if isinstance(outcome.error, Unavailable) and isinstance(mount.backend, Remote):
                    mount.backend.reach()  # else each of the others would wait as long
                outcomes.append(outcome)

        with ThreadPoolExecutor(threads) as pool, closing(pace):
            while True:
                with self._catalog.read() as connection:
                    page = rows.lacking(connection, mount.name, after, PAGE)
                if not page:
                    return done
                after = page[-1]
                slices = [page[first : first + SLICE] for first in range(0, len(page), SLICE)]
                for _ in _worked(pool, copied, slices):
                    while outcomes:
                        done, count = _counted(done, outcomes.popleft()), count + 1
                    yield Progress(
                        max(total, count),
                        count,
                        skipped=done.there + done.gone,
                        computed=done.copied,
                        failed=done.failed,
                        bytes=done.bytes,
                    )


def _worked(
    pool: ThreadPoolExecutor, work: Callable[[Sequence[str]], None], slices: Sequence[Sequence[str]]
) -> Iterator[None]:
    """Every slice worked on; a step now and then, and when all are done. What fails is raised."""
    left = {pool.submit(work, each) for each in slices}
    try:
        while left:
            finished, left = wait(left, NOW_AND_THEN, FIRST_COMPLETED)
            for each in finished:
                each.result()
            yield
    finally:
        for each in left:
            each.cancel()


def _require_unused(backend: Backend, store: str | None) -> None:
    if not holds_bytes(backend):
        return
    content = backend.read_note(MARKER) if isinstance(backend, Notes) else None
    marker = Marker.of(content) if content is not None else None
    hint = "Give an empty place: each store has its own."
    if marker is not None and marker.store == store:
        hint = (
            "Give an empty place, or empty this one: it was this store's. Only where an older "
            "catalog was put back, which knows another place alone: copy all that is here to that "
            f"one, {MARKER} as well, then run 'calotype fsck --recover --adopt'."
        )
    raise Misconfigured(f"There are objects in {backend.url} already.", hint=hint)


def states(connection: Connection, mounts: Mounts, blobs: int, size: int) -> list[BackendState]:
    """Every backend, the primary first, of a store that has so many blobs of ``size`` bytes."""
    covered = rows.coverage(connection)
    return [_state(mount, covered.get(mount.name, Coverage()), blobs, size) for mount in mounts.all]


def _state(mount: Mount, covered: Coverage, blobs: int, size: int) -> BackendState:
    sound = covered.copies - covered.suspect
    return BackendState(
        mount.name,
        mount.url,
        mount.role,
        covered.copies,
        covered.bytes,
        covered.suspect,
        max(blobs - sound, 0),
        max(size - covered.sound_bytes, 0),
        100 * sound / blobs if blobs else 100.0,
    )


def _counted(done: Copied, outcome: Outcome) -> Copied:
    if outcome.error is not None:
        error = outcome.error
        failure = CopyFailure(outcome.digest, error.code, str(error), error.hint)
        shown = (*done.failures, failure)[:SHOWN]
        return replace(done, failed=done.failed + 1, failures=shown)
    if outcome.state == "copied":
        return replace(done, copied=done.copied + 1, bytes=done.bytes + outcome.size)
    return replace(done, **{outcome.state: getattr(done, outcome.state) + 1})
