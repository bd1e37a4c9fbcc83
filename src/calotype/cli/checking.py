"""check: which files are in the store already."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from calotype.cli import failures
from calotype.cli.exits import Exit, Usage
from calotype.cli.names import shown
from calotype.cli.options import EVERYWHERE, Common, is_stdio
from calotype.cli.printing import Printer
from calotype.digest import Digest, digest_many
from calotype.errors import CalotypeError, InvalidDigest, NotFound, Unavailable
from calotype.model import Asset

_STYLES = {"present": "good", "missing": "bad", "trashed": "odd"}


def check(
    *files: Annotated[
        Path, Parameter(help="Files, or digests; - reads one a line.", metavar="FILES")
    ],
    common: Common = EVERYWHERE,
) -> int:
    """Which files are in the store already; reads them, sends and changes nothing.

    Exit code 0 when all are, 5 when none is, 3 otherwise. A file that cannot be read stops no
    other; it is 3 as well, or 1 when none could be read.

    Example: `calotype check photos/*.jpg`
    """
    names = [name for file in files for name in (_lines() if is_stdio(file) else [str(file)])]
    if not names:
        raise Usage("Nothing to check.", hint="Give files or digests, or - for a list.")
    with common.open_store() as store:
        digests, failed = _read(names, common.printer)
        there = store.check([digest for _, digest in digests])
    known = sum(_told(name, digest, there[digest], common.printer) for name, digest in digests)
    if failed or 0 < known < len(digests):
        return Exit.PARTLY if digests else Exit.ERROR
    return Exit.OK if known else Exit.NOT_FOUND


def _lines() -> list[str]:
    return [os.fsdecode(line.rstrip(b"\r\n")) for line in sys.stdin.buffer if line.strip()]


def _read(names: list[str], printer: Printer) -> tuple[list[tuple[str, Digest]], int]:
    """The digests of what could be read, and how many could not."""
    digests: list[tuple[str, Digest]] = []
    for name, found in _digests(names):
        if isinstance(found, CalotypeError):
            failures.tell(printer, name, found)
        else:
            digests.append((name, found))
    return digests, len(names) - len(digests)


def _digests(names: list[str]) -> Iterator[tuple[str, Digest | CalotypeError]]:
    for name in names:
        try:
            yield name, Digest.parse(name)
        except InvalidDigest:
            yield name, _hashed(name)


def _hashed(name: str) -> Digest | CalotypeError:
    path = Path(name)
    try:
        if path.exists() and not path.is_file():
            return Unavailable(f"Not a regular file: {name!r}.", hint="Give files, or digests.")
        (found,) = (each for _, each in digest_many([name]))
    except OSError as error:
        found = error
    if isinstance(found, FileNotFoundError):
        return NotFound(f"No such file: {name!r}.", hint="Check the path.")
    if isinstance(found, OSError):
        return Unavailable(f"Cannot read {name!r}: {found.strerror}.", hint="Check the path.")
    return found


def _told(name: str, digest: Digest, found: Asset | None, printer: Printer) -> bool:
    """Print how it is with one file; True when it is there."""
    state = "missing" if found is None else "trashed" if found.trashed else "present"
    text = f"{printer.styled(state.ljust(7), _STYLES[state])}  {digest[:12]}  {shown(name)}"
    printer.record({"source": name, "digest": digest, "state": state}, text)
    return state == "present"
