"""check: which files are in the store already."""

from __future__ import annotations

import os
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from calotype.cli import failures
from calotype.cli.exits import Exit, Usage, resumable
from calotype.cli.names import shown
from calotype.cli.options import EVERYWHERE, Common, is_stdio, stdin
from calotype.cli.printing import Printer
from calotype.cli.progressing import meter
from calotype.digest import Digest, digest_many
from calotype.errors import CalotypeError, InvalidDigest, NotFound, Unavailable
from calotype.model import Asset
from calotype.progress import Progress

if TYPE_CHECKING:
    from calotype.store import Store

_STYLES = {"present": "good", "missing": "bad", "trashed": "odd"}


def check(
    *files: Annotated[
        Path,
        Parameter(
            help="Files, or digests, abbreviated or not; - reads one a line.", metavar="FILES"
        ),
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
    with common.open_store() as store, resumable("Nothing was changed."):
        digests, failed = _read(names, store, common.printer)
        there = store.check([digest for _, digest in digests])
    states = Counter(_told(name, there[digest], digest, common.printer) for name, digest in digests)
    known = states["present"]
    common.printer.object(
        {"event": "summary", **{each: states[each] for each in _STYLES}, "failed": failed}
    )
    if failed or 0 < known < len(digests):
        return Exit.PARTLY if digests else Exit.ERROR
    return Exit.OK if known else Exit.NOT_FOUND


def _lines() -> list[str]:
    return [os.fsdecode(line.rstrip(b"\r\n")) for line in stdin() if line.strip()]


def _read(names: list[str], store: Store, printer: Printer) -> tuple[list[tuple[str, Digest]], int]:
    """The digests of what could be read, and how many could not."""
    digests: list[tuple[str, Digest]] = []
    failed: list[tuple[str, CalotypeError]] = []
    with meter(printer, "check") as show:
        for name in names:
            try:
                digests.append((name, _digest(name, store)))
            except CalotypeError as error:
                failed.append((name, error))
            if not printer.json:
                show(Progress(len(names), len(digests) + len(failed), failed=len(failed)))
    for name, why in failed:
        failures.tell(printer, name, why)
    return digests, len(failed)


def _digest(name: str, store: Store) -> Digest:
    """Of a file by that name, or else the digest that it is or abbreviates."""
    if os.path.lexists(name):
        return _hashed(name)
    try:
        return Digest.parse(name)
    except InvalidDigest:
        if re.fullmatch("[0-9A-Fa-f]{6,63}", name):
            with suppress(NotFound):
                return store.resolve(name, trashed=True)
        return _hashed(name)


def _hashed(name: str) -> Digest:
    path = Path(name)
    try:
        if path.exists() and not path.is_file():
            raise Unavailable(f"Not a regular file: {name!r}.", hint="Give files, or digests.")
        (found,) = (each for _, each in digest_many([name]))
    except OSError as error:
        found = error
    except ValueError as error:  # NUL in a name
        raise Unavailable(f"Cannot read {name!r}: {error}.", hint="Check the path.") from error
    if isinstance(found, FileNotFoundError):
        raise NotFound(f"No such file: {name!r}.", hint="Check the path.")
    if isinstance(found, OSError):
        raise Unavailable(f"Cannot read {name!r}: {found.strerror}.", hint="Check the path.")
    return found


def _told(name: str, found: Asset | None, digest: Digest, printer: Printer) -> str:
    """Print how it is with one file, and answer with it."""
    state = "missing" if found is None else "trashed" if found.trashed else "present"
    text = f"{printer.styled(state.ljust(7), _STYLES[state])}  {digest[:12]}  {shown(name)}"
    value = {"event": "check", "source": name, "digest": digest, "state": state}
    printer.record(value, text)
    return state
