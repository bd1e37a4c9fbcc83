"""get: bytes out."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from pathlib import Path
from typing import Annotated

from calotype.cli.exits import Exit, Usage
from calotype.cli.names import shown
from calotype.cli.options import EVERYWHERE, Common, DigestGiven, flag, is_stdio, option
from calotype.digest import CHUNK, Digest
from calotype.errors import Misconfigured, Unavailable
from calotype.store import Store


def get(
    digest: DigestGiven,
    /,
    *,
    output: Annotated[
        Path | None,
        option(("--output", "-o"), "Write to this file; - is standard output.", metavar="FILE"),
    ] = None,
    force: Annotated[bool, flag("--force", "Replace the file if it is there.")] = False,
    common: Common = EVERYWHERE,
) -> int:
    """Bytes out, verified: wrong ones end with exit code 4, and no file is left half written.

    Example: `calotype get 2cf24dba5fb0 -o photo.jpg`
    """
    with common.open_store() as store:
        found = store.resolve(digest)
        if output is None or is_stdio(output):
            _send(store, found, chosen=output is not None)
            return Exit.OK
        _write(store, found, output, force=force)
    common.printer.record(
        {"digest": found, "output": str(output)}, f"{found[:12]}  {shown(str(output))}"
    )
    return Exit.OK


def _send(store: Store, digest: Digest, *, chosen: bool) -> None:
    if sys.stdout.isatty() and not chosen:
        raise Usage("These bytes would go to the terminal.", hint="Give -o FILE, or -o -.")
    with store.open(digest) as file:
        shutil.copyfileobj(file, sys.stdout.buffer, CHUNK)
    sys.stdout.buffer.flush()


def _write(store: Store, digest: Digest, output: Path, *, force: bool) -> None:
    try:
        if output.is_dir():
            raise Misconfigured(f"{str(output)!r} is a folder.", hint="Give a file's name.")
        if os.path.lexists(output) and not force:
            raise Misconfigured(
                f"{str(output)!r} is there already.", hint="Give --force to replace it."
            )
        if output.exists() and not output.is_file():
            _pour(store, digest, output)
        else:
            _replace(store, digest, output)
    except OSError as error:
        raise Unavailable(
            f"Cannot write {str(output)!r}: {error.strerror}.", hint="Check the folder."
        ) from error


def _pour(store: Store, digest: Digest, device: Path) -> None:
    """A device or pipe is written to, and never replaced by a file."""
    with store.open(digest) as source, device.open("wb") as target:
        shutil.copyfileobj(source, target, CHUNK)


def _replace(store: Store, digest: Digest, output: Path) -> None:
    draft = output.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with store.open(digest) as source, draft.open("xb") as target:
            shutil.copyfileobj(source, target, CHUNK)
        draft.replace(output)
    finally:
        draft.unlink(missing_ok=True)
