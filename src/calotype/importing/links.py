"""Who is to have which file of a tree: one owner for all, or a map that says it file by file."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from calotype.digest import Digest
from calotype.errors import CalotypeError, Misconfigured
from calotype.importing.walk import absolute
from calotype.names import Owner, escaped, plain

# paths are bytes:
# ruff: noqa: PTH118

COLUMNS = ("path", "owner", "role")

LONGEST = 1000
"""Characters of a role that is a path."""


class Link(NamedTuple):
    """Who is to have a file, and as what; without an owner it is kept for itself."""

    owner: Owner | None
    role: str | None


@dataclass(frozen=True, slots=True)
class Links:
    """The links of a tree's files.

    A file that ``listed`` does not name goes to ``owner``, its path below ``root`` as the role.
    ``slots`` says which file the map gives to whom.
    """

    root: bytes
    owner: Owner | None
    listed: dict[bytes, list[Link]] = field(default_factory=dict)
    slots: dict[Link, bytes] = field(default_factory=dict)

    def of(self, path: bytes) -> list[Link]:
        """The links of the file at ``path``."""
        return self.listed.get(path) or [Link(self.owner, role_of(path, self.root, self.owner))]


def role_of(path: bytes, root: bytes, owner: Owner | None) -> str | None:
    """The role that a path below ``root`` gives: itself, and for no two paths the same.

    ``./`` stands before a name of 64 characters, which could be taken for a digest, and before one
    that is not UTF-8, whose other bytes are escapes; their backslashes are doubled. A very long
    one ends in a digest of itself.
    """
    if owner is None:
        return None
    name = os.fsdecode(path.removeprefix(root.rstrip(b"/") + b"/"))
    role = name
    if escaped(name) != name or (len(name) == 64 and "/" not in name):
        role = "./" + escaped(name.replace("\\", "\\\\"))
    if len(role) <= LONGEST:
        return role
    return f"{role[:900]}~{Digest.of(os.fsencode(name))[:32]}"


def read_map(file: str | os.PathLike[str], root: bytes, owner: Owner | None) -> Links:
    """Read a CSV of ``path, owner, role``; the first line names the columns, ``role`` may lack.

    Paths are below ``root``, or absolute; bytes that are no UTF-8 stand for themselves. Without an
    owner in its line a file goes to ``owner``.
    ``Misconfigured`` names the first line that makes no sense.
    """
    shown = os.fsdecode(file)
    try:
        text = Path(shown).read_text("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise Misconfigured(f"Cannot read {shown!r}: {error}.", hint="Check the map.") from None
    links = Links(root, owner)
    spelled = _Spelling(root)
    for number, path, link in _lines(text, shown):
        try:
            if "\0" in path:
                raise ValueError("a NUL in the path")
            where = spelled.path(os.fsencode(path))
            whose = Owner.parse(link[0]) if link[0] else owner
            role = plain(link[1], "role") if link[1] else role_of(where, root, whose)
            if link[1] and whose is None:
                raise Misconfigured("A role belongs to an owner.", hint="Give an owner.")
        except (CalotypeError, ValueError) as error:
            hint = error.hint if isinstance(error, CalotypeError) else "Check that line."
            raise Misconfigured(f"{shown}:{number}: {str(error).rstrip('.')}.", hint=hint) from None
        slot = Link(whose, role)
        if slot.owner is not None and (other := links.slots.setdefault(slot, where)) != where:
            raise Misconfigured(
                f"{shown}:{number} gives {whose} {role!r} a second file, after "
                f"{os.fsdecode(other)!r}.",
                hint="A role is for one file: choose another one.",
            )
        if slot not in (known := links.listed.setdefault(where, [])):
            known.append(slot)
    return links


class _Spelling:
    """Paths as the walk of ``root`` finds them, whichever way round links they are written."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._real = os.path.join(os.path.realpath(root), b"")
        self._folders: dict[bytes, bytes] = {}

    def path(self, path: bytes) -> bytes:
        """Below ``root`` where its folder is; a link at the end is a file of its own."""
        where = absolute(os.path.join(self._root, path))
        folder, name = os.path.split(where)
        if folder not in self._folders:
            self._folders[folder] = self._folder(folder)
        return os.path.join(self._folders[folder], name)

    def _folder(self, folder: bytes) -> bytes:
        real = os.path.join(os.path.realpath(folder), b"")
        if not real.startswith(self._real):
            return folder
        return os.path.normpath(os.path.join(self._root, real.removeprefix(self._real)))


def _rows(text: str, shown: str) -> Iterator[tuple[int, list[str]]]:
    """The lines that are not empty; ``Misconfigured`` names that in which what is no CSV begins."""
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    begins = 1
    try:
        for cells in reader:
            begins = reader.line_num + 1
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise Misconfigured(
            f"{shown}:{begins} is no CSV: {error}.", hint="Is a quote left open?"
        ) from None


def _lines(text: str, shown: str) -> Iterator[tuple[int, str, tuple[str, str]]]:
    rows = _rows(text, shown)
    _, first = next(rows, (1, []))
    names = [name.strip().lower() for name in first]
    if "path" not in names or set(names) - set(COLUMNS) or len(names) > len(set(names)):
        raise Misconfigured(
            f"{shown}:1 does not name the columns path, owner and role, each once.",
            hint="Begin the map with a line that is just: path,owner,role.",
        )
    for number, cells in rows:
        row = dict(zip(names, cells, strict=False))
        if len(cells) > len(names) or not row.get("path"):
            raise Misconfigured(
                f"{shown}:{number} has no path, or more than the columns.",
                hint='Write a name with a comma in quotes: "a, b.png",scan/9,original.',
            )
        yield number, row["path"], (row.get("owner", "").strip(), row.get("role", "").strip())
