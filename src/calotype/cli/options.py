"""Options that every command has, and the words in which options are described."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from calotype.cli.printing import Printer

if TYPE_CHECKING:
    from calotype.config import Settings
    from calotype.store import Store

STDIO = "\0-"
"""How ``-`` reaches a command; no file name holds NUL, so a file named ``-`` stays one."""


def flag(names: str | tuple[str, ...], text: str) -> Parameter:
    """An option that is there or not."""
    return Parameter(name=names, help=text, negative=(), show_default=False)


def option(names: str | tuple[str, ...], text: str) -> Parameter:
    """An option with a value."""
    return Parameter(name=names, help=text, negative=(), show_default=False)


DigestGiven = Annotated[
    str, Parameter(help="A digest, or 6 or more of its first characters."), "DIGEST"
]

OwnerGiven = Annotated[str | None, option("--owner", "Who refers to it: kind/id."), "KIND/ID"]

RoleGiven = Annotated[
    str | None,
    option("--role", "The owner's slot for it; without one the owner has a set."),
    "ROLE",
]


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Common:
    """``--store``, ``--scope``, ``--json``, ``--quiet`` and ``--bytes``."""

    store: Annotated[
        str | None,
        option("--store", "The store: its folder, or a calotype.toml. Or CALOTYPE_STORE."),
        "PATH",
    ] = None
    scope: Annotated[
        str | None, option("--scope", "Whose assets: a user or tenant. Or CALOTYPE_SCOPE."), "NAME"
    ] = None
    json: Annotated[bool, flag("--json", "A JSON object a line, for programs.")] = False
    quiet: Annotated[
        bool, flag(("--quiet", "-q"), "Print nothing but errors; the exit code tells.")
    ] = False
    bytes: Annotated[bool, flag("--bytes", "Sizes in bytes.")] = False

    @property
    def printer(self) -> Printer:
        """Where the answer goes."""
        return Printer(json=self.json, quiet=self.quiet, exact=self.bytes)

    def settings(self) -> Settings:
        """What flags, environment and file say."""
        from calotype.config import load

        return load(self.store, {"scope": self.scope} if self.scope is not None else None)

    @contextmanager
    def new_store(self) -> Iterator[Store]:
        """The store, for a command that may make it."""
        with self.settings().store() as store:
            yield store

    @contextmanager
    def open_store(self) -> Iterator[Store]:
        """The store, for a command that needs one; ``NoStore`` where it was never made."""
        from calotype.doctoring import require

        with self.new_store() as store:
            require(store)
            yield store


EVERYWHERE = Common()


def is_stdio(path: Path) -> bool:
    """True for ``-`` given as a file."""
    return str(path) == STDIO
