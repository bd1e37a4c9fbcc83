"""Importing a tree: every file kept under its owner, and not read again while it is as it was."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from typing import NamedTuple

from calotype import staging
from calotype.bulk import Bulk, Done, Refused
from calotype.catalog import seen
from calotype.digest import Digest
from calotype.errors import CalotypeError, Misconfigured, NotFound
from calotype.importing.links import Link, Links, read_map
from calotype.importing.own import InUse, folders, own
from calotype.importing.still import read_still
from calotype.importing.walk import Found, Named, Walk, absolute, found_at
from calotype.intake import Pause
from calotype.model import Imported, PutFailure, PutMany
from calotype.names import Owner, file_name, role_name
from calotype.progress import Progress, time_left
from calotype.putting import Putter
from calotype.quantities import FOREVER
from calotype.staging import Content, Limits
from calotype.stamp import Stamp
from calotype.wishes import Wish

CHUNK = 2000
"""How many files are compared at a time with what was seen."""


class Entry(NamedTuple):
    """A file on its way in: where it is, how it was found, and who is to have it.

    ``known`` is the digest that it had when it was seen just so before.
    """

    path: bytes
    stamp: Stamp
    link: Link
    known: Digest | None = None

    def __fspath__(self) -> bytes:
        """Its path."""
        return self.path


class TreeImport:
    """One import of a tree; ``resume`` is False to read every file, seen or not."""

    def __init__(
        self, putter: Putter, limits: Limits, walk: Walk, links: Links, *, resume: bool = True
    ) -> None:
        self._putter = putter
        self._limits = limits
        self._walk = walk
        self._links = links
        self._resume = resume
        self._unchanged = 0
        self._began = 0.0

    def steps(self) -> Generator[Progress, None, Imported]:
        """Import every file; one that fails is noted and never stops the others.

        What a Progress counts is durable when it appears.
        """
        self._walk.require()
        self._began = time.monotonic()
        bulk = Bulk(self._putter, self._receive, self._wish, self._note)
        run = bulk.steps(self._unsettled(), self._walk.count())
        try:
            while True:
                yield self._counted(next(run))
        except StopIteration as end:
            return self._outcome(end.value)
        finally:
            run.close()

    def _unsettled(self) -> Iterator[Entry | Pause]:
        """Files that are not all right yet, and pauses, so that progress is told."""
        files = self._walk.files()
        unvisited = set(self._links.listed) if self._walk.whole else set()
        top = self._walk.root.rstrip(b"/")
        after = top + b"/"
        while chunk := list(islice(files, CHUNK)):
            unvisited.difference_update(found.path for found in chunk)
            yield from self._compared(chunk, after)
            yield Pause()
            after = chunk[-1].path
        self._seen(after, top + b"0", ())
        unvisited.difference_update(path for path, _ in self._walk.failures)
        in_use = InUse(self._putter)
        for path in sorted(unvisited):  # hidden, elsewhere, or not there, which its reading tells
            try:
                in_use.require_no_database(path)
            except Misconfigured as error:
                self._walk.failures.append((path, error))
            else:
                yield from self._compared([found_at(path)], _just_before(path))

    def _compared(self, chunk: Sequence[Found], after: bytes) -> Iterator[Entry]:
        """Of some neighbours those that are new, changed, or not kept any more."""
        past = self._seen(after, chunk[-1].path + b"\0", chunk)
        entries = []
        for found in chunk:
            stamp, digest = past.get(found.path, (None, None))
            known = digest if stamp == found.stamp and self._resume else None
            entries += [Entry(*found, link, known) for link in self._linked(found.path)]
        standing = self._standing(entries)
        self._unchanged += len(standing)
        rest = [entry for number, entry in enumerate(entries) if number not in standing]
        had = self._had({entry.known for entry in rest if entry.known is not None})
        for entry in rest:
            yield entry if entry.known in had else entry._replace(known=None)

    def _had(self, known: Collection[Digest]) -> set[str]:
        """What the scope has already; bytes of another one it gets by reading them alone."""
        if not known:
            return set()
        with self._putter.catalog.read() as connection:
            return seen.had(connection, self._putter.scope, list(known))

    def _linked(self, path: bytes) -> list[Link]:
        """Who has the file; nobody, and a failure, where the map gives its slot to another one."""
        links = self._links.of(path)
        if path not in self._links.listed and links[0] in self._links.slots:
            error = Misconfigured(
                "The map gives this file's owner and role to another one.",
                hint="Name this file in the map as well, with another role.",
            )
            self._walk.failures.append((path, error))
            return []
        return links

    def _seen(
        self, after: bytes, before: bytes, found: Sequence[Found]
    ) -> dict[bytes, tuple[seen.Stamped, Digest]]:
        """What was seen there before; what is there no longer is forgotten."""
        if not self._walk.whole:
            return {}
        catalog = self._putter.catalog
        with catalog.read() as connection:
            past = seen.between(connection, after, before)
        gone = past.keys() - {each.path for each in found} - self._links.listed.keys()
        if gone:
            with suppress(CalotypeError), catalog.write(durable=False) as connection:
                seen.forget(connection, sorted(gone))
        return past

    def _standing(self, entries: Sequence[Entry]) -> set[int]:
        """Where those stand whose owner has just these bytes, or that are kept for themselves."""
        by_owner: dict[Owner | None, list[tuple[int, str, Digest]]] = {}
        for number, entry in enumerate(entries):
            if (known := entry.known) is not None:
                owner, role = entry.link
                by_owner.setdefault(owner, []).append((number, role or known, known))
        standing: set[int] = set()
        scope = self._putter.scope
        with self._putter.catalog.read() as connection:
            for owner, some in by_owner.items():
                if owner is None:
                    kept = seen.kept(connection, scope, [known for _, _, known in some])
                    standing.update(number for number, _, known in some if known in kept)
                else:
                    whose, roles = (owner.kind, owner.id), [role for _, role, _ in some]
                    has = seen.referred(connection, scope, whose, roles)
                    standing.update(
                        number for number, role, known in some if has.get(role) == known
                    )
        return standing

    def _receive(self, entry: Entry) -> Content:
        """Read a file while it stands still; of one that is known nothing is read yet."""
        if entry.known is not None:
            read = partial(self._read, entry)
            return staging.known(entry.known, entry.stamp.size, read, self._limits)
        return self._read(entry)

    def _read(self, entry: Entry) -> Content:
        backend = self._putter.backend
        content, unsure = read_still(entry, backend, self._limits, entry.stamp.modified)
        if unsure:
            content.stamp = None
        return content

    def _wish(self, entry: Entry, content: Content) -> Wish:
        owner, role = entry.link
        name = os.fsdecode(os.path.basename(entry.path))  # noqa: PTH119 - not a Path
        end = FOREVER if owner is None else None
        role = role_name(role, content.digest)
        return Wish(content.digest, end, owner, role, file_name(name))

    def _note(self, kept: Sequence[Done[Entry]]) -> Refused[Entry]:
        """Remember files that are kept durably now; best effort, for it only saves reading.

        Not those that may change without its being seen; what was known is remembered already.
        """
        stamped = [
            (entry.path, content.stamp, content.digest)
            for entry, content in kept
            if content.stamp is not None
        ]
        with suppress(CalotypeError), self._putter.catalog.write(durable=False) as connection:
            seen.note(connection, stamped)
        return ()

    def _counted(self, progress: Progress) -> Progress:
        """The same with what was unchanged, and with folders that failed."""
        unchanged, failed = self._unchanged, len(self._walk.failures)
        passed_over = self._walk.skipped["empty"] + self._walk.skipped["special"]
        done = progress.done + unchanged + failed + passed_over
        total = max(progress.total or 0, done)
        return replace(
            progress,
            total=total,
            done=done,
            skipped=progress.skipped + unchanged + passed_over,
            failed=progress.failed + failed,
            eta=time_left(self._began, done, total),
        )

    def _outcome(self, done: PutMany) -> Imported:
        failures = [PutFailure.of(os.fsdecode(path), error) for path, error in self._walk.failures]
        skipped = self._walk.skipped
        return Imported(
            unchanged=self._unchanged,
            created=done.created,
            duplicate=done.duplicate,
            restored=done.restored,
            healed=done.healed,
            bytes=done.bytes,
            empty=skipped["empty"],
            hidden=skipped["hidden"],
            special=skipped["special"],
            failures=(*failures, *done.failures),
        )


def tree_import(
    putter: Putter,
    limits: Limits,
    source: str | os.PathLike[str],
    owner: Owner | None,
    links: str | os.PathLike[str] | None,
    only: Iterable[str | os.PathLike[str]] | None,
    *,
    resume: bool,
) -> TreeImport:
    """The import that these arguments of ``Scope.import_tree`` describe."""
    given = os.fsencode(source)
    if not given or b"\0" in given:
        raise Misconfigured(f"Not a folder: {os.fsdecode(source)!r}.", hint="Name the folder.")
    if isinstance(only, str | bytes | os.PathLike):
        raise Misconfigured("only= wants several files.", hint="Give a list of one.")
    try:
        root = absolute(given)
    except FileNotFoundError as error:
        raise NotFound(
            "The current folder is gone.", hint="Change to another one, or name whole paths."
        ) from error
    whose = Links(root, owner) if links is None else read_map(links, root, owner)
    walk = Walk(
        root,
        lambda: own(putter),
        os.fsencode(next(iter(folders(putter)), "")),
        whose.listed.keys(),
    )
    if only is not None:
        in_use = cache(lambda: InUse(putter))  # when its catalog is made
        walk = Named(
            root,
            map(os.fsencode, only),
            lambda: own(putter),
            lambda path: in_use().require_no_database(path),
        )
    return TreeImport(putter, limits, walk, whose, resume=resume)


def _just_before(path: bytes) -> bytes:
    """What stands before a path, and after every other one that is any text."""
    return path[:-1] + bytes([path[-1] - 1]) + b"\xff"
