"""catalog copy: the catalog moved to another database."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from calotype.cli.exits import Exit, Usage
from calotype.cli.names import shown
from calotype.cli.options import EVERYWHERE, Common, flag, option
from calotype.cli.printing import plural
from calotype.cli.progressing import follow
from calotype.cli.wire import record


def copy(
    url: Annotated[
        str,
        Parameter(help="A catalog's URL, or the folder of a store.", metavar="URL|DIR"),
    ],
    /,
    *,
    schema: Annotated[
        str | None, option("--schema", "Of PostgreSQL: the schema for its tables.", metavar="S")
    ] = None,
    dry_run: Annotated[bool, flag("--dry-run", "Compare, and change nothing.")] = False,
    force: Annotated[
        bool, flag("--force", "Also without the application's foreign keys; they stay behind.")
    ] = False,
    common: Common = EVERYWHERE,
) -> int:
    """Move the catalog to another database; the bytes stay where they are.

    The store may be used while rows are copied. In the end it is held still, and every row is
    compared; from then on only the new catalog can be used. Interrupted or killed, the same
    command goes on.

    Example: `calotype catalog copy postgresql://localhost/photos --schema calotype`
    """
    if not url.strip():
        raise Usage("Where to?", hint="Give postgresql://... or a folder.")
    with common.new_store() as store:
        done = follow(
            store.copy_catalog(url, schema, force=force, dry_run=dry_run),
            common.printer,
            "catalog copy",
            seen=lambda progress: progress,
            resume="What was copied stays; the same command goes on.",
        )
    common.printer.object({"event": "summary"} | record(done))
    changes = f"{done.written} written, {done.removed} removed"
    if not done.moved:
        planned = f"{done.written} to write, {done.removed} to remove"
        common.printer.line(f"{plural(done.rows, 'row')} compared: {planned}")
        return Exit.OK
    common.printer.line(f"{plural(done.rows, 'row')} compared: {changes}")
    if done.held:
        common.printer.line(f"{plural(done.held, 'file')} of the application's columns held")
    common.printer.line(f"The catalog is in {shown(done.to)} now: point catalog at it.")
    return Exit.OK
