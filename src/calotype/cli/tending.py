"""init, upgrade, doctor, config: the store itself."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from calotype.catalog import schema
from calotype.cli.exits import Exit, Unconfirmed, Usage
from calotype.cli.names import shown
from calotype.cli.options import EVERYWHERE, Common, flag, option
from calotype.cli.printing import Row
from calotype.doctoring import catalog_of, examine, migrate, not_yet_added, schema_of, script
from calotype.errors import Unavailable

TOML = """\
# A Calotype store: catalog.db and blobs/ beside this file. Every setting: calotype config --origin
path = "."

[gc]
grace = "24h"
"""


def init(
    folder: Annotated[
        Path | None, Parameter(help="Where; --store, or here, unless given.", metavar="DIR")
    ] = None,
    /,
    *,
    common: Common = EVERYWHERE,
) -> int:
    """Make a store: a folder with calotype.toml, catalog.db and blobs/, and what is configured.

    Where CALOTYPE_CATALOG or CALOTYPE_PATH says where the store is, that one, and no other file.

    Example: `calotype init media`
    """
    if folder is not None and common.store is not None:
        raise Usage("Two places were given.", hint="Give a folder, or --store.")
    from calotype.config import load, said_where

    named = common.store or os.environ.get("CALOTYPE_STORE") or ""
    elsewhere = said_where() if not named else None
    place = (folder if folder is not None else Path(named)).absolute()
    if elsewhere is None:
        _write_toml(place)
    elif folder is not None and elsewhere.text != str(place.resolve()):
        raise Usage(
            f"{elsewhere.origin} says that the store is elsewhere.",
            hint="Leave the folder away, or the variable; or name the folder by --store.",
        )
    settings = load(place) if named else load(start=place if elsewhere is None else None)
    configured = settings.backends()
    with settings.store() as store:
        catalog = catalog_of(store)
        catalog.ensure()
        for name in not_yet_added(store):
            store.backends.add(name, configured[name].url, configured[name].added_as)
    made = str(place) if elsewhere is None else catalog.name
    common.printer.record({"store": made}, f"A store in {shown(made)}")
    return Exit.OK


def _write_toml(place: Path) -> None:
    if place.suffix == ".toml":
        raise Usage(f"No folder: {str(place)!r}.", hint="Name the folder that it is to be in.")
    if os.path.isfile(place):  # noqa: PTH113 - Path.is_file raises where it may not look
        raise Usage(f"A file is there: {str(place)!r}.", hint="Name a folder.")
    file = place / "calotype.toml"
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not file.exists():
            _write_whole(file, TOML)
    except OSError as error:
        raise Unavailable(
            f"Cannot make {str(file)!r}: {error.strerror}.", hint="Check the folder."
        ) from error


def _write_whole(file: Path, text: str) -> None:
    """All of it or nothing: a part would say that the store is nowhere."""
    draft = file.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with draft.open("w") as writing:
            writing.write(text)
            writing.flush()
            os.fsync(writing.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def upgrade(
    *,
    downgrade: Annotated[
        str | None, option("--downgrade", "Go back to this revision instead.", metavar="REVISION")
    ] = None,
    sql: Annotated[
        bool, flag("--sql", "Print what would be run on PostgreSQL, and change nothing.")
    ] = False,
    dry_run: Annotated[
        bool, flag("--dry-run", "Show from which schema to which, and change nothing.")
    ] = False,
    yes: Annotated[bool, flag("--yes", "Do not ask.")] = False,
    common: Common = EVERYWHERE,
) -> int:
    """Bring the catalog to this program's schema, after making a copy of it (SQLite).

    Example: `calotype upgrade`
    """
    if sql and downgrade is not None:
        raise Usage("--sql is for an upgrade.", hint="Leave --downgrade away.")
    revision = _revision(downgrade)
    wanted = str(schema.CURRENT) if revision is None else revision.lstrip("0")
    if revision == "base" and not (yes or dry_run):
        raise Unconfirmed(
            "Base has no tables: every row goes, and only the copy made before brings them back.",
            hint="Give --yes to do it.",
        )
    with common.new_store() as store:
        if sql:
            said = script(store)
            common.printer.record({"sql": said}, said.rstrip("\n"))
            return Exit.OK
        if dry_run:
            found = schema_of(store, revision)
            common.printer.record(
                {"schema": str(found) if found else None, "wanted": wanted},
                f"schema {found or 'none'} -> {wanted}",
            )
            return Exit.OK
        copy = migrate(store, revision)
    common.printer.record(
        {"schema": wanted, "copy": str(copy) if copy else None},
        f"schema {wanted}" + (f"; copy: {shown(str(copy))}" if copy else ""),
    )
    return Exit.OK


def _revision(text: str | None) -> str | None:
    """A revision as the migrations name it; ``Usage`` for one that does not exist."""
    if text is None or text == "base":
        return text
    if not (text.isdecimal() and 1 <= int(text) <= schema.CURRENT):
        raise Usage(
            f"--downgrade: No such revision: {text!r}.",
            hint=f"Give a number up to {schema.CURRENT}.",
        )
    return f"{int(text):04}"


def doctor(*, common: Common = EVERYWHERE) -> int:
    """Look at SQLite, disk, triggers and the application's columns; make lost triggers again.

    Example: `calotype doctor`
    """
    printer = common.printer
    styles = {"ok": "good", "warn": "odd", "fail": "bad"}
    with common.new_store() as store:
        remarks = list(examine(store))
    printer.rows(
        Row(
            (each.level, each.subject, shown(f"{each.note}  {each.cure}".strip())),
            {"level": each.level, "subject": each.subject, "note": each.note, "cure": each.cure},
            styles[each.level],
        )
        for each in remarks
    )
    return Exit.INTEGRITY if any(each.level == "fail" for each in remarks) else Exit.OK


def config(
    *,
    origin: Annotated[bool, flag("--origin", "Also where each value comes from.")] = False,
    common: Common = EVERYWHERE,
) -> int:
    """Show the settings; passwords are masked.

    Example: `calotype config --origin`
    """
    rows = common.settings().shown()
    common.printer.rows(
        Row(
            (key, shown(text), shown(where)) if origin else (key, shown(text)),
            {"key": key, "value": text, "origin": where},
        )
        for key, text, where in rows
    )
    return Exit.OK
