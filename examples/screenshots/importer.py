"""The importer: search results into the application's tables, each with its screenshot."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from sqlalchemy import ColumnElement, Engine, and_, cast, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from calotype import Store
from calotype.errors import CalotypeError
from examples.screenshots import pages
from examples.screenshots.tables import datasets, search_results

LOG = logging.getLogger("screenshots")

HOLD = "24h"
"""How long a picture waits for the rows that will keep it."""

TRIES = 10

Written = tuple[int, Sequence[int]]
"""How many results were added, and the ids of all that had no picture."""

INSERTS = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
"""Each database's INSERT that knows ON CONFLICT."""

NUMBERS = {
    "sqlite": lambda given: func.json_each(json.dumps(given)),
    "postgresql": lambda given: func.jsonb_array_elements_text(cast(given, postgresql.JSONB)),
}
"""And its rows of a list that travels as one JSON array."""


class DatasetGone(Exception):
    """The dataset was deleted while it was being imported."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that came to nothing, a code and why; ``results`` were kept without their picture."""

    source: str
    error: str
    why: str
    results: Sequence[int] = ()


@dataclass
class Imported:
    """What an import did; results that it ``linked`` may be older ones."""

    searches: int = 0
    results: int = 0
    linked: int = 0
    failures: list[Failure] = field(default_factory=list)

    def link(self, digest: str, results: Sequence[int]) -> None:
        """Note results that have their picture now."""
        self.linked += len(results)
        for result in results:
            LOG.info("Image linked: %s... -> result_id %d", digest[:8], result)

    def fail(self, source: Path, error: str, why: str, results: Sequence[int] = ()) -> None:
        """Note a file that came to nothing; bytes of its name that are no text as escapes."""
        shown = os.fsencode(source).decode(errors="backslashreplace")
        self.failures.append(Failure(shown, error, why, results))
        LOG.warning("Failed: %s: %s", shown, why)


class StateImporter:
    """Imports one dataset at a time; any number of importers may run at once."""

    def __init__(self, engine: Engine, store: Store) -> None:
        self._engine = engine
        self._store = store

    def import_directory(self, folder: Path, tag: str) -> Imported:
        """Import every ``state/name.json`` below ``folder``; again, only what is missing is added.

        A search is a file, known by its place below ``folder``: two of one state and name are two
        searches, each with its own results and picture.

        No file stops the others. Results whose picture cannot be stored are kept without it, and
        get it from the next import or ``link_later``; a search that cannot be read is left to the
        next import. ``DatasetGone`` when somebody deletes the dataset meanwhile.
        """
        done, dataset, folder = Imported(), self._dataset(tag), folder.absolute()
        for file in _searches(folder, done):
            try:
                search, picture = pages.read(file)
            except pages.Unreadable as error:
                done.fail(file, "unreadable", str(error))
                continue
            own = {"dataset_id": dataset, "file": _text(file.relative_to(folder))}
            self._keep(picture, partial(self._insert, own, search, picture), done)
            done.searches += 1
        return done

    def link_later(self, tag: str) -> Imported:
        """Try again for every result that has no picture, whichever import left it so.

        ``LookupError`` where there is no such dataset.
        """
        done = Imported()
        for dataset, picture in self._unlinked(tag):
            self._keep(picture, partial(self._relink, dataset, picture), done)
        return done

    def _keep(self, picture: Path, write: Callable[[str | None], Written], done: Imported) -> None:
        """Put a picture, then ``write`` the rows that name it; without it where it cannot be kept.

        A hold keeps the bytes until the commit. Where it ended before (a clock that jumped, a
        ``clear_cache``) the database refuses the rows, nothing was written, and we put again.
        """
        code, why = "taken", "What was put was let go before its rows were there."
        for _ in range(TRIES):
            try:
                digest = self._store.put(picture, hold=HOLD, images_only=True).digest
            except CalotypeError as error:
                code, why = error.code, f"{error} {error.hint}"
                break
            with suppress(IntegrityError):
                new, results = write(digest)
                done.results += new
                done.link(digest, results)
                return
        new, results = write(None)
        done.results += new
        if results:
            done.fail(picture, code, why, results)

    def _insert(
        self, own: Mapping[str, object], search: pages.Search, picture: Path, digest: str | None
    ) -> Written:
        """The results of one search in one transaction; those that are there are left alone.

        Those that the file does not name any more are of another page: they go on waiting for it.
        It begins with a write: on SQLite one that has read cannot always become the writer.
        """
        mine, dataset = _where(**own), own["dataset_id"]
        with Session(self._engine) as session, session.begin():
            touch = update(datasets).where(datasets.c.id == dataset).values(id=dataset)
            if not session.execute(touch).rowcount:  # type: ignore[attr-defined]
                raise DatasetGone(f"Dataset {dataset} was deleted while it was imported.")
            known = set(session.scalars(select(search_results.c.license_number).where(mine)))
            new = [row for row in _rows(search) if row["license_number"] not in known]
            for row in new:
                place = {**own, "screenshot": _text(picture)}
                session.execute(insert(search_results).values(row | place))
            shown = and_(mine, _named(search, self._engine.dialect.name))
            return len(new), _link(session, shown, picture, digest)

    def _relink(self, dataset: int, picture: Path, digest: str | None) -> Written:
        mine = _where(dataset_id=dataset, screenshot=_text(picture))
        with Session(self._engine) as session, session.begin():
            return 0, _link(session, mine, picture, digest)

    def _dataset(self, tag: str) -> int:
        with Session(self._engine) as session, session.begin():
            insert_or_not = INSERTS[self._engine.dialect.name]
            session.execute(insert_or_not(datasets).values(tag=tag).on_conflict_do_nothing())
            return int(session.scalars(select(datasets.c.id).where(datasets.c.tag == tag)).one())

    def _unlinked(self, tag: str) -> list[tuple[int, Path]]:
        """The pictures that results of a dataset wait for."""
        with Session(self._engine) as session:
            dataset = session.scalar(select(datasets.c.id).where(datasets.c.tag == tag))
            if dataset is None:
                raise LookupError(f"No dataset {tag!r}.")
            mine = _where(dataset_id=dataset, image_hash=None)
            waiting = select(search_results.c.screenshot).where(mine).distinct()
            return [(dataset, _path(picture)) for picture in session.scalars(waiting)]


def _searches(folder: Path, done: Imported) -> list[Path]:
    """The files of all searches below ``folder``; a folder that may not be read is a failure."""

    def refused(error: OSError) -> None:
        done.fail(Path(error.filename), "unreadable", f"{type(error).__name__}: {error.strerror}")

    places = os.walk(folder, onerror=refused)
    return sorted(
        Path(place, name) for place, _, names in places for name in names if name.endswith(".json")
    )


def _link(
    session: Session, mine: ColumnElement[bool], picture: Path, digest: str | None
) -> Sequence[int]:
    """Give the results that have none their picture, or remember where it is; which they are."""
    linked = (
        update(search_results)
        .where(mine, search_results.c.image_hash.is_(None))
        .values(image_hash=digest, screenshot=_text(picture))
        .returning(search_results.c.id)
    )
    return sorted(session.scalars(linked))


def _where(**values: object) -> ColumnElement[bool]:
    return and_(*(search_results.c[name] == value for name, value in values.items()))


def _text(file: Path) -> str:
    """A file's name as text that a database takes, whatever its bytes; no two have the same."""
    return quote(os.fsencode(file), safe="/ ")


def _path(text: str) -> Path:
    """The file whose name ``_text`` wrote."""
    return Path(os.fsdecode(unquote_to_bytes(text)))


def _named(search: pages.Search, dialect: str) -> ColumnElement[bool]:
    """Results of the licences that a search found, in one parameter however many."""
    numbers = [row["license_number"] for row in _rows(search)]
    found = NUMBERS[dialect](numbers).table_valued("value")
    return search_results.c.license_number.in_(select(found.c.value))


def _rows(search: pages.Search) -> Iterator[dict[str, object]]:
    """A row for each licence; a search without one is a result too, and has its picture."""
    for licence in search.licences or [pages.Licence("", "no records", "none")]:
        yield {
            "state": search.state,
            "search_name": search.name,
            "license_number": licence.number,
            "license_name": licence.name,
            "license_status": licence.status,
        }
