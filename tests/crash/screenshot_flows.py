"""The flows of the screenshot archive: pictures that were taken before, no browser needed."""

from __future__ import annotations

import atexit
import json
import logging
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from examples.screenshots import importer, results
from examples.screenshots.image_storage import ImageStorage
from examples.screenshots.importer import Imported, StateImporter
from examples.screenshots.tables import open_archive
from sqlalchemy import Engine
from tests.crash.applications import Flow, Kind, Say, State
from tests.crash.scenario import PNG, Clock, digest, noise

from calotype import Digest, Store

OLD, NEW = "2026-09", "2026-10"
SAME, GONE, OWN = (PNG + noise(each) for each in ("same", "gone", "own"))
BAD = b"<html>504 Gateway Time-out</html>"

SEARCHES = {
    OLD: {"CA/Same": (1, SAME), "CA/Gone": (1, GONE)},
    NEW: {"CA/Own": (2, OWN), "CA/Same": (0, SAME), "TX/Bad": (1, BAD)},
}
"""By tag, state and name: how many licences were found, and the picture of the page."""


@dataclass(frozen=True, slots=True)
class Archive:
    """The archive, open."""

    engine: Engine
    store: Store

    def import_(self, tag: str) -> None:
        """Import a month, or what is missing of it."""
        StateImporter(self.engine, self.store).import_directory(_source() / tag, tag)


@contextmanager
def _open(home: Path, clock: Clock) -> Iterator[Archive]:
    engine, store = open_archive(home, clock=clock)
    try:
        with store:
            yield Archive(engine, store)
    finally:
        engine.dispose()


@cache
def _source() -> Path:
    """What the searches left; one file is half written."""
    root = Path(tempfile.mkdtemp(prefix="calotype-searches-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    for tag, searches in SEARCHES.items():
        for name, (count, picture) in searches.items():
            place = root / tag / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.with_suffix(".png").write_bytes(picture)
            place.with_suffix(".json").write_text(json.dumps(_facts(place, count)))
    (root / NEW / "TX" / "Half.json").write_text('{"state": "TX", "na')
    return root


def _facts(place: Path, count: int) -> dict[str, object]:
    licences = [{"number": f"{n}", "name": place.name, "status": "Active"} for n in range(count)]
    shot = f"{place.name}.png"
    return {
        "state": place.parent.name,
        "name": place.name,
        "licences": licences,
        "screenshot": shot,
    }


# -- what must be so ------------------------------------------------------------------------


def _state(archive: Archive) -> State:
    """Each result, and the picture that it shows."""
    return {
        (each.tag, each.state, each.search_name, number): each.image_hash or "no picture"
        for number, each in _numbered(results.results(archive.engine))
    }


def _numbered(found: list[results.Result]) -> Iterator[tuple[int, results.Result]]:
    """Results, and how many of their search came before."""
    seen: list[tuple[str, str, str]] = []
    for each in found:
        search = (each.tag, each.state, each.search_name)
        yield seen.count(search), each
        seen.append(search)


def _wrong(archive: Archive) -> list[str]:
    """Results of half a search, and pictures that are not those of the page, or not there."""
    found, broken = results.results(archive.engine), []
    searches = [(each.tag, f"{each.state}/{each.search_name}") for each in found]
    for each, (tag, name) in zip(found, searches, strict=True):
        count, picture = SEARCHES[tag][name]
        if searches.count((tag, name)) != max(count, 1):
            broken.append(f"half done: {searches.count((tag, name))} results of {tag} {name}")
        if each.image_hash not in (None, digest(picture)):
            broken.append(f"the picture of {tag} {name} is {each.image_hash}")
    shown = {each.image_hash for each in found} - {None}
    return broken + [f"{each} is lost" for each in shown if not _reads(archive.store, str(each))]


def _reads(store: Store, wanted: str) -> bool:
    with store.open(wanted) as file:
        return Digest.of(file.read()) == wanted


def _kept(archive: Archive) -> Collection[str]:
    return {each.image_hash for each in results.results(archive.engine) if each.image_hash}


# -- the flows ------------------------------------------------------------------------------


def _old(archive: Archive) -> None:
    archive.import_(OLD)


def _new(archive: Archive) -> None:
    archive.import_(NEW)


def _cleared(archive: Archive) -> None:
    ImageStorage(archive.engine, archive.store).clear_cache()


class _Saying(logging.Handler):
    """What the importer logs, as the operator saw it before the machine went."""

    def __init__(self, say: Say) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(record.getMessage())


@contextmanager
def _heard_by(say: Say) -> Iterator[None]:
    log, handler = logging.getLogger("screenshots"), _Saying(say)
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def _import(archive: Archive, say: Say) -> None:
    with _heard_by(say):
        archive.import_(NEW)


def _link(archive: Archive, say: Say) -> None:
    with _heard_by(say):
        for tag in (OLD, NEW):
            StateImporter(archive.engine, archive.store).link_later(tag)


def _unlinked(archive: Archive, heard: Collection[str]) -> list[str]:
    """Lines of the log that are not true."""
    true = {
        f"Image linked: {(each.image_hash or '')[:8]}... -> result_id {each.id}"
        for each in results.results(archive.engine)
    }
    return [f"lost: {each}" for each in heard if each.startswith("Image") and each not in true]


def _delete(archive: Archive, say: Say) -> None:
    storage = ImageStorage(archive.engine, archive.store)
    results.delete_dataset(archive.engine, OLD)
    say("deleted")
    for picture in (GONE, SAME):
        if storage.delete_image(digest(picture)):
            say(f"freed {digest(picture)}")


def _clear(archive: Archive, say: Say) -> None:
    ImageStorage(archive.engine, archive.store).clear_cache()
    say("cleared")


def _not_gone(archive: Archive, heard: Collection[str]) -> list[str]:
    """What was said to be gone, and is there."""
    there = {each.tag for each in results.results(archive.engine)}
    broken = ["lost: the deletion"] if "deleted" in heard and OLD in there else []
    freed = [each.removeprefix("freed ") for each in heard if each.startswith("freed")]
    there_yet = [each for each in freed if archive.store.explain(each).verdict != "erased"]
    broken += [f"lost: {each} was said to be freed" for each in there_yet]
    if "cleared" in heard and archive.store.stats().blobs:
        broken.append("lost: the cache was said to be clear")
    return broken


COLUMN = ("search_results", "image_hash")
ARCHIVE = Kind("archive.db", "imagecache", COLUMN, _open, _state, _wrong, _kept)

FLOWS = {
    flow.name: flow
    for flow in (
        Flow("screenshots-first", ARCHIVE, (), _import, _unlinked),
        Flow("screenshots-import", ARCHIVE, (_old,), _import, _unlinked),
        Flow("screenshots-link", ARCHIVE, (_old, _new, _cleared), _link, _unlinked),
        Flow("screenshots-delete", ARCHIVE, (_old, _new), _delete, _not_gone),
        Flow("screenshots-clear", ARCHIVE, (_old, _new), _clear, _not_gone),
    )
}


# -- flows that break a promise on purpose --------------------------------------------------


def _rows_first(archive: Archive, say: Say) -> None:
    """Results without their picture, for a moment."""
    keep = StateImporter._keep

    def early(self: StateImporter, picture: Path, write: Any, done: Imported) -> None:
        write(None)
        keep(self, picture, write, done)

    with mock.patch.object(StateImporter, "_keep", early):
        _import(archive, say)


def _holds_for_ever(archive: Archive, say: Say) -> None:
    """Pictures that stay though no result ever names them."""
    with mock.patch.object(importer, "HOLD", "52w"):
        _import(archive, say)


def _says_so_before(archive: Archive, say: Say) -> None:
    """Lines of the log before the transaction that makes them true."""
    for number in range(1, 20):
        say(f"Image linked: {digest(OWN)[:8]}... -> result_id {number}")
    _import(archive, say)


MUTANTS = {
    flow.name: flow
    for flow in (
        Flow("screenshots-rows-first", ARCHIVE, (_old,), _rows_first, _unlinked),
        Flow("screenshots-holds-for-ever", ARCHIVE, (_old,), _holds_for_ever, _unlinked),
        Flow("screenshots-says-so-before", ARCHIVE, (_old,), _says_so_before, _unlinked),
    )
}
