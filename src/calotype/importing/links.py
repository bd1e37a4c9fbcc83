"""Who is to have which file of a tree: one owner for all, or a map that says it file by file."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from calotype.errors import CalotypeError, Misconfigured
from calotype.names import Owner, escaped, plain

COLUMNS = ("path", "owner", "role")


class Link(NamedTuple):
    """Who is to have a file, and as what; without an owner it is kept for itself."""

    owner: Owner | None
    role: str | None


@dataclass(frozen=True, slots=True)
class Links:
    """The links of a tree's files.

    A file that ``listed`` does not name goes to ``owner``, its path below ``root`` as the role.
    """

    root: bytes
    owner: Owner | None
    listed: dict[bytes, list[Link]] = field(default_factory=dict)

    def of(self, path: bytes) -> list[Link]:
        """The links of the file at ``path``."""
        return self.listed.get(path) or [Link(self.owner, role_of(path, self.root, self.owner))]


def role_of(path: bytes, root: bytes, owner: Owner | None) -> str | None:
    """The role that a path below ``root`` gives: itself, in UTF-8, what is not as escapes.

    A name of 64 hexadecimal characters, which would be taken for a digest, gets ``./`` before it.
    """
    if owner is None:
        return None
    role = escaped(os.fsdecode(path.removeprefix(root + b"/")))
    return f"./{role}" if len(role) == 64 and "/" not in role else role


def read_map(file: str | os.PathLike[str], root: bytes, owner: Owner | None) -> Links:
    """Read a CSV of ``path, owner, role``; the first line names the columns, ``role`` may lack.

    Paths are below ``root``, or absolute. Without an owner in its line a file goes to ``owner``.
    ``Misconfigured`` names the first line that makes no sense.
    """
    shown = os.fsdecode(file)
    try:
        text = Path(shown).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"Cannot read {shown!r}: {error}.", hint="Check the map.") from None
    links = Links(root, owner)
    for number, path, link in _lines(text, shown):
        try:
            where = os.path.normpath(os.path.join(root, os.fsencode(path)))  # noqa: PTH118
            whose = Owner.parse(link[0]) if link[0] else owner
            role = plain(link[1], "role") if link[1] else role_of(where, root, whose)
            if link[1] and whose is None:
                raise Misconfigured("A role belongs to an owner.", hint="Give an owner.")
        except (CalotypeError, ValueError) as error:
            hint = error.hint if isinstance(error, CalotypeError) else "Check that line."
            raise Misconfigured(f"{shown}:{number}: {str(error).rstrip('.')}.", hint=hint) from None
        links.listed.setdefault(where, []).append(Link(whose, role))
    return links


def _lines(text: str, shown: str) -> Iterator[tuple[int, str, tuple[str, str]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    names = [name.strip().lower() for name in reader.fieldnames or ()]
    if "path" not in names or set(names) - set(COLUMNS):
        raise Misconfigured(
            f"{shown}:1 does not name the columns path, owner and role.",
            hint="Begin the map with a line that is just: path,owner,role.",
        )
    reader.fieldnames = names
    for row in reader:
        if None in row or not row["path"]:
            raise Misconfigured(
                f"{shown}:{reader.line_num} has no path, or more than the columns.",
                hint='Write a name with a comma in quotes: "a, b.png",scan/9,original.',
            )
        yield reader.line_num, row["path"], (row.get("owner") or "", row.get("role") or "")
