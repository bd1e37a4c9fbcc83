"""Options that every command has, and the words in which options are described."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, cast

from cyclopts import Parameter
from cyclopts.validators import Number

from calotype.cli.exits import Usage, given
from calotype.cli.printing import Printer
from calotype.names import Owner
from calotype.quantities import duration, size

if TYPE_CHECKING:
    from calotype.config import Settings
    from calotype.store import Store

STDIO = "\0-"
"""How ``-`` reaches a command; no file name holds NUL, so a file named ``-`` stays one."""


def flag(names: str | tuple[str, ...], text: str) -> Parameter:
    """An option that is there or not."""
    return Parameter(name=names, help=text, negative=(), show_default=False)


def option(names: str | tuple[str, ...], text: str, metavar: str | None = None) -> Parameter:
    """An option with a value."""
    return Parameter(name=names, help=text, metavar=metavar, negative=(), show_default=False)


counted = Parameter(validator=Number(gte=0))
"""Beside ``option``: a number that is a count."""

DigestGiven = Annotated[
    str, Parameter(help="A digest, or 6 or more of its first characters.", metavar="DIGEST")
]

OwnerGiven = Annotated[
    str | None, option("--owner", "Who refers to it: kind/id.", metavar="KIND/ID")
]

RoleGiven = Annotated[
    str | None,
    option("--role", "The owner's slot for it; without one the owner has a set.", metavar="ROLE"),
]


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Common:
    """``--store``, ``--scope``, ``--json``, ``--quiet`` and ``--bytes``."""

    store: Annotated[
        str | None,
        option(
            "--store",
            "The store: its folder, or a calotype.toml. Or CALOTYPE_STORE.",
            metavar="PATH",
        ),
    ] = None
    scope: Annotated[
        str | None,
        option("--scope", "Whose assets: a user or tenant. Or CALOTYPE_SCOPE.", metavar="NAME"),
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


def stdin() -> BinaryIO:
    """Standard input as bytes; ``Usage`` where the caller closed it.

    From a terminal line by line, so that one Ctrl-D ends it.
    """
    if sys.stdin is None:
        raise Usage("Standard input is closed.", hint="Give files.")
    buffer = cast(io.BufferedReader, sys.stdin.buffer)
    return cast(BinaryIO, buffer.raw) if sys.stdin.isatty() else buffer


def as_typed(text: str | None) -> str | None:
    """What was typed where only a file could have been standard input."""
    return "-" if text == STDIO else text


def owner_of(text: str | None) -> Owner | None:
    """The owner that ``--owner`` names."""
    with given("--owner"):
        return Owner.parse(text) if text is not None else None


def require_duration(name: str, text: str | None) -> None:
    """``Usage`` for what is no duration."""
    with given(name):
        duration(text if text is not None else 0)


def require_size(name: str, text: str | None) -> None:
    """``Usage`` for what is no size."""
    with given(name):
        size(text if text is not None else 0)
