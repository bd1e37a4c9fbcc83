"""Moving in: what a scope offers to take over whole trees and tables."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from pathlib import Path

from calotype.model import Imported
from calotype.names import Owner
from calotype.progress import Progress, Run
from calotype.putting import Putter
from calotype.references import Referrer
from calotype.rooms import Rooms


class MovesIn:
    """The imports of a scope; a part of ``Scope``."""

    def __init__(self, rooms: Rooms, name: str) -> None:
        self._rooms = rooms
        self._name = name

    def _putter(self) -> Putter:
        return self._rooms.putter(self._name)

    def _referrer(self) -> Referrer:
        return self._rooms.referrer(self._name)

    def _run(
        self, steps: Generator[Progress, None, Imported], name: str
    ) -> Run[Progress, Imported]:
        return Run(lambda: self._rooms.trend.after(steps, self._name), name=name)

    def import_tree(
        self,
        source: str | os.PathLike[str],
        owner: str | Owner | None = None,
        *,
        links: str | os.PathLike[str] | None = None,
        only: Iterable[str | os.PathLike[str]] | None = None,
        resume: bool = True,
    ) -> Run[Progress, Imported]:
        """Keep every file below the folder ``source``, in durable batches; a Run of Progress.

        Each goes to ``owner`` in the role of its path below ``source``, or without an owner is
        kept for itself; ``links`` names a CSV of ``path, owner, role`` that says it for single
        files. One that an earlier import saw as it is (path, size, mtime, inode), and that is kept
        as it should be, is not read again unless ``resume`` is False: a repeated import goes on
        where one was stopped. ``only`` imports just these files of the tree, as those that failed.
        Empty and hidden files are passed over and counted. A file that fails is listed in the
        result and never stops the others; one that is gone keeps what it was given.
        """
        from calotype.importing.tree import tree_import

        whose = Owner.parse(owner) if owner is not None else None
        work = tree_import(
            self._putter(),
            self._rooms.limits,
            source,
            whose,
            links,
            only,
            resume=resume,
        )
        return self._run(work.steps(), "import_tree")

    def import_table(
        self,
        url: str,
        table: str,
        owner: str | None = None,
        *,
        role: str | None = None,
        path_column: str | None = None,
        bytes_column: str | None = None,
        digest_column: str | None = None,
        root: str | os.PathLike[str] = ".",
        remove_sources: bool = False,
        dry_run: bool = False,
    ) -> Run[Progress, Imported]:
        """Keep the file that each row of ``table`` names, or its bytes; a Run of Progress.

        ``url`` is the database as SQLAlchemy writes it. ``owner`` and ``role`` are templates of
        the row's columns (``"image/{id}"``); paths are below ``root``. What is kept is written to
        ``digest_column``, and rows that have a digest are left alone: the same import goes on
        where one was stopped. Sources stay as they are, unless ``remove_sources``: then each is
        removed (the file, or the column set to NULL) once all is kept and was read back. A
        ``dry_run`` of that imports and removes nothing, and tells what would go and what stays.
        """
        from calotype.importing.table import table_import
        from calotype.importing.terms import Terms

        terms = Terms(
            url=url,
            table=table,
            owner=owner,
            role=role,
            path_column=path_column,
            bytes_column=bytes_column,
            digest_column=digest_column,
            root=Path(root),
            remove_sources=remove_sources,
            dry_run=dry_run,
        )
        work = table_import(self._putter(), self._referrer(), self._rooms.limits, terms)
        return self._run(work.steps(), "import_table")
