"""ls, stat, explain, url, stats, usage: what there is."""

from __future__ import annotations

import json
from typing import Annotated

from calotype.catalog.listing import Sort
from calotype.cli.exits import Exit, Usage
from calotype.cli.names import shown
from calotype.cli.options import (
    EVERYWHERE,
    Common,
    DigestGiven,
    OwnerGiven,
    counted,
    flag,
    option,
    owner_of,
    require_duration,
)
from calotype.cli.printing import Printer, Row, instant, name_of, plural
from calotype.cli.wire import asset as asset_record
from calotype.cli.wire import blob as blob_record
from calotype.cli.wire import record, reference
from calotype.figures import BackendState
from calotype.model import Asset, Blob, Reference
from calotype.quantities import duration


def ls(
    *,
    owner: OwnerGiven = None,
    trashed: Annotated[bool, flag("--trashed", "What is in the trash instead.")] = False,
    orphans: Annotated[
        bool, flag("--orphans", "Blobs of the whole store that nothing keeps.")
    ] = False,
    long: Annotated[bool, flag(("--long", "-l"), "Whole digests, sizes in pixels, dates.")] = False,
    media_type: Annotated[
        str | None, option("--media-type", "Only these: image/png, or image/*.", metavar="TYPE")
    ] = None,
    q: Annotated[
        str | None, option("--q", "Part of a name, or how a digest begins.", metavar="TEXT")
    ] = None,
    sort: Annotated[Sort, option("--sort", "By what.", metavar="ORDER")] = "recent",
    common: Common = EVERYWHERE,
) -> int:
    """List assets, a line each: digest, size, type, name.

    Example: `calotype ls --owner dataset/7 --long`
    """
    printer = common.printer
    known = owner_of(owner)
    if orphans and (owner or trashed or media_type or q or sort != "recent"):
        raise Usage("--orphans lists the whole store's, by digest.", hint="Give it alone.")
    with common.open_store() as store:
        if orphans:
            rows = (_blob_row(each, printer, long) for each in store.orphans())
            printer.rows(rows, right=(1,))
            return Exit.OK
        found = store.assets(known, media_type, q, trashed, sort=sort)
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


def stat(digest: DigestGiven, /, *, common: Common = EVERYWHERE) -> int:
    """Everything about one asset.

    Example: `calotype stat 2cf24dba5fb0`
    """
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
            ("scope", shown(found.scope)),
            ("size", printer.size(found.size)),
            ("type", found.media_type),
            ("pixels", _pixels(found.blob) if found.width is not None else ""),
            ("name", shown(found.filename or "")),
            ("metadata", shown(json.dumps(dict(found.metadata))) if found.metadata else ""),
            ("kept", str(kept or "")),
            ("created", instant(found.created_at)),
            ("accessed", instant(found.last_accessed)),
            ("accesses", str(found.access_count or "")),
            *(("used by", _use(each)) for each in uses),
        ]
    )
    return Exit.OK


def _use(each: Reference) -> str:
    """An owner, and its role where one was given."""
    role = f" as {shown(each.role)}" if each.role != each.digest else ""
    return f"{shown(str(each.owner))}{role}"


def explain(digest: DigestGiven, /, *, common: Common = EVERYWHERE) -> int:
    """What keeps a file's bytes in the whole store, and until when.

    Example: `calotype explain 2cf24dba5fb0`
    """
    with common.open_store() as store:
        found = store.explain(store.resolve_anywhere(digest))
    printer = common.printer
    ended = Exit.NOT_FOUND if found.verdict == "unknown" else Exit.OK
    if common.json:
        printer.object(record(found))
        return ended
    printer.line(f"{found.digest}: {found.verdict}. {shown(found.sentence)}")
    for scope in found.scopes:
        keepers = (
            ", ".join(str(each) for each in scope.kept_by) or f"trash until {instant(scope.until)}"
        )
        printer.line(f"  scope {shown(scope.scope)}: {shown(keepers)}")
    for copy in found.replicas:
        mark = ", suspect" if copy.suspect else ""
        printer.line(f"  {copy.backend}: {copy.state}{mark}, {copy.key}")
    return ended


def url(
    digest: DigestGiven | None = None,
    /,
    *,
    expires: Annotated[
        str, option("--expires", "How long it lives at least.", metavar="1h")
    ] = "1h",
    rotate: Annotated[bool, flag("--rotate-key", "Sign with a new key from now on.")] = False,
    common: Common = EVERYWHERE,
) -> int:
    """A URL for an asset: signed under public_url, else the file's own.

    Example: `calotype url 2cf24dba5fb0 --expires 15m`
    """
    if digest is None and not rotate:
        raise Usage("A URL of which file?", hint="Give a digest; --rotate-key goes alone, too.")
    require_duration("--expires", expires)
    if duration(expires) == 0:
        raise Usage("--expires: A URL lives at least one second.", hint="Give 1h, for example.")
    with common.open_store() as store:
        found = store.resolve(digest) if digest is not None else None
        if found is not None:
            store.stat(found)
        if rotate:
            store.rotate_url_key()
        if found is None:
            common.printer.record({"rotated": True}, "URLs are signed with a new key from now on")
            return Exit.OK
        made = store.url(found, expires=expires)
    common.printer.record({"url": made}, made)
    return Exit.OK


def stats(*, common: Common = EVERYWHERE) -> int:
    """The whole store in numbers.

    Example: `calotype stats --json`
    """
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
            *[(f"in {each.name}", _covered(each, printer)) for each in found.backends],
        ]
    )
    return Exit.OK


def _covered(state: BackendState, printer: Printer) -> str:
    """``primary, 12 of 12 blobs, 3.1 MB``, and what is missing there."""
    blobs = state.copies - state.suspect + state.lacking
    held = f"{state.role}, {blobs - state.lacking} of {plural(blobs, 'blob')}"
    missing = f"; {printer.size(state.lacking_bytes)} missing" if state.lacking else ""
    return f"{held}, {printer.size(state.bytes)}{missing}"


def usage(
    *,
    days: Annotated[int, option("--days", "How many days back."), counted] = 30,
    common: Common = EVERYWHERE,
) -> int:
    """What this scope has now, and on the days before.

    Example: `calotype usage --scope user:ana --days 7`
    """
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
    printer.line(f"{plural(now.assets, 'asset')}, {printer.size(now.bytes)}{quota}")
    printer.line(f"{now.trashed} in the trash, {printer.size(now.trashed_bytes)}")
    printer.rows(
        Row((day.day, plural(day.assets, "asset"), printer.size(day.bytes)), {}) for day in past
    )
    return Exit.OK
