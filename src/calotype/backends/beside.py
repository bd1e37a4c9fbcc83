"""Notes beside the objects of a folder: replaced as a whole, one writer at a time, durable."""

from __future__ import annotations

from contextlib import suppress

from calotype.backends.folders import Folder, mark_of, telling, wait_alone
from calotype.backends.staged import LocalStaged
from calotype.backends.window import open_file, window


def write(root: str, staged: LocalStaged, name: str, instead_of: bytes | None) -> bool:
    """Give a staged file the name, if what has it is ``instead_of``, or the same content already.

    Whoever compares and replaces holds the root meanwhile, which a kill ends.
    """
    place, _, last = name.rpartition("/")
    with telling("put", root, name), Folder.opened(root) as outer:
        if outer.descriptor is not None:
            wait_alone(outer.descriptor)
        there = read(root, name)
        with staged.open() as file:
            if there is not None and there == file.read():
                return True
        if there != instead_of:
            return False
        if place:
            outer.make(place)
            outer.sync()
        staged.seal()
        staged.sync()
        with Folder.opened(root, place) as folder:
            staged.rename(folder, last)
            folder.sync()
        return True


def read(root: str, name: str) -> bytes | None:
    """The note of that name, or None."""
    place, _, last = name.rpartition("/")
    with telling("read", root, name), suppress(FileNotFoundError, NotADirectoryError):
        with Folder.opened(root, place) as folder:
            descriptor = open_file(folder, last, f"{root}/{name}")
        with window(descriptor, f"{root}/{name}", 0, None) as file:
            return file.read()
    return None


def delete(root: str, name: str) -> None:
    """Remove a note, durably; nothing happens where there is none."""
    place, _, last = name.rpartition("/")
    with (
        telling("delete", root, name),
        suppress(FileNotFoundError, NotADirectoryError),
        Folder.opened(root, place) as folder,
    ):
        folder.unlink(last)
        folder.sync()


def mark(root: str) -> str | None:
    """The root's own mark; None where it is not there."""
    with telling("look at", root), suppress(FileNotFoundError, NotADirectoryError):
        return mark_of(root)
    return None
