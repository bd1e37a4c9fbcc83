"""gc, fsck, purge: letting go, and seeing that all is well."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from calotype.cli.exits import Exit, Unconfirmed, Usage, resumable
from calotype.cli.names import shown
from calotype.cli.options import (
    EVERYWHERE,
    Common,
    DigestGiven,
    counted,
    flag,
    option,
    require_duration,
    require_size,
)
from calotype.cli.printing import Printer, Row, plural
from calotype.cli.progressing import follow, meter
from calotype.cli.wire import encode, record
from calotype.digest import Digest
from calotype.errors import NotFound, StillReferenced
from calotype.gc.plans import NOWHERE, Plan
from calotype.model import Finding, Report

AGAIN = "Nothing is lost; the same command goes on."


def gc(
    *,
    dry_run: Annotated[bool, flag("--dry-run", "Show what would go, and remove nothing.")] = False,
    plan: Annotated[
        str | None, option("--plan", "Execute a plan shown before.", metavar="ID")
    ] = None,
    grace: Annotated[
        str | None, option("--grace", "How long the trash keeps.", metavar="24h")
    ] = None,
    erase_delay: Annotated[
        str | None,
        option("--erase-delay", "How long bytes stay after they were let go.", metavar="0s"),
    ] = None,
    now: Annotated[bool, flag("--now", "No grace and no delay; holds stay.")] = False,
    digest: Annotated[
        tuple[str, ...], option("--digest", "Only this one; may be repeated.", metavar="DIGEST")
    ] = (),
    limit: Annotated[int | None, option("--limit", "At most so many blobs."), counted] = None,
    max_bytes: Annotated[
        str | None,
        option("--max-bytes", "At most so many bytes, or one larger file.", metavar="10GB"),
    ] = None,
    budget: Annotated[str | None, option("--budget", "At most so long.", metavar="10m")] = None,
    full: Annotated[bool, flag("--full", "Look at every blob.")] = False,
    force: Annotated[bool, flag("--force", "Also where very much would go.")] = False,
    common: Common = EVERYWHERE,
) -> int:
    """Let go of what nothing has kept for the grace, and erase its bytes.

    Safe beside anything else, at any time. Stops and asks (exit code 3) where more than 20 % and
    more than 1000 blobs would go. The exit code is 3 as well while something cannot be erased: it
    is tried again later, at the latest after a day.

    Example: `calotype gc --dry-run --grace 7d`
    """
    own = (grace, erase_delay, limit, max_bytes, budget) != (None,) * 5 or digest or now or full
    if plan is not None and own:
        raise Usage("A plan has its terms.", hint="Give --plan with --force or --dry-run alone.")
    if now and (grace is not None or erase_delay is not None):
        raise Usage("--now is no grace and no delay.", hint="Leave one of them away.")
    for name, text in (("--grace", grace), ("--erase-delay", erase_delay), ("--budget", budget)):
        require_duration(name, text)
    require_size("--max-bytes", max_bytes)
    with common.open_store() as store:
        if plan is not None:
            made = store.plan(plan)
        else:
            made = store.plan_gc(
                grace,
                erase_delay,
                [store.resolve_anywhere(each) for each in digest] or None,
                limit,
                max_bytes,
                budget,
                full,
                now,
            )
        if dry_run:
            return _show(made, common.printer)
        report = follow(
            made.run(force), common.printer, "gc", seen=lambda progress: progress, resume=AGAIN
        )
    return _report(report, common.printer)


def _show(plan: Plan, printer: Printer) -> int:
    printer.rows(
        (
            Row((each.action, each.digest[:12], printer.size(each.size), each.reason), record(each))
            for each in plan.items
        ),
        right=(2,),
    )
    locked = plan.locked()
    printer.object(
        {
            "plan": plan.id,
            "doomed": plan.doomed,
            "doomed_bytes": plan.doomed_bytes,
            "erased": plan.erased,
            "erased_bytes": plan.erased_bytes,
            "locked": str(locked or ""),
        }
    )
    printer.line(
        f"plan {plan.id}: {plural(plan.doomed, 'blob')} to let go of, "
        f"{printer.size(plan.doomed_bytes)}; {plan.erased} let go before, "
        f"{printer.size(plan.erased_bytes)}"
    )
    if locked is not None:
        printer.line(f"{locked} {locked.hint}")
    elif plan.id == NOWHERE:
        printer.line("The plan was not kept: the catalog cannot be written.")
    elif plan.doomed or plan.erased:
        force = "" if plan.is_safe() else " --force"
        very_much = "That is very much. " if force else ""
        printer.line(f"{very_much}calotype gc --plan {plan.id}{force} does it.")
    return Exit.OK


def _report(report: Report, printer: Printer) -> int:
    printer.object({key: encode(each) for key, each in record(report).items() if key != "items"})
    printer.line(
        f"{plural(report.doomed, 'blob')} let go of, {printer.size(report.doomed_bytes)}; "
        f"{report.erased} erased, {printer.size(report.erased_bytes)}"
    )
    if report.failed or report.waiting or report.refused:
        printer.line(
            f"{report.failed} could not be erased for now, {report.waiting} from earlier runs "
            f"wait, {report.refused} were refused"
        )
        return Exit.PARTLY
    if report.stopped:
        printer.line(f"stopped by --{report.stopped}; the same command goes on")
    if report.stopped == "budget":
        return Exit.PARTLY
    return Exit.OK


def fsck(
    *,
    read_data: Annotated[bool, flag("--read-data", "Read and hash the bytes as well.")] = False,
    budget: Annotated[
        str | None, option("--budget", "Read for so long at most.", metavar="10m")
    ] = None,
    repair: Annotated[bool, flag("--repair", "Mend what can be mended.")] = False,
    recover: Annotated[
        bool, flag("--recover", "Keep bytes without a row, and unlock erasing.")
    ] = False,
    adopt: Annotated[
        bool, flag("--adopt", "With --recover: also from another copy of the catalog.")
    ] = False,
    rebuild: Annotated[
        bool, flag("--rebuild", "Make a lost catalog from the bytes alone.")
    ] = False,
    dry_run: Annotated[
        bool, flag("--dry-run", "Show what --recover or --rebuild would keep.")
    ] = False,
    common: Common = EVERYWHERE,
) -> int:
    """Compare catalog and bytes in both directions; exit code 4 where something is wrong.

    Orphans, strays and foreign objects are information. `--recover` is for a catalog that is older
    than the bytes, or a copy of another one (`--adopt`): gc says so where it is.

    Example: `calotype fsck --read-data --budget 10m`
    """
    _require_terms(repair, recover, adopt, rebuild, dry_run)
    printer = common.printer
    require_duration("--budget", budget)

    def seen(finding: Finding) -> None:
        where = finding.digest or finding.key
        cells = f"{finding.kind.ljust(8)}  {shown(where)[:64]}  {shown(finding.note)}".rstrip()
        then = " " if cells.endswith(".") else "; "
        printer.record(record(finding), cells + (then + finding.action if finding.action else ""))

    opened = common.new_store() if rebuild else common.open_store()
    with opened as store, resumable(AGAIN), meter(printer, "fsck") as show:
        run = store.fsck(read_data, budget, repair, recover, adopt, rebuild, dry_run, progress=show)
        for finding in run:
            seen(finding)
        done = run.result()
    printer.object(record(done))
    state = "all is well" if not done.problems else f"{plural(done.problems, 'problem')} found"
    rest = "" if done.complete else "; not all of it was looked at"
    rest += ", the next run goes on" if done.stopped else ""
    printer.line(f"{plural(done.blobs, 'blob')}, {plural(done.objects, 'object')}: {state}{rest}")
    return Exit.INTEGRITY if done.problems else Exit.OK


def _require_terms(repair: bool, recover: bool, adopt: bool, rebuild: bool, dry: bool) -> None:
    if adopt and not recover:
        raise Usage("--adopt goes with --recover.", hint="Give both.")
    if recover and rebuild:
        raise Usage("One of --recover and --rebuild.", hint="--rebuild is for a lost catalog.")
    if dry and (repair or not (recover or rebuild)):
        raise Usage(
            "--dry-run goes with --recover or --rebuild, and not with --repair.",
            hint="fsck without --repair changes nothing.",
        )


def purge(
    digest: DigestGiven,
    /,
    *,
    block: Annotated[bool, flag("--block", "Refuse it from now on.")] = False,
    reason: Annotated[
        str, option("--reason", "Why, for whoever puts it again.", metavar="TEXT")
    ] = "purged by an administrator",
    dry_run: Annotated[bool, flag("--dry-run", "Show who has it, and remove nothing.")] = False,
    yes: Annotated[bool, flag("--yes", "Do not ask.")] = False,
    common: Common = EVERYWHERE,
) -> int:
    """Remove a file from every scope and erase its bytes, whoever keeps it.

    Example: `calotype purge 2cf24dba5fb0 --block --yes`
    """
    with common.open_store() as store:
        found = store.resolve_anywhere(digest)
        explained = store.explain(found)
        if explained.verdict == "unknown" and not block:
            raise NotFound(
                f"No scope has {found}.", hint="With --block it is refused before it comes."
            )
        if columns := [str(each) for each in explained.kept_by if each.kind == "column"]:
            raise StillReferenced(
                f"{found} is still referenced by {', '.join(columns)}; nothing was changed.",
                hint="Set those rows to NULL or delete them, then purge again.",
            )
        if dry_run:
            common.printer.record(record(explained), f"{found}: {shown(explained.sentence)}")
            return Exit.OK
        if not yes:
            _ask(found, explained.sentence, common.printer)
        report = store.purge(found, block=block, reason=reason)
    common.printer.record(
        {key: encode(each) for key, each in record(report).items() if key != "items"},
        f"{found[:12]}  gone from {plural(report.assets, 'scope')}, "
        f"{common.printer.size(report.erased_bytes)} erased"
        + (f"; copies left for a later gc: {report.failed}" if report.failed else ""),
    )
    return Exit.PARTLY if report.failed else Exit.OK


def unblock(
    digest: Annotated[str, Parameter(help="A whole digest.", metavar="DIGEST")],
    /,
    *,
    common: Common = EVERYWHERE,
) -> int:
    """Take a purged digest off the block-list; it may be put again then.

    Example: `calotype unblock 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824`
    """
    with common.open_store() as store:
        wanted = Digest.parse(digest)
        if not store.unblock(wanted):
            raise NotFound(f"{wanted} is not blocked.", hint="'calotype explain' says what is.")
    common.printer.record({"digest": wanted}, f"{wanted[:12]}  may be put again")
    return Exit.OK


def _ask(digest: str, sentence: str, printer: Printer) -> None:
    talks = not (printer.json or printer.quiet)
    if not (talks and sys.stdin is not None and sys.stdin.isatty()):
        raise Unconfirmed(
            f"Purging {digest[:12]} removes it from every scope.", hint="Give --yes to do it."
        )
    question = f"{digest[:12]}: {shown(sentence)} Remove it from every scope? [y/N] "
    print(question, end="", file=printer.err, flush=True)
    answer = sys.stdin.readline()
    if answer.strip().lower() not in ("y", "yes"):
        raise Unconfirmed("Nothing was removed.")
