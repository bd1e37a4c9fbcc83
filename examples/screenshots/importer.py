"""The importer: search results into the application's tables, each with its screenshot."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, insert, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or_not
from sqlalchemy.orm import Session

from calotype import Store
from calotype.errors import CalotypeError
from examples.screenshots.tables import datasets, search_results

LOG = logging.getLogger("screenshots")

HOLD = "24h"
"""How long a picture waits for the rows that will keep it."""


class DatasetGone(Exception):
    """The dataset was deleted while it was being imported."""


@dataclass
class Imported:
    """What an import did; ``failures`` are the pictures to link later."""

    searches: int = 0
    results: int = 0
    linked: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)


class StateImporter:
    """Imports one dataset at a time; any number of importers may run at once."""

    def __init__(self, engine: Engine, store: Store) -> None:
        self._engine = engine
        self._store = store

    def import_directory(self, folder: Path, tag: str) -> Imported:
        """Import every ``state/name.json`` below ``folder``; again, only what is new is added.

        A picture that cannot be stored does not stop the batch: its results are kept without one
        and listed, for ``link_later``. ``DatasetGone`` when somebody deletes the dataset meanwhile.
        """
        done, dataset = Imported(), self._dataset(tag)
        for file in sorted(folder.rglob("*.json")):
            facts = json.loads(file.read_text())
            digest = self._stored(file.with_name(facts["screenshot"]), done)
            results = self._insert(dataset, facts, digest)
            done.searches += 1
            done.results += len(results)
            done.linked += len(results) if digest else 0
            if digest is None and results:
                done.failures[-1]["results"] = results
        return done

    def link_later(self, failures: Iterable[dict[str, Any]]) -> Imported:
        """Store the pictures that failed and link the results that were kept without them."""
        done = Imported()
        for failure in failures:
            digest = self._stored(Path(failure["source"]), done)
            if digest is None:
                done.failures[-1]["results"] = failure["results"]
                continue
            with Session(self._engine) as session, session.begin():
                mine = search_results.c.id.in_(failure["results"])
                session.execute(update(search_results).where(mine).values(image_hash=digest))
                self._say(digest, failure["results"])
            done.linked += len(failure["results"])
        return done

    def _stored(self, picture: Path, done: Imported) -> str | None:
        """Put first: the hold keeps the bytes until the rows that name them are committed."""
        try:
            return self._store.put(picture, hold=HOLD, images_only=True).digest
        except CalotypeError as error:
            LOG.warning("No image for %s: %s", picture.name, error)
            done.failures.append({"source": str(picture), "error": error.code, "results": []})
            return None

    def _insert(self, dataset: int, facts: dict[str, Any], digest: str | None) -> list[int]:
        """The results of one search in one transaction; those that are there are left alone.

        It begins with a write: on SQLite one that has read cannot always become the writer.
        """
        with Session(self._engine) as session, session.begin():
            mine = datasets.c.id == dataset
            touched = session.execute(update(datasets).where(mine).values(id=dataset))
            if not touched.rowcount:  # type: ignore[attr-defined]
                raise DatasetGone(f"dataset {dataset} was deleted meanwhile")
            known = self._known(session, dataset, facts)
            ids = [
                session.execute(
                    insert(search_results).values(row).returning(search_results.c.id)
                ).scalar_one()
                for row in _rows(dataset, facts, digest)
                if row["license_number"] not in known
            ]
        if digest is not None:
            self._say(digest, ids)
        return ids

    def _known(self, session: Session, dataset: int, facts: dict[str, Any]) -> set[str]:
        found = session.scalars(
            select(search_results.c.license_number).where(
                search_results.c.dataset_id == dataset,
                search_results.c.state == facts["state"],
                search_results.c.search_name == facts["name"],
            )
        )
        return set(found)

    def _dataset(self, tag: str) -> int:
        with Session(self._engine) as session, session.begin():
            session.execute(insert_or_not(datasets).values(tag=tag).on_conflict_do_nothing())
            found = session.scalar(select(datasets.c.id).where(datasets.c.tag == tag))
            assert found is not None
            return int(found)

    @staticmethod
    def _say(digest: str, results: Iterable[int]) -> None:
        for result in results:
            LOG.info("Image linked: %s... -> result_id %d", digest[:8], result)


def _rows(dataset: int, facts: dict[str, Any], digest: str | None) -> Iterator[dict[str, Any]]:
    """A row for each licence; a search without one is a result too, and has its picture."""
    none = {"number": "", "name": "no records", "status": "none"}
    for licence in facts["licences"] or [none]:
        yield {
            "dataset_id": dataset,
            "state": facts["state"],
            "search_name": facts["name"],
            "license_number": licence["number"],
            "license_name": licence["name"],
            "license_status": licence["status"],
            "image_hash": digest,
        }
