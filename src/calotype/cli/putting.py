"""put: files in."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from cyclopts import Parameter

from calotype.cli import failures as failing
from calotype.cli.exits import Exit, Usage, given, resumable
from calotype.cli.names import shown
from calotype.cli.options import (
    EVERYWHERE,
    Common,
    OwnerGiven,
    RoleGiven,
    as_typed,
    flag,
    is_stdio,
    option,
    owner_of,
    require_duration,
    stdin,
)
from calotype.cli.printing import Printer, plural
from calotype.cli.progressing import meter
from calotype.cli.wire import Json
from calotype.errors import CalotypeError, Locked, Misconfigured, Unavailable
from calotype.model import Put
from calotype.names import Owner
from calotype.progress import Progress, time_left

if TYPE_CHECKING:
    from calotype.store import Store

_STYLES = {"created": "good", "duplicate": "faint", "restored": "odd", "healed": "odd"}

_ABOUT_THE_STORE = frozenset(
    {"no-store", "schema-behind", "schema-ahead", "corrupt", "role-cascades"}
)


def put(
    *paths: Annotated[Path, Parameter(help="Files; - is standard input.", metavar="PATHS")],
    owner: OwnerGiven = None,
    role: RoleGiven = None,
    hold: Annotated[
        str | None,
        option("--hold", "Keep it at least so long, instead of for good.", metavar="24h"),
    ] = None,
    filename: Annotated[
        str | None, option("--filename", "The name to remember, for one file.", metavar="NAME")
    ] = None,
    metadata: Annotated[
        str | None, option("--metadata", "A JSON object to remember with it.", metavar="JSON")
    ] = None,
    expect: Annotated[
        str | None,
        option("--expect", "Refuse one file if it has another digest.", metavar="DIGEST"),
    ] = None,
    images_only: Annotated[bool, flag("--images-only", "Refuse what is no image.")] = False,
    from_: Annotated[
        Path | None,
        option("--from", "Put the sources of a file that --failures wrote.", metavar="FILE"),
    ] = None,
    failures: Annotated[
        Path | None,
        option("--failures", "Write what failed or was left, for --from.", metavar="FILE"),
    ] = None,
    common: Common = EVERYWHERE,
) -> int:
    """Keep files; each once, however often it is put.

    Prints a line a file: what became of it (created, duplicate, restored from the trash, or
    healed), its digest, size, type and name. Without --owner and --hold a file is kept for
    itself until `discard`. Makes the store if it is not there yet. A file that fails stops no
    other; then the exit code is 3, or 1 when all failed.

    Example: `calotype put photos/*.jpg --owner dataset/7`
    """
    if sum(map(is_stdio, (*paths, from_ or Path()))) > 1:
        raise Usage("Standard input can be read once.", hint="Give - once.")
    with given("--from"):
        sources = [*paths, *(failing.sources(from_) if from_ is not None else ())]
    texts = map(as_typed, (owner, role, hold, filename, metadata, expect))
    wish = _wish(sources, *texts, images_only=images_only)
    if failures is not None:
        failing.require_writable(failures)
    with common.new_store() as store:
        tally = _Tally(store, common.printer, wish, len(sources))
        try:
            with resumable("What was printed is kept; the same command goes on."):
                tally.put_all(sources)
        except CalotypeError as error:
            if failures is not None:
                left = [(_named(path), error) for path in sources[tally.done :]]
                try:
                    failing.write(failures, [*tally.failures, *left])
                except Unavailable as unwritten:  # what ended the work is told all the same
                    failing.tell(common.printer, "--failures", unwritten)
            raise
        if failures is not None:
            failing.write(failures, tally.failures)
    return tally.outcome()


def _named(path: Path) -> str:
    return "-" if is_stdio(path) else str(path)


def _is_about_the_store(error: CalotypeError) -> bool:
    """True for errors that every further file would meet as well."""
    if isinstance(error, Locked):
        return error.whole
    return error.of_no_store or error.code in _ABOUT_THE_STORE


@dataclass(frozen=True, slots=True)
class _Wish:
    owner: Owner | None
    role: str | None
    hold: str | None
    filename: str | None
    metadata: Mapping[str, object] | None
    expect: str | None
    images_only: bool


def _wish(
    sources: Sequence[Path],
    owner: str | None,
    role: str | None,
    hold: str | None,
    filename: str | None,
    metadata: str | None,
    expect: str | None,
    *,
    images_only: bool,
) -> _Wish:
    if not sources:
        raise Usage("Nothing to put.", hint="Give files, or - for standard input.")
    if len(sources) > 1 and (role or filename or expect):
        raise Usage("--role, --filename and --expect are for one file.", hint="Put it by itself.")
    if role is not None and owner is None:
        raise Usage("A role belongs to an owner.", hint="Give --owner as well.")
    require_duration("--hold", hold)
    return _Wish(owner_of(owner), role, hold, filename, json_object(metadata), expect, images_only)


def json_object(text: str | None) -> Mapping[str, object] | None:
    """The object that ``--metadata`` holds; ``Usage`` for anything else."""
    if text is None:
        return None
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Usage(f"--metadata is no JSON: {error}.", hint="""Write '{"key": 1}'.""") from None
    if not isinstance(found, dict):
        raise Usage("--metadata is no JSON object.", hint="""Write '{"key": 1}'.""")
    return cast(Mapping[str, object], found)


@dataclass(slots=True)
class _Tally:
    """Puts one source after another and counts what became of them."""

    store: Store
    printer: Printer
    wish: _Wish
    total: int
    counts: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    failures: list[tuple[str, CalotypeError]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        """How many sources, in their order, were kept or failed by themselves."""
        return self.counts.total() + len(self.failures)

    def put_all(self, sources: Sequence[Path]) -> None:
        with meter(self.printer, "put", talks=True) as show:
            for path in sources:
                name = _named(path)
                try:
                    self._kept(name, self._put(path))
                except CalotypeError as error:
                    if _is_about_the_store(error):
                        raise
                    self._failed(name, error)
                if not self.printer.json:
                    show(self._progress())

    def _put(self, path: Path) -> Put:
        wish = self.wish
        if not is_stdio(path) and os.path.isdir(path):  # noqa: PTH112 - says no where it may not look
            raise Misconfigured(
                f"{str(path)!r} is a folder.", hint=f"Put takes files: {shown(str(path))}/*"
            )
        return self.store.put(
            stdin() if is_stdio(path) else path,
            owner=wish.owner,
            role=wish.role,
            filename=wish.filename,
            metadata=wish.metadata,
            hold=wish.hold,
            expect=wish.expect,
            images_only=wish.images_only,
        )

    def _kept(self, name: str, done: Put) -> None:
        self.counts[done.status] += 1
        self.bytes += done.blob.size
        value: dict[str, Json] = {
            "event": "put",
            "source": name,
            "status": done.status,
            "digest": done.digest,
            "size": done.blob.size,
            "media_type": done.blob.media_type,
            "filename": done.asset.filename,
        }
        self.printer.record(value, self._line(name, done))

    def _line(self, name: str, done: Put) -> str:
        status = self.printer.styled(done.status.ljust(9), _STYLES[done.status])
        size = self.printer.size(done.blob.size).rjust(9)
        media_type = done.blob.media_type.ljust(10)
        return f"{status}  {done.digest[:12]}  {size}  {media_type}  {shown(name)}"

    def _failed(self, name: str, error: CalotypeError) -> None:
        self.failures.append((name, error))
        failing.tell(self.printer, name, error)

    def _progress(self) -> Progress:
        eta = time_left(self.started, self.done, self.total)
        failed = len(self.failures)
        return Progress(self.total, self.done, failed=failed, bytes=self.bytes, eta=eta)

    def outcome(self) -> Exit:
        """Say what all of it came to."""
        statuses = ("created", "duplicate", "restored", "healed")
        failed = len(self.failures)
        self.printer.object(
            {"event": "summary", **{each: self.counts[each] for each in statuses}}
            | {"failed": failed, "bytes": self.bytes}
        )
        if self.total > 1:
            parts = [f"{self.counts[each]} {each}" for each in statuses if self.counts[each]]
            parts += [f"{failed} failed"] if failed else []
            total = f"{plural(self.total, 'file')}, {self.printer.size(self.bytes)}"
            self.printer.note(f"{total}: {', '.join(parts)}")
        if not failed:
            return Exit.OK
        return Exit.PARTLY if self.counts else Exit.ERROR
