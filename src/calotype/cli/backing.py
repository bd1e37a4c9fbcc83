"""backend list, add, copy, primary, drop: where the bytes are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from calotype.catalog.backends import MIRROR
from calotype.cli.exits import Exit, Usage
from calotype.cli.names import shown
from calotype.cli.options import EVERYWHERE, Common, flag, option, require_size
from calotype.cli.printing import Printer, Row, plural
from calotype.cli.progressing import follow
from calotype.cli.wire import record

if TYPE_CHECKING:
    from calotype.config import Settings
    from calotype.dropping import Dropped

Name = Annotated[str, Parameter(help="Its name in the store.", metavar="NAME")]

AGAIN = "What was copied stays; the same command goes on."


def list_(*, common: Common = EVERYWHERE) -> int:
    """Show every backend and how much of the store lies in it.

    Example: `calotype backend list`
    """
    printer = common.printer
    with common.open_store() as store:
        found = store.backends.list()
    printer.rows(
        (
            Row(
                (
                    each.name,
                    each.role,
                    f"{each.coverage:.0f} %",
                    plural(each.copies, "copy", "copies"),
                    printer.size(each.bytes),
                    shown(each.url),
                ),
                record(each),
            )
            for each in found
        ),
        right=(2, 3, 4),
    )
    return Exit.OK


def add(
    name: Name,
    url: Annotated[
        str | None,
        Parameter(help="file:DIR, s3://BUCKET/PREFIX, ...; or as configured.", metavar="URL"),
    ] = None,
    /,
    *,
    role: Annotated[
        str | None, option("--role", "mirror (puts are copied to it) or read.", metavar="ROLE")
    ] = None,
    common: Common = EVERYWHERE,
) -> int:
    """Have the bytes in another place as well; 'backend copy' brings what there is.

    Without a URL it is the one that is configured as backends.NAME.url.

    Example: `calotype backend add archive s3://bucket/media`
    """
    place, meant = _wanted(name, url, common.settings())
    with common.open_store() as store:
        made = store.backends.add(name, place, role or meant)
    text = f"{made.name} is a {made.role}; 'calotype backend copy {made.name}' brings "
    common.printer.record(record(made), f"{text}{plural(made.lacking, 'blob')} there")
    return Exit.OK


def _wanted(name: str, url: str | None, settings: Settings) -> tuple[str, str]:
    """Where, and what for: as given or as configured; ``Usage`` for both, and for neither."""
    configured = settings.backends().get(name)
    if configured is None and url is not None:
        return url, MIRROR
    if configured is not None and url is None:
        return configured.url, configured.added_as
    if url is None:
        raise Usage("A backend where?", hint=f"Give a URL, or set backends.{name}.url.")
    raise Usage(f"The backend {name!r} is configured.", hint="Leave the URL away.")


def copy(
    name: Name,
    /,
    *,
    unverified: Annotated[bool, flag("--no-verify", "Do not read each copy back.")] = False,
    rate: Annotated[
        str | None, option("--rate", "At most so much a second.", metavar="10MB")
    ] = None,
    dry_run: Annotated[
        bool, flag("--dry-run", "Show what would be copied; change nothing.")
    ] = False,
    common: Common = EVERYWHERE,
) -> int:
    """Copy to a backend all that it lacks, while the store is in use.

    Example: `calotype backend copy archive --rate 20MB`
    """
    require_size("--rate", rate)
    printer = common.printer
    with common.open_store() as store:
        run = store.backends.copy(name, not unverified, rate=rate, dry_run=dry_run)
        if dry_run:
            would = run.result()
            printer.object(record(would))
            lacking = f"{plural(would.copied, 'blob')}, {printer.size(would.bytes)}"
            printer.fields([("would be copied", lacking)])
            return Exit.OK
        done = follow(run, printer, "copy", seen=lambda progress: progress, resume=AGAIN)
    for failure in done.failures:
        printer.line(f"{failure.digest[:12]}  {failure.message}")
    counts = f"{plural(done.copied, 'blob')} copied, {printer.size(done.bytes)}"
    counts += f"; {done.failed} failed" if done.failed else ""
    printer.record(record(done), counts)
    if not done.failed:
        return Exit.OK
    return Exit.PARTLY


def primary(name: Name, /, *, common: Common = EVERYWHERE) -> int:
    """Acknowledge puts in this backend from now on; the one before becomes a mirror.

    Example: `calotype backend primary archive`
    """
    with common.open_store() as store:
        store.backends.primary(name)
    common.printer.record({"primary": name}, f"{name} is the primary")
    return Exit.OK


def drop(
    name: Name,
    /,
    *,
    abandon: Annotated[
        bool, flag("--abandon", "Erase nothing there: the place is gone for good.")
    ] = False,
    dry_run: Annotated[
        bool, flag("--dry-run", "Show what would go and what would stay; change nothing.")
    ] = False,
    common: Common = EVERYWHERE,
) -> int:
    """Let go of a backend; each digest only after another copy was read whole.

    Exit code 3 while something has to stay there: repeat it after 'calotype backend copy', or
    when the delay before erasing is over.

    Example: `calotype backend drop main --dry-run`
    """
    with common.open_store() as store:
        done = store.backends.drop(name, abandon=abandon, dry_run=dry_run)
    if dry_run:
        return _planned(done, common.printer)
    parts = [f"{plural(done.let_go, 'copy', 'copies')} let go of"]
    parts += [f"{done.kept} stay: no other backend has them sound"] if done.kept else []
    parts += [f"{done.waiting} are to be erased later"] if done.waiting else []
    parts += [f"{name} is gone"] if done.removed else []
    common.printer.record(record(done), "; ".join(parts))
    return Exit.OK if done.removed else Exit.PARTLY


def _planned(would: Dropped, printer: Printer) -> int:
    printer.object(record(would))
    go = f"{plural(would.let_go, 'copy', 'copies')}, {printer.size(would.let_go_bytes)}"
    stay = f"{plural(would.kept, 'copy', 'copies')}, {printer.size(would.kept_bytes)}"
    table = [("would go", f"{go}, once another copy is read whole")]
    table += [("would stay", f"{stay}: no other backend has them sound")] if would.kept else []
    table += [("to be erased", f"{would.waiting} let go of before")] if would.waiting else []
    printer.fields(table)
    return Exit.OK
