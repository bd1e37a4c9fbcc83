"""Bytes as files in a folder: whole or not at all, and durable before it answers.

The order of a put: write a temporary file, sync it, rename it into place, sync the directory and
then the parents of directories that are new. No symbolic link below the root is ever followed.
"""

from __future__ import annotations

import errno
import os
import stat
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import BinaryIO

from calotype.backends import Key, Listed, Staged, Stand, beside
from calotype.backends.folders import READ, Folder, is_held, make_folder, sync_folder, telling
from calotype.backends.memory import exactly
from calotype.backends.placing import Placing
from calotype.backends.staged import LocalStaged, Witness, sync_files
from calotype.backends.window import open_file, window
from calotype.digest import CHUNK
from calotype.errors import NotFound
from calotype.quantities import Instant

# pathlib knows no directory descriptors, and its resolve() would follow links:
# ruff: noqa: PTH100, PTH112, PTH118, PTH120


_WRITE_IN = os.R_OK | os.W_OK | os.X_OK


class LocalBackend:
    """Files below ``root``, at ``sha256/ab/cd/<digest>...``; temporary ones in ``root/tmp``.

    Making one touches nothing; the first write makes the folders, for this user alone. Safe to use
    from any number of threads and processes, and after a fork.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = os.path.abspath(os.fspath(root))
        self._durable: set[str] = set()
        self._short = False
        self._witness: Callable[[], Witness | None] = lambda: None

    @property
    def url(self) -> str:
        """``file:`` and the absolute path of the root."""
        return f"file:{self._root}"

    def path(self, key: Key) -> str:
        """The absolute path of the object."""
        return os.path.join(self._root, *str(key).split("/"))

    def put(self, key: Key, source: BinaryIO, size: int) -> None:
        """Store exactly ``size`` bytes, durably; ``Unavailable`` if source or disk falls short."""
        staged = self.stage()
        try:
            for chunk in exactly(source, size):
                staged.write(chunk)
            self.publish([(key, staged)])
        finally:
            staged.discard()

    def open(self, key: Key, start: int = 0, stop: int | None = None) -> BinaryIO:
        """The bytes from ``start`` to before ``stop``, seekable; ``Corrupt`` for what is no file.

        The reader keeps the file that it opened, also when the key is deleted or put again.
        """
        place, _, name = str(key).rpartition("/")
        path = f"{self._root}/{key}"
        with telling("open", path):
            try:
                with Folder.opened(self._root, place) as folder:
                    descriptor = open_file(folder, name, path)
            except FileNotFoundError:
                raise NotFound(f"No object {key} in {self.url}.") from None
            return window(descriptor, path, start, stop)

    def size(self, key: Key) -> int | None:
        """The size in bytes of the file at ``key``, or None where there is none."""
        name = str(key)
        with telling("look at", self._root, name), suppress(FileNotFoundError):
            facts = _looked_at(self._root, name)
            return facts.st_size if stat.S_ISREG(facts.st_mode) else None
        return None

    def delete(self, key: Key) -> None:
        """Remove the file; nothing happens where there is none. Its folder stays."""
        place, _, name = str(key).rpartition("/")
        with (
            telling("delete", self._root, str(key)),
            suppress(FileNotFoundError),
            Folder.opened(self._root, place) as folder,
        ):
            folder.unlink(name)
        if self._short:
            self._short = not beside.keep_spare(self._root, self.stage)

    def scan(self, prefix: str = "") -> Iterator[Listed]:
        """Regular files whose names begin with ``prefix``, sorted by the bytes of their names.

        Holds one directory of each level in memory. What comes or goes meanwhile may be listed or
        not. Bytes of a name that are not UTF-8 are surrogate escapes.
        """
        levels = [iter(self._entries("", prefix))]
        while levels:
            found = next(levels[-1], None)
            if found is None:
                levels.pop()
            elif isinstance(found, Listed):
                yield found
            else:
                levels.append(iter(self._entries(found, prefix)))

    def stage(self) -> LocalStaged:
        """A new temporary file, for this user alone."""
        with telling("write in", self._root, "tmp"), self._drafts() as folder:
            return LocalStaged(self._root, folder)

    def stage_all(self, contents: Sequence[bytes]) -> list[Staged]:
        """A temporary file for each content, written and at rest; or none, and an error."""
        staged: list[Staged] = []
        if not contents:
            return staged
        try:
            with telling("write in", self._root, "tmp"), self._drafts() as folder:
                witness = self._watching(folder)
                whole = partial(LocalStaged.whole, self._root, folder, witness)
                staged += map(whole, contents)
        except BaseException:
            for each in staged:
                each.discard()
            raise
        return staged

    def _drafts(self) -> Folder:
        """The folder of temporary files, made if need be."""
        if not os.path.isdir(f"{self._root}/tmp"):
            self._make_root()
        return Folder.opened(self._root, "tmp")

    def _watching(self, folder: Folder) -> Witness | None:
        """A witness of what is written from now on; one serves until it was asked."""
        witness = self._witness()
        if folder.descriptor is not None and (witness is None or not witness.fresh):
            witness = Witness(os.dup(folder.descriptor))
            self._witness = weakref.ref(witness)
        return witness

    def rest(self, files: Sequence[Staged]) -> None:
        """End the writing of all; a witness alone is held open, to hear of failed writes."""
        ours = sorted((self._ours(each) for each in files), key=lambda each: each.opened)
        if ours:
            witness = ours[0].watched()
            for each in ours:
                each.rest(witness)

    def publish(self, items: Sequence[tuple[Key, Staged]]) -> None:
        """Sync every file, rename each into place, sync the directories: in this order.

        When the files cannot be synced all of them are discarded, and ``Unavailable`` is raised.
        A file that is published already is copied, so that no two keys share one. ``ValueError``
        for a discarded one, ``TypeError`` for what another kind of backend staged.
        """
        ready = [(str(key), self._ready(staged)) for key, staged in items]
        disk = sync_files(list(dict.fromkeys(staged for _, staged in ready)))
        with Placing(self._root, self._durable) as placing:
            for name, staged in ready:
                self._place(placing, name, staged, durably=disk is None)
        if disk:
            disk.sync_disk()
        self._durable.update(placing.made)

    def write_note(self, name: str, content: bytes, *, instead_of: bytes | None = None) -> bool:
        """Write a note durably, if what is there is ``instead_of``; False, and nothing, else."""
        with telling("write in", self._root, "tmp"), self._drafts():
            pass
        written = beside.write(self._root, self.stage, name, content, instead_of)
        self._short = not beside.keep_spare(self._root, self.stage)
        return written

    def read_note(self, name: str) -> bytes | None:
        """The note of that name, or None."""
        return beside.read(self._root, name)

    def delete_note(self, name: str) -> None:
        """Remove a note; nothing happens where there is none."""
        beside.delete(self._root, name)

    def stand(self) -> Stand | None:
        """The root, whatever leads there; None where it is not made yet."""
        mark = beside.mark(self._root)
        return None if mark is None else Stand(mark, os.path.realpath(self._root))

    def vacant(self) -> bool:
        """True where there is no folder of objects; the first put makes it, and it stays.

        ``Unavailable`` where it may not be looked for.
        """
        with telling("look into", self._root), suppress(FileNotFoundError, NotADirectoryError):
            return not stat.S_ISDIR(os.stat(f"{self._root}/sha256").st_mode)  # noqa: PTH116
        return True

    def shut(self) -> list[str]:
        """Which of the root and the folders right in it this user may not write in."""
        with telling("list", self._root), suppress(FileNotFoundError):
            with os.scandir(self._root) as entries:
                folders = [each for each in entries if each.is_dir(follow_symlinks=False)]
            inner = sorted(each.path for each in folders if each.name != "lost+found")
            return [path for path in (self._root, *inner) if not os.access(path, _WRITE_IN)]
        return []

    def sweep(self, older_than: Instant) -> int:
        """Remove temporary files not written to since ``older_than``; how many there were.

        Those that a living writer holds open stay.
        """
        swept = 0
        with (
            telling("sweep", self._root, "tmp"),
            suppress(FileNotFoundError),
            Folder.opened(self._root, "tmp") as folder,
        ):
            for found in folder.listed("", ""):
                if isinstance(found, Listed) and found.modified < older_than:
                    with suppress(FileNotFoundError, PermissionError):
                        if not _is_held(folder, found.name):
                            folder.unlink(found.name)
                            swept += 1
        return swept

    def _entries(self, place: str, prefix: str) -> list[Listed | str]:
        with telling("list", self._root, place):
            try:
                with Folder.opened(self._root, place.removesuffix("/")) as folder:
                    found = folder.listed(place, prefix)
            except (FileNotFoundError, NotADirectoryError) as error:
                if not place and (isinstance(error, NotADirectoryError) or self._leads_nowhere()):
                    raise
                return []
        return sorted(found, key=_name_bytes)

    def _leads_nowhere(self) -> bool:
        """True for a root that is a link to nothing; one made meanwhile is as empty as none."""
        return os.path.lexists(self._root) and not os.path.isdir(self._root)

    def _make_root(self) -> None:
        """Make the root and what is missing above it, each durable before the next is made."""
        there, missing = self._root, list[str]()
        while not os.path.isdir(there) and there != os.path.dirname(there):
            missing.append(there)
            there = os.path.dirname(there)
        with suppress(PermissionError):
            sync_folder(os.path.dirname(there))
        for path in reversed(missing):
            make_folder(path)
            sync_folder(os.path.dirname(path))
        with Folder.opened(self._root) as root:
            root.make("tmp")

    def _ready(self, staged: Staged) -> LocalStaged:
        ours = self._ours(staged)
        if ours.published:
            ours.become(self._copied(ours))
        ours.seal()
        return ours

    @staticmethod
    def _ours(staged: Staged) -> LocalStaged:
        if not isinstance(staged, LocalStaged):
            raise TypeError(f"Staged elsewhere, not by a LocalBackend: {type(staged).__name__}.")
        return staged

    def _copied(self, staged: LocalStaged) -> LocalStaged:
        copy = self.stage()
        try:
            with staged.open() as source:
                while chunk := source.read(CHUNK):
                    copy.write(chunk)
        except BaseException:
            copy.discard()
            raise
        return copy

    def _place(
        self, placing: Placing, name: str, staged: LocalStaged, *, durably: bool = False
    ) -> None:
        if staged.published:  # the same file under two keys
            staged.become(self._copied(staged))
            staged.seal()
            staged.sync()
        placing.place(name, staged, durably=durably)


def _looked_at(root: str, name: str) -> os.stat_result:
    """What the system says of ``name`` below ``root``; ``OSError`` where a link is in the way.

    Opens nothing, which costs a third; a link that is slipped in meanwhile is met by who opens it.
    """
    path = root
    *way, last = name.split("/")
    for part in way:
        path = f"{path}/{part}"
        if stat.S_ISLNK(os.lstat(path).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return os.lstat(f"{path}/{last}")


def _is_held(folder: Folder, name: str) -> bool:
    """False for one that this user may not open: no writer of ours made it."""
    try:
        descriptor = folder.open(name, READ)
    except PermissionError:
        return False
    try:
        return is_held(descriptor)
    finally:
        os.close(descriptor)


def _name_bytes(found: Listed | str) -> bytes:
    return os.fsencode(found.name if isinstance(found, Listed) else found)
