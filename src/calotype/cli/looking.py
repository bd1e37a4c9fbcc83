"""get, ls, stat, explain, check, url, stats, usage: what there is."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from calotype.cli.exits import Exit, Usage
from calotype.cli.names import shown
from calotype.cli.options import (
    EVERYWHERE,
    Common,
    DigestGiven,
    OwnerGiven,
    flag,
    is_stdio,
    option,
)
from calotype.cli.printing import Printer, Row, instant, name_of
from calotype.cli.wire import asset as asset_record
from calotype.cli.wire import blob as blob_record
from calotype.cli.wire import record, reference
from calotype.digest import CHUNK, Digest, digest_many
from calotype.errors import InvalidDigest, Misconfigured, Unavailable
from calotype.model import Asset, Blob
from calotype.store import Store


def get(
    digest: DigestGiven,
    *,
    output: Annotated[
        Path | None, option(("--output", "-o"), "Write to this file; - is standard output."), "FILE"
    ] = None,
    force: Annotated[bool, flag("--force", "Replace the file if it is there.")] = False,
    common: Common = EVERYWHERE,
) -> int:
    """Bytes out, verified: wrong ones end with exit code 4, and no file is left half written."""
    with common.open_store() as store:
        found = store.resolve(digest)
        if output is None or is_stdio(output):
            if output is None and sys.stdout.isatty():
                raise Usage("These bytes would go to the terminal.", hint="Give -o FILE, or -o -.")
            with store.open(found) as file:
                shutil.copyfileobj(file, sys.stdout.buffer, CHUNK)
            sys.stdout.buffer.flush()
            return Exit.OK
        _write(store, found, output, force=force)
        common.printer.record(
            {"digest": found, "output": str(output)}, f"{found[:12]}  {shown(str(output))}"
        )
    return Exit.OK


def _write(store: Store, digest: Digest, output: Path, *, force: bool) -> None:
    if output.exists() and not force:
        raise Misconfigured(
            f"{str(output)!r} is there already.", hint="Give --force to replace it."
        )
    draft = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        with store.open(digest) as source, draft.open("xb") as target:
            shutil.copyfileobj(source, target, CHUNK)
        draft.replace(output)
    except OSError as error:
        raise Unavailable(
            f"Cannot write {str(output)!r}: {error.strerror}.", hint="Check the folder."
        ) from error
    finally:
        draft.unlink(missing_ok=True)


def ls(
    *,
    owner: OwnerGiven = None,
    trashed: Annotated[bool, flag("--trashed", "What is in the trash instead.")] = False,
    orphans: Annotated[
        bool, flag("--orphans", "Blobs of the whole store that nothing keeps.")
    ] = False,
    long: Annotated[bool, flag(("--long", "-l"), "Whole digests, sizes in pixels, dates.")] = False,
    media_type: Annotated[
        str | None, option("--media-type", "Only these: image/png, or image/*."), "TYPE"
    ] = None,
    q: Annotated[
        str | None, option("--q", "Part of a name, or how a digest begins."), "TEXT"
    ] = None,
    sort: Annotated[str, option("--sort", "recent, size, views or digest."), "ORDER"] = "recent",
    common: Common = EVERYWHERE,
) -> int:
    """List assets, a line each: digest, size, type, name."""
    printer = common.printer
    with common.open_store() as store:
        if orphans:
            rows = (_blob_row(each, printer, long) for each in store.orphans())
            printer.rows(rows, right=(1,))
            return Exit.OK
        found = store.assets(
            owner=owner,
            media_type=media_type,
            q=q,
            trashed=trashed,
            sort=sort,  # type: ignore[arg-type]
        )
        printer.rows((_asset_row(each, printer, long) for each in found), right=(1,))
    return Exit.OK


def _short(digest: str, long: bool) -> str:
    return digest if long else digest[:12]


def _blob_row(blob: Blob, printer: Printer, long: bool) -> Row:
    cells = (_short(blob.digest, long), printer.size(blob.size), blob.media_type)
    return Row(cells, blob_record(blob))


def _asset_row(found: Asset, printer: Printer, long: bool) -> Row:
    cells = [_short(found.digest, long), printer.size(found.size), found.media_type]
    if long:
        cells += [_pixels(found.blob), instant(found.created_at), f"{found.references} refs"]
    return Row([*cells, name_of(found.filename)], asset_record(found))


def _pixels(blob: Blob) -> str:
    return f"{blob.width}x{blob.height}" if blob.width is not None else "-"


def stat(digest: DigestGiven, *, common: Common = EVERYWHERE) -> int:
    """Everything about one asset."""
    printer = common.printer
    with common.open_store() as store:
        found = store.stat(store.resolve(digest))
        uses = list(store.references(digest=found.digest))
    value = asset_record(found) | {"uses": [reference(each) for each in uses]}
    if common.json:
        printer.object(value)
        return Exit.OK
    kept = found.kept if found.kept in ("library", None) else f"until {instant(found.kept)}"  # type: ignore[arg-type]
    printer.fields(
        [
            ("digest", found.digest),
            ("size", printer.size(found.size)),
            ("type", found.media_type),
            ("pixels", _pixels(found.blob) if found.width is not None else ""),
            ("name", shown(found.filename or "")),
            ("kept", str(kept or "")),
            ("created", instant(found.created_at)),
            ("accessed", instant(found.last_accessed)),
            *(("used by", f"{each.owner} as {shown(each.role)}") for each in uses),
        ]
    )
    return Exit.OK


def explain(digest: DigestGiven, *, common: Common = EVERYWHERE) -> int:
    """What keeps a file's bytes in the whole store, and until when."""
    with common.open_store() as store:
        found = store.explain(store.resolve_anywhere(digest))
    printer = common.printer
    if common.json:
        printer.object(record(found))
        return Exit.OK
    printer.line(f"{found.digest}: {found.verdict}. {shown(found.sentence)}")
    for scope in found.scopes:
        keepers = (
            ", ".join(str(each) for each in scope.kept_by) or f"trash until {instant(scope.until)}"
        )
        printer.line(f"  scope {shown(scope.scope)}: {shown(keepers)}")
    for copy in found.replicas:
        mark = ", suspect" if copy.suspect else ""
        printer.line(f"  {copy.backend}: {copy.state}{mark}, {copy.key}")
    return Exit.OK


def check(
    *files: Annotated[Path, Parameter(help="Files, or digests; - reads one a line."), "FILES"],
    common: Common = EVERYWHERE,
) -> int:
    """Which files are in the store already; reads them, sends and changes nothing.

    Exit code 0 when all are, 5 when none is, 3 otherwise.
    """
    names = [name for file in files for name in (_lines() if is_stdio(file) else [str(file)])]
    if not names:
        raise Usage("Nothing to check.", hint="Give files or digests, or - for a list.")
    printer = common.printer
    with common.open_store() as store:
        digests = list(_digests(names))
        there = store.check([digest for _, digest in digests])
        known = 0
        for name, digest in digests:
            found = there[digest]
            state = "missing" if found is None else "trashed" if found.trashed else "present"
            known += state == "present"
            style = {"present": "good", "missing": "bad"}.get(state, "odd")
            text = f"{printer.styled(state.ljust(7), style)}  {digest[:12]}  {shown(name)}"
            printer.record({"source": name, "digest": digest, "state": state}, text)
    if known == len(digests):
        return Exit.OK
    return Exit.PARTLY if known else Exit.NOT_FOUND


def _lines() -> list[str]:
    return [line.rstrip("\n") for line in sys.stdin if line.strip()]


def _digests(names: list[str]) -> Iterator[tuple[str, Digest]]:
    for name in names:
        try:
            yield name, Digest.parse(name)
        except InvalidDigest:
            for _, found in digest_many([name]):
                if isinstance(found, OSError):
                    raise Unavailable(
                        f"Cannot read {name!r}: {found.strerror}.", hint="Check the path."
                    ) from found
                yield name, found


def url(
    digest: DigestGiven,
    *,
    expires: Annotated[str, option("--expires", "How long it lives at least."), "1h"] = "1h",
    rotate: Annotated[bool, flag("--rotate-key", "Sign with a new key from now on.")] = False,
    common: Common = EVERYWHERE,
) -> int:
    """A URL for an asset: signed under public_url, else the file's own."""
    with common.open_store() as store:
        if rotate:
            store.rotate_url_key()
        made = store.url(store.resolve(digest), expires=expires)
    common.printer.record({"url": made}, made)
    return Exit.OK


def stats(*, common: Common = EVERYWHERE) -> int:
    """The whole store in numbers."""
    with common.open_store() as store:
        found = store.stats()
    printer = common.printer
    if common.json:
        printer.object(record(found))
        return Exit.OK
    printer.fields(
        [
            ("blobs", f"{found.blobs}, {printer.size(found.bytes)}"),
            ("assets", str(found.assets)),
            ("references", f"{found.references}, {found.average_references:.2f} a blob"),
            ("orphaned", f"{found.orphaned}, {printer.size(found.orphaned_bytes)}"),
            ("logical", printer.size(found.logical_bytes)),
            ("saved", f"{printer.size(found.saved_bytes)}, {found.saved_percent:.1f} %"),
        ]
    )
    return Exit.OK


def usage(
    *,
    days: Annotated[int, option("--days", "How many days back."), "N"] = 30,
    common: Common = EVERYWHERE,
) -> int:
    """What this scope has now, and on the days before."""
    printer = common.printer
    with common.open_store() as store:
        now = store.usage()
        past = store.usage_days(days)
    if common.json:
        for day in past:
            printer.object(record(day))
        printer.object(record(now))
        return Exit.OK
    quota = f" of {printer.size(now.quota)}" if now.quota is not None else ""
    printer.line(f"{now.assets} assets, {printer.size(now.bytes)}{quota}")
    printer.line(f"{now.trashed} in the trash, {printer.size(now.trashed_bytes)}")
    printer.rows(
        Row((day.day, f"{day.assets} assets", printer.size(day.bytes)), {}) for day in past
    )
    return Exit.OK
