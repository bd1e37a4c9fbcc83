"""Exits: what a command's end means to the shell, and the one line that says what went wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from calotype.cli.names import shown
from calotype.errors import CalotypeError, Misconfigured


class Exit(IntEnum):
    """Exit codes, the same for every command."""

    OK = 0
    ERROR = 1
    USAGE = 2
    PARTLY = 3
    INTEGRITY = 4
    NOT_FOUND = 5
    LOCKED = 6
    NO_STORE = 10
    INTERRUPTED = 130
    BROKEN_PIPE = 141


class Usage(CalotypeError):
    """The command line cannot be understood; nothing was done."""

    code = "usage"


class Unconfirmed(CalotypeError):
    """The command stopped to ask; nothing was done."""

    code = "unconfirmed"


class Interrupted(CalotypeError):
    """Ctrl-C; what was done stays done."""

    code = "interrupted"


_EXITS = {
    "usage": Exit.USAGE,
    "gc-limit": Exit.PARTLY,
    "erase-locked": Exit.PARTLY,
    "unconfirmed": Exit.PARTLY,
    "corrupt": Exit.INTEGRITY,
    "not-found": Exit.NOT_FOUND,
    "locked": Exit.LOCKED,
    "no-store": Exit.NO_STORE,
    "interrupted": Exit.INTERRUPTED,
}


def exit_of(error: CalotypeError) -> Exit:
    """The exit code that an error ends a command with."""
    return _EXITS.get(error.code, Exit.ERROR)


def sentence(error: CalotypeError) -> str:
    """What happened, why, and what mends it, in one line that no name can break."""
    return shown(" ".join(f"{error} {error.hint}".splitlines()).strip())


def as_json(error: CalotypeError) -> dict[str, str]:
    """``code``, ``message`` and ``hint``."""
    return {"code": error.code, "message": str(error), "hint": error.hint}


def error_line(error: CalotypeError, *, json_lines: bool) -> str:
    """The line for stderr."""
    if json_lines:
        return json.dumps({"error": as_json(error)})
    return f"calotype: {sentence(error)}"


@contextmanager
def given(option: str) -> Iterator[None]:
    """Turn a value that cannot be right into a ``Usage`` that names where it was given."""
    try:
        yield
    except Misconfigured as error:
        raise Usage(f"{option}: {error}", hint=error.hint) from error


@contextmanager
def resumable(hint: str) -> Iterator[None]:
    """Say on Ctrl-C how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("Interrupted.", hint=hint) from None
