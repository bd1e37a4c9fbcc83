"""import: whole trees in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from calotype.cli import failures as failing
from calotype.cli.exits import Exit, Usage, given
from calotype.cli.options import EVERYWHERE, Common, OwnerGiven, flag, option, owner_of
from calotype.cli.printing import Printer, plural
from calotype.cli.progressing import follow
from calotype.cli.wire import record
from calotype.errors import by_code
from calotype.model import Imported

_KEPT = ("created", "duplicate", "restored", "healed", "unchanged")
_PASSED_OVER = ("empty", "hidden", "special")


def import_(
    folder: Annotated[Path, Parameter(help="The folder; all below it is imported.", metavar="DIR")],
    /,
    *,
    owner: OwnerGiven = None,
    map_: Annotated[
        Path | None,
        option("--map", "A CSV that says of single files: path,owner,role.", metavar="FILE"),
    ] = None,
    again: Annotated[bool, flag("--again", "Read every file, whether it changed or not.")] = False,
    resume: Annotated[bool, flag("--resume", "Read only what changed; it is always so.")] = False,
    from_: Annotated[
        Path | None,
        option("--from", "Only the files of a list that --failures wrote.", metavar="FILE"),
    ] = None,
    failures: Annotated[
        Path | None,
        option("--failures", "Write what failed to this file, for --from.", metavar="FILE"),
    ] = None,
    common: Common = EVERYWHERE,
) -> int:
    """Keep every file below a folder, as often as you like: what is unchanged is not read again.

    With --owner each file is the owner's, its path below DIR its role; without, it is kept for
    itself. Empty and hidden files are passed over and counted. Interrupted or killed, the same
    command goes on. A file that fails stops no other; then the exit code is 3, or 1 when all
    failed.

    Example: `calotype import screenshots --owner dataset/7`
    """
    if again and resume:
        raise Usage("--again reads everything, --resume does not.", hint="Give one of them.")
    if failures is not None:
        failing.require_writable(failures)
    with given("--from"):
        only = [*failing.sources(from_)] if from_ is not None else None
    whose = owner_of(owner)
    with common.new_store() as store:
        run = store.import_tree(folder, whose, links=map_, only=only, resume=not again)
        done = follow(
            run,
            common.printer,
            "import",
            seen=lambda progress: progress,
            resume="What was imported is kept; the same command goes on.",
        )
    return _told(done, common.printer, failures)


def _told(done: Imported, printer: Printer, list_: Path | None) -> Exit:
    failed = [(each.source, by_code(each.code, each.message, each.hint)) for each in done.failures]
    for name, error in failed:
        failing.tell(printer, name, error)
    if list_ is not None:
        failing.write(list_, failed)
    counts = record(done) | {"failed": len(failed)}
    del counts["failures"]
    printer.object({"event": "summary"} | counts)
    parts = [f"{getattr(done, each)} {each}" for each in _KEPT if getattr(done, each)]
    parts += [f"{len(failed)} failed"] if failed else []
    kept = sum(getattr(done, each) for each in _KEPT)
    total = plural(kept + len(failed), "file")
    over = [f"{getattr(done, each)} {each}" for each in _PASSED_OVER if getattr(done, each)]
    rest = f"; passed over: {', '.join(over)}" if over else ""
    printer.line(f"{total}, {printer.size(done.bytes)} new or read: {', '.join(parts)}{rest}")
    if not failed:
        return Exit.OK
    return Exit.PARTLY if kept else Exit.ERROR
