"""The terms of a table's import: which columns matter, and what becomes of each row."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from calotype.errors import Misconfigured
from calotype.names import Owner

PLANNED = 1000
"""How many planned removals an ``Imported`` lists."""

_FIELD = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Terms:
    """Where the rows are, which columns matter, and who is to have what they name.

    ``owner`` and ``role`` are templates of columns; relative paths begin at ``root``.
    """

    url: str
    table: str
    owner: str | None = None
    role: str | None = None
    path_column: str | None = None
    bytes_column: str | None = None
    digest_column: str | None = None
    root: Path = Path()
    remove_sources: bool = False
    dry_run: bool = False

    @property
    def templates(self) -> list[str]:
        """Those that are given."""
        return [each for each in (self.owner, self.role) if each is not None]

    @property
    def source(self) -> str:
        """The column of paths, or that of bytes; ``Misconfigured`` unless it is one of them."""
        given = [each for each in (self.path_column, self.bytes_column) if each is not None]
        if len(given) != 1:
            raise Misconfigured(
                "Where are the files: in one column of paths, or in one of bytes?",
                hint="Give one of path_column and bytes_column.",
            )
        return given[0]

    def require_sense(self) -> None:
        """Refuse columns and templates that cannot be right; ``Misconfigured``."""
        if self.source == self.digest_column:
            raise Misconfigured("One column for sources and digests.", hint="Name another one.")
        if self.remove_sources and self.digest_column is None:
            raise Misconfigured(
                "Without digest_column nobody knows which sources are in the store.",
                hint="Add a column for digests, or keep the sources.",
            )
        if self.dry_run and not self.remove_sources:
            raise Misconfigured(
                "A dry run shows which sources would be removed.", hint="Give remove_sources, too."
            )
        if self.role is not None and self.owner is None:
            raise Misconfigured("A role belongs to an owner.", hint="Give owner= as well.")
        for template in self.templates:
            self._require_template(template)

    def _require_template(self, template: str) -> None:
        plain = template
        for name in fields(template):
            plain = plain.replace(f"{{{name}}}", "x")
        if "{" in plain or "}" in plain or "}{" in template:
            raise Misconfigured(
                f"Not a template: {template!r}.",
                hint="Columns stand in braces, apart from each other: image/{id}.",
            )
        if template == self.owner:
            Owner.parse(plain)

    def path(self, source: object) -> Path:
        """Where a row's file lies: absolute, below the root, or as a ``file:`` URL."""
        text = os.fsdecode(source) if isinstance(source, bytes) else str(source)
        try:
            parts = urlsplit(text)
        except ValueError as error:
            raise Misconfigured(f"Not a path: {text!r}: {error}.", hint="Correct it.") from error
        if parts.scheme == "file":
            text = unquote(parts.path)
        elif parts.scheme and parts.netloc:
            raise Misconfigured(
                f"{text!r} is a URL, not a file of this machine.",
                hint="Fetch it, and put it with its owner.",
            )
        if "\x00" in text:
            raise Misconfigured(f"Not a path: {text!r}.", hint="Correct it.")
        return self.root / text


def fields(template: str) -> list[str]:
    """The columns that a template names, in their order."""
    return _FIELD.findall(template)


def filled(template: str, row: Mapping[str, object]) -> str:
    """The template with each ``{column}`` as the row has it; ``Misconfigured`` for a NULL."""

    def value(found: re.Match[str]) -> str:
        if row[found[1]] is None:
            raise Misconfigured(
                f"The column {found[1]} is NULL, and {template!r} needs it.", hint="Fill it in."
            )
        return str(row[found[1]])

    return _FIELD.sub(value, template)
