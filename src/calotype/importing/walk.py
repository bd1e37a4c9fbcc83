"""The files of a tree, in the order of their paths' bytes, and what is passed over."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from calotype.errors import CalotypeError, Denied, Misconfigured, NotFound, Unavailable
from calotype.importing.own import INNER
from calotype.stamp import Stamp

# pathlib cannot tell an entry's type without asking the system again:
# ruff: noqa: PTH112, PTH116, PTH118, PTH119, PTH120


def absolute(path: bytes) -> bytes:
    """The whole path without ``..``, which leads up from where a link leads to.

    Links that no ``..`` follows stay as they are.
    """
    head, name = os.path.split(path)
    if name == b"..":
        return os.path.realpath(path)
    if b".." in head.split(b"/"):
        return os.path.join(os.path.realpath(head), name)
    return os.path.abspath(path)  # noqa: PTH100 - resolve() would follow links


_OURS = (b"", *map(os.fsencode, INNER))
"""A store's own folder, and those of its own in it."""


class Found(NamedTuple):
    """A file to import: its absolute path, and its stamp when it was found."""

    path: bytes
    stamp: Stamp


class Walk:
    """One walk through a tree.

    Passed over and counted in ``skipped``: ``empty`` files, ``hidden`` ones and folders (their
    name begins with a dot), and ``special``: neither file nor folder, or a link to a folder.
    Links to files are followed. Folders and files that are ``own()`` (device, inode) when the walk
    begins are not entered and not counted. Files that are ``named`` are neither empty nor hidden,
    as long as their folder is not. ``failures`` are those that could not be looked at.
    """

    whole = True
    """Whatever lies below ``root`` and is not found is there no longer."""

    def __init__(
        self,
        root: bytes,
        own: Callable[[], Collection[tuple[int, int]]] = frozenset,
        folder: bytes = b"",
        named: Collection[bytes] = frozenset(),
    ) -> None:
        self.root = root
        self._named = named
        self.skipped: Counter[str] = Counter()
        self.failures: list[tuple[bytes, CalotypeError]] = []
        self._find_own = own
        self._folder = os.path.realpath(folder) if folder else b""
        self._own: Collection[tuple[int, int]] = ()

    def files(self) -> Iterator[Found]:
        """Every file; ``NotFound``, ``Denied`` or ``Misconfigured`` for a root that is no folder.

        ``Misconfigured`` for the store's own, too. Holds one folder of each level in memory. What
        comes or goes meanwhile is found or not.
        """
        self._own = self._find_own()
        self._require_others()
        levels = [iter(self._entries(self.root, top=True))]
        while levels:
            entry = next(levels[-1], None)
            if entry is None:
                levels.pop()
            elif isinstance(entry, Found):
                yield entry
            else:
                levels.append(iter(self._entries(entry)))

    def require(self) -> None:
        """Raise what ``files`` raises at once for a root that is no folder."""
        try:
            os.scandir(self.root).close()
        except OSError as error:
            raise _no_folder(self.root, error) from error

    def _require_others(self) -> None:
        """Raise ``Misconfigured`` where the root is the store's, or among the objects in it."""
        path, below = os.path.realpath(self.root), b""
        while True:
            with suppress(OSError):
                if below in _OURS and self._is_ours(os.stat(path)):
                    raise Misconfigured(
                        f"{os.fsdecode(self.root)!r} is where the store keeps its bytes.",
                        hint="Import a folder of your own. What fsck finds there without a row "
                        "'calotype fsck --recover' takes in.",
                    )
            if path == os.path.dirname(path):
                return
            path, below = os.path.split(path)

    def _entries(self, folder: bytes, *, top: bool = False) -> list[Found | bytes]:
        """The files in a folder and the folders to enter, by the bytes of their whole paths."""
        found: list[tuple[bytes, Found | bytes]] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if (one := self._entry(entry)) is not None:
                        name = entry.path
                        found.append((name + b"/" if isinstance(one, bytes) else name, one))
        except OSError as error:
            if top:
                raise _no_folder(folder, error) from error
            self.failures.append((folder, _unreadable(folder, error)))
        found.sort()
        return [one for _, one in found]

    def _entry(self, entry: os.DirEntry[bytes]) -> Found | bytes | None:
        hidden = entry.name.startswith(b".")
        if hidden and entry.path not in self._named:
            self.skipped["hidden"] += 1
            return None
        try:
            if entry.is_dir(follow_symlinks=False):
                if hidden:
                    self.skipped["hidden"] += 1
                    return None
                return None if self._is_our_folder(entry) else entry.path
            return self._file(entry.path, entry.stat())
        except FileNotFoundError as error:
            if entry.is_symlink():
                self.failures.append((entry.path, _unreadable(entry.path, error)))
        except OSError as error:
            self.failures.append((entry.path, _unreadable(entry.path, error)))
        return None

    def _file(self, path: bytes, facts: os.stat_result) -> Found | None:
        if not stat.S_ISREG(facts.st_mode):
            self.skipped["special"] += 1
        elif self._is_ours(facts):
            return None
        elif not facts.st_size and path not in self._named:
            self.skipped["empty"] += 1
        else:
            return Found(path, Stamp.of(facts))
        return None

    def _is_our_folder(self, entry: os.DirEntry[bytes]) -> bool:
        """By its path too: a store that is new makes its folder while the walk is under way."""
        if self._folder and entry.name == os.path.basename(self._folder):
            return os.path.realpath(entry.path) == self._folder
        return self._is_ours(entry.stat(follow_symlinks=False))

    def _is_ours(self, facts: os.stat_result) -> bool:
        return bool(self._own) and (facts.st_dev, facts.st_ino) in self._own

    def count(self) -> int:
        """About how many files there are; asks the system for no more than the names."""
        number, folders = 0, [self.root]
        while folders:
            with suppress(OSError), os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.name.startswith(b"."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        number += 1
        return number


class Named(Walk):
    """Files below a root, or elsewhere, that are named one by one; none of them is passed over.

    ``in_use`` raises ``Misconfigured`` for one that must not be read.
    """

    whole = False

    def __init__(
        self,
        root: bytes,
        paths: Iterable[bytes],
        own: Callable[[], Collection[tuple[int, int]]] = frozenset,
        in_use: Callable[[bytes], object] = lambda _: None,
    ) -> None:
        super().__init__(root, own)
        self._require_not_in_use = in_use
        real = os.path.join(os.path.realpath(root), b"")
        found = (absolute(os.path.join(root, path)) for path in paths)
        self._paths = sorted(
            {
                os.path.join(root, path[len(real) :]) if path.startswith(real) else path
                for path in found
            }
        )

    def files(self) -> Iterator[Found]:
        """Every one of them; one that is not there has an empty stamp, and fails when read."""
        for path in self._paths:
            if b"\0" not in path and os.path.isdir(path):  # one that could not be read before
                walk = Walk(path, self._find_own)
                try:
                    yield from walk.files()
                except CalotypeError as error:
                    self.failures.append((path, error))
                self.skipped += walk.skipped
                self.failures += walk.failures
                continue
            try:
                self._require_not_in_use(path)
            except Misconfigured as error:
                self.failures.append((path, error))
            else:
                yield found_at(path)

    def require(self) -> None:
        """Nothing: each file says for itself whether it is there."""

    def count(self) -> int:
        """How many they are."""
        return len(self._paths)


def found_at(path: bytes) -> Found:
    """The file at ``path``; with an empty stamp where the system does not show one."""
    try:
        return Found(path, Stamp.of(os.stat(path)))
    except (OSError, ValueError):
        return Found(path, Stamp(0, 0, 0))


def _no_folder(path: bytes, error: OSError) -> CalotypeError:
    shown = os.fsdecode(path)
    if isinstance(error, NotADirectoryError):
        return Misconfigured(
            f"{shown!r} is a file, not a folder.", hint=f"Put it: calotype put {shown}"
        )
    return _unreadable(path, error)


def _unreadable(path: bytes, error: OSError) -> CalotypeError:
    shown = os.fsdecode(path)
    if isinstance(error, FileNotFoundError):
        what = "A broken symlink" if os.path.islink(path) else "No such folder"  # noqa: PTH114
        return NotFound(f"{what}: {shown!r}.", hint="Check the path.")
    if isinstance(error, PermissionError):
        return Denied(f"{shown!r} may not be read.", hint="Check its permissions.")
    return Unavailable(f"Cannot look at {shown!r}: {error.strerror}.", hint="Import it again.")
