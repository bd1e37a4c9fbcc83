"""import: whole trees and tables in."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from calotype.cli import failures as failing
from calotype.cli.exits import Exit, Usage, given
from calotype.cli.names import shown
from calotype.cli.options import EVERYWHERE, Common, flag, option, owner_of
from calotype.cli.printing import Printer, Row, plural
from calotype.cli.progressing import follow
from calotype.cli.wire import record
from calotype.errors import Misconfigured, by_code
from calotype.importing.terms import PLANNED
from calotype.importing.walk import absolute
from calotype.model import Imported
from calotype.progress import Progress, Run

if TYPE_CHECKING:
    from calotype.store import Store

_KEPT = ("created", "duplicate", "restored", "healed", "unchanged")
_PASSED_OVER = ("empty", "hidden", "special")


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Rows:
    """``--table`` and what its columns are."""

    table: Annotated[
        str | None, option("--table", "The table whose rows are imported.", metavar="NAME")
    ] = None
    role: Annotated[
        str | None,
        option("--role", "Of a table: the owner's slot, {columns} in braces.", metavar="ROLE"),
    ] = None
    path_column: Annotated[
        str | None, option("--path-column", "The column that names files.", metavar="P")
    ] = None
    bytes_column: Annotated[
        str | None, option("--bytes-column", "The column that holds bytes.", metavar="B")
    ] = None
    digest_column: Annotated[
        str | None, option("--digest-column", "The column for digests.", metavar="D")
    ] = None
    root: Annotated[
        Path | None, option("--root", "The folder in which relative paths begin.", metavar="DIR")
    ] = None
    remove_sources: Annotated[
        bool,
        flag("--remove-sources", "Remove each file or bytes once they are kept and read back."),
    ] = False
    dry_run: Annotated[
        bool, flag("--dry-run", "Show what --remove-sources would remove; import nothing.")
    ] = False

    def imported(self, store: Store, url: str, owner: str | None) -> Run[Progress, Imported]:
        """The import of the table at ``url``."""
        if self.table is None:
            raise Usage("Which table?", hint="Give --table NAME.")
        return store.import_table(
            url,
            self.table,
            owner,
            role=self.role,
            path_column=self.path_column,
            bytes_column=self.bytes_column,
            digest_column=self.digest_column,
            root=self.root or Path(),
            remove_sources=self.remove_sources,
            dry_run=self.dry_run,
        )


NO_TABLE = Rows()


def import_(
    source: Annotated[
        str,
        Parameter(help="A folder, or table: and a database's URL.", metavar="DIR|table:URL"),
    ],
    /,
    *,
    owner: Annotated[
        str | None,
        option(
            "--owner",
            "Who refers to the files: kind/id; for a table with its {columns} in braces.",
            metavar="KIND/ID",
        ),
    ] = None,
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
    rows: Rows = NO_TABLE,
    common: Common = EVERYWHERE,
) -> int:
    """Keep every file below a folder, or of each row of a table, as often as you like.

    With --owner each file of a folder is the owner's, its path below DIR its role; without, it is
    kept for itself. What is unchanged is not read again; empty and hidden files are passed over
    and counted. Of a table, --path-column or --bytes-column says where the files are, and
    --digest-column where their digests are to be written; rows that have one are left alone.
    Interrupted or killed, the same command goes on. A file that fails stops no other; then the
    exit code is 3, or 1 when all failed.

    Example: `calotype import screenshots --owner dataset/7`
    """
    if again and resume:
        raise Usage("--again reads everything, --resume does not.", hint="Give one of them.")
    if failures is not None:
        failing.require_writable(failures)
    url = source.removeprefix("table:") if source.startswith("table:") else None
    if url is None and rows != NO_TABLE:
        named = [each.name for each in fields(rows) if getattr(rows, each.name)]
        option_ = "--" + named[0].replace("_", "-")
        raise Usage(f"{option_} is for a table.", hint="Write table: and its database's URL.")
    if url is not None and (map_ or from_ or again):
        raise Usage("--map, --from and --again are for a folder.", hint="Leave them away.")
    if url is None:
        _require_folder(source)
    with given("--from"):
        only = [*failing.sources(from_)] if from_ is not None else None
        if map_ is None:
            _require_below(Path(source), only or ())
    whose = owner_of(owner) if url is None else None
    with common.new_store() as store:
        if url is None:
            run = store.import_tree(source, whose, links=map_, only=only, resume=not again)
        else:
            run = rows.imported(store, url, owner)
        done = follow(
            run,
            common.printer,
            "import",
            seen=lambda progress: progress,
            resume="What was imported is kept; the same command goes on.",
        )
    if rows.dry_run:
        return _planned(done, common.printer, failures)
    return _told(done, common.printer, failures)


def _planned(done: Imported, printer: Printer, list_: Path | None) -> Exit:
    when = {"now": "now", "later": "once imported"}
    printer.rows(
        Row((when[each.when], shown(each.row), shown(each.source)), record(each))
        for each in done.planned
    )
    _tell_failed(done, printer, list_)
    count, stays = len(done.planned), len(done.failures)
    printer.object({"event": "summary", "planned": count, "failed": stays})
    told = f"{plural(count, 'source')}{' or more' if count == PLANNED else ''} would be removed"
    printer.line(f"{told}; {stays} would stay" if stays else told)
    return Exit.OK


def _require_folder(source: str) -> None:
    """Refuse a URL: as a path it would only be missing; ``Usage``."""
    scheme, there, _ = source.partition("://")
    if not there or "/" in scheme or Path(source).exists():
        return
    hint = f"For a database write table:{source}"
    if scheme in ("s3", "gs", "http", "https", "ftp", "sftp"):
        hint = "Copy the files into a folder first."
    elif scheme == "file":
        hint = "Write the folder's path."
    raise Usage(f"import does not read {scheme}:// yet, only folders and tables.", hint=hint)


def _require_below(root: Path, only: Iterable[Path]) -> None:
    """Refuse files of another tree, whose paths below ``root`` would be no roles."""
    top = os.fsdecode(absolute(os.fsencode(root)))
    for path in only:
        where = Path(os.fsdecode(absolute(os.fsencode(Path(top, path)))))
        if not (where.is_relative_to(top) or where.is_relative_to(os.path.realpath(top))):
            raise Misconfigured(
                f"{str(path)!r} does not lie in {top!r}.",
                hint="Name the folder of that list, and its --map.",
            )


def _tell_failed(done: Imported, printer: Printer, list_: Path | None) -> int:
    """Tell and write down what failed; how many."""
    failed = [(each.source, by_code(each.code, each.message, each.hint)) for each in done.failures]
    for name, error in failed:
        failing.tell(printer, name, error)
    if list_ is not None:
        failing.write(list_, failed)
    return len(failed)


def _told(done: Imported, printer: Printer, list_: Path | None) -> Exit:
    failed = _tell_failed(done, printer, list_)
    counts = record(done) | {"failed": failed}
    del counts["failures"], counts["planned"]
    printer.object({"event": "summary"} | counts)
    parts = [f"{getattr(done, each)} {each}" for each in _KEPT if getattr(done, each)]
    parts += [f"{failed} failed"] if failed else []
    kept = sum(getattr(done, each) for each in _KEPT)
    total = plural(kept + failed, "file")
    removed = f"; {plural(done.removed, 'source')} removed" if done.removed else ""
    over = [f"{getattr(done, each)} {each}" for each in _PASSED_OVER if getattr(done, each)]
    rest = f"; passed over: {', '.join(over)}" if over else ""
    taken = f", {printer.size(done.bytes)} taken in" if done.bytes else ""
    printer.line(f"{total}{taken}: {', '.join(parts) or 'nothing to do'}{rest}{removed}")
    if not failed:
        return Exit.OK
    return Exit.PARTLY if kept or done.removed else Exit.ERROR
