"""A tour of the archive, or one of its parts.

python -m examples.screenshots [tour [DEMO]]             makes DEMO (screenshots-demo) anew
python -m examples.screenshots render FOLDER TAG
python -m examples.screenshots import FOLDER TAG [HOME]  into HOME (screenshots-archive)
python -m examples.screenshots link TAG [HOME]           link what an import could not
python -m examples.screenshots clean [--force] [HOME]    free what was orphaned a day ago
"""

from __future__ import annotations

import json
import logging
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from calotype import CalotypeError, Store
from calotype.errors import GcLimit
from examples.screenshots import pages
from examples.screenshots.image_storage import ImageStorage
from examples.screenshots.importer import DatasetGone, Failure, Imported, StateImporter
from examples.screenshots.tables import open_archive, places

HOME = "screenshots-archive"
PARTLY = 3
DEMO = "screenshots-demo"
"""Another folder: each tour deletes the one of the last."""


def render(folder: Path, tag: str) -> None:
    """Ask all state boards for all names, and keep what the pages looked like."""
    print(f"{tag}: {pages.render(folder, tag)} pages rendered", flush=True)


def import_(folder: Path, tag: str, home: Path) -> None:
    """Import one dataset; what fails is listed, and linked by ``link`` or the next import."""
    if not (folder / tag).is_dir():
        raise SystemExit(f"No folder {folder / tag}. Render it first.")
    with _archive(home) as (engine, store):
        done = StateImporter(engine, store).import_directory(folder / tag, tag)
    _list(home, tag, done.failures)
    print(
        f"{tag}: {done.searches} searches, {done.results} results, {done.linked} linked, "
        f"{len(done.failures)} failed"
    )
    _say_whether_all(done)


def link(tag: str, home: Path) -> None:
    """Store and link the pictures that failed, of this import or one that was killed."""
    with _archive(home, there=True) as (engine, store):
        done = StateImporter(engine, store).link_later(tag)
    _list(home, tag, done.failures)
    print(f"{tag}: {done.linked} results linked later, {len(done.failures)} failed again")
    _say_whether_all(done)


def _say_whether_all(done: Imported) -> None:
    """End as ``calotype import`` does, for whoever looks at the exit code alone."""
    if done.failures:
        raise SystemExit(PARTLY)


def _list(home: Path, tag: str, failures: Sequence[Failure]) -> None:
    """For people: what results wait for stands in their rows."""
    lines = (json.dumps(asdict(each)) for each in failures)
    (home / f"{quote(tag, safe=' ')}.failures.jsonl").write_text(
        "".join(f"{line}\n" for line in lines)
    )


def clean(home: Path, *, force: bool = False) -> None:
    """Free what was orphaned a day ago; a suspicious share of all only with ``force``."""
    with _archive(home, there=True) as (engine, store):
        try:
            freed = ImageStorage(engine, store).cleanup_orphans(force=force)
        except GcLimit as error:
            again = f"python -m examples.screenshots clean --force {shlex.quote(str(home))}"
            raise SystemExit(f"{error} Was that meant? Then: {again}") from None
        print(f"{len(freed)} images freed")


@contextmanager
def _archive(home: Path, *, there: bool = False) -> Iterator[tuple[Engine, Store]]:
    file = home / "archive.db"
    if there and places(home)[0] == f"sqlite:///{file}" and not file.is_file():
        raise SystemExit(f"No archive in {home}. Import something first.")
    engine, store = open_archive(home)
    try:
        with store:
            yield engine, store
    finally:
        engine.dispose()


def main(words: list[str]) -> None:
    """Run the part that is named; what went wrong in a line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        _run(words)
    except CalotypeError as error:
        raise SystemExit(f"{error} {error.hint}") from None
    except (DatasetGone, LookupError, SQLAlchemyError, OSError) as error:
        raise SystemExit(str(getattr(error, "orig", None) or error)) from None


def _run(words: list[str]) -> None:
    match words:
        case ["render", folder, tag]:
            render(Path(folder), tag)
        case ["import", folder, tag, *home] if len(home) < 2:
            import_(Path(folder), tag, Path(*home or [HOME]))
        case ["link", tag, *home] if len(home) < 2:
            link(tag, Path(*home or [HOME]))
        case ["clean", "--force", *home] if len(home) < 2:
            clean(Path(*home or [HOME]), force=True)
        case ["clean", *home] if len(home) < 2:
            clean(Path(*home or [HOME]))
        case [] | ["tour"] | ["tour", _]:
            from examples.screenshots.tour import tour

            tour(Path(*words[1:] or [DEMO]))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
